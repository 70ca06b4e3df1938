//! Parse, start logging, dispatch, exit.

use std::io;
use std::process::ExitCode;

use clap::Parser;
use maitred::cli::{Cli, Command, Exit, Overrides, logging, measure, model, show};
use maitred::model::model_store;

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(exit) => exit.into(),
        Err(error) if Exit::is_closed_pipe(&error) => Exit::Ok.into(),
        Err(error) => {
            eprintln!("error: {error:#}");
            Exit::of_error(&error).into()
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<Exit> {
    let flags = match &cli.command {
        Command::Config(_) | Command::Model(_) => Overrides::default(),
        #[cfg(feature = "llama")]
        Command::Analyze(args) => args.overrides(),
        #[cfg(feature = "llama")]
        Command::Eval(args) => args.what.input().overrides(),
    };
    let config = cli.common.load(&flags)?;
    logging::init(&config.settings.log);
    match cli.command {
        Command::Config(command) => show::run(&command, &config, &mut io::stdout().lock())?,
        Command::Model(command) => model::run(command, &model_store(config.settings.models.dir.as_deref())?)?,
        #[cfg(feature = "llama")]
        Command::Analyze(args) => {
            return runtime()?.block_on(maitred::cli::run::run(&args, &config.settings, cli.common.quiet));
        }
        #[cfg(feature = "llama")]
        Command::Eval(args) => {
            runtime()?.block_on(measure::run(&args, &config.settings, &mut io::stdout().lock()))?;
        }
    }
    Ok(Exit::Ok)
}

/// Few threads: the engine has its own, and everything else waits most of the time.
fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
}
