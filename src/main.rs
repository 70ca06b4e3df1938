//! Parse, start logging, dispatch, exit.

use std::io;
use std::process::ExitCode;

use clap::Parser;
#[cfg(unix)]
use maitred::cli::worker;
use maitred::cli::{
    Cli, Command, Exit, Overrides, backfill, cancel, dlq, doctor, init, logging, model, report, results,
    run as analyse, show, status, submit, ui,
};
#[cfg(feature = "llama")]
use maitred::cli::{measure, speed};
use maitred::model::model_store;

fn main() -> ExitCode {
    share_the_cores();
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
    // Before the settings are loaded for all others: that they cannot be is one of the things it finds.
    if let Command::Doctor(args) = &cli.command {
        return block_on(doctor::run(*args, &cli.common));
    }
    let flags = match &cli.command {
        Command::Config(_)
        | Command::Init(_)
        | Command::Status(_)
        | Command::Dlq(_)
        | Command::Doctor(_)
        | Command::Backfill(_)
        | Command::Model(_)
        | Command::Results(_)
        | Command::Cancel(_) => Overrides::default(),
        Command::Submit(args) => args.overrides(),
        Command::Report(args) => args.overrides(),
        Command::Ui(args) => args.overrides(),
        #[cfg(unix)]
        Command::Worker(args) => args.overrides(),
        Command::Analyze(args) => args.overrides(),
        #[cfg(feature = "llama")]
        Command::Eval(args) => args.what.input().overrides(),
        #[cfg(feature = "llama")]
        Command::Bench(args) => args.what.input().overrides(),
    };
    let config = cli.common.load(&flags)?;
    logging::init(&config.settings.log);
    match cli.command {
        Command::Config(command) => show::run(&command, &config, &mut io::stdout().lock())?,
        Command::Init(args) => block_on(init::run(args, &config.settings, &mut io::stdout().lock()))?,
        Command::Status(args) => block_on(status::run(args, &config.settings, &mut io::stdout().lock()))?,
        Command::Dlq(command) => block_on(dlq::run(&command, &config.settings, &mut io::stdout().lock()))?,
        Command::Backfill(command) => {
            block_on(backfill::run(&command, &config.settings, &mut io::stdout().lock()))?;
        }
        Command::Model(command) => model::run(command, &model_store(config.settings.models.dir.as_deref())?)?,
        // It has run above.
        Command::Doctor(_) => {}
        Command::Submit(args) => {
            return block_on(submit::run(&args, &config.settings, cli.common.quiet));
        }
        #[cfg(unix)]
        Command::Worker(_) => return worker::run(&config.settings),
        Command::Report(args) => {
            return block_on(report::run(&args, &config.settings, &mut io::stdout().lock()));
        }
        Command::Ui(_) => return block_on(ui::run(&config.settings, &mut io::stdout().lock())),
        Command::Results(args) => return block_on(results::run(&args, &config.settings)),
        Command::Cancel(args) => return block_on(cancel::run(&args, &config.settings)),
        Command::Analyze(args) => {
            return block_on(analyse::run(&args, &config.settings, cli.common.quiet));
        }
        #[cfg(feature = "llama")]
        Command::Eval(args) => {
            block_on(measure::run(&args, &config.settings, &mut io::stdout().lock()))?;
        }
        #[cfg(feature = "llama")]
        Command::Bench(args) => {
            block_on(speed::run(&args, &config.settings, &mut io::stdout().lock()))?;
        }
    }
    Ok(Exit::Ok)
}

/// Runs to the end on few threads: the engine has its own, and everything else waits most of the time.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let done = runtime.block_on(work);
    // The input's thread may wait for a line that never comes (a pipe, a terminal); nothing else takes this long.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    done
}

/// Starts the program again with shorter waits in llama.cpp's thread pool, unless the environment says how to wait.
///
/// Threads that wait for one another spin for so long by default that on cores which others use too everything
/// stands still: a decode test of 4 s took 84 s beside two busy processes, 10 s with this, and 4 s still on idle
/// cores. The OpenMP runtime reads the setting when it is loaded, before `main`, so only a new start can give it.
#[cfg(all(unix, feature = "llama"))]
fn share_the_cores() {
    use std::os::unix::process::CommandExt;
    const SPINS: &str = "GOMP_SPINCOUNT";
    if std::env::var_os(SPINS).is_some() || std::env::var_os("OMP_WAIT_POLICY").is_some() {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    // Returns only if it failed, and then the program runs as it was started.
    let _ = std::process::Command::new(program).args(std::env::args_os().skip(1)).env(SPINS, "10000").exec();
}

#[cfg(not(all(unix, feature = "llama")))]
fn share_the_cores() {}
