//! What the worker's page shows of its last jobs: written where a job begins and ends, read by whoever looks.
//!
//! Bounded, in memory, and gone with the process: what must be kept stands in streams and tables. Holds ids, times and
//! counts, and never what guests wrote. `now` is a value.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use time::OffsetDateTime;

use super::backlog::SharedBacklog;
use super::goodput::GoodputClerk;
use super::intake::Taken;
use super::vitals::Vitals;
use crate::broker::status::LaneStatus;
use crate::broker::wire::DeadLetter;
use crate::config::Settings;
use crate::engine::Engine;
use crate::page::worker::{self as page, Condition, RunningJob, WorkerState};
use crate::page::{STATE_VERSION, series::Series};
use crate::result::AnalysisResult;

/// Results and dead letters that are kept of each.
const KEPT: usize = 50;

/// Written by those who work, read by the page. Clones share it.
#[derive(Clone)]
pub struct Board {
    described: Arc<Described>,
    noted: Arc<Mutex<Noted>>,
}

/// What does not change while the worker lives.
struct Described {
    worker: String,
    model: String,
    started_at: OffsetDateTime,
    slots: usize,
    look_ahead: usize,
    limit: Duration,
}

#[derive(Default)]
struct Noted {
    engine: Option<Engine>,
    goodput: Option<GoodputClerk>,
    running: BTreeMap<u64, RunningJob>,
    next: u64,
    results: VecDeque<page::Result>,
    dead_letters: VecDeque<page::DeadLetter>,
    ttft: Series,
    pace: page::Pace,
    backlog: Option<SharedBacklog>,
}

/// A run that is shown for as long as this lives.
pub struct Shown {
    board: Board,
    number: u64,
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.board.noted().running.remove(&self.number);
    }
}

impl Board {
    /// The board of a worker that starts now.
    pub fn new(worker: &str, settings: &Settings, now: OffsetDateTime) -> Self {
        let described = Described {
            worker: worker.to_owned(),
            model: settings.models.language.clone(),
            started_at: now,
            slots: settings.worker.slots,
            look_ahead: settings.worker.look_ahead,
            limit: settings.goodput.ttft,
        };
        Self { described: Arc::new(described), noted: Arc::default() }
    }

    /// The engine is there and can be asked.
    pub fn engine(&self, engine: Engine) {
        self.noted().engine = Some(engine);
    }

    /// The books of goodput can be asked.
    pub fn goodput(&self, clerk: GoodputClerk) {
        self.noted().goodput = Some(clerk);
    }

    /// A job runs from now on, until what is returned is dropped.
    pub(super) fn begun(&self, taken: &Taken, now: OffsetDateTime) -> Shown {
        let job = RunningJob {
            job_id: taken.job.job_id.clone(),
            restaurant_id: taken.job.restaurant_id.clone(),
            lane: taken.letter.origin.lane.name(),
            reviews: taken.job.reviews.len(),
            since: now,
        };
        self.show(job)
    }

    /// A job ended with a result, which is stored.
    pub(super) fn settled(&self, taken: &Taken, result: &AnalysisResult, now: OffsetDateTime) {
        self.note_result(row(taken.letter.origin.lane.name(), result, now));
    }

    /// A dead letter was written.
    pub fn buried(&self, letter: &DeadLetter) {
        let row = page::DeadLetter {
            at: letter.at,
            job_id: letter.job_id.clone(),
            restaurant_id: letter.restaurant_id.clone(),
            lane: letter.lane.name(),
            code: letter.reason.code.clone(),
            message: letter.reason.message.clone(),
        };
        keep(&mut self.noted().dead_letters, row);
    }

    /// How fast work goes, told with every beat; `None` until there are two beats to tell by.
    pub fn paced(&self, tokens_per_second: Option<f64>, jobs_per_minute: Option<f64>) {
        let mut noted = self.noted();
        noted.pace.tokens_per_second.push(tokens_per_second);
        noted.pace.jobs_per_minute.push(jobs_per_minute);
    }

    /// What waits in the lanes can be looked up there.
    pub fn waiting(&self, backlog: SharedBacklog) {
        self.noted().backlog = Some(backlog);
    }

    /// The worker as its page shows it.
    pub fn state(&self, vitals: &Vitals, now: OffsetDateTime) -> WorkerState {
        let (noted, described) = (self.noted(), &*self.described);
        let counted = vitals.jobs;
        WorkerState {
            v: STATE_VERSION,
            at: now,
            worker: described.worker.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            model: described.model.clone(),
            started_at: described.started_at,
            condition: condition(vitals),
            obstacles: vitals.obstacles(),
            jobs: page::Jobs {
                slots: described.slots,
                running: counted.running,
                look_ahead: described.look_ahead,
                queued: counted.queued,
            },
            running: noted.running.values().cloned().collect(),
            engine: noted.engine.as_ref().map(engine_state),
            totals: page::Totals {
                results: counted.results,
                dead_letters: counted.dead_letters,
                retried: counted.retried,
                handed_back: counted.handed_back,
                stale: counted.stale,
            },
            lanes: noted
                .backlog
                .as_ref()
                .and_then(SharedBacklog::read)
                .map(|(backlog, at)| lanes(&backlog.lanes, at)),
            service: service(&noted.ttft, described.limit),
            pace: noted.pace.clone(),
            goodput: noted.goodput.as_ref().map(goodput).unwrap_or_default(),
            results: noted.results.iter().rev().cloned().collect(),
            dead_letters: noted.dead_letters.iter().rev().cloned().collect(),
            gpus: vitals.gpus.clone(),
        }
    }

    fn show(&self, job: RunningJob) -> Shown {
        let mut noted = self.noted();
        let number = noted.next;
        noted.next += 1;
        // In the order of their beginning, so that the longest comes first.
        noted.running.insert(number, job);
        Shown { board: self.clone(), number }
    }

    fn note_result(&self, row: page::Result) {
        let mut noted = self.noted();
        if let Some(ms) = row.ttft_ms {
            noted.ttft.push(Some(ms / 1000.0));
        }
        keep(&mut noted.results, row);
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        // Rows are put in whole: a panic elsewhere does not spoil them.
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn keep<T>(rows: &mut VecDeque<T>, row: T) {
    if rows.len() == KEPT {
        rows.pop_front();
    }
    rows.push_back(row);
}

fn condition(vitals: &Vitals) -> Condition {
    if vitals.engine_stuck {
        Condition::Stuck
    } else if vitals.draining {
        Condition::Draining
    } else if !vitals.models_ready {
        Condition::Starting
    } else if vitals.obstacles().is_empty() {
        Condition::Ready
    } else {
        Condition::Blocked
    }
}

fn engine_state(engine: &Engine) -> page::Engine {
    let stats = engine.stats();
    let core = stats.core;
    page::Engine {
        waiting: stats.waiting,
        running: stats.running,
        steps: core.steps,
        sequences_per_step: (core.steps > 0).then(|| core.sequence_steps as f64 / core.steps as f64),
        prefill_tokens: core.prefill_tokens,
        decode_tokens: core.decode_tokens,
    }
}

/// The closed windows, oldest first: they are all of one length but the last one of a worker's life.
fn goodput(clerk: &GoodputClerk) -> page::Goodput {
    let mut told = page::Goodput::default();
    for window in clerk.history() {
        told.window_seconds.get_or_insert(window.wall().as_secs_f64());
        told.goodput.push(window.goodput_tps());
        told.throughput.push(window.throughput_tps());
        told.compliance.push(window.compliance());
    }
    told
}

/// The lanes as the server told of them at `at`.
fn lanes(told: &[LaneStatus], at: OffsetDateTime) -> page::Lanes {
    let lane = |status: &LaneStatus| page::Lane {
        lane: status.lane.name(),
        pending: status.pending,
        in_flight: status.in_flight,
        oldest: status.oldest.map(|waiting| waiting.since),
    };
    page::Lanes { at, lanes: told.iter().map(lane).collect() }
}

fn row(lane: &'static str, result: &AnalysisResult, now: OffsetDateTime) -> page::Result {
    let (usage, timings) = (&result.usage, &result.timings);
    page::Result {
        at: now,
        job_id: result.job_id.clone(),
        restaurant_id: result.restaurant_id.clone(),
        lane,
        outcome: result.outcome.status(),
        reviews: usage.reviews,
        reviews_read: usage.reviews_read,
        tokens: usage.prompt_tokens + usage.forced_tokens + usage.generated_tokens,
        queue_ms: timings.queue_ms,
        ttft_ms: timings.ttft_ms,
        total_ms: timings.total_ms,
    }
}

/// Quantiles by nearest rank, so that each is a time that was measured.
fn service(ttft: &Series, limit: Duration) -> page::Service {
    let mut times: Vec<f64> = ttft.values().collect();
    times.sort_unstable_by(f64::total_cmp);
    let rank = |percent: usize| times.get((times.len() * percent).div_ceil(100).max(1) - 1).copied();
    let within = times.iter().filter(|time| **time < limit.as_secs_f64()).count();
    page::Service {
        limit_seconds: limit.as_secs_f64(),
        ttft_seconds: ttft.clone(),
        p50_seconds: rank(50),
        p95_seconds: rank(95),
        within: (!times.is_empty()).then(|| within as f64 / times.len() as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::status::Waiting;
    use crate::scheduler::Lane;
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-06-15 12:00 UTC);

    fn board() -> Board {
        Board::new("w", &Settings::default(), NOW)
    }

    fn state(board: &Board) -> WorkerState {
        board.state(&Vitals::new("w".into()), NOW)
    }

    fn result(n: usize, ttft_ms: Option<f64>) -> page::Result {
        page::Result {
            job_id: format!("j{n}"),
            ttft_ms,
            ..row("live", &crate::result::sample::english(), NOW)
        }
    }

    fn job(id: &str) -> RunningJob {
        RunningJob { job_id: id.into(), restaurant_id: "r".into(), lane: "hi", reviews: 3, since: NOW }
    }

    #[test]
    fn what_is_not_known_yet_is_absent() {
        let state = serde_json::to_value(state(&board())).unwrap();
        for absent in
            ["/engine", "/lanes", "/service/p50_seconds", "/service/within", "/goodput/window_seconds"]
        {
            assert_eq!(state.pointer(absent), Some(&serde_json::Value::Null), "{absent}");
        }
        for empty in ["/running", "/results", "/gpus", "/pace/tokens_per_second", "/goodput/goodput"] {
            assert_eq!(state.pointer(empty), Some(&serde_json::json!([])), "{empty}");
        }
        assert_eq!(state["condition"], "starting");
        assert_eq!(state["v"], STATE_VERSION);
    }

    #[test]
    fn a_run_is_shown_until_it_ends_however_it_ends() {
        let board = board();
        let first = board.show(job("a"));
        let second = board.show(job("b"));
        let shown =
            |board: &Board| state(board).running.into_iter().map(|job| job.job_id).collect::<Vec<_>>();
        assert_eq!(shown(&board), ["a", "b"]);
        drop(first);
        assert_eq!(shown(&board), ["b"]);
        drop(second);
        assert!(shown(&board).is_empty());
    }

    #[test]
    fn the_newest_results_are_kept_and_come_first() {
        let board = board();
        for n in 0..KEPT + 3 {
            board.note_result(result(n, None));
        }
        let results = state(&board).results;
        assert_eq!(results.len(), KEPT);
        assert_eq!(results[0].job_id, format!("j{}", KEPT + 2));
    }

    #[test]
    fn a_job_that_did_not_need_the_model_says_nothing_of_the_service() {
        let board = board();
        board.note_result(result(0, None));
        assert_eq!(state(&board).service.within, None);
        for (n, ms) in [100.0, 2000.0, 300.0, 400.0].into_iter().enumerate() {
            board.note_result(result(n, Some(ms)));
        }
        let service = state(&board).service;
        assert_eq!((service.p50_seconds, service.p95_seconds), (Some(0.3), Some(2.0)));
        // The limit itself is not below the limit.
        assert_eq!((service.limit_seconds, service.within), (2.0, Some(0.75)));
        assert!(service.ttft_seconds.values().eq([0.1, 2.0, 0.3, 0.4]));
    }

    #[test]
    fn a_result_is_told_without_what_guests_wrote() {
        let sample = crate::result::sample::english();
        let row = serde_json::to_string(&row("live", &sample, NOW)).unwrap();
        for evidence in sample.evidence() {
            assert!(!row.contains(&evidence.quote), "{row}");
        }
    }

    #[test]
    fn lanes_are_told_with_the_time_of_their_telling() {
        let oldest = Some(Waiting { sequence: 1, since: NOW });
        let lane = LaneStatus {
            lane: Lane::Hi,
            pending: 3,
            in_flight: 1,
            redelivered: 0,
            waiting: 0,
            ack_floor: 0,
            oldest,
        };
        let lanes = lanes(&[lane], NOW);
        assert_eq!((lanes.at, lanes.lanes[0].lane, lanes.lanes[0].pending), (NOW, "hi", 3));
        assert_eq!(lanes.lanes[0].oldest, Some(NOW));
    }

    #[test]
    fn a_worker_that_must_be_restarted_says_that_before_all_else() {
        let vitals = Vitals { engine_stuck: true, draining: true, ..Vitals::new("w".into()) };
        assert_eq!(condition(&vitals), Condition::Stuck);
        let well = Vitals {
            models_ready: true,
            nats_connected: true,
            topology_fault: None,
            ..Vitals::new("w".into())
        };
        assert_eq!(condition(&well), Condition::Ready);
        assert_eq!(condition(&Vitals { nats_connected: false, ..well.clone() }), Condition::Blocked);
        assert_eq!(condition(&Vitals { draining: true, ..well }), Condition::Draining);
    }
}
