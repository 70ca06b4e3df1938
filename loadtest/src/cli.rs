//! The command line: a subcommand per scenario, the same flags for all.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use maitred::config::{Config, Settings, locate};

use crate::report::Report;
use crate::scenario;

/// Load on maitred and its peers: every figure beside its baseline, in the same run.
#[derive(Debug, Parser)]
#[command(name = "maitred-loadtest", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    what: What,
}

/// Flags of all scenarios.
#[derive(Debug, Args)]
pub struct Common {
    /// A setting of maitred, such as engine.threads=1; repeat for more. Goes before file and environment
    #[arg(long, global = true, value_name = "KEY=VALUE", value_parser = variable)]
    set: Vec<(String, String)>,
    /// A configuration file of maitred
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What all random choices are drawn from
    #[arg(long, global = true, default_value_t = 1, value_name = "NUMBER")]
    pub seed: u64,
    /// Folder for the report and its plots
    #[arg(long, global = true, default_value = "loadtest-out", value_name = "FOLDER")]
    pub out: PathBuf,
}

/// The scenarios.
#[derive(Debug, Subcommand)]
enum What {
    /// Where a step's time goes, and how well its cost was foreseen
    #[cfg(feature = "llama")]
    Profile(scenario::profile::Options),
    /// What the order does to waiting: first come first served, shortest first, ours; same trace, real model
    #[cfg(feature = "llama")]
    Scheduler(scenario::scheduler::Options),
    /// How cost grows: with restaurants, with the reviews of one, with what is new
    #[cfg(feature = "llama")]
    Growth(scenario::growth::Options),
    /// Whether anything breaks in the smallest context
    #[cfg(feature = "llama")]
    Stress(scenario::stress::Options),
    /// A minute of everything, ending in one line of ratios
    #[cfg(feature = "llama")]
    Smoke(scenario::smoke::Options),
    /// Order, weight and look-ahead over many loads, in virtual time: no model, figures are simulated
    Simulate(scenario::simulate::Options),
    /// Ours beside llama.cpp's server and the origin's way: same model, same reviews, same questions
    #[cfg(feature = "llama")]
    Peers(scenario::peers::Options),
    /// What each idea is worth: everything on, against one thing off
    #[cfg(feature = "llama")]
    Ablation(scenario::ablation::Options),
    /// Which engine settings pay
    #[cfg(feature = "llama")]
    Sweep(scenario::sweep::Options),
    /// A fleet over NATS: waiting in the broker counts; how many waiting jobs a worker should hold
    Fleet(scenario::fleet::Options),
    /// How soon a scaler reacts and what it costs on a day, in virtual time: no model, figures are simulated
    Autoscale(scenario::autoscale::Options),
    /// What telemetry costs: pairs of runs with it and without it
    Telemetry(scenario::telemetry::Options),
}

impl Common {
    /// The settings in force: defaults, file, environment, flags.
    pub fn settings(&self) -> anyhow::Result<Settings> {
        let given = self.set.iter().cloned();
        let named = |name: &str| self.set.iter().any(|(other, _)| other == name);
        let environment: Vec<_> = std::env::vars().filter(|(name, _)| !named(name)).chain(given).collect();
        let home = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
        let file = locate(self.config.as_deref(), Path::new("."), home.as_deref());
        Ok(Config::load(file.as_deref(), &environment, &[])?.settings)
    }

    /// Writes the report beside its plots; says where.
    pub fn save(&self, report: &Report) -> anyhow::Result<()> {
        let path = self.out.join(format!("{}.json", report.scenario));
        report.save(&path)?;
        say(&format!("report: {}", path.display()))
    }
}

/// `section.key=value` as the variable that sets it.
fn variable(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write it as section.key=value")?;
    Ok((format!("MAITRED__{}", key.trim().to_uppercase().replace('.', "__")), value.trim().to_owned()))
}

/// Prints a line, or several, on stdout.
pub fn say(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).context("stdout")
}

/// Runs what the command line asks for.
pub async fn run(cli: Cli) -> anyhow::Result<()> {
    let common = cli.common;
    match cli.what {
        #[cfg(feature = "llama")]
        What::Profile(options) => scenario::profile::run(&common, &options).await,
        #[cfg(feature = "llama")]
        What::Scheduler(options) => scenario::scheduler::run(&common, &options).await,
        #[cfg(feature = "llama")]
        What::Growth(options) => scenario::growth::run(&common, &options).await,
        #[cfg(feature = "llama")]
        What::Stress(options) => scenario::stress::run(&common, &options).await,
        #[cfg(feature = "llama")]
        What::Smoke(options) => scenario::smoke::run(&common, &options).await,
        What::Simulate(options) => scenario::simulate::run(&common, &options),
        #[cfg(feature = "llama")]
        What::Peers(options) => scenario::peers::run(&common, &options).await,
        #[cfg(feature = "llama")]
        What::Ablation(options) => scenario::ablation::run(&common, &options).await,
        #[cfg(feature = "llama")]
        What::Sweep(options) => scenario::sweep::run(&common, &options).await,
        What::Fleet(options) => Box::pin(scenario::fleet::run(&common, &options)).await,
        What::Autoscale(options) => scenario::autoscale::run(&common, &options),
        What::Telemetry(options) => Box::pin(scenario::telemetry::run(&common, &options)).await,
    }
}
