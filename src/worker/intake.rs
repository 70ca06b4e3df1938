//! From a delivery to a job that can be queued: decoded, its reviews fetched, its earlier tries looked up, priced.
//!
//! What can never be worked becomes a dead letter here, at first sight.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;

use super::undertaker::Undertaker;
use crate::analyst::{Analyst, Place};
use crate::broker::backfill::Backfill;
use crate::broker::lease::JobHead;
use crate::broker::names;
use crate::broker::nats::attempts::{AttemptLog, Attempts};
use crate::broker::nats::source::Delivered;
use crate::broker::nats::{Broker, PayloadError};
use crate::broker::retry::{self, GivenUp, History, Limits, Verdict};
use crate::broker::wire::{self, Encoding, Message, Reason, Refusal};
use crate::config::{Settings, WorkerSettings};
use crate::job::Job;
use crate::scheduler::{Arrival, Lane, Seconds};
use crate::store::home::FactHome;
use crate::telemetry::trace::TraceContext;

/// Newer workers may be minutes away; asking again sooner only makes deliveries.
const FOR_NEWER_WORKERS: Duration = Duration::from_mins(5);

/// Deliveries of a job whose reviews are not there yet.
const TRIES_FOR_AN_OBJECT: u64 = 5;

/// Where a source's jobs come from.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    /// The lane whose share they take.
    pub lane: Lane,
    /// The consumer's name.
    pub consumer: String,
    /// The backfill that replays them, if one does.
    pub backfill: Option<Arc<Backfill>>,
}

/// A job that can be queued.
pub(super) struct Taken {
    /// The job, reviews and all.
    pub job: Job,
    /// What the lease machine knows of it.
    pub head: JobHead,
    /// Its name to those who cancel.
    pub token: String,
    /// How it was written; its result is written the same way.
    pub encoding: Encoding,
    /// Its place in the engine's heap.
    pub place: Place,
    /// Its part of the trace.
    pub trace: TraceContext,
    /// What is known of earlier tries.
    pub attempts: Attempts,
    /// As it was delivered, for a dead letter.
    pub letter: Letter,
}

/// What a dead letter tells of a delivery.
#[derive(Debug, Clone)]
pub(super) struct Letter {
    pub origin: Origin,
    pub sequence: u64,
    pub delivered: u64,
    pub published_at: OffsetDateTime,
    pub subject: String,
    pub headers: std::collections::BTreeMap<String, Vec<String>>,
    pub body: bytes::Bytes,
    pub traceparent: Option<String>,
}

/// Why a delivery is not queued.
pub(super) enum NotTaken {
    /// It can be taken later, or elsewhere.
    Later(Duration),
    /// It is a dead letter.
    Dead,
    /// There is nothing to do for it.
    Nothing,
}

/// Takes jobs in.
pub(super) struct Intake {
    pub settings: Arc<Settings>,
    pub analyst: Arc<Analyst<FactHome>>,
    pub broker: Broker,
    pub attempts: AttemptLog,
    pub undertaker: Undertaker,
}

impl Origin {
    /// A lane's own consumer.
    pub(super) fn lane(lane: Lane) -> Self {
        Self { lane, consumer: names::lane_consumer(lane), backfill: None }
    }

    /// A backfill's consumer.
    pub(super) fn backfill(backfill: Backfill) -> Self {
        let consumer = names::backfill_consumer(&backfill.id);
        Self { lane: Lane::Backfill, consumer, backfill: Some(Arc::new(backfill)) }
    }

    /// The backfill's id.
    pub(super) fn backfill_id(&self) -> Option<&str> {
        self.backfill.as_ref().map(|backfill| backfill.id.as_str())
    }
}

impl Intake {
    /// Makes a delivery a job that can be queued.
    pub(super) async fn take(&self, delivered: Delivered, origin: Origin) -> Result<Taken, NotTaken> {
        let arrived = self.analyst.reader().engine().now();
        if origin.backfill.as_ref().is_some_and(|backfill| !backfill.covers(delivered.sequence)) {
            return Err(NotTaken::Nothing);
        }
        let letter = Letter {
            traceparent: delivered.header(names::TRACEPARENT).map(str::to_owned),
            origin,
            sequence: delivered.sequence,
            delivered: delivered.delivered,
            published_at: delivered.published_at,
            subject: delivered.subject,
            headers: delivered.headers,
            body: delivered.body,
        };
        let content_type = letter.header(names::CONTENT_TYPE);
        let message = Message { subject: &letter.subject, content_type, body: &letter.body };
        let decoded = match wire::decode_job(message, &self.settings.limits) {
            Ok(decoded) => decoded,
            Err(refusal) => return Err(self.refuse(&letter, None, refusal).await),
        };
        let encoding = decoded.encoding;
        let mut job = self.with_reviews(decoded.job, &letter).await?;
        if let Some(backfill) = &letter.origin.backfill {
            backfill.adapt(&mut job);
        }
        let result_id = names::result_id(&job.job_id, letter.origin.backfill_id());
        let attempts = self.earlier(&result_id, &letter).await;
        let alone = self.judge(&job, &attempts, &letter).await?;
        let place =
            Place { lane: letter.origin.lane, arrived, waited: letter.waited(OffsetDateTime::now_utc()) };
        let cost = self.analyst.price(&job).await;
        let head = JobHead {
            result_id,
            job_id: job.job_id.clone(),
            restaurant: job.restaurant_id.clone(),
            epoch: job.epoch,
            arrival: Arrival { at: Seconds::from(arrived), cost, lane: letter.origin.lane },
            solo: alone,
        };
        let begin = |random: &mut fastrand::Rng| {
            TraceContext::root_sampled(random, self.settings.telemetry.trace_ratio)
        };
        let header = letter.traceparent.as_deref();
        let trace = TraceContext::following_or(header, &mut fastrand::Rng::new(), begin);
        Ok(Taken {
            token: names::job_token(&job.job_id),
            job,
            head,
            encoding,
            place,
            trace,
            attempts,
            letter,
        })
    }

    /// The job with the reviews that an object holds for it.
    async fn with_reviews(&self, job: Job, letter: &Letter) -> Result<Job, NotTaken> {
        if job.reviews_ref.is_none() {
            return Ok(job);
        }
        let job_id = job.job_id.clone();
        let error = match self.broker.with_reviews(job, &self.settings.limits).await {
            Ok(job) => return Ok(job),
            Err(PayloadError::Refused(refusal)) => {
                return Err(self.refuse(letter, Some(&job_id), refusal).await);
            }
            Err(error) => error,
        };
        // An object may come after its message; if it does not, waiting longer will not bring it.
        if matches!(error, PayloadError::Missing(_)) && letter.delivered > TRIES_FOR_AN_OBJECT {
            let (code, message) = error.reason();
            let reason = Reason { code: code.to_owned(), message };
            self.undertaker.bury(letter, Some(&job_id), None, 0, reason).await;
            return Err(NotTaken::Dead);
        }
        tracing::warn!(job = job_id, %error, "reviews not fetched; the job comes again");
        let tries = u32::try_from(letter.delivered).unwrap_or(u32::MAX);
        Err(NotTaken::Later(retry::delay(tries, fastrand::f64())))
    }

    async fn refuse(&self, letter: &Letter, job: Option<&str>, refusal: Refusal) -> NotTaken {
        match refusal {
            Refusal::Newer { v } => {
                tracing::info!(v, sequence = letter.sequence, "a newer job is left for newer workers");
                NotTaken::Later(FOR_NEWER_WORKERS)
            }
            Refusal::Permanent { code, message } => {
                let reason = Reason { code: code.to_owned(), message };
                self.undertaker.bury(letter, job, None, 0, reason).await;
                NotTaken::Dead
            }
        }
    }

    /// What is known of earlier tries. A first delivery has none; it is not asked for.
    async fn earlier(&self, result_id: &str, letter: &Letter) -> Attempts {
        if letter.delivered <= 1 {
            return Attempts::default();
        }
        match self.attempts.of(result_id).await {
            Ok(attempts) => attempts.seen_at_delivery(),
            Err(error) => {
                tracing::warn!(%error, "earlier tries unknown");
                without_record(letter.delivered)
            }
        }
    }

    /// Whether the job runs alone, or not at all.
    async fn judge(&self, job: &Job, attempts: &Attempts, letter: &Letter) -> Result<bool, NotTaken> {
        let WorkerSettings { max_failures, max_crashes, .. } = self.settings.worker;
        let Attempts { failures, crashes, crashes_alone, .. } = *attempts;
        let history = History { failures, unfinished: crashes, unfinished_alone: crashes_alone };
        match retry::verdict(history, Limits { max_failures, max_crashes }) {
            Verdict::Run => Ok(false),
            Verdict::RunAlone => {
                tracing::warn!(job = job.job_id, crashes = attempts.crashes, "a suspect: runs alone");
                Ok(true)
            }
            Verdict::DeadLetter(why) => {
                let message = match why {
                    GivenUp::Failures => {
                        format!("failed {failures} times for passing reasons that did not pass")
                    }
                    GivenUp::Poison => {
                        format!("{crashes_alone} workers did not survive it, though it ran alone on them")
                    }
                };
                let reason = Reason { code: why.code().to_owned(), message };
                let (job, restaurant) = (Some(job.job_id.as_str()), Some(job.restaurant_id.as_str()));
                self.undertaker.bury(letter, job, restaurant, failures + crashes, reason).await;
                Err(NotTaken::Dead)
            }
        }
    }
}

impl Taken {
    /// The producer's place in the trace, if it told of one.
    pub(super) fn parent(&self) -> Option<TraceContext> {
        self.letter.traceparent.as_deref()?.parse().ok()
    }
}

impl Letter {
    /// The first value of a header, whatever the case of its name.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.and_then(|(_, values)| values.first()).map(String::as_str)
    }

    /// How long its reader has waited for the job before it came here, by the server's clock and ours: none where they
    /// disagree. Nobody waits for the lane of backfills: what is replayed was worked once, and a backlog is in no hurry.
    fn waited(&self, now: OffsetDateTime) -> Duration {
        if self.origin.lane == Lane::Backfill {
            return Duration::ZERO;
        }
        Duration::try_from(now - self.published_at).unwrap_or_default()
    }
}

/// Without a record of tries the server's count must do: whoever was delivered three times runs alone.
fn without_record(delivered: u64) -> Attempts {
    Attempts { crashes: u32::from(delivered >= 3), ..Attempts::default() }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const PUBLISHED: OffsetDateTime = datetime!(2026-06-15 12:00 UTC);

    fn letter(origin: Origin) -> Letter {
        Letter {
            origin,
            sequence: 1,
            delivered: 1,
            published_at: PUBLISHED,
            subject: String::new(),
            headers: std::collections::BTreeMap::new(),
            body: bytes::Bytes::new(),
            traceparent: None,
        }
    }

    #[test]
    fn a_job_has_waited_since_it_was_published_and_a_clock_that_is_behind_makes_that_none() {
        let letter = letter(Origin::lane(Lane::Live));
        assert_eq!(letter.waited(PUBLISHED + time::Duration::seconds(90)), Duration::from_secs(90));
        assert_eq!(letter.waited(PUBLISHED - time::Duration::seconds(1)), Duration::ZERO);
    }

    #[test]
    fn nobody_has_waited_for_a_backlog_or_a_replayed_job() {
        let replay = Origin::backfill(Backfill::new("b".into(), 1, 9, PUBLISHED));
        for origin in [replay, Origin::lane(Lane::Backfill)] {
            assert_eq!(letter(origin).waited(PUBLISHED + time::Duration::days(9)), Duration::ZERO);
        }
    }
}
