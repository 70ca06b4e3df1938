//! Arguments of `maitred bench`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Overrides;
use super::analyze::Print;

/// Measure speed.
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    /// What to measure.
    #[command(subcommand)]
    pub what: BenchCommand,
}

/// What can be measured.
#[derive(Debug, Clone, Subcommand)]
pub enum BenchCommand {
    /// The engine under the real workload, against a bare decode loop over batches of the same shape.
    Engine(BenchInput),
}

/// What the measurement takes.
#[derive(Debug, Clone, Args)]
pub struct BenchInput {
    /// Reviews to work, as for analyze.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Use only this many restaurants.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Language model: a name from `maitred model list` or a GGUF file.
    #[arg(long, value_name = "NAME|FILE")]
    pub model: Option<String>,
    /// How to print the figures.
    #[arg(long, value_enum, default_value_t = Print::Table)]
    pub format: Print,
}

impl BenchInput {
    /// The settings that flags give.
    pub fn overrides(&self) -> Overrides {
        Overrides::default().set("models.language", "--model", self.model.as_ref())
    }
}
