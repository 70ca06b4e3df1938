//! What is recorded of a worker beside its jobs: its start and end, its windows of goodput, its GPUs, its dead letters.

use std::borrow::Cow;
use std::time::Duration;

use time::OffsetDateTime;

use crate::scheduler::Lane;
use crate::telemetry::Window;

/// A look at a GPU: a row of `gpu_samples`. What the driver does not tell is absent.
#[derive(Debug, Clone, PartialEq)]
pub struct GpuSampleRow {
    /// Which worker looked.
    pub worker: String,
    /// The device, counted from 0.
    pub device: u32,
    /// What the driver calls it.
    pub name: String,
    /// Share of the time in which it was at work, 0 to 1.
    pub utilization: Option<f64>,
    /// Bytes of its memory in use.
    pub memory_used_bytes: Option<u64>,
    /// Bytes of its memory.
    pub memory_total_bytes: Option<u64>,
    /// Power it draws, in watts.
    pub power_watts: Option<f64>,
    /// Its temperature, in degrees Celsius.
    pub temperature_celsius: Option<f64>,
    /// When (UTC).
    pub sampled_at: OffsetDateTime,
}

/// A dead letter, as it lies in its stream: a row of `dead_letters`. By `sequence` and `created_at` it is known again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterRow {
    /// The job; absent if the message could not be read.
    pub job_id: Option<String>,
    /// The restaurant; absent if the message could not be read.
    pub restaurant_id: Option<String>,
    /// Which worker wrote it.
    pub worker: String,
    /// The lane it came in.
    pub lane: Lane,
    /// A short stable code.
    pub reason: String,
    /// Its place in the stream of jobs.
    pub sequence: u64,
    /// How often the server had delivered it.
    pub deliveries: u64,
    /// The letter's date (UTC).
    pub created_at: OffsetDateTime,
}

/// Throughput and goodput over a stretch of wall time: a row of `goodput_windows`.
#[derive(Debug, Clone, PartialEq)]
pub struct GoodputWindow {
    /// Which worker measured it.
    pub worker: String,
    /// When the window ended (UTC); its start follows from its length.
    pub ended_at: OffsetDateTime,
    /// What was counted.
    pub window: Window,
    /// Time in which the engine was at work during the window; absent if nobody measured it.
    pub busy: Option<Duration>,
}

impl GoodputWindow {
    /// When the window started (UTC).
    pub fn started_at(&self) -> OffsetDateTime {
        self.ended_at - self.window.wall()
    }
}

/// A worker began to work: a row of `workers`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerStart {
    /// Its name.
    pub worker: String,
    /// Version of the program.
    pub version: String,
    /// The language model it answers with.
    pub model: String,
    /// What kind of device the model runs on.
    pub device: Cow<'static, str>,
    /// Jobs in work at the same time.
    pub slots: u64,
    /// Requests to the engine in work at the same time.
    pub sequences: u64,
    /// Digest of the settings that bear on speed and findings.
    pub config: String,
    /// Longest time to the first answer that counts as good service.
    pub sla: Duration,
    /// When (UTC); with the name that of the row.
    pub started_at: OffsetDateTime,
}

/// A worker ended, and could tell: a row of `worker_ends`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerEnd {
    /// Its name.
    pub worker: String,
    /// As in its [`WorkerStart`].
    pub started_at: OffsetDateTime,
    /// When (UTC).
    pub ended_at: OffsetDateTime,
    /// How: `drained`, `aborted`, `stuck`.
    pub ending: &'static str,
}
