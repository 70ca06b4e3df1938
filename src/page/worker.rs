//! The page of one worker: what it has in hand, how fast it answers, what became of its last jobs.
//!
//! [`WorkerState`] is the whole of `/api/state`, for whoever wants to read it by program. It names restaurants and jobs
//! and never holds what guests wrote. Nothing can be done on this page.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::middleware::{from_fn, map_response};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use serde::Serialize;
use time::OffsetDateTime;

use super::series::Series;
use super::{assets, guard};
use crate::gpu::GpuSample;

/// How a worker is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WorkerState {
    /// [`STATE_VERSION`](super::STATE_VERSION).
    pub v: u16,
    /// When this was so (UTC).
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Its name.
    pub worker: String,
    /// Version of its program.
    pub version: String,
    /// The language model that it was told to read with.
    pub model: String,
    /// When it started (UTC).
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
    /// What it is at.
    pub condition: Condition,
    /// Why it takes no jobs; empty when it does.
    pub obstacles: Vec<String>,
    /// Jobs in hand.
    pub jobs: Jobs,
    /// Those that run, the longest first.
    pub running: Vec<RunningJob>,
    /// The engine; absent until the models are loaded.
    pub engine: Option<Engine>,
    /// What became of jobs since the start.
    pub totals: Totals,
    /// The lanes of the whole fleet, the most urgent first; absent until the server told.
    pub lanes: Option<Lanes>,
    /// How fast jobs are answered.
    pub service: Service,
    /// How much is done, one point for every beat of three seconds.
    pub pace: Pace,
    /// How much of it was of use, one point for each window; empty until there was one.
    pub goodput: Goodput,
    /// The last jobs that ended with a result, the newest first.
    pub results: Vec<Result>,
    /// The last dead letters that this worker wrote, the newest first.
    pub dead_letters: Vec<DeadLetter>,
    /// Its GPUs; empty where there are none or they cannot be asked.
    pub gpus: Vec<GpuSample>,
}

/// What a worker is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Loading what it needs.
    Starting,
    /// Taking jobs.
    Ready,
    /// Kept from taking jobs.
    Blocked,
    /// Finishing what it has; it ends soon.
    Draining,
    /// Of no use any more: it should be restarted.
    Stuck,
}

/// Jobs in hand, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Jobs {
    /// Jobs that can run at the same time.
    pub slots: usize,
    /// Jobs that run.
    pub running: usize,
    /// Jobs held beyond those, for the heap to choose from, at most.
    pub look_ahead: usize,
    /// Jobs that wait in the heap.
    pub queued: usize,
}

/// A job that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunningJob {
    /// Its id.
    pub job_id: String,
    /// Whose reviews it holds.
    pub restaurant_id: String,
    /// The lane it came in.
    pub lane: &'static str,
    /// How many reviews.
    pub reviews: usize,
    /// Since when (UTC).
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
}

/// The engine.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Engine {
    /// Requests that wait for a sequence and cells.
    pub waiting: usize,
    /// Requests that run.
    pub running: usize,
    /// Decode calls since the start.
    pub steps: u64,
    /// Sequences in a decode call, on average since the start; absent before the first.
    pub sequences_per_step: Option<f64>,
    /// Prompt and template tokens fed since the start.
    pub prefill_tokens: u64,
    /// Sampled tokens fed since the start.
    pub decode_tokens: u64,
}

/// What became of jobs since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Results published.
    pub results: u64,
    /// Dead letters written.
    pub dead_letters: u64,
    /// Failed for a passing reason and given back.
    pub retried: u64,
    /// Given back unworked.
    pub handed_back: u64,
    /// Ended by a newer job of their restaurant.
    pub stale: u64,
}

/// The lanes of the whole fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lanes {
    /// When the server told (UTC).
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Each of them.
    pub lanes: Vec<Lane>,
}

/// One lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lane {
    /// Its name.
    pub lane: &'static str,
    /// Jobs that no worker has.
    pub pending: u64,
    /// Jobs that workers hold.
    pub in_flight: u64,
    /// When its oldest job that is not settled was published (UTC).
    #[serde(with = "time::serde::rfc3339::option")]
    pub oldest: Option<OffsetDateTime>,
}

/// How fast jobs are answered.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Service {
    /// Seconds to the first answer, queue wait included, below which a job is served well.
    pub limit_seconds: f64,
    /// Seconds to the first answer of the last jobs that the model was asked for, the oldest first.
    pub ttft_seconds: Series,
    /// Half of those were as fast.
    pub p50_seconds: Option<f64>,
    /// 95 in 100 of those were as fast.
    pub p95_seconds: Option<f64>,
    /// Share of those below the limit, 0 to 1.
    pub within: Option<f64>,
}

/// How much is done.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Pace {
    /// Tokens that the model computed, per second over the last minute.
    pub tokens_per_second: Series,
    /// Results, per minute over the last minute.
    pub jobs_per_minute: Series,
}

/// How much of what was done was of use.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Goodput {
    /// Length of a window in seconds; absent until there was one.
    pub window_seconds: Option<f64>,
    /// Tokens of jobs that were served well, per second.
    pub goodput: Series,
    /// Tokens of all jobs that needed the model, per second.
    pub throughput: Series,
    /// Share of those jobs that were served well, 0 to 1; a gap where there were none.
    pub compliance: Series,
}

/// A job that ended with a result.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Result {
    /// When (UTC).
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// The job.
    pub job_id: String,
    /// The restaurant.
    pub restaurant_id: String,
    /// The lane the job came in.
    pub lane: &'static str,
    /// How it ended: the status word of its outcome.
    pub outcome: &'static str,
    /// Reviews in the job.
    pub reviews: u32,
    /// Reviews that the model read.
    pub reviews_read: u32,
    /// Tokens that the model computed: prompt, template and sampled ones.
    pub tokens: u64,
    /// Milliseconds until the engine admitted its first request.
    pub queue_ms: f64,
    /// Milliseconds until the first answer, queue wait included; absent when the model was not asked.
    pub ttft_ms: Option<f64>,
    /// Milliseconds until the result was complete.
    pub total_ms: f64,
}

/// A job that was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeadLetter {
    /// When (UTC).
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// The job, if it is known.
    pub job_id: Option<String>,
    /// The restaurant, if it is known.
    pub restaurant_id: Option<String>,
    /// The lane it came in.
    pub lane: &'static str,
    /// The code of the reason.
    pub code: String,
    /// What is wrong, and what to do.
    pub message: String,
}

type Tell = Arc<dyn Fn() -> WorkerState + Send + Sync>;

/// `/`, `/assets/…` and `/api/state`, to be merged into what is served at this address.
pub fn routes(listen: SocketAddr, tell: impl Fn() -> WorkerState + Send + Sync + 'static) -> Router {
    let tell: Tell = Arc::new(tell);
    let router = Router::new()
        .route("/", get(async || assets::html(include_str!("assets/worker.html"))))
        .route("/api/state", get(state))
        .merge(assets::routes())
        .with_state(tell)
        .layer(map_response(guard::with_headers));
    // Whoever opened the address to others has them ask by whatever name they know it by.
    if listen.ip().is_loopback() { router.layer(from_fn(guard::to_this_machine)) } else { router }
}

async fn state(State(tell): State<Tell>) -> Response {
    Json(tell()).into_response()
}
