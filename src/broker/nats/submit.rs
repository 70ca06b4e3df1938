//! Jobs into the stream. A job that is sent twice is stored once: the server knows it by its message id.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use backon::{ExponentialBuilder, Retryable};
use time::OffsetDateTime;

use super::payload::{SendError, failed};
use super::{Broker, BrokerError};
use crate::broker::names;
use crate::broker::wire::Encoding;
use crate::digest::{review_set_digest, text_digest};
use crate::job::Job;
use crate::scheduler::Lane;
use crate::telemetry::TraceContext;

/// Longer message ids are hashed.
const MAX_MESSAGE_ID: usize = 256;

/// A job that the server has stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    /// Its sequence in the stream of jobs; of a duplicate, that of the first one.
    pub sequence: u64,
    /// Whether the server had it already.
    pub duplicate: bool,
}

/// What the stream holds under a sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Where it was published.
    pub subject: String,
    /// Its media type.
    pub content_type: Option<String>,
    /// Its body.
    pub body: bytes::Bytes,
    /// When it was stored.
    pub at: OffsetDateTime,
}

/// By what the server knows a job that it has already: same restaurant, epoch, analyses and reviews.
pub fn message_id(job: &Job) -> String {
    let mut analyses: Vec<&str> = job.analyses.iter().map(|analysis| analysis.name()).collect();
    analyses.sort_unstable();
    analyses.dedup();
    let digest = match &job.reviews_ref {
        Some(reference) => reference.sha256.clone(),
        None => review_set_digest(&job.reviews),
    };
    let id = format!("{}:{}:{}:{digest}", job.restaurant_id, job.epoch, analyses.join("+"));
    if id.len() <= MAX_MESSAGE_ID { id } else { text_digest(&id) }
}

impl Broker {
    /// Publishes the job in a lane, as the next place of `trace`, and waits until it is stored. What fails in passing
    /// is tried again for some seconds: the message id makes that safe.
    pub async fn submit(&self, job: &Job, lane: Lane, trace: TraceContext) -> Result<Submitted, SendError> {
        let mut headers = HeaderMap::new();
        headers.insert(async_nats::header::NATS_MESSAGE_ID, message_id(job).as_str());
        headers.insert(names::CONTENT_TYPE, Encoding::Msgpack.content_type());
        headers.insert(names::TRACEPARENT, trace.to_string().as_str());
        let subject = names::job_subject(lane, &job.restaurant_id);
        let send = || async {
            let body = self.job_body(job, &headers).await?;
            Ok(self.publish(subject.clone(), headers.clone(), body).await?)
        };
        let tries = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(200))
            .with_max_delay(Duration::from_secs(4))
            .with_max_times(6)
            .with_jitter();
        let passing = |error: &SendError| matches!(error, SendError::Broker(BrokerError::Request { .. }));
        let ack = send.retry(tries).when(passing).await?;
        Ok(Submitted { sequence: ack.sequence, duplicate: ack.duplicate })
    }

    /// A job as it lies in the stream; `None` if it does not any more.
    pub async fn stored_job(&self, sequence: u64) -> Result<Option<Stored>, BrokerError> {
        let stream = self.existing_stream(names::JOBS_STREAM).await?;
        match stream.get_raw_message(sequence).await {
            Ok(message) => Ok(Some(Stored {
                subject: message.subject.to_string(),
                content_type: message.headers.get(names::CONTENT_TYPE).map(|value| value.as_str().to_owned()),
                body: message.payload,
                at: message.time,
            })),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(failed("cannot read a job")(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Analysis, JobOptions, Review};

    fn job() -> Job {
        let review = Review {
            id: "a".into(),
            text: "good".into(),
            rating: None,
            recommended: None,
            created_at: None,
            embedding: None,
        };
        Job {
            v: 1,
            job_id: "j".into(),
            restaurant_id: "r-1".into(),
            restaurant_name: None,
            epoch: 3,
            analyses: vec![Analysis::Summary, Analysis::Sentiment],
            reviews: vec![review],
            reviews_ref: None,
            language: None,
            deadline: None,
            options: JobOptions::default(),
            enqueued_at: None,
        }
    }

    #[test]
    fn a_message_id_names_restaurant_epoch_analyses_and_reviews() {
        let digest = review_set_digest(&job().reviews);
        assert_eq!(message_id(&job()), format!("r-1:3:sentiment+summary:{digest}"));
    }

    #[test]
    fn what_is_asked_twice_or_in_another_order_is_the_same_job() {
        let analyses = vec![Analysis::Sentiment, Analysis::Summary, Analysis::Sentiment];
        let other = Job { analyses, job_id: "another".into(), ..job() };
        assert_eq!(message_id(&other), message_id(&job()));
    }

    #[test]
    fn another_epoch_review_or_analysis_is_another_job() {
        let mut changed = job();
        changed.reviews[0].text.push('!');
        for other in [
            Job { epoch: 4, ..job() },
            Job { restaurant_id: "r-2".into(), ..job() },
            Job { analyses: vec![Analysis::Summary], ..job() },
            changed,
        ] {
            assert_ne!(message_id(&other), message_id(&job()));
        }
    }

    #[test]
    fn a_long_message_id_is_hashed() {
        let long = Job { restaurant_id: "r".repeat(400), ..job() };
        assert_eq!(message_id(&long).len(), 64);
    }
}
