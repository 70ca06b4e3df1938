//! The page of the fleet: lanes, workers, backfills, alarms, what was found about each restaurant, dead letters.
//!
//! | | |
//! |---|---|
//! | `GET /api/state` | [`FleetState`] |
//! | `GET /api/backlog` | [`Backlog`]: what a fleet is scaled by; takes no token; 503 when that is not known |
//! | `GET /api/restaurants?q=TEXT&limit=N` | [`Restaurants`] |
//! | `GET /api/restaurants/ID` | [`RestaurantResult`] |
//! | `GET /api/dead-letters/SEQ` | [`Letter`], without its payload: it holds reviews |
//! | `POST /api/dead-letters/SEQ/replay`, `…/drop` | [`Done`]; takes the token |
//! | `GET /livez` | that this is served |
//!
//! Whoever is refused, or asks for what is not there, gets `{"error": …}` with what to do.

mod backlog;
mod index;
mod seen;
mod watch;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::sync::Notify;

pub use self::backlog::{Backlog, Unknown, Work};
use self::index::Index;
pub use self::index::{Restaurant, Restaurants};
use self::seen::Seen;
pub use self::seen::{FleetState, History};
use super::guard::{self, Access, problem};
use super::{STATE_VERSION, assets};
use crate::broker::nats::{Broker, DeadLetterError, DeadLetters};
use crate::broker::wire::DeadLetter;
use crate::job::{Limits, check_id};
use crate::result::AnalysisResult;

/// Restaurants in an answer at most.
const MOST: usize = 200;
/// And if nothing else is asked for.
const USUAL: usize = 50;

/// The fleet as it is looked at and shown. Clones share it.
#[derive(Clone)]
pub struct Fleet(Arc<Inner>);

/// Behind a [`Fleet`].
pub struct Inner {
    broker: Broker,
    access: Access,
    seen: Mutex<Seen>,
    index: Mutex<Index>,
    /// Something was done: look now.
    done: Notify,
}

/// The latest result of a restaurant: the whole of `/api/restaurants/ID`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RestaurantResult {
    /// [`STATE_VERSION`].
    pub v: u16,
    /// When it was published (UTC).
    #[serde(with = "time::serde::rfc3339")]
    pub published_at: OffsetDateTime,
    /// Its sequence in the stream of results.
    pub sequence: u64,
    /// The backfill for which it was made, if one was.
    pub backfill: Option<String>,
    /// The result as docs/result.schema.json describes it, but for the labels of single reviews: they are thousands.
    pub result: AnalysisResult,
}

/// A dead letter: the whole of `/api/dead-letters/SEQ`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Letter {
    /// [`STATE_VERSION`].
    pub v: u16,
    /// Its sequence in the stream of dead letters.
    pub sequence: u64,
    /// When the job was given up (UTC).
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// By which worker.
    pub worker: String,
    /// The code of the reason.
    pub code: String,
    /// What is wrong, and what to do.
    pub message: String,
    /// The job, if it is known.
    pub job_id: Option<String>,
    /// The restaurant, if it is known.
    pub restaurant_id: Option<String>,
    /// The lane it came in.
    pub lane: &'static str,
    /// Where it was published.
    pub subject: String,
    /// The backfill that replayed it, if one did.
    pub backfill: Option<String>,
    /// How often it was delivered.
    pub delivered: u64,
    /// How often it failed.
    pub failures: u32,
    /// Bytes of the job.
    pub payload_bytes: usize,
}

/// What was done with a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "done", rename_all = "snake_case")]
pub enum Done {
    /// Its job was published again.
    Replayed {
        /// Sequence of the job in the stream of jobs.
        job_sequence: u64,
    },
    /// It is deleted.
    Dropped,
}

/// Which restaurants are asked for.
#[derive(Debug, Default, Deserialize)]
struct Asked {
    #[serde(default)]
    q: String,
    limit: Option<usize>,
}

impl std::ops::Deref for Fleet {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Fleet {
    /// The fleet behind a connection, which may still be on its way.
    pub fn new(broker: Broker, access: Access) -> Self {
        let (seen, index) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Inner { broker, access, seen, index, done: Notify::new() }))
    }

    /// Looks at the fleet and reads its results for as long as it is polled: it never ends.
    pub async fn watch(self) {
        tokio::join!(watch::look(self.clone()), watch::read(self));
    }

    /// What is served at this address.
    pub fn routes(self, listen: SocketAddr) -> Router {
        let api = Router::new()
            .route("/api/state", get(state))
            .route("/api/restaurants", get(restaurants))
            .route("/api/restaurants/{id}", get(restaurant))
            .route("/api/dead-letters/{sequence}", get(letter))
            .layer(from_fn_with_state(self.clone(), lookers_only));
        let actions = Router::new()
            .route("/api/dead-letters/{sequence}/replay", post(replay))
            .route("/api/dead-letters/{sequence}/drop", post(drop_letter))
            .layer(from_fn_with_state(self.clone(), actors_only));
        let router = Router::new()
            .route("/", get(async || assets::html(include_str!("assets/fleet.html"))))
            .route("/livez", get(async || "live\n"))
            .route("/api/backlog", get(backlog))
            .merge(api)
            .merge(actions)
            .merge(assets::routes())
            .with_state(self)
            .layer(map_response(guard::with_headers));
        // Beyond loopback it is asked by whatever name others know it by; the token guards it there.
        if listen.ip().is_loopback() { router.layer(from_fn(guard::to_this_machine)) } else { router }
    }
}

impl Inner {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        // Values are put in whole: a panic elsewhere does not spoil them.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        // As above.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn letters(&self) -> DeadLetters {
        DeadLetters::new(&self.broker)
    }

    fn note_done(&self, sequence: u64) {
        self.seen().forget_letter(sequence);
        self.done.notify_one();
    }
}

async fn lookers_only(State(fleet): State<Fleet>, request: Request, next: Next) -> Response {
    match fleet.access.may_look(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refused) => refused.into_response(),
    }
}

async fn actors_only(State(fleet): State<Fleet>, request: Request, next: Next) -> Response {
    match fleet.access.may_act(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refused) => {
            tracing::warn!(path = request.uri().path(), ?refused, "refused on the page");
            refused.into_response()
        }
    }
}

async fn state(State(fleet): State<Fleet>) -> Json<FleetState> {
    let (now, actions) = (OffsetDateTime::now_utc(), fleet.access.offers_actions());
    Json(fleet.seen().state(now, watch::BEAT.as_secs_f64(), actions))
}

async fn backlog(State(fleet): State<Fleet>) -> Response {
    let known = fleet.seen().backlog(Instant::now());
    match known {
        Ok(backlog) => Json(backlog).into_response(),
        Err(unknown) => problem(StatusCode::SERVICE_UNAVAILABLE, &unknown.to_string()),
    }
}

async fn restaurants(State(fleet): State<Fleet>, Query(asked): Query<Asked>) -> Json<Restaurants> {
    Json(fleet.index().search(&asked.q, asked.limit.unwrap_or(USUAL).min(MOST)))
}

async fn restaurant(State(fleet): State<Fleet>, Path(id): Path<String>) -> Response {
    if let Err(error) = check_id("restaurant id", &id, Limits::default().bytes_per_id) {
        return problem(StatusCode::BAD_REQUEST, &error.to_string());
    }
    match fleet.broker.latest_result(&id).await {
        Ok(Some(found)) => {
            let mut result = found.result;
            if let Some(sentiment) = &mut result.sentiment {
                sentiment.reviews.clear();
            }
            let (published_at, sequence, backfill) = (found.published_at, found.sequence, found.backfill);
            Json(RestaurantResult { v: STATE_VERSION, published_at, sequence, backfill, result })
                .into_response()
        }
        Ok(None) => {
            problem(StatusCode::NOT_FOUND, "this restaurant has no result, or it is too old to be kept")
        }
        Err(error) => problem(StatusCode::BAD_GATEWAY, &error.to_string()),
    }
}

async fn letter(State(fleet): State<Fleet>, Path(sequence): Path<u64>) -> Response {
    match fleet.letters().get(sequence).await {
        Ok(letter) => Json(shown(sequence, letter)).into_response(),
        Err(error) => undone(&error),
    }
}

async fn replay(State(fleet): State<Fleet>, Path(sequence): Path<u64>) -> Response {
    match fleet.letters().replay(sequence).await {
        Ok(replayed) => {
            tracing::info!(sequence, job = replayed.sequence, "dead letter replayed on the page");
            fleet.note_done(sequence);
            Json(Done::Replayed { job_sequence: replayed.sequence }).into_response()
        }
        Err(error) => undone(&error),
    }
}

async fn drop_letter(State(fleet): State<Fleet>, Path(sequence): Path<u64>) -> Response {
    match fleet.letters().drop(sequence).await {
        Ok(true) => {
            tracing::info!(sequence, "dead letter dropped on the page");
            fleet.note_done(sequence);
            Json(Done::Dropped).into_response()
        }
        Ok(false) => undone(&DeadLetterError::Gone(sequence)),
        Err(error) => undone(&error.into()),
    }
}

fn shown(sequence: u64, letter: DeadLetter) -> Letter {
    Letter {
        v: STATE_VERSION,
        sequence,
        at: letter.at,
        worker: letter.worker,
        code: letter.reason.code,
        message: letter.reason.message,
        job_id: letter.job_id,
        restaurant_id: letter.restaurant_id,
        lane: letter.lane.name(),
        subject: letter.subject,
        backfill: letter.backfill,
        delivered: letter.delivered,
        failures: letter.failures,
        payload_bytes: letter.payload.len(),
    }
}

fn undone(error: &DeadLetterError) -> Response {
    let status = match error {
        DeadLetterError::Gone(_) => StatusCode::NOT_FOUND,
        DeadLetterError::Broker(_) => StatusCode::BAD_GATEWAY,
        DeadLetterError::Unreadable { .. }
        | DeadLetterError::Body { .. }
        | DeadLetterError::Subject { .. } => StatusCode::CONFLICT,
    };
    problem(status, &error.to_string())
}
