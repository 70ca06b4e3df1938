//! The watchdog's eyes and hands: it looks at the worker and the servers, and does what the machine says.

mod hook;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use self::hook::Occasion;
use super::gpu::Gpus;
use super::vitals::SharedVitals;
use super::{Ended, Stop, WorkerError};
use crate::broker::backfill::Backfill;
use crate::broker::nats::Broker;
use crate::config::{Settings, StopHook};
use crate::watchdog::{Action, Event, Observation, Rules, Watchdog};

/// The servers' answer to how much work there is; later it is unknown.
const ANSWER: Duration = Duration::from_secs(10);
/// Published jobs that are looked at for the pauses between them.
const PAST_JOBS: usize = 33;

/// What the watchdog looks at.
pub(super) struct Guarded {
    pub settings: Arc<Settings>,
    pub name: String,
    pub broker: Broker,
    pub vitals: SharedVitals,
    pub gpus: Gpus,
    pub backfills: watch::Receiver<Vec<Backfill>>,
}

/// The watchdog of one worker.
pub(super) struct Guard {
    guarded: Guarded,
    machine: Watchdog,
    /// When the process began.
    started: Instant,
}

impl Guard {
    /// For a worker that takes jobs from now on.
    pub(super) fn new(guarded: Guarded, started: Instant) -> Self {
        let machine = Watchdog::new(rules(&guarded.settings), started.elapsed());
        Self { guarded, machine, started }
    }

    /// Checks until it has called for a drain, or `ended`.
    pub(super) async fn watch(mut self, drain: CancellationToken, ended: CancellationToken) -> Self {
        if !self.guarded.settings.watchdog.enabled {
            // The GPUs are sampled on.
            ended.cancelled().await;
            return self;
        }
        tokio::select! {
            () = self.patrol() => drain.cancel(),
            () = ended.cancelled() => {}
        }
        self
    }

    /// Checks until the worker is to be drained.
    async fn patrol(&mut self) {
        self.look_back().await;
        let interval = self.guarded.settings.watchdog.check_interval;
        let mut checks = tokio::time::interval_at(tokio::time::Instant::now() + interval, interval);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            checks.tick().await;
            let seen = self.observe(interval).await;
            let action = self.machine.hear(Event::Check(seen), self.started.elapsed());
            let (idle, unreadable) = (self.machine.idle_checks(), self.machine.unreadable_checks());
            self.guarded.vitals.update(|vitals| {
                (vitals.idle_checks, vitals.unreadable_checks) = (idle, unreadable);
            });
            match action {
                Some(Action::Drain) => {
                    let idle_s = self.occasion().idle.as_secs();
                    tracing::info!(checks = idle, idle_s, "idle for long enough: draining, to stop");
                    return;
                }
                Some(Action::Complain { checks }) => tracing::warn!(
                    checks,
                    nats = seen.lag.is_some(),
                    gpu = ?seen.gpu,
                    "nobody can tell whether this worker is idle: it is not stopped"
                ),
                _ => {}
            }
        }
    }

    /// The pauses that were before this worker's time, if the limit is to learn from them.
    async fn look_back(&mut self) {
        if !self.guarded.settings.watchdog.adaptive {
            return;
        }
        match tokio::time::timeout(ANSWER, self.guarded.broker.pauses(PAST_JOBS)).await {
            Ok(Ok(pauses)) => self.machine = self.machine.clone().with_gaps(pauses),
            Ok(Err(error)) => tracing::debug!(%error, "past jobs not looked at"),
            Err(_) => tracing::debug!("past jobs not looked at in time"),
        }
    }

    async fn observe(&self, interval: Duration) -> Observation {
        let guarded = &self.guarded;
        let running = guarded.backfills.borrow().clone();
        // The servers first: a job that is taken meanwhile is then found in hand.
        let asked = tokio::time::timeout(interval.min(ANSWER), guarded.broker.lag(&running)).await;
        let lag = match asked {
            Ok(Ok(lag)) => Some(lag),
            Ok(Err(error)) => {
                tracing::debug!(%error, "the lag is not known");
                None
            }
            Err(_) => None,
        };
        let jobs = guarded.vitals.read().jobs;
        Observation { held: jobs.held, received: jobs.received, lag, gpu: guarded.gpus.load() }
    }

    fn occasion(&self) -> Occasion {
        let uptime = self.started.elapsed();
        let idle = uptime.saturating_sub(self.machine.idle_since().unwrap_or(uptime));
        Occasion { worker: self.guarded.name.clone(), idle, uptime }
    }

    /// After the drain that it called for: runs the hook, unless somebody stops the worker first.
    pub(super) async fn finish(mut self, stop: &Stop) -> Result<Ended, WorkerError> {
        tokio::select! {
            ended = self.run_hook() => ended,
            () = stop.drain.cancelled() => Ok(Ended::Drained),
            () = stop.abort.cancelled() => Ok(Ended::Aborted),
        }
    }

    async fn run_hook(&mut self) -> Result<Ended, WorkerError> {
        let settings = Arc::clone(&self.guarded.settings);
        let occasion = self.occasion();
        let (mut tries, mut cause) = (0, String::new());
        let mut action = self.machine.hear(Event::Drained, self.started.elapsed());
        while let Some(Action::RunHook { after }) = action {
            pause(after).await;
            tries += 1;
            let event = match hook::run(&settings.watchdog, &occasion).await {
                Ok(()) => Event::HookDone,
                Err(error) => {
                    cause = error.to_string();
                    tracing::warn!(tries, of = settings.watchdog.hook_tries, cause, "the stop hook failed");
                    Event::HookFailed
                }
            };
            action = self.machine.hear(event, self.started.elapsed());
        }
        match action {
            Some(Action::GiveUp) => Err(WorkerError::StopHook { tries, cause }),
            _ => Ok(Ended::Idle),
        }
    }
}

/// Waits; a hook that has just failed is not asked again at once.
async fn pause(time: Duration) {
    if !time.is_zero() {
        tokio::time::interval_at(tokio::time::Instant::now() + time, time).tick().await;
    }
}

fn rules(settings: &Settings) -> Rules {
    let watchdog = &settings.watchdog;
    Rules {
        check_interval: watchdog.check_interval,
        idle_limit: watchdog.idle_limit,
        min_runtime: watchdog.min_runtime,
        gpu_idle: (watchdog.gpu_idle_percent < 100.0).then_some(watchdog.gpu_idle_percent / 100.0),
        start_cost: watchdog.adaptive.then_some(watchdog.cold_start_cost),
        hook_tries: (watchdog.stop != StopHook::Exit).then_some(watchdog.hook_tries),
    }
}
