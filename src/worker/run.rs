//! One run of one job, from its mark to the end of its run: the order of steps is what loses nothing.
//!
//! ```text
//! mark set ─► worked ─► result in its stream (PubAck) ─► metrics offered ─► mark gone ─► Done (the ack follows)
//! ```
//!
//! A crash before the PubAck: the job comes again. After it: the job comes again and its result is dropped by its id.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use super::account::Settled;
use super::board::Board;
use super::failpoint::Failpoint;
use super::intake::Taken;
use super::ledger::Ledger;
use super::undertaker::{Undertaker, until_done};
use super::vitals::SharedVitals;
use crate::analyst::{Analyst, Worked};
use crate::broker::lease::End;
use crate::broker::nats::attempts::{AttemptLog, Attempts, Mark};
use crate::broker::nats::{Broker, CANCELLED};
use crate::broker::retry::{self, GivenUp};
use crate::broker::wire::Reason;
use crate::config::{CrashPoint, Settings};
use crate::result::{AnalysisResult, Outcome};
use crate::store::FactStore;
use crate::store::home::FactHome;
use crate::telemetry::Account;
use crate::telemetry::spans::{Anchor, Interval};

/// Before a job whose run panicked is tried again.
pub(super) const AFTER_PANIC: Duration = Duration::from_secs(5);

/// The code of a failure because the engine hangs.
const STALLED: &str = "engine_stalled";

/// Runs jobs.
pub(super) struct Runs {
    pub settings: Arc<Settings>,
    pub worker: String,
    pub analyst: Arc<Analyst<FactHome>>,
    pub facts: Arc<FactHome>,
    pub broker: Broker,
    pub attempts: AttemptLog,
    pub undertaker: Undertaker,
    pub ledger: Ledger,
    pub vitals: SharedVitals,
    pub account: Account,
    pub board: Board,
    pub failpoint: Failpoint,
}

impl Runs {
    /// Works the job to an end; `stop` ends it early, as interrupted.
    pub(super) async fn work(&self, taken: &Taken, stop: &CancellationToken) -> End {
        let begun = self.now();
        if self.is_overtaken(taken).await {
            return self.stale(taken, stop).await;
        }
        let _shown = self.board.begun(taken, OffsetDateTime::now_utc());
        let mark = self.mark(taken).await;
        self.failpoint.reached(CrashPoint::Started);
        let worked = tokio::select! {
            biased;
            () = stop.cancelled() => None,
            worked = self.analyst.work(&taken.job, taken.place) => Some(worked),
        };
        match worked {
            None => {
                self.clear(taken, mark).await;
                End::Interrupted
            }
            Some(worked) => match passing_failure(&worked.result) {
                // The process ends for this, and the job may be the cause: the mark stays, as after a crash.
                Some((STALLED, _)) => End::Interrupted,
                Some((_, message)) => self.failed(taken, message).await,
                None => self.publish_worked(taken, worked, begun, mark, stop).await,
            },
        }
    }

    /// Ends the job without work: a newer one of its restaurant is in hand, or was worked.
    pub(super) async fn stale(&self, taken: &Taken, stop: &CancellationToken) -> End {
        let end = self.publish_unworked(taken, Outcome::Stale, stop).await;
        self.vitals.update(|vitals| vitals.jobs.stale += u64::from(end == End::Done));
        end
    }

    /// Ends the job without work: somebody asked for that.
    pub(super) async fn cancelled(&self, taken: &Taken, stop: &CancellationToken) -> End {
        let message = "cancelled on request".to_owned();
        self.publish_unworked(taken, Outcome::Failed { code: CANCELLED.into(), message }, stop).await
    }

    /// Now, on the engine's clock.
    fn now(&self) -> Duration {
        self.analyst.reader().engine().now()
    }

    /// The worker was asked to stop.
    pub(super) fn draining(&self) {
        self.failpoint.arm(CrashPoint::Draining);
    }

    /// Whether a newer job of the restaurant was worked already. An equal epoch is worked again: its prompts or models
    /// may have changed, and if nothing has, that is what the result says.
    async fn is_overtaken(&self, taken: &Taken) -> bool {
        let last = self.facts.last_epoch(&taken.job.restaurant_id).await;
        last.ok().flatten().is_some_and(|epoch| epoch > taken.job.epoch)
    }

    /// Sets the mark. Without its bucket the run goes on unmarked: the server's count of deliveries stands in.
    async fn mark(&self, taken: &Taken) -> Option<Mark> {
        let (id, alone) = (&taken.head.result_id, taken.head.solo);
        match self.attempts.begin(id, &self.worker, alone, &taken.attempts).await {
            Ok(mark) => Some(mark),
            Err(error) => {
                tracing::warn!(%error, job = taken.job.job_id, "run not marked");
                None
            }
        }
    }

    /// The run ended without a fault of the job. What earlier runs did to their workers stays known.
    async fn clear(&self, taken: &Taken, mark: Option<Mark>) {
        let Some(mark) = mark else { return };
        let cleared = if taken.attempts == Attempts::default() {
            self.attempts.end(mark).await
        } else {
            self.attempts.remember(&taken.head.result_id, &taken.attempts).await
        };
        if let Err(error) = cleared {
            tracing::warn!(%error, job = taken.job.job_id, "mark not cleared: the job may run alone once");
        }
    }

    async fn publish_worked(
        &self,
        taken: &Taken,
        worked: Worked,
        begun: Duration,
        mark: Option<Mark>,
        stop: &CancellationToken,
    ) -> End {
        let Some(published) = self.publish(taken, &worked.result, stop).await else {
            self.clear(taken, mark).await;
            return End::Interrupted;
        };
        self.failpoint.reached(CrashPoint::Published);
        self.undertaker.raise(&taken.letter, self.settings.nats.max_deliver).await;
        self.ledger.worked(taken, &worked);
        self.failpoint.reached(CrashPoint::Recorded);
        if let Some(mark) = mark
            && let Err(error) = self.attempts.end(mark).await
        {
            tracing::debug!(%error, job = taken.job.job_id, "mark not cleared");
        }
        self.vitals.update(|vitals| vitals.jobs.results += 1);
        let (result, cost) = (&worked.result, Some(&worked.cost));
        self.tell(&Settled { taken, result, cost, begun, published });
        End::Done
    }

    async fn publish_unworked(&self, taken: &Taken, outcome: Outcome, stop: &CancellationToken) -> End {
        let (begun, result) = (self.now(), self.analyst.unworked(&taken.job, &outcome));
        let Some(published) = self.publish(taken, &result, stop).await else { return End::Interrupted };
        self.ledger.unworked(taken, &result);
        self.tell(&Settled { taken, result: &result, cost: None, begun, published });
        End::Done
    }

    fn tell(&self, job: &Settled<'_>) {
        let wall = OffsetDateTime::now_utc();
        self.board.settled(job.taken, job.result, wall);
        job.tell(&self.account, Anchor { clock: self.now(), wall });
    }

    /// Publishes until the stream has it, or until `stop`. A stream that does not take it is no fault of the job: it is
    /// held, and its lease renewed, until the stream does. Tells how long that took.
    async fn publish(
        &self,
        taken: &Taken,
        result: &AnalysisResult,
        stop: &CancellationToken,
    ) -> Option<Interval> {
        let (from, backfill) = (self.now(), taken.letter.origin.backfill_id());
        let publish = until_done("publishing a result", || {
            self.broker.publish_result(result, taken.encoding, taken.trace, backfill)
        });
        tokio::select! {
            biased;
            () = stop.cancelled() => None,
            _ = publish => Some(Interval { from, to: self.now() }),
        }
    }

    /// The job failed for a reason that may pass.
    async fn failed(&self, taken: &Taken, message: String) -> End {
        let attempts = Attempts { failures: taken.attempts.failures + 1, ..taken.attempts.clone() };
        if attempts.failures >= self.settings.worker.max_failures {
            let reason = Reason { code: GivenUp::Failures.code().to_owned(), message };
            let (job, restaurant) = (Some(taken.job.job_id.as_str()), Some(taken.job.restaurant_id.as_str()));
            self.undertaker.bury(&taken.letter, job, restaurant, attempts.failures, reason).await;
            return End::Dead;
        }
        if let Err(error) = self.attempts.remember(&taken.head.result_id, &attempts).await {
            tracing::warn!(%error, job = taken.job.job_id, "failure not counted");
        }
        let delay = retry::delay(attempts.failures, fastrand::f64());
        tracing::warn!(
            job = taken.job.job_id,
            failures = attempts.failures,
            message,
            delay_s = delay.as_secs_f64(),
            "failed for a passing reason; comes again"
        );
        self.vitals.update(|vitals| vitals.jobs.retried += 1);
        End::Retry(delay)
    }
}

/// Why the model could not be asked, if that is what went wrong: such a result says nothing about the restaurant. Other
/// failures (no model for the language, a deadline that passed) would come again and are published.
fn passing_failure(result: &AnalysisResult) -> Option<(&'static str, String)> {
    const PASSING: [&str; 4] = [STALLED, "model_failure", "engine_stopped", "cancelled"];
    result.outcomes.values().chain([&result.outcome]).find_map(|outcome| match outcome {
        Outcome::Failed { code, message } => {
            PASSING.into_iter().find(|passing| passing == code).map(|code| (code, message.clone()))
        }
        _ => None,
    })
}
