//! Arguments of `maitred bench`.

use std::num::NonZeroUsize;
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
    Engine(EngineBench),
    /// Batching, sharing, probes, forcing and the kind of cache: each switched off, and all of them.
    Ratios(RatioBench),
}

/// What every measurement takes.
#[derive(Debug, Clone, Args)]
pub struct BenchInput {
    /// Reviews to work, as for analyze.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Language model: a name from `maitred model list` or a GGUF file.
    #[arg(long, value_name = "NAME|FILE")]
    pub model: Option<String>,
    /// How to print the figures.
    #[arg(long, value_enum, default_value_t = Print::Table)]
    pub format: Print,
}

/// `bench engine`.
#[derive(Debug, Clone, Args)]
pub struct EngineBench {
    /// Input and model.
    #[command(flatten)]
    pub input: BenchInput,
    /// Use only this many restaurants.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// How often each side works; medians are printed.
    #[arg(long, value_name = "N", default_value = "3")]
    pub rounds: NonZeroUsize,
}

/// `bench ratios`.
#[derive(Debug, Clone, Args)]
pub struct RatioBench {
    /// Input and model.
    #[command(flatten)]
    pub input: BenchInput,
    /// Use this many restaurants.
    #[arg(long, value_name = "N", default_value = "3")]
    pub limit: NonZeroUsize,
    /// Use this many reviews of each: asked one at a time they take minutes.
    #[arg(long, value_name = "N", default_value = "20")]
    pub reviews: NonZeroUsize,
    /// How often each variant works; medians are printed.
    #[arg(long, value_name = "N", default_value = "1")]
    pub rounds: NonZeroUsize,
}

impl BenchCommand {
    /// Input and model.
    pub const fn input(&self) -> &BenchInput {
        match self {
            Self::Engine(bench) => &bench.input,
            Self::Ratios(bench) => &bench.input,
        }
    }
}

impl BenchInput {
    /// The settings that flags give.
    pub fn overrides(&self) -> Overrides {
        Overrides::default().set("models.language", "--model", self.model.as_ref())
    }
}
