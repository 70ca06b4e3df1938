//! The stream of dead letters: writing, listing, replaying and dropping them.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::str::FromStr;

use async_nats::HeaderMap;
use async_nats::header::{HeaderName, HeaderValue};
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{DeleteMessageErrorKind, DirectGetErrorKind};
use async_nats::jetstream::{self, ErrorCode};
use time::OffsetDateTime;

use super::payload::PayloadError;
use super::records::failed;
use super::scan::Scan;
use super::{Broker, BrokerError};
use crate::broker::dead_letter::{self, Filter, Summary};
use crate::broker::names;
use crate::broker::wire::{DeadLetter, Refusal};

/// The stream of dead letters behind a connection.
pub struct DeadLetters {
    broker: Broker,
}

/// What became of a letter that was to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It is stored.
    Stored,
    /// The job has a letter already, with this sequence, and that one stays.
    Before(u64),
}

/// What became of a letter that was to be replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replayed {
    /// Sequence of the job in the stream of jobs.
    pub sequence: u64,
    /// It was there already, from a replay that was interrupted before the letter was deleted.
    pub repeated: bool,
}

/// Why a dead letter cannot be read or replayed.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    /// The server did not do it: it may be tried again.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// There is none.
    #[error("there is no dead letter {0}; `maitred dlq ls` shows those there are")]
    Gone(u64),
    /// It is not a record that this program reads.
    #[error("dead letter {sequence} cannot be read: {cause}")]
    Unreadable {
        /// Its sequence.
        sequence: u64,
        /// What is wrong.
        cause: Refusal,
    },
    /// The object that holds it is missing or another one.
    #[error("dead letter {sequence} is lost, all that is left is to drop it: {cause}")]
    Body {
        /// Its sequence.
        sequence: u64,
        /// What is wrong with the object.
        cause: PayloadError,
    },
    /// Its job was not published where jobs are.
    #[error(
        "dead letter {sequence} came from `{subject}`, where no jobs are published; it cannot be replayed"
    )]
    Subject {
        /// Its sequence.
        sequence: u64,
        /// The subject.
        subject: String,
    },
}

impl DeadLetters {
    /// The dead letters behind this connection.
    pub fn new(broker: &Broker) -> Self {
        Self { broker: broker.clone() }
    }

    /// Writes a letter. Once this returns, the job has one; written twice, it is stored once.
    pub async fn put(&self, letter: &DeadLetter) -> Result<Written, BrokerError> {
        let body = letter.encode().map_err(failed("cannot encode a dead letter"))?;
        let id = dead_letter::message_id(&letter.stream, letter.sequence, letter.backfill.as_deref());
        let mut headers = HeaderMap::new();
        headers.insert(names::MESSAGE_ID, id);
        headers.insert(names::CONTENT_TYPE, names::MSGPACK);
        for (name, value) in dead_letter::headers(letter) {
            headers.insert(name, value);
        }
        let ack = self.broker.publish(dead_letter::subject(letter), headers, body).await?;
        Ok(if ack.duplicate { Written::Before(ack.sequence) } else { Written::Stored })
    }

    /// The newest letters that are meant, at most `limit`, the oldest of them first.
    pub async fn list(&self, filter: &Filter, limit: usize) -> Result<Vec<Summary>, BrokerError> {
        let mut newest = VecDeque::new();
        let all = |message: &jetstream::Message| {
            if let Some(summary) = summary_of(message).filter(|summary| filter.takes(summary)) {
                newest.push_back(summary);
                if newest.len() > limit {
                    newest.pop_front();
                }
            }
            ControlFlow::<()>::Continue(())
        };
        self.scan(&filter.subjects(), DeliverPolicy::All, all).await?;
        Ok(newest.into())
    }

    /// How many letters there are.
    pub async fn count(&self) -> Result<u64, BrokerError> {
        Ok(self.broker.stream(names::DEAD_LETTERS_STREAM).await?.cached_info().state.messages)
    }

    /// One letter, with the job as it was received.
    pub async fn get(&self, sequence: u64) -> Result<DeadLetter, DeadLetterError> {
        let message = self.message(sequence).await?.ok_or(DeadLetterError::Gone(sequence))?;
        let body = self.broker.body_of(&message.headers, message.payload).await;
        let body = body.map_err(|cause| match cause {
            PayloadError::Broker(error) => DeadLetterError::Broker(error),
            cause => DeadLetterError::Body { sequence, cause },
        })?;
        DeadLetter::decode(&body).map_err(|cause| DeadLetterError::Unreadable { sequence, cause })
    }

    /// Publishes a letter's job again where it was published first, and then deletes the letter.
    ///
    /// Interrupted between the two, it may be called again: the server knows the replay by its id and does not store
    /// the job twice, unless its window for repeats has passed. Then the job is worked twice, with the same result id.
    pub async fn replay(&self, sequence: u64) -> Result<Replayed, DeadLetterError> {
        let letter = self.get(sequence).await?;
        if !dead_letter::is_job_subject(&letter.subject) {
            return Err(DeadLetterError::Subject {
                sequence,
                subject: letter.subject.escape_debug().to_string(),
            });
        }
        let mut headers = HeaderMap::new();
        for (name, value) in dead_letter::replayed_headers(&letter) {
            // What a header cannot hold was none when the job was published.
            if let (Ok(name), Ok(value)) = (HeaderName::from_str(name), HeaderValue::from_str(value)) {
                headers.append(name, value);
            }
        }
        headers.insert(names::MESSAGE_ID, dead_letter::replay_id(sequence));
        // Not `Broker::publish`: jobs are read from messages, so what fitted into one must go into one again.
        let sent =
            self.broker.jetstream.publish_with_headers(letter.subject, headers, letter.payload.into()).await;
        let ack = sent
            .map_err(failed("cannot publish the job"))?
            .await
            .map_err(failed("cannot publish the job"))?;
        self.drop(sequence).await?;
        Ok(Replayed { sequence: ack.sequence, repeated: ack.duplicate })
    }

    /// Deletes a letter, and its job with it; `false`: there is none. If an object holds it, that is left to its age,
    /// because the name is its digest and others may mean the same bytes.
    pub async fn drop(&self, sequence: u64) -> Result<bool, BrokerError> {
        let stream = self.broker.stream(names::DEAD_LETTERS_STREAM).await?;
        match stream.delete_message(sequence).await {
            Ok(deleted) => Ok(deleted),
            Err(error) if is_gone(&error.kind()) => Ok(false),
            Err(error) => Err(failed("cannot delete a dead letter")(error)),
        }
    }

    /// Whether a job has a letter. `since` is when the job was published: its letter is younger.
    pub async fn find(
        &self,
        stream: &str,
        sequence: u64,
        backfill: Option<&str>,
        since: OffsetDateTime,
    ) -> Result<Option<u64>, BrokerError> {
        let id = dead_letter::message_id(stream, sequence, backfill);
        let from = DeliverPolicy::ByStartTime { start_time: since };
        let same = |message: &jetstream::Message| match message.info() {
            Ok(info) if header(message, names::MESSAGE_ID) == Some(&id) => {
                ControlFlow::Break(info.stream_sequence)
            }
            _ => ControlFlow::Continue(()),
        };
        self.scan(names::DEAD_LETTERS_SUBJECTS, from, same).await
    }

    /// Takes a job's letter back, because the job has a result after all; `false`: there was none.
    ///
    /// A worker calls this after the result of a job at its last delivery: the server gives such a job up when its
    /// lease ends, and the sweeper writes a letter, although the worker may only have been slow.
    pub async fn retract(
        &self,
        stream: &str,
        sequence: u64,
        backfill: Option<&str>,
        since: OffsetDateTime,
    ) -> Result<bool, BrokerError> {
        match self.find(stream, sequence, backfill, since).await? {
            Some(letter) => self.drop(letter).await,
            None => Ok(false),
        }
    }

    async fn message(&self, sequence: u64) -> Result<Option<StreamMessage>, BrokerError> {
        self.broker.message(names::DEAD_LETTERS_STREAM, sequence).await
    }

    async fn scan<B>(
        &self,
        subjects: &str,
        from: DeliverPolicy,
        visit: impl FnMut(&jetstream::Message) -> ControlFlow<B>,
    ) -> Result<Option<B>, BrokerError> {
        let stream = self.broker.stream(names::DEAD_LETTERS_STREAM).await?;
        Scan { stream: &stream, subjects, from, headers_only: true }.each(visit).await
    }
}

impl Broker {
    /// A stored message; `None`: it is gone.
    pub(super) async fn message(
        &self,
        stream: &str,
        sequence: u64,
    ) -> Result<Option<StreamMessage>, BrokerError> {
        match self.stream(stream).await?.direct_get(sequence).await {
            Ok(message) => Ok(Some(message)),
            Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("cannot read a message")(error)),
        }
    }
}

/// A header of a message, the first of its name.
pub(super) fn header<'m>(message: &'m jetstream::Message, name: &str) -> Option<&'m str> {
    Some(message.headers.as_ref()?.get(name)?.as_str())
}

fn summary_of(message: &jetstream::Message) -> Option<Summary> {
    let info = message.info().ok()?;
    let header = |name: &str| header(message, name);
    Some(dead_letter::summary(&message.subject, info.stream_sequence, info.published, header))
}

fn is_gone(kind: &DeleteMessageErrorKind) -> bool {
    // 10043: no message found; 10057: deleting failed, which is how older servers say it.
    let gone = |code| matches!(code, ErrorCode::SEQUENCE_NOT_FOUND | ErrorCode::STREAM_MESSAGE_DELETE_FAILED);
    matches!(kind, DeleteMessageErrorKind::JetStream(error) if gone(error.error_code()))
}
