//! The one owner of what the worker holds: it hears of everything, asks the lease machine, and does what it says.
//!
//! Nothing here waits for a server: what takes time is a task of its own that reports back as an [`Event`]. So leases
//! are renewed while a publish hangs, a pull waits, or a job of an hour runs.

mod perform;
mod pulls;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

pub(super) use self::pulls::Pulls;
use super::intake::{Intake, NotTaken, Taken};
use super::run::Runs;
use super::vitals::SharedVitals;
use crate::broker::backfill::Backfill;
use crate::broker::lease::{Delivery, End, LeaseId, LeaseMachine, Received, Settlement, SourceId};
use crate::broker::nats::source::{Acker, Delivered, Demand, Source};
use crate::broker::nats::{Broker, CancelWish, Held as HeldState};
use crate::config::{CrashPoint, Settings};
use crate::engine::Engine;
use crate::telemetry::Instruments;

/// Reports that may wait. Each stands for a task that is done, so that a full channel only makes tasks wait.
const EVENTS: usize = 1024;
/// How often the worker looks at itself, and, while jobs are queued here, asks whether others wait for some.
const LOOK_AROUND: Duration = Duration::from_millis(250);

/// What a task reports.
pub(super) enum Event {
    /// A pull brought jobs, or nothing, or failed.
    Pulled(pulls::Pulled),
    /// A job was decoded and priced, or cannot be taken.
    Decoded(LeaseId, Result<Box<Taken>, NotTaken>),
    /// A run, or what stood in for one, has ended.
    Ended(LeaseId, End),
    /// The server confirmed a renewal that was asked for then.
    Renewed(LeaseId, Duration),
    /// The server confirmed a settlement, or did not.
    Settled(LeaseId, bool),
    /// The consumer of a backfill that has begun was found.
    Opened(Box<(Backfill, Source)>),
    /// How many workers there are, to share the rates of backfills.
    Workers(usize),
    /// Who waits at a consumer.
    Demand(SourceId, Demand),
    /// Somebody does not want a job any more.
    Cancel(String, oneshot::Sender<HeldState>),
}

/// What the worker holds of one job.
pub(super) struct Held {
    acker: Arc<Acker>,
    job: Option<Arc<Taken>>,
    stop: CancellationToken,
    running: bool,
}

/// Everything the dispatcher works with.
pub(super) struct Parts {
    pub broker: Broker,
    pub settings: Arc<Settings>,
    pub engine: Engine,
    pub intake: Arc<Intake>,
    pub runs: Arc<Runs>,
    pub vitals: SharedVitals,
    pub instruments: Instruments,
    /// Where jobs are worked: a runtime of its own, so that no analysis keeps a lease from being renewed.
    pub work: tokio::runtime::Handle,
    pub backfills: watch::Receiver<Vec<Backfill>>,
}

/// The owner of what is held.
pub(super) struct Dispatcher {
    parts: Parts,
    machine: LeaseMachine,
    held: HashMap<LeaseId, Held>,
    pulls: Pulls,
    events: mpsc::Sender<Event>,
    begun: Instant,
    tick_time: Duration,
    next_tick: Duration,
}

/// How the dispatcher ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Everything was finished or handed back.
    Drained,
    /// Everything was handed back at once.
    Aborted,
    /// The engine is stuck; the process must be restarted.
    Stuck,
}

impl Ending {
    /// The name in `worker_ends.ending`.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Drained => "drained",
            Self::Aborted => "aborted",
            Self::Stuck => "stuck",
        }
    }
}

impl Dispatcher {
    pub(super) fn new(parts: Parts, pulls: Pulls) -> (Self, mpsc::Receiver<Event>) {
        let (events, reports) = mpsc::channel(EVENTS);
        let settings = super::lease_settings(&parts.settings);
        let tick_time = settings.tick();
        let machine = LeaseMachine::new(settings, Duration::ZERO);
        let this = Self {
            parts,
            machine,
            held: HashMap::new(),
            pulls,
            events,
            begun: Instant::now(),
            tick_time,
            next_tick: Duration::ZERO,
        };
        (this, reports)
    }

    /// Where tasks beside the dispatcher report.
    pub(super) fn events(&self) -> mpsc::Sender<Event> {
        self.events.clone()
    }

    /// Now, for the machine.
    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Takes and settles jobs until `drain` and then until nothing is held, or until `abort`.
    pub(super) async fn run(
        mut self,
        mut reports: mpsc::Receiver<Event>,
        mut cancels: mpsc::Receiver<CancelWish>,
        drain: CancellationToken,
        abort: CancellationToken,
    ) -> Ending {
        let mut looks = tokio::time::interval(LOOK_AROUND);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut link = self.parts.broker.link();
        let stuck = self.parts.engine.stalled();
        tokio::pin!(stuck);
        let mut ending = Ending::Drained;
        let mut draining = false;
        let mut drain_began = Instant::now();
        loop {
            let due =
                self.begun + self.machine.next_due().map_or(self.next_tick, |due| due.min(self.next_tick));
            tokio::select! {
                biased;
                () = &mut stuck => return self.give_up(),
                () = abort.cancelled(), if ending != Ending::Aborted => {
                    ending = Ending::Aborted;
                    draining = true;
                    self.machine.abort(self.now());
                }
                () = drain.cancelled(), if !draining => {
                    draining = true;
                    drain_began = Instant::now();
                    self.start_draining();
                }
                // Before the reports: however many come, leases are renewed.
                () = tokio::time::sleep_until(due.into()) => self.tick(),
                Ok(()) = link.changed() => {
                    let connected = link.borrow_and_update().connected;
                    self.machine.link(connected, self.now());
                    self.parts.vitals.update(|vitals| vitals.nats_connected = connected);
                }
                Ok(()) = self.parts.backfills.changed() => self.follow_backfills(),
                Some(event) = reports.recv() => self.hear(event),
                Some((token, reply)) = cancels.recv() => self.hear(Event::Cancel(token, reply)),
                _ = looks.tick() => self.look(),
            }
            self.perform_all();
            debug_assert_eq!(
                self.held.len(),
                self.machine.len(),
                "what is held here is what the machine holds"
            );
            if draining {
                // What a pull still brings goes back at once. Without an ear it would wait for the end of its lease.
                let heard = !self.pulls.out() || drain_began.elapsed() > pulls::LAST_WORD;
                if self.machine.is_empty() && (heard || ending == Ending::Aborted) {
                    return ending;
                }
            } else {
                self.pull();
            }
        }
    }

    fn start_draining(&mut self) {
        tracing::info!(
            held = self.held.len(),
            "draining: no more jobs are taken, queued ones are handed back"
        );
        self.parts.vitals.update(|vitals| vitals.draining = true);
        self.machine.drain(self.now());
        self.parts.runs.draining();
    }

    /// The engine is stuck: nothing that runs will end, and no lease is renewed. Others get the jobs when the leases
    /// end, which is sooner than this process could be sure that its own word about them still holds.
    fn give_up(self) -> Ending {
        tracing::error!(
            held = self.held.len(),
            "the engine is stuck; leaving, so that the process is restarted"
        );
        self.parts.vitals.update(|vitals| vitals.engine_stuck = true);
        Ending::Stuck
    }

    fn hear(&mut self, event: Event) {
        let now = self.now();
        match event {
            Event::Pulled(pulled) => self.pulled(pulled),
            Event::Decoded(lease, Ok(taken)) => {
                let Some(held) = self.held.get_mut(&lease) else { return };
                let head = taken.head.clone();
                held.job = Some(Arc::from(taken));
                self.machine.decoded(lease, head, now);
            }
            Event::Decoded(lease, Err(NotTaken::Later(delay))) => {
                self.machine.ended(lease, End::Retry(delay), now);
            }
            Event::Decoded(lease, Err(NotTaken::Dead)) => self.machine.ended(lease, End::Dead, now),
            Event::Decoded(lease, Err(NotTaken::Nothing)) => self.machine.ended(lease, End::Done, now),
            Event::Ended(lease, end) => self.machine.ended(lease, end, now),
            Event::Renewed(lease, asked) => self.machine.renewed(lease, asked, now),
            Event::Settled(lease, ok) => {
                // When a backfill was stopped, its consumer is gone, and nobody will ever confirm.
                let ok = ok || !self.pulls.has(lease.source);
                self.machine.settled(lease, ok, now);
                self.let_go(lease);
            }
            Event::Demand(source, demand) => {
                let others = demand.waiting.saturating_sub(self.pulls.waiting_at(source));
                if demand.pending == 0 && others > 0 {
                    self.machine.idle_elsewhere(source, others, now);
                }
            }
            Event::Opened(opened) => {
                // It may be over by now.
                if self.parts.backfills.borrow().iter().any(|running| running.id == opened.0.id) {
                    self.pulls.add_backfill(opened.0, opened.1);
                }
            }
            Event::Workers(count) => self.pulls.share_rates(count, now),
            Event::Cancel(token, reply) => self.cancel(&token, reply),
        }
    }

    /// Drops what is held of a lease that the machine holds no more. Asked and not assumed: a job that was handed back may
    /// have come again before the hand-back was confirmed, and then this is its new life, which must be kept.
    fn let_go(&mut self, lease: LeaseId) {
        if !self.machine.holds(lease) {
            self.held.remove(&lease);
        }
    }

    /// Jobs came: their leases run already, so they are registered before anything looks into them.
    fn received(&mut self, source: SourceId, jobs: Vec<Delivered>, not_before: Duration) {
        if !jobs.is_empty() {
            self.parts.instruments.consumed(self.pulls.origin(source).lane, jobs.len());
        }
        for job in jobs {
            let lease = LeaseId {
                source,
                sequence: job.sequence,
                published: job.published_at.unix_timestamp_nanos(),
            };
            let delivery = Delivery { count: job.delivered, not_before };
            match self.machine.received(lease, delivery, self.now()) {
                Received::Decode => {
                    self.parts.runs.failpoint.reached(CrashPoint::Received);
                    self.take_in(lease, job);
                }
                Received::Merged => {
                    if let Some(held) = self.held.get_mut(&lease) {
                        held.acker = Arc::new(job.acker);
                    }
                }
                Received::Again(settlement) => perform::settle_stray(job.acker, settlement),
                Received::Refused => perform::settle_stray(job.acker, Settlement::Nak(None)),
                Received::Late => {}
            }
        }
    }

    fn take_in(&mut self, lease: LeaseId, job: Delivered) {
        let stop = CancellationToken::new();
        let held = Held { acker: Arc::new(job.acker.clone()), job: None, stop: stop.clone(), running: false };
        self.held.insert(lease, held);
        let (intake, events) = (Arc::clone(&self.parts.intake), self.events.clone());
        let origin = self.pulls.origin(lease.source);
        self.parts.work.spawn(async move {
            let event = tokio::select! {
                taken = intake.take(job, origin) => Event::Decoded(lease, taken.map(Box::new)),
                () = stop.cancelled() => Event::Ended(lease, End::Interrupted),
            };
            report(&events, event).await;
        });
    }

    fn cancel(&mut self, token: &str, reply: oneshot::Sender<HeldState>) {
        let is_it = |held: &Held| held.job.as_ref().is_some_and(|taken| taken.token == token);
        let Some(held) = self.held.values().find(|held| is_it(held)) else { return };
        let Some(taken) = &held.job else { return };
        let answer = if held.running { HeldState::Running } else { HeldState::Queued };
        if self.machine.cancel(&taken.job.job_id, self.begun.elapsed()) > 0 {
            // Whoever asked may have stopped waiting.
            let _ = reply.send(answer);
        }
    }

    /// What time alone brings about. A little early or late by chance, so that workers that were started together do
    /// not renew together.
    fn tick(&mut self) {
        let now = self.now();
        let engine_well = now.saturating_sub(self.parts.engine.step_age().unwrap_or_default());
        self.machine.tick(engine_well, now);
        if now >= self.next_tick {
            self.next_tick = now + self.tick_time.mul_f64(0.75 + 0.25 * fastrand::f64());
        }
    }

    /// Looks at itself, for those who ask, and at others who might be idle.
    fn look(&mut self) {
        let counts = self.machine.counts(self.now());
        let age = self.parts.engine.step_age().unwrap_or_default();
        let fresh = age < self.parts.settings.worker.stall_timeout;
        self.parts.vitals.update(|vitals| {
            vitals.engine_fresh = fresh;
            vitals.jobs.note(&counts);
        });
        if counts.queued > 0 {
            self.look_around();
        }
        self.follow_backfills();
    }
}

/// Reports; the dispatcher may have ended, and then nobody needs to know.
async fn report(events: &mpsc::Sender<Event>, event: Event) {
    let _ = events.send(event).await;
}
