//! The result: what is published per restaurant.
//!
//! Wire types only; `docs/result.schema.json` describes the same shape for other languages and a test holds the
//! two together. A missing answer is an [`Outcome`] that says so, never a zero or a filler.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::review_set_digest;
use crate::job::{Analysis, Job, Language, Scope, WIRE_VERSION};

/// How an analysis, or a whole job, ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Outcome {
    /// Worked, in full.
    Ok,
    /// Worked, but some reviews could not be read; `unread` in the result counts them.
    Partial {
        /// What is missing.
        message: String,
    },
    /// Nothing changed since the earlier result, whose findings are repeated.
    Unchanged,
    /// There was nothing to work on.
    NoData,
    /// A newer epoch of the same restaurant exists.
    Stale,
    /// Could not be worked.
    Failed {
        /// A short stable code.
        code: String,
        /// What happened and what to do.
        message: String,
    },
}

impl Outcome {
    /// Every status word.
    pub const STATUSES: [&str; 6] = ["ok", "partial", "unchanged", "no_data", "stale", "failed"];

    /// The status word on the wire.
    pub const fn status(&self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Partial { .. } => "partial",
            Self::Unchanged => "unchanged",
            Self::NoData => "no_data",
            Self::Stale => "stale",
            Self::Failed { .. } => "failed",
        }
    }

    /// Whether findings stand beside this outcome.
    pub const fn has_findings(&self) -> bool {
        matches!(self, Self::Ok | Self::Partial { .. } | Self::Unchanged)
    }
}

/// A verbatim part of a named review.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Evidence {
    /// The review it is cut from.
    pub review_id: String,
    /// The exact characters of that review.
    pub quote: String,
}

/// A sentiment label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Polarity {
    /// Praise.
    Positive,
    /// Complaint.
    Negative,
    /// Neither prevails.
    Neutral,
}

impl Polarity {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Positive => "positive",
            Self::Negative => "negative",
            Self::Neutral => "neutral",
        }
    }
}

/// The label of one review.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReviewLabel {
    /// The review.
    pub review_id: String,
    /// Its label.
    pub label: Polarity,
    /// Calibrated probability that it is positive, 0 to 1.
    pub p_positive: f32,
}

/// Counts of one calendar month (UTC).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Month {
    /// `YYYY-MM`.
    pub month: String,
    /// Positive reviews of the month.
    pub positive: u32,
    /// Negative reviews of the month.
    pub negative: u32,
    /// Neutral reviews of the month.
    pub neutral: u32,
}

/// Sentiment over the reviews in scope.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sentiment {
    /// Which reviews were read; under `selected` the counts are a sample.
    pub scope: Scope,
    /// Reviews labelled positive.
    pub positive: u32,
    /// Reviews labelled negative.
    pub negative: u32,
    /// Reviews labelled neutral.
    pub neutral: u32,
    /// Reviews labelled: `positive + negative + neutral`.
    pub total: u32,
    /// Reviews in scope that have no label: nothing to read in them, or the reading failed.
    pub unread: u32,
    /// `positive / total`, 0 to 1.
    pub positive_share: f32,
    /// `negative / total`, 0 to 1.
    pub negative_share: f32,
    /// `neutral / total`, 0 to 1.
    pub neutral_share: f32,
    /// Mean distance of the reviews' probabilities from the undecided middle, 0 (coin toss) to 1 (certain).
    pub confidence: f32,
    /// Counts by month, oldest first; only reviews with a date.
    pub trend: Vec<Month>,
    /// Label of every labelled review.
    pub reviews: Vec<ReviewLabel>,
}

/// Where a text comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Written by the model, and passed the checks.
    Generated,
    /// The most central clause of the evidence, verbatim.
    Extractive,
    /// Composed by rule from computed figures and checked claims.
    Composed,
}

/// A short text and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The text.
    pub text: String,
    /// Who wrote it.
    pub origin: Origin,
    /// Taken over from the earlier result because its evidence still stands.
    #[serde(default)]
    pub carried: bool,
}

/// What guests say of one aspect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AspectFinding {
    /// Aspect name from `config/`.
    pub aspect: String,
    /// The prevailing polarity.
    pub polarity: Polarity,
    /// Reviews with support: they say something of the aspect.
    pub support: u32,
    /// Of those, the share that is positive on the aspect, 0 to 1.
    pub positive_share: f32,
    /// Of those, the share that is negative on the aspect, 0 to 1.
    pub negative_share: f32,
    /// One sentence.
    pub claim: Claim,
    /// Up to three quotes, of the claim's polarity.
    pub evidence: Vec<Evidence>,
}

/// Findings by aspect, most supported first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// A sentence or two over all aspects.
    pub overall: Claim,
    /// Aspects with enough support.
    pub aspects: Vec<AspectFinding>,
}

/// Whether a strength is common or sets the restaurant apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StrengthKind {
    /// Much praised here.
    Representative,
    /// Much praised here and significantly more than elsewhere.
    Distinct,
}

/// A group of positive clauses that say the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Strength {
    /// Aspect name from `config/`.
    pub aspect: String,
    /// Common or distinct.
    pub kind: StrengthKind,
    /// One sentence.
    pub claim: Claim,
    /// Reviews that say it.
    pub support: u32,
    /// `support / reviews read`, 0 to 1.
    pub support_ratio: f32,
    /// `1 / (1 + spread)` of the group around its centre, 0 to 1.
    pub consistency: f32,
    /// Mean recency weight of its reviews, 0 to 1.
    pub recency: f32,
    /// How many times more often than elsewhere; absent while too few other restaurants are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lift: Option<f32>,
    /// The order of strengths: `ln(1+support) · consistency · recency`, raised by distinctness.
    pub score: f32,
    /// Up to three quotes.
    pub evidence: Vec<Evidence>,
}

/// The strengths, best first. Fewer are given rather than weak ones invented.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Strengths {
    /// The strengths.
    pub items: Vec<Strength>,
    /// Groups considered before the thresholds.
    pub candidates: u32,
    /// Other restaurants that distinctness was measured against.
    pub compared_with: u32,
}

/// Which models answered, by what they are and not by what was configured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// Name of the language model.
    pub name: String,
    /// SHA-256 of its file.
    pub digest: String,
    /// Name of the embedding model.
    pub embedding_name: String,
    /// SHA-256 of its file.
    pub embedding_digest: String,
    /// Digest of prompts, labels, aspects and seeds in force.
    pub prompt_version: String,
}

/// What the job cost. Tokens are the model's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Reviews in the job.
    pub reviews: u32,
    /// Reviews read by the model in this job.
    pub reviews_read: u32,
    /// Reviews whose facts were known.
    pub reviews_cached: u32,
    /// Requests to the engine.
    pub requests: u32,
    /// Prompt tokens computed (prefill, without forced tokens).
    pub prompt_tokens: u64,
    /// Prompt tokens taken from pinned prefixes instead of being computed.
    pub reused_tokens: u64,
    /// Template tokens fed, not sampled.
    pub forced_tokens: u64,
    /// Sampled tokens.
    pub generated_tokens: u64,
    /// Tokens that all reviews in each analysis' prompt would have cost: the figure the saving is measured against.
    pub baseline_tokens: u64,
    /// Texts embedded.
    pub embedded_texts: u32,
    /// Claims that the model was asked to write.
    pub claims_written: u32,
    /// Of those, the ones that passed the checks; the others were replaced by a quote.
    pub claims_kept: u32,
}

impl Usage {
    /// Adds another's counts.
    pub fn add(&mut self, other: &Self) {
        self.reviews += other.reviews;
        self.reviews_read += other.reviews_read;
        self.reviews_cached += other.reviews_cached;
        self.requests += other.requests;
        self.prompt_tokens += other.prompt_tokens;
        self.reused_tokens += other.reused_tokens;
        self.forced_tokens += other.forced_tokens;
        self.generated_tokens += other.generated_tokens;
        self.baseline_tokens += other.baseline_tokens;
        self.embedded_texts += other.embedded_texts;
        self.claims_written += other.claims_written;
        self.claims_kept += other.claims_kept;
    }
}

/// When things happened, in milliseconds from the job's publication (lane `backfill`: from its arrival at the worker; a run
/// over a file: from its being read). What passed before a worker had it goes by the server's clock and the worker's, the
/// rest by a monotonic one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    /// Until the engine admitted its first request.
    pub queue_ms: f64,
    /// Until the first label or token, queue wait included; absent when the model was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttft_ms: Option<f64>,
    /// Until the result was complete.
    pub total_ms: f64,
}

/// What is published for one job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnalysisResult {
    /// Wire version.
    pub v: u16,
    /// The job.
    pub job_id: String,
    /// The restaurant.
    pub restaurant_id: String,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restaurant_name: Option<String>,
    /// Epoch of the job.
    pub epoch: u64,
    /// Digest over the review ids and texts.
    pub review_set_digest: String,
    /// Which worker wrote this.
    pub worker: String,
    /// Which models answered.
    pub model: ModelInfo,
    /// Language of prompts and texts.
    pub language: Language,
    /// The job as a whole: the worst of its analyses.
    pub outcome: Outcome,
    /// One entry per analysis asked for.
    pub outcomes: BTreeMap<Analysis, Outcome>,
    /// Present when its outcome has findings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sentiment: Option<Sentiment>,
    /// Present when its outcome has findings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
    /// Present when its outcome has findings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strengths: Option<Strengths>,
    /// What it cost.
    pub usage: Usage,
    /// How long it took.
    pub timings: Timings,
}

impl AnalysisResult {
    /// The result of a job before any of it is worked.
    pub fn without_findings(job: &Job, worker: &str, model: ModelInfo, language: Language) -> Self {
        Self {
            v: WIRE_VERSION,
            job_id: job.job_id.clone(),
            restaurant_id: job.restaurant_id.clone(),
            restaurant_name: job.restaurant_name.clone(),
            epoch: job.epoch,
            review_set_digest: review_set_digest(&job.reviews),
            worker: worker.to_owned(),
            model,
            language,
            outcome: Outcome::NoData,
            outcomes: BTreeMap::new(),
            sentiment: None,
            summary: None,
            strengths: None,
            usage: Usage::default(),
            timings: Timings::default(),
        }
    }

    /// Ends it as it is: the same outcome for all that the job asks.
    #[must_use]
    pub fn unworked(mut self, job: &Job, outcome: &Outcome) -> Self {
        self.usage.reviews = job.reviews.len() as u32;
        self.outcomes = job.analyses.iter().map(|analysis| (*analysis, outcome.clone())).collect();
        self.outcome = outcome.clone();
        self
    }

    /// Every piece of evidence, wherever it stands.
    pub fn evidence(&self) -> impl Iterator<Item = &Evidence> {
        let aspects = self.summary.iter().flat_map(|s| &s.aspects).flat_map(|a| &a.evidence);
        let strengths = self.strengths.iter().flat_map(|s| &s.items).flat_map(|s| &s.evidence);
        aspects.chain(strengths)
    }
}

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod schema;
