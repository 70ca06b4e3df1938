//! The sweeper: what the server gives up becomes a dead letter.
//!
//! After `nats.max_deliver` deliveries the server stops delivering a job and says so once, in an advisory that names the
//! job's sequence and nothing else; it does so when the lane is asked for jobs next. The job itself stays in its stream. The sweeper reads the advisories, loads the job,
//! writes the letter and acks. All workers share one durable consumer; each runs a sweeper, and any of them will do.
//!
//! **The worker that was only slow.** The server gives a job up when the lease of its last delivery ends. The worker that
//! held it is usually dead, but it may have been stopped, or cut off, and finish later. Then there could be two ends, a
//! result and a letter. It is avoided by each side looking for the other's end after having written its own:
//!
//! - the sweeper writes the letter, then looks for a result, and takes the letter back if there is one;
//! - a worker publishes the result of a last delivery, then takes back the letter if there is one
//!   ([`DeadLetters::retract`]).
//!
//! Both write before they look and both writes are confirmed, so the later of the two sees the other: the result stays,
//! the letter goes. Two ends remain only if the worker dies between the two steps, or if somebody replays the letter in
//! between; then the job has two results with one id.
//!
//! **The books.** An advisory may come again, to another worker and at the same time, because its sweeper died, failed or
//! took long. So the letter is told each time, as it stands in its stream, and whether it was stored just then: what is
//! kept under the letter's own identity can be kept again, what is counted is counted by the one that stored it.
//!
//! **How it is told that a job has an end.** A result has its message id (`names::result_id`) and stands under its
//! restaurant, a letter has its own; both are younger than the job. So the headers of what was published since the job
//! are read: of the restaurant's results, and of the letters. A job whose body cannot be read has no id, hence no
//! result.

use std::ops::ControlFlow;
use std::time::Duration;

use async_nats::jetstream::consumer::{Consumer, DeliverPolicy, pull};
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::{self, AckKind};
use futures_util::StreamExt;
use serde::Deserialize;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use super::dead_letters::{DeadLetterError, DeadLetters, Written, header};
use super::records::{failed, not_there_or};
use super::scan::Scan;
use super::{Broker, BrokerError};
use crate::broker::wire::{self, DeadLetter, Reason};
use crate::broker::{dead_letter, names};
use crate::job::{Limits, WIRE_VERSION};
use crate::scheduler::Lane;

/// Advisories in one request: each may take a while.
const BATCH: usize = 16;
/// How long a request waits for one. Short, because a request does not outlive a restart of the server, and is not
/// known to be lost before its time is over.
const PATIENCE: Duration = Duration::from_secs(5);
/// When something failed, the next try is this much later.
const REST: Duration = Duration::from_secs(5);

/// What is done with a letter that stands.
type OnLetter = Box<dyn Fn(&DeadLetter, Written) + Send + Sync>;

/// Turns what the server gives up into dead letters.
pub struct Sweeper {
    broker: Broker,
    letters: DeadLetters,
    worker: String,
    limits: Limits,
    on_letter: Option<OnLetter>,
}

/// What became of an advisory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swept {
    /// A letter was written.
    Letter,
    /// The job has a result, or a letter already.
    Ended,
    /// The job is not in the stream any more.
    Gone,
    /// It is about something else.
    Other,
}

/// What the server says when it gives a message up.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Advisory {
    #[serde(rename = "type")]
    kind: String,
    stream: String,
    consumer: String,
    stream_seq: u64,
    deliveries: u64,
}

/// A job that the server gave up.
struct GivenUp {
    advisory: Advisory,
    /// The backfill for which it was delivered.
    backfill: Option<String>,
    message: StreamMessage,
    job_id: Option<String>,
}

impl Sweeper {
    /// A sweeper; its letters name `worker`.
    pub fn new(broker: &Broker, worker: impl Into<String>, limits: Limits) -> Self {
        let letters = DeadLetters::new(broker);
        Self { broker: broker.clone(), letters, worker: worker.into(), limits, on_letter: None }
    }

    /// Calls `on_letter` for each letter that stands for a job that was given up: as it is stored, and whether it was
    /// before.
    #[must_use]
    pub fn telling(self, on_letter: impl Fn(&DeadLetter, Written) + Send + Sync + 'static) -> Self {
        Self { on_letter: Some(Box::new(on_letter)), ..self }
    }

    /// Sweeps until it is told to stop. Whatever fails is tried again: the advisories wait in their stream.
    pub async fn run(&self, stop: CancellationToken) {
        let sweep = async {
            loop {
                if let Err(error) = self.pull_once().await {
                    tracing::warn!(%error, "advisories are not swept; the next try is in a few seconds");
                    // Ends with the token, as everything here does.
                    let _ = tokio::time::timeout(REST, stop.cancelled()).await;
                }
            }
        };
        // Breaking off loses nothing: an advisory is acked when its letter is stored, and comes again otherwise.
        stop.run_until_cancelled(Box::pin(sweep)).await;
    }

    /// Sweeps the advisories that are there now.
    pub async fn once(&self) -> Result<Vec<Swept>, BrokerError> {
        let consumer = self.consumer().await?;
        let mut swept = Vec::new();
        loop {
            let batch = consumer.fetch().max_messages(BATCH).messages().await;
            let before = swept.len();
            self.all_of(batch.map_err(failed("cannot read advisories"))?, &mut swept).await?;
            if swept.len() == before {
                return Ok(swept);
            }
        }
    }

    async fn pull_once(&self) -> Result<(), BrokerError> {
        let consumer = self.consumer().await?;
        let batch = consumer.batch().max_messages(BATCH).expires(PATIENCE).messages().await;
        self.all_of(batch.map_err(failed("cannot read advisories"))?, &mut Vec::new()).await
    }

    async fn consumer(&self) -> Result<Consumer<pull::Config>, BrokerError> {
        let (stream, name) = (names::ADVISORIES_STREAM, names::SWEEPER);
        let found = self.broker.jetstream.get_consumer_from_stream(name, stream).await;
        found.map_err(|error| {
            not_there_or(&format!("the consumer {name} of {stream}"), "cannot read advisories", error)
        })
    }

    async fn all_of(&self, mut batch: pull::Batch, swept: &mut Vec<Swept>) -> Result<(), BrokerError> {
        while let Some(message) = batch.next().await {
            let message = message.map_err(BrokerError::request("cannot read advisories"))?;
            swept.push(self.settle(&message).await?);
        }
        Ok(())
    }

    /// Sweeps one advisory and acks it; if that fails, it goes back for a while.
    async fn settle(&self, message: &jetstream::Message) -> Result<Swept, BrokerError> {
        match self.sweep(message).await {
            Ok(swept) => {
                message.double_ack().await.map_err(BrokerError::request("cannot ack an advisory"))?;
                Ok(swept)
            }
            Err(error) => {
                // If this does not get through either, the advisory comes again when its lease ends.
                let _ = message.ack_with(AckKind::Nak(Some(REST))).await;
                Err(error)
            }
        }
    }

    async fn sweep(&self, message: &jetstream::Message) -> Result<Swept, BrokerError> {
        let Some(advisory) = Advisory::of_jobs(&message.payload) else { return Ok(Swept::Other) };
        let Some(job) = self.broker.message(&advisory.stream, advisory.stream_seq).await? else {
            return Ok(Swept::Gone);
        };
        let given_up = self.given_up(advisory, job);
        let before = self.letter_of(&given_up).await?;
        if before.is_none() && self.has_result(&given_up).await? {
            return Ok(Swept::Ended);
        }
        let letter = given_up.letter(&self.worker, OffsetDateTime::now_utc());
        let written = match before {
            Some(sequence) => Written::Before(sequence),
            None => self.write(&letter).await?,
        };
        // The other half of the agreement with a worker that was only slow.
        let has_result = self.has_result(&given_up).await;
        if matches!(has_result, Ok(true)) {
            let since = given_up.message.time;
            self.letters.retract(&letter.stream, letter.sequence, letter.backfill.as_deref(), since).await?;
            return Ok(Swept::Ended);
        }
        // Also where the look failed: the letter stands meanwhile, and the advisory comes again.
        self.tell(&letter, written).await?;
        has_result?;
        Ok(if written == Written::Stored { Swept::Letter } else { Swept::Ended })
    }

    async fn write(&self, letter: &DeadLetter) -> Result<Written, BrokerError> {
        let written = self.letters.put(letter).await?;
        if written == Written::Stored {
            tracing::warn!(
                sequence = letter.sequence,
                job = letter.job_id,
                delivered = letter.delivered,
                "the server gave a job up; it is a dead letter now"
            );
        }
        Ok(written)
    }

    /// Tells of the letter that stands: this one, or that of before.
    async fn tell(&self, letter: &DeadLetter, written: Written) -> Result<(), BrokerError> {
        let Some(on_letter) = &self.on_letter else { return Ok(()) };
        match written {
            Written::Stored => on_letter(letter, written),
            Written::Before(sequence) => match self.letters.get(sequence).await {
                Ok(before) => on_letter(&before, written),
                Err(DeadLetterError::Broker(error)) => return Err(error),
                // Replayed or dropped meanwhile, or nobody can read it.
                Err(error) => tracing::debug!(%error, "a dead letter of before is not told"),
            },
        }
        Ok(())
    }

    fn given_up(&self, advisory: Advisory, message: StreamMessage) -> GivenUp {
        let content_type = message.headers.get(names::CONTENT_TYPE).map(async_nats::HeaderValue::as_str);
        let parts = wire::Message { subject: &message.subject, content_type, body: &message.payload };
        let job_id = wire::decode_job(parts, &self.limits).ok().map(|decoded| decoded.job.job_id);
        let backfill = names::backfill_of(&advisory.consumer).map(str::to_owned);
        GivenUp { advisory, backfill, message, job_id }
    }

    /// Where the job's letter is, if it has one.
    async fn letter_of(&self, job: &GivenUp) -> Result<Option<u64>, BrokerError> {
        let Advisory { stream, stream_seq, .. } = &job.advisory;
        self.letters.find(stream, *stream_seq, job.backfill.as_deref(), job.message.time).await
    }

    async fn has_result(&self, job: &GivenUp) -> Result<bool, BrokerError> {
        let (Some(job_id), Some(restaurant)) = (&job.job_id, job.restaurant()) else { return Ok(false) };
        let id = names::result_id(job_id, job.backfill.as_deref());
        let stream = self.broker.stream(names::RESULTS_STREAM).await?;
        let scan = Scan {
            stream: &stream,
            subjects: &names::result_subject(restaurant),
            from: DeliverPolicy::ByStartTime { start_time: job.message.time },
            headers_only: true,
        };
        let same = |message: &jetstream::Message| match header(message, names::MESSAGE_ID) {
            Some(found) if found == id => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        };
        Ok(scan.each(same).await?.is_some())
    }
}

impl Advisory {
    /// The advisory in a body, if it says that a job was given up.
    fn of_jobs(body: &[u8]) -> Option<Self> {
        let advisory: Self = serde_json::from_slice(body)
            .inspect_err(|error| tracing::warn!(%error, "an advisory that cannot be read"))
            .ok()?;
        let meant = advisory.kind.ends_with(".max_deliver") && advisory.stream == names::JOBS_STREAM;
        meant.then_some(advisory)
    }
}

impl GivenUp {
    /// The restaurant in the job's subject.
    fn restaurant(&self) -> Option<&str> {
        self.message.subject.splitn(4, '.').nth(3).filter(|token| dead_letter::is_token(token))
    }

    fn letter(&self, worker: &str, now: OffsetDateTime) -> DeadLetter {
        let Advisory { stream, consumer, stream_seq, deliveries, .. } = &self.advisory;
        let lane = match &self.backfill {
            Some(_) => Lane::Backfill,
            None => names::lane_of(&self.message.subject).unwrap_or_default(),
        };
        let headers = self
            .message
            .headers
            .iter()
            .map(|(name, values)| (name.to_string(), values.iter().map(ToString::to_string).collect()));
        let message = format!(
            "delivered {deliveries} times without an end; its workers died, hung or were cut off: see their logs, then \
             `maitred dlq replay`"
        );
        DeadLetter {
            v: WIRE_VERSION,
            job_id: self.job_id.clone(),
            restaurant_id: self.restaurant().map(str::to_owned),
            lane,
            stream: stream.clone(),
            sequence: *stream_seq,
            subject: self.message.subject.to_string(),
            consumer: consumer.clone(),
            delivered: *deliveries,
            failures: 0,
            reason: Reason { code: dead_letter::MAX_DELIVERIES.to_owned(), message },
            worker: worker.to_owned(),
            traceparent: self.message.headers.get(names::TRACEPARENT).map(ToString::to_string),
            backfill: self.backfill.clone(),
            at: now,
            headers: headers.collect(),
            payload: self.message.payload.to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_advisories_of_jobs_that_were_given_up_count() {
        let advisory = |kind: &str, stream: &str| {
            let body = json!({
                "type": format!("io.nats.jetstream.advisory.v1.{kind}"), "id": "x", "timestamp": "2026-06-15T12:00:00Z",
                "stream": stream, "consumer": "worker-live", "stream_seq": 7, "deliveries": 20,
            });
            Advisory::of_jobs(body.to_string().as_bytes())
        };
        let given_up = advisory("max_deliver", "REVIEW_JOBS").unwrap();
        assert_eq!((given_up.stream_seq, given_up.deliveries), (7, 20));
        assert_eq!(advisory("terminated", "REVIEW_JOBS"), None);
        assert_eq!(advisory("max_deliver", "ANALYSIS_ADVISORIES"), None);
        assert_eq!(Advisory::of_jobs(b"not json"), None);
    }
}
