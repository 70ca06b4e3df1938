//! The scheduler in virtual time ([`crate::simulate`]): which λ, and how much a worker should hold.

use std::path::PathBuf;

use clap::Args;

use crate::cli::{Common, say};
use crate::report::Report;
use crate::simulate::{self, study};

/// Flags.
#[derive(Debug, Args)]
pub struct Options {
    /// Restaurants and their reviews; each file is a study of its own
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Jobs of a trace
    #[arg(long, default_value_t = 600)]
    jobs: usize,
    /// Traces of each file, drawn with this seed and those after it
    #[arg(long, default_value_t = 5)]
    traces: u64,
    /// Longest time to first token that counts as good service, in seconds; without it, the setting's
    #[arg(long)]
    sla: Option<f64>,
}

/// Runs the scenario.
pub fn run(common: &Common, options: &Options) -> anyhow::Result<()> {
    let settings = common.settings()?;
    let report = Report::begin("simulate", common.seed, ("simulated", ""), &settings);
    let body = study(&simulate::Options {
        files: options.files.clone(),
        seeds: (common.seed..).take(options.traces as usize).collect(),
        jobs: options.jobs,
        sla: options.sla.unwrap_or(settings.goodput.ttft.as_secs_f64()),
        ..simulate::Options::default()
    })?;
    say(&body.table())?;
    std::fs::create_dir_all(&common.out)?;
    for path in simulate::plots(&body, &common.out)? {
        say(&format!("plot: {}", path.display()))?;
    }
    common.save(&report.with(&body)?)
}
