//! Results and dead letters out of their streams, and results into theirs.
//!
//! Reading needs no durable consumer and acknowledges nothing: everybody may read, and reads for himself. A message
//! that cannot be read is an item of its own, and reading goes on behind it.

use async_nats::HeaderMap;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::{Ordered, OrderedConfig};
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::{LastRawMessageErrorKind, Stream};
use bytes::Bytes;
use futures_util::StreamExt;
use time::OffsetDateTime;

use super::payload::{PayloadError, SendError, failed};
use super::submit::Submitted;
use super::{Broker, BrokerError};
use crate::broker::names;
use crate::broker::wire::{self, DeadLetter, Encoding};
use crate::result::AnalysisResult;
use crate::telemetry::TraceContext;

/// A result as it was published.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The result.
    pub result: AnalysisResult,
    /// The backfill for which it was made, if one was.
    pub backfill: Option<String>,
    /// Its sequence in the stream of results.
    pub sequence: u64,
    /// When it was published (UTC).
    pub published_at: OffsetDateTime,
}

/// How a job ended.
#[derive(Debug, Clone)]
pub enum Ending {
    /// With a result.
    Result(Box<Found>),
    /// As a dead letter.
    DeadLetter(Box<DeadLetter>),
}

/// From where endings are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// Behind these sequences of the results and of the dead letters.
    Behind {
        /// The last result that is not wanted.
        results: u64,
        /// The last dead letter that is not wanted.
        dead_letters: u64,
    },
    /// From this time on.
    At(OffsetDateTime),
}

/// Which results are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Of this restaurant only.
    pub restaurant: Option<String>,
    /// Only so many of those that are there, the newest.
    pub limit: Option<u64>,
    /// And those that are still to come.
    pub follow: bool,
}

/// The latest result of each restaurant, oldest first; then, if wanted, each new one. If the connection is lost in
/// between, the rest may hold earlier results too: the client library goes on by sequence and not by restaurant.
pub struct Results {
    broker: Broker,
    messages: Ordered,
    /// Of those that are there: how many are passed over, and how many are wanted behind them.
    skip: u64,
    left: u64,
    follow: bool,
}

/// Results and dead letters as they come.
pub struct Endings {
    broker: Broker,
    results: Ordered,
    dead_letters: Ordered,
    since: Since,
}

impl Broker {
    /// Publishes a result, for a backfill if one is named, and waits until it is stored. The server drops a second
    /// result of the same job: that is `duplicate`.
    pub async fn publish_result(
        &self,
        result: &AnalysisResult,
        encoding: Encoding,
        trace: TraceContext,
        backfill: Option<&str>,
    ) -> Result<Submitted, SendError> {
        let mut headers = HeaderMap::new();
        let id = names::result_id(&result.job_id, backfill);
        headers.insert(async_nats::header::NATS_MESSAGE_ID, id.as_str());
        headers.insert(names::CONTENT_TYPE, encoding.content_type());
        headers.insert(names::TRACEPARENT, trace.to_string().as_str());
        if let Some(backfill) = backfill {
            headers.insert(names::BACKFILL, backfill);
        }
        let body = wire::encode_result(result, encoding)?;
        let ack = self.publish(names::result_subject(&result.restaurant_id), headers, body).await?;
        Ok(Submitted { sequence: ack.sequence, duplicate: ack.duplicate })
    }

    /// The restaurant's latest result.
    pub async fn latest_result(&self, restaurant: &str) -> Result<Option<Found>, PayloadError> {
        let stream = self.existing_stream(names::RESULTS_STREAM).await?;
        match stream.get_last_raw_message_by_subject(&names::result_subject(restaurant)).await {
            Ok(message) => self
                .found(&message.headers, message.payload, (message.sequence, message.time))
                .await
                .map(Some),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(failed("cannot read a result")(error).into()),
        }
    }

    /// The latest result of each restaurant, and those to come if wanted.
    pub async fn results(&self, wanted: Wanted) -> Result<Results, BrokerError> {
        let filter =
            wanted.restaurant.as_deref().map_or(names::RESULTS_SUBJECTS.to_owned(), names::result_subject);
        let (messages, there) =
            self.read(names::RESULTS_STREAM, filter, DeliverPolicy::LastPerSubject).await?;
        let left = wanted.limit.unwrap_or(there).min(there);
        Ok(Results { broker: self.clone(), messages, skip: there - left, left, follow: wanted.follow })
    }

    /// Where the results and dead letters end now.
    pub async fn now(&self) -> Result<Since, BrokerError> {
        let results = self.existing_stream(names::RESULTS_STREAM).await?;
        let dead_letters = self.existing_stream(names::DEAD_LETTERS_STREAM).await?;
        Ok(Since::Behind {
            results: results.cached_info().state.last_sequence,
            dead_letters: dead_letters.cached_info().state.last_sequence,
        })
    }

    /// Results and dead letters from there on.
    pub async fn endings(&self, since: Since) -> Result<Endings, BrokerError> {
        let (results, dead_letters) = match since {
            Since::Behind { results, dead_letters } => (
                DeliverPolicy::ByStartSequence { start_sequence: results + 1 },
                DeliverPolicy::ByStartSequence { start_sequence: dead_letters + 1 },
            ),
            Since::At(start_time) => {
                (DeliverPolicy::ByStartTime { start_time }, DeliverPolicy::ByStartTime { start_time })
            }
        };
        let (results, _) = self.read(names::RESULTS_STREAM, names::RESULTS_SUBJECTS.into(), results).await?;
        let subjects = names::DEAD_LETTERS_SUBJECTS.into();
        let (dead_letters, _) = self.read(names::DEAD_LETTERS_STREAM, subjects, dead_letters).await?;
        Ok(Endings { broker: self.clone(), results, dead_letters, since })
    }

    /// Reads a stream in order; also how many messages are there.
    pub(super) async fn read(
        &self,
        stream: &'static str,
        filter_subject: String,
        deliver_policy: DeliverPolicy,
    ) -> Result<(Ordered, u64), BrokerError> {
        let config = OrderedConfig { filter_subject, deliver_policy, ..OrderedConfig::default() };
        let consumer = self.existing_stream(stream).await?.create_consumer(config).await;
        let consumer = consumer.map_err(failed("cannot read a stream"))?;
        let there = consumer.cached_info().num_pending;
        Ok((consumer.messages().await.map_err(failed("cannot read a stream"))?, there))
    }

    pub(super) async fn existing_stream(&self, name: &'static str) -> Result<Stream, BrokerError> {
        self.jetstream.get_stream(name).await.map_err(|error| match error.kind() {
            GetStreamErrorKind::JetStream(cause) if cause.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                BrokerError::Missing { what: format!("the stream {name}") }
            }
            _ => failed("cannot look at a stream")(error),
        })
    }

    async fn found(
        &self,
        headers: &HeaderMap,
        body: Bytes,
        (sequence, published_at): (u64, OffsetDateTime),
    ) -> Result<Found, PayloadError> {
        let header = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
        let body = self.body_of(headers, body).await?;
        let result = wire::decode_result(header(names::CONTENT_TYPE).as_deref(), &body)?;
        Ok(Found { result, backfill: header(names::BACKFILL), sequence, published_at })
    }

    async fn dead_letter(&self, headers: &HeaderMap, body: Bytes) -> Result<DeadLetter, PayloadError> {
        let body = self.body_of(headers, body).await?;
        Ok(DeadLetter::decode(&body)?)
    }
}

impl Results {
    /// Whether all that were there when reading began have been given.
    pub const fn has_caught_up(&self) -> bool {
        self.skip == 0 && self.left == 0
    }

    /// The next one; `None` when all were given and no more are wanted. An error concerns one result.
    pub async fn next(&mut self) -> Option<Result<Found, PayloadError>> {
        while self.follow || self.left > 0 {
            let message = match self.messages.next().await? {
                Ok(message) => message,
                Err(error) => return Some(Err(failed("cannot read results")(error).into())),
            };
            let (place, behind) = match message.info() {
                Ok(info) => ((info.stream_sequence, info.published), info.pending),
                Err(error) => return Some(Err(not_info(error).into())),
            };
            if self.skip > 0 {
                self.skip -= 1;
                continue;
            }
            // What has aged out meanwhile does not come any more.
            self.left = self.left.saturating_sub(1).min(behind);
            let headers = message.headers.clone().unwrap_or_default();
            return Some(self.broker.found(&headers, message.payload.clone(), place).await);
        }
        None
    }
}

impl Endings {
    /// The next one. An error concerns one message, or reading for a moment. `None` if the connection was closed.
    pub async fn next(&mut self) -> Option<Result<Ending, PayloadError>> {
        loop {
            let (read, is_result) = tokio::select! {
                read = self.results.next() => (read?, true),
                read = self.dead_letters.next() => (read?, false),
            };
            let message = match read {
                Ok(message) => message,
                Err(error) => return Some(Err(failed("cannot read results")(error).into())),
            };
            let place = match message.info() {
                Ok(info) => (info.stream_sequence, info.published),
                Err(error) => return Some(Err(not_info(error).into())),
            };
            if self.is_old(place.0, is_result) {
                continue;
            }
            let headers = message.headers.clone().unwrap_or_default();
            let body = message.payload.clone();
            return Some(if is_result {
                self.broker.found(&headers, body, place).await.map(|found| Ending::Result(Box::new(found)))
            } else {
                self.broker
                    .dead_letter(&headers, body)
                    .await
                    .map(|letter| Ending::DeadLetter(Box::new(letter)))
            });
        }
    }

    /// A reader that lost its connection before its first message begins anew at the stream's very beginning.
    const fn is_old(&self, sequence: u64, is_result: bool) -> bool {
        match self.since {
            Since::Behind { results, dead_letters } => {
                sequence <= if is_result { results } else { dead_letters }
            }
            Since::At(_) => false,
        }
    }
}

/// A message of a stream that does not say where it stands there.
pub(super) fn not_info(error: async_nats::Error) -> BrokerError {
    BrokerError::request("a message without its place in the stream")(error)
}
