//! What a person types and reads.
//!
//! Flags only become settings ([`Overrides`]) or arguments here; the work is elsewhere.

pub mod analyze;
pub mod backfill;
pub mod bench;
pub mod cancel;
pub mod columns;
pub mod dlq;
pub mod doctor;
pub mod eval;
pub mod init;
pub mod interrupt;
pub mod logging;
#[cfg(feature = "llama")]
pub mod measure;
pub mod model;
pub mod progress;
pub mod report;
pub mod results;
pub mod run;
pub mod show;
#[cfg(feature = "llama")]
pub mod speed;
pub mod spent;
pub mod status;
pub mod submit;
pub mod table;
pub mod text;
pub mod ui;
#[cfg(unix)]
pub mod worker;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{ArgAction, Args, Parser, Subcommand};

use crate::config::{self, Config, ConfigError, Override};
use crate::input::InputError;
use crate::job::{JobError, Limits, check_id};
use crate::output::OutputError;

/// Reads restaurant reviews into evidence-backed findings with small language models.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
pub struct Cli {
    /// What applies to every command.
    #[command(flatten)]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command.
#[derive(Debug, Clone, Default, Args)]
pub struct Common {
    /// Configuration file instead of ./maitred.toml or the user's maitred/config.toml.
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// More logs: once for info, twice for debug, three times for trace.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Only errors, and no progress.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Take jobs from the queue and work them.
    #[cfg(unix)]
    Worker(worker::WorkerArgs),
    /// Analyse the restaurants of a file.
    Analyze(analyze::AnalyzeArgs),
    /// Publish the restaurants of a file as jobs for the fleet.
    Submit(submit::SubmitArgs),
    /// Show the latest result of each restaurant.
    Results(results::ResultsArgs),
    /// Cancel a job that waits or runs.
    Cancel(cancel::CancelArgs),
    /// Show the settings in force.
    #[command(subcommand)]
    Config(show::ConfigCommand),
    /// Create or check what the fleet needs on its servers.
    Init(init::InitArgs),
    /// Show how the fleet is: streams, lanes, workers, backfills.
    Status(status::StatusArgs),
    /// Tell what a period was like: jobs, service, goodput, tokens, cost.
    Report(report::ReportArgs),
    /// Serve a page that shows the fleet.
    Ui(ui::UiArgs),
    /// Find out what is wrong with servers, rights, models and this machine, and how to mend it.
    Doctor(doctor::DoctorArgs),
    /// Look at jobs that were given up, send them again, or drop them.
    #[command(subcommand)]
    Dlq(dlq::DlqCommand),
    /// Work old jobs again.
    #[command(subcommand)]
    Backfill(backfill::BackfillCommand),
    /// Fetch, convert and inspect models.
    #[command(subcommand)]
    Model(model::ModelCommand),
    /// Measure the models against labels.
    #[cfg(feature = "llama")]
    Eval(eval::EvalArgs),
    /// Measure speed.
    #[cfg(feature = "llama")]
    Bench(bench::BenchArgs),
}

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All was worked.
    Ok,
    /// Some of it was not, or the run broke off.
    Failed,
    /// The arguments, the configuration, the input file or the output file cannot be used; nothing was worked.
    Usage,
    /// The user interrupted it.
    Interrupted,
}

impl Exit {
    /// The number that the shell sees. 130 is what it shows for an interrupt itself; 2 is clap's own.
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Interrupted => 130,
        }
    }

    /// Whether an error only says that the reader of a pipe has what it wants (`… | head`): nothing to tell anyone.
    pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
        error.chain().any(|cause| {
            cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
                || matches!(cause.downcast_ref(), Some(OutputError::Closed { .. }))
        })
    }

    /// How an error ends the program.
    pub fn of_error(error: &anyhow::Error) -> Self {
        let before_work = error.chain().any(|cause| {
            cause.is::<ConfigError>()
                || matches!(
                    cause.downcast_ref(),
                    Some(InputError::Open { .. } | InputError::UnknownFormat(_))
                )
                || cause.downcast_ref().is_some_and(OutputError::is_before_work)
        });
        if before_work { Self::Usage } else { Self::Failed }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// A restaurant's id as an argument: it becomes part of a subject.
fn restaurant_id(text: &str) -> Result<String, JobError> {
    check_id("restaurant id", text, Limits::default().bytes_per_id).map(|()| text.to_owned())
}

/// Settings given by flags. Built up by `set`, which leaves out what was not given.
#[derive(Debug, Clone, Default)]
pub struct Overrides(Vec<Override>);

impl Overrides {
    /// Adds a setting if its flag was given.
    #[must_use]
    pub fn set(mut self, key: &'static str, flag: &'static str, value: Option<impl ToString>) -> Self {
        self.0.extend(value.map(|value| Override { key, flag, value: value.to_string() }));
        self
    }
}

impl Common {
    /// The configuration file that counts, if there is one.
    pub fn file(&self) -> Option<PathBuf> {
        let home = |name: &str, under: &str| {
            std::env::var_os(name).filter(|v| !v.is_empty()).map(|v| Path::new(&v).join(under))
        };
        let config_home = home("XDG_CONFIG_HOME", "").or_else(|| home("HOME", ".config"));
        config::locate(self.config.as_deref(), Path::new(""), config_home.as_deref())
    }

    /// The configuration in force for this process: its files, its environment and these flags.
    pub fn load(&self, flags: &Overrides) -> Result<Config, ConfigError> {
        // A variable that is not Unicode is none of ours: our names and values all are.
        let environment: Vec<(String, String)> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let mut flags = flags.0.clone();
        flags.extend(self.log_level());
        Config::load(self.file().as_deref(), &environment, &flags)
    }

    fn log_level(&self) -> Option<Override> {
        let (flag, level) = match (self.quiet, self.verbose) {
            (true, _) => ("--quiet", "error"),
            (false, 0) => return None,
            (false, 1) => ("-v", "info"),
            (false, 2) => ("-vv", "debug"),
            (false, _) => ("-vvv", "trace"),
        };
        Some(Override { key: "log.level", flag, value: level.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_commands_are_consistent() {
        Cli::command().debug_assert();
        for args in
            [analyze::AnalyzeArgs::augment_args, eval::EvalArgs::augment_args, bench::BenchArgs::augment_args]
        {
            args(clap::Command::new("maitred")).debug_assert();
        }
    }

    #[test]
    fn verbosity_sets_the_log_level() {
        let level = |args: &[&str]| {
            let cli = Cli::try_parse_from([&["maitred"], args, &["config", "show"]].concat()).unwrap();
            cli.common.log_level().map(|o| o.value)
        };
        assert_eq!(level(&[]), None);
        assert_eq!(level(&["-v"]).as_deref(), Some("info"));
        assert_eq!(level(&["-vvvv"]).as_deref(), Some("trace"));
        assert_eq!(level(&["-q"]).as_deref(), Some("error"));
        assert!(Cli::try_parse_from(["maitred", "-q", "-v", "config", "show"]).is_err());
    }

    #[test]
    fn what_other_arguments_would_mend_is_a_usage_error() {
        let usage = |error: anyhow::Error| Exit::of_error(&error.context("while starting")) == Exit::Usage;
        assert!(usage(InputError::UnknownFormat("x".into()).into()));
        assert!(usage(OutputError::NoFolder("x".into()).into()));
        assert!(usage(ConfigError::Merge(String::new()).into()));
        assert!(!usage(OutputError::Full { path: "x".into(), written: 3 }.into()));
        assert!(!usage(InputError::Empty.into()));
    }

    #[test]
    fn a_reader_that_leaves_is_no_failure() {
        assert!(Exit::is_closed_pipe(&io::Error::from(io::ErrorKind::BrokenPipe).into()));
        assert!(Exit::is_closed_pipe(&OutputError::Closed { path: "p".into(), written: 1 }.into()));
        assert!(!Exit::is_closed_pipe(&io::Error::from(io::ErrorKind::StorageFull).into()));
    }
}
