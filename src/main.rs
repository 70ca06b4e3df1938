//! Parse, start logging, dispatch, exit.

use std::io;
use std::process::ExitCode;

use clap::Parser;
use maitred::cli::{Cli, Command, Exit, Overrides, logging, show};

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(exit) => exit.into(),
        Err(error) if Exit::is_closed_pipe(&error) => Exit::Ok.into(),
        Err(error) => {
            eprintln!("error: {error:#}");
            Exit::of_error(&error).into()
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<Exit> {
    let flags = match &cli.command {
        Command::Config(_) => Overrides::default(),
    };
    let config = cli.common.load(&flags)?;
    logging::init(&config.settings.log);
    match &cli.command {
        Command::Config(command) => show::run(command, &config, &mut io::stdout().lock())?,
    }
    Ok(Exit::Ok)
}
