//! Arguments of `maitred eval`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Overrides;
use super::analyze::Print;

/// Measure the models against labels.
#[derive(Debug, Clone, Args)]
pub struct EvalArgs {
    /// What to measure.
    #[command(subcommand)]
    pub what: EvalCommand,
}

/// What can be measured.
#[derive(Debug, Clone, Subcommand)]
pub enum EvalCommand {
    /// Accuracy over sentences with a label each (TSV: sentence, 1 or 0).
    Labels(EvalInput),
    /// Labels against stars, and the order of restaurants by them (JSONL as for analyze).
    Restaurants(EvalInput),
    /// Results against the reviews they were made from: quotes verbatim, claims of their finding's polarity.
    Results(ResultsInput),
    /// Precision and recall of aspects and their polarity (labels by review id and byte offsets).
    Aspects(AspectsInput),
}

/// What every measurement takes.
#[derive(Debug, Clone, Args)]
pub struct EvalInput {
    /// File with labels.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Use only this many rows or restaurants.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Language model: a name from `maitred model list` or a GGUF file.
    #[arg(long, value_name = "NAME|FILE")]
    pub model: Option<String>,
    /// Embedding model: a name, a GGUF file, or auto.
    #[arg(long, value_name = "NAME|FILE")]
    pub embedding: Option<String>,
    /// Language of the texts: en, ko, or auto.
    #[arg(long, value_name = "auto|en|ko")]
    pub lang: Option<String>,
    /// Facts kept by an earlier run (only for `restaurants`): what is known is not read again.
    #[arg(long, value_name = "FILE")]
    pub cache: Option<String>,
    /// How to print the figures.
    #[arg(long, value_enum, default_value_t = Print::Table)]
    pub format: Print,
}

/// What the check of results takes.
#[derive(Debug, Clone, Args)]
pub struct ResultsInput {
    /// Results and figures.
    #[command(flatten)]
    pub input: EvalInput,
    /// The reviews that the results were made from (JSONL as for analyze).
    #[arg(long, value_name = "FILE")]
    pub reviews: PathBuf,
}

/// What the measurement of aspects takes.
#[derive(Debug, Clone, Args)]
pub struct AspectsInput {
    /// Labels and figures.
    #[command(flatten)]
    pub input: EvalInput,
    /// Reviews that the labels point into (JSONL as for analyze): labels hold no text themselves.
    #[arg(long, value_name = "FILE")]
    pub reviews: PathBuf,
    /// Use only this half of the labels: dev (methods were chosen on it) or test (they were not).
    #[arg(long, value_name = "dev|test")]
    pub split: Option<String>,
}

impl EvalCommand {
    /// What the measurement takes.
    pub const fn input(&self) -> &EvalInput {
        match self {
            Self::Labels(input) | Self::Restaurants(input) => input,
            Self::Aspects(aspects) => &aspects.input,
            Self::Results(results) => &results.input,
        }
    }
}

impl EvalInput {
    /// The settings that flags give.
    pub fn overrides(&self) -> Overrides {
        Overrides::default()
            .set("models.language", "--model", self.model.as_ref())
            .set("models.embedding", "--embedding", self.embedding.as_ref())
            .set("analysis.language", "--lang", self.lang.as_ref())
            .set("store.cache", "--cache", self.cache.as_ref())
    }
}
