//! What the report reads of the metrics, as the views `report_…` give it: the same in Postgres and SQLite.

use sqlx::FromRow;

/// A result.
#[derive(Debug, Clone, Default, PartialEq, FromRow)]
pub struct JobSeen {
    /// When its row was made, in Unix seconds.
    pub second: i64,
    /// The lane; absent if it came from a file.
    pub lane: Option<String>,
    /// Reviews in the job.
    pub reviews: i64,
    /// `ok`, `partial`, `unchanged`, `no_data`, `stale` or `failed`.
    pub outcome: String,
    /// The code of a failure.
    pub error_code: Option<String>,
    /// To the first label or token, queue wait included.
    pub ttft_ms: Option<f64>,
    /// To the stored result.
    pub total_ms: f64,
    /// Whether it met the service level; absent when the model was not needed.
    pub within_sla: Option<bool>,
    /// Reviews that the model read.
    pub reviews_read: i64,
    /// Reviews whose facts were known.
    pub cache_hits: i64,
    /// Prompt tokens computed.
    pub prompt_tokens: i64,
    /// Prompt tokens taken from a pinned prefix.
    pub cached_tokens: i64,
    /// Template tokens fed.
    pub forced_tokens: i64,
    /// Tokens sampled.
    pub generated_tokens: i64,
    /// Tokens that all reviews in each analysis' prompt would have cost.
    pub baseline_tokens: i64,
    /// Claims that were written.
    pub claims_written: i64,
    /// Of those, the ones that passed the checks.
    pub claims_kept: i64,
}

impl JobSeen {
    /// Tokens that the model computed for it.
    pub const fn computed_tokens(&self) -> i64 {
        self.prompt_tokens + self.forced_tokens + self.generated_tokens
    }
}

/// A goodput window of a worker.
#[derive(Debug, Clone, Default, PartialEq, FromRow)]
pub struct WindowSeen {
    /// Whose.
    pub worker: String,
    /// Its start, in Unix seconds.
    pub from_second: f64,
    /// Its end, in Unix seconds.
    pub to_second: f64,
    /// Jobs that needed the model.
    pub jobs: i64,
    /// Tokens of these.
    pub tokens: i64,
    /// Tokens of those that met the service level.
    pub tokens_met: i64,
    /// Its length.
    pub wall_seconds: f64,
    /// Time that the engine was at work; absent if nobody measured it.
    pub busy_seconds: Option<f64>,
}

/// A look at a GPU.
#[derive(Debug, Clone, Default, PartialEq, FromRow)]
pub struct GpuSeen {
    /// When, in Unix seconds.
    pub second: i64,
    /// Whose.
    pub worker: String,
    /// Which device of that worker's.
    pub device: i64,
    /// What the driver calls it.
    pub name: String,
    /// 0 to 1.
    pub utilization: Option<f64>,
    /// Bytes in use.
    pub memory_used_bytes: Option<i64>,
    /// Bytes there are.
    pub memory_total_bytes: Option<i64>,
    /// Watts.
    pub power_watts: Option<f64>,
    /// Degrees Celsius.
    pub temperature_celsius: Option<f64>,
}

/// Requests to the engine of one kind, summed up by the database.
#[derive(Debug, Clone, Default, PartialEq, FromRow)]
pub struct RequestsSeen {
    /// `probe` or `generation`.
    pub kind: String,
    /// How many.
    pub requests: i64,
    /// Of those, the ones that were answered.
    pub answered: i64,
    /// Mean wait for a sequence.
    pub queue_ms: Option<f64>,
    /// Mean time from a sequence to the first label or token.
    pub prefill_ms: Option<f64>,
    /// Mean time from there to the end.
    pub decode_ms: Option<f64>,
}

/// A start of a worker.
#[derive(Debug, Clone, Default, PartialEq, FromRow)]
pub struct WorkerSeen {
    /// Its name.
    pub worker: String,
    /// The language model.
    pub model: String,
    /// What kind of device it runs on; absent in rows of older versions.
    pub device: Option<String>,
    /// Jobs in work at the same time; absent in rows of older versions.
    pub slots: Option<i64>,
    /// When, in Unix seconds.
    pub started_second: i64,
    /// When it ended; absent if it runs, or could not tell.
    pub ended_second: Option<i64>,
}

/// A dead letter.
#[derive(Debug, Clone, Default, PartialEq, FromRow)]
pub struct LetterSeen {
    /// A short stable code.
    pub reason: String,
}
