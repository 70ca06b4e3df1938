//! One request to the engine, as it is recorded.

use std::borrow::Cow;
use std::time::Duration;

use time::OffsetDateTime;

use crate::scheduler::Lane;

/// What the engine was asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RequestKind {
    /// Read label probabilities, generate nothing.
    Probe,
    /// Run a template.
    Generation,
}

impl RequestKind {
    /// The name in `llm_metrics.kind`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Probe => "probe",
            Self::Generation => "generation",
        }
    }
}

/// Instants of one request, since its arrival, on a monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestTimes {
    /// When the engine admitted it; absent if it never did.
    pub admitted: Option<Duration>,
    /// When its first label or token was there; absent if it never was.
    pub first: Option<Duration>,
    /// When it ended, well or not.
    pub finished: Duration,
}

impl RequestTimes {
    /// Arrival to admission; all of its time if it was never admitted.
    pub fn queue(&self) -> Duration {
        self.admitted.unwrap_or(self.finished)
    }

    /// Admission to the first label or token.
    pub fn prefill(&self) -> Option<Duration> {
        Some(self.first?.saturating_sub(self.admitted?))
    }

    /// First label or token to the end.
    pub fn decode(&self) -> Option<Duration> {
        Some(self.finished.saturating_sub(self.first?))
    }

    /// Arrival to the first label or token: queue wait included, because the reader waits for it too.
    pub const fn ttft(&self) -> Option<Duration> {
        self.first
    }
}

/// One request to the engine: a row of `llm_metrics`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestMetric {
    /// Identity of the request, unique within its job.
    pub request_id: String,
    /// The job.
    pub job_id: String,
    /// Identity of the result that it was made for, the job's or of its backfill; with `request_id` that of the row.
    pub result_id: String,
    /// The restaurant.
    pub restaurant_id: String,
    /// Which worker had it answered.
    pub worker: String,
    /// The lane the job came in; absent if it came from a file.
    pub lane: Option<Lane>,
    /// The trace the job belongs to, 32 hexadecimal digits; absent if it came without one.
    pub trace_id: Option<String>,
    /// What it was for: `facts`, `summary`, `strengths`, `overall`, …
    pub analysis: Cow<'static, str>,
    /// Probe or generation.
    pub kind: RequestKind,
    /// The model that answered, not the one configured.
    pub model: String,
    /// When its job was received, since the engine's start: what `times` count from.
    pub received: Duration,
    /// When what happened.
    pub times: RequestTimes,
    /// Prompt tokens computed.
    pub prompt_tokens: u64,
    /// Prompt tokens taken from a pinned prefix.
    pub cached_tokens: u64,
    /// Template tokens fed, not sampled.
    pub forced_tokens: u64,
    /// Sampled tokens.
    pub generated_tokens: u64,
    /// `ok` or a short stable error code.
    pub outcome: Cow<'static, str>,
    /// When the row was made (UTC).
    pub created_at: OffsetDateTime,
}

impl RequestMetric {
    /// Time per output token: the decode time over the tokens that came in it, which are those after the first.
    pub fn tpot(&self) -> Option<Duration> {
        let after_first = u32::try_from(self.generated_tokens.checked_sub(1)?).ok()?;
        self.times.decode()?.checked_div(after_first)
    }

    /// Tokens computed (prompt, forced, generated; not cached) per second from admission to the end.
    pub fn tps(&self) -> Option<f64> {
        let seconds = self.times.finished.saturating_sub(self.times.admitted?).as_secs_f64();
        let computed = self.prompt_tokens + self.forced_tokens + self.generated_tokens;
        (seconds > 0.0).then(|| computed as f64 / seconds)
    }
}
