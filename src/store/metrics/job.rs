//! A job's result, and each analysis in it, as they are recorded.

use std::borrow::Cow;
use std::time::Duration;

use time::OffsetDateTime;

use crate::job::Analysis;
use crate::result::{Outcome, Usage};
use crate::scheduler::Lane;

/// One analysis of one job: a row of `analysis_metrics`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnalysisMetric {
    /// The job.
    pub job_id: String,
    /// Identity of the result, the job's or of its backfill; with `analysis` that of the row.
    pub result_id: String,
    /// The restaurant.
    pub restaurant_id: String,
    /// Which worker worked it.
    pub worker: String,
    /// The lane the job came in; absent if it came from a file.
    pub lane: Option<Lane>,
    /// The trace the job belongs to, 32 hexadecimal digits; absent if it came without one.
    pub trace_id: Option<String>,
    /// The analysis.
    pub analysis: Analysis,
    /// How it ended; the code of a failure goes to `error_code`.
    pub outcome: Outcome,
    /// The model that answered, not the one configured.
    pub model: String,
    /// Digest of prompts, labels, aspects and seeds in force.
    pub prompt_version: String,
    /// From the start of the work to the analysis' end, queue wait left out.
    pub processing: Duration,
    /// From the job's arrival to the start of the work.
    pub queue: Duration,
    /// From the job's arrival to its first label or token; absent when the model was not asked.
    pub ttft: Option<Duration>,
    /// This analysis' part of the job's cost: sums over rows must be right, so what several analyses share (the
    /// reading of a review) is charged to one of them.
    pub usage: Usage,
    /// Requests charged to it that the engine did not answer.
    pub error_count: u32,
    /// Claims that failed a check and were replaced by a quote.
    pub warning_count: u32,
    /// When the row was made (UTC).
    pub created_at: OffsetDateTime,
}

impl AnalysisMetric {
    /// The code of a failure; absent if it did not fail.
    pub fn error_code(&self) -> Option<&str> {
        error_code(&self.outcome)
    }
}

fn error_code(outcome: &Outcome) -> Option<&str> {
    match outcome {
        Outcome::Failed { code, .. } => Some(code),
        _ => None,
    }
}

/// The stamps of a job's way, on its worker's monotonic clock, since the engine's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobStamps {
    /// How long it had waited before, in the queue of the fleet.
    pub waited: Duration,
    /// The worker was given it.
    pub received: Duration,
    /// Its first request was given a sequence; absent when the model was not asked.
    pub admitted: Option<Duration>,
    /// Its first label or token was known.
    pub first_token: Option<Duration>,
    /// The last of its prompts was read: its last request's first label or token.
    pub prefilled: Option<Duration>,
    /// Its result was stored.
    pub published: Duration,
}

impl JobStamps {
    /// From the job's publication to the first admission; absent when the model was not asked.
    pub fn queue(&self) -> Option<Duration> {
        Some(self.since(self.admitted?))
    }

    /// From the job's publication to the first label or token: all the waiting its reader does.
    pub fn ttft(&self) -> Option<Duration> {
        Some(self.since(self.first_token?))
    }

    /// From the job's publication to the result's being stored.
    pub fn total(&self) -> Duration {
        self.since(self.published)
    }

    fn since(&self, at: Duration) -> Duration {
        self.waited + at.saturating_sub(self.received)
    }
}

/// One result, of a job that was worked or not: a row of `job_metrics`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobMetric {
    /// The job.
    pub job_id: String,
    /// Identity of the result, the job's or of its backfill; that of the row.
    pub result_id: String,
    /// The restaurant.
    pub restaurant_id: String,
    /// Which worker made it.
    pub worker: String,
    /// The lane the job came in; absent if it came from a file.
    pub lane: Option<Lane>,
    /// The trace the job belongs to, 32 hexadecimal digits; absent if it came without one.
    pub trace_id: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// The model that answered, not the one configured.
    pub model: String,
    /// Digest of prompts, labels, aspects and seeds in force.
    pub prompt_version: String,
    /// What kind of device the model ran on.
    pub device: Cow<'static, str>,
    /// Digest of the settings that bear on speed and findings.
    pub config: String,
    /// How often the server had delivered the job; absent if it came from a file.
    pub deliveries: Option<u64>,
    /// When what happened.
    pub stamps: JobStamps,
    /// Whether it met the service level; absent when the model was not needed.
    pub within_sla: Option<bool>,
    /// What it cost.
    pub usage: Usage,
    /// When the row was made (UTC).
    pub created_at: OffsetDateTime,
}

impl JobMetric {
    /// The code of a failure; absent if it did not fail.
    pub fn error_code(&self) -> Option<&str> {
        error_code(&self.outcome)
    }
}
