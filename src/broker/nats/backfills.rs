//! Backfills on the server: their records, their consumers, and how one is started, watched and ended.
//!
//! The record is written before the consumer is made and changed before the consumer is deleted. So a record says what
//! is meant, and workers take a running backfill without a consumer for one that is just beginning, or that nobody has
//! pulled from for a week, and look again later. An end is written by compare-and-set: whoever is first, wins, and all
//! others see it as done.

mod watch;

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy, pull};
use async_nats::jetstream::stream::{ConsumerErrorKind, DirectGetErrorKind, Stream};
use async_nats::jetstream::{self, ErrorCode};
use time::OffsetDateTime;

use super::records::{Records, failed};
use super::{Broker, BrokerError};
use crate::broker::backfill::{self, Backfill, BackfillError, Bound, Position, State};
use crate::broker::names;
use crate::config::NatsSettings;
use crate::job::Analysis;

/// A backfill that nobody pulls from for this long is forgotten by the server; its record stays.
const INACTIVE: Duration = Duration::from_hours(7 * 24);
/// Jobs that one request may take.
const MAX_BATCH: i64 = 64;

/// The backfills behind a connection.
pub struct Backfills {
    broker: Broker,
    records: Records<Backfill>,
}

/// What an operator asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// Its name; `None`: made from the time.
    pub id: Option<String>,
    /// The first job.
    pub from: Bound,
    /// The last job; `None`: the last there is now.
    pub to: Option<Bound>,
    /// Jobs per second of all workers together.
    pub rate: Option<f64>,
    /// What is asked instead of what each job asked for.
    pub analyses: Option<Vec<Analysis>>,
}

/// Why a backfill cannot be started or found.
#[derive(Debug, thiserror::Error)]
pub enum BackfillsError {
    /// The server did not do it: it may be tried again.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// What was asked for cannot be.
    #[error(transparent)]
    Order(#[from] BackfillError),
    /// No job lies in the range.
    #[error("there is no job to work again from {from} to {to}; the stream of jobs holds {first} to {last}")]
    Empty {
        /// The range's first sequence.
        from: u64,
        /// The range's last sequence.
        to: u64,
        /// The stream's first sequence.
        first: u64,
        /// The stream's last sequence.
        last: u64,
    },
    /// The id was used before.
    #[error(
        "backfill `{id}` exists and is {}; choose another id, because results of the same id would be taken for repeats",
        state.name()
    )]
    Taken {
        /// The id.
        id: String,
        /// How that one is.
        state: State,
    },
    /// There is none of that id.
    #[error("there is no backfill `{0}`; `maitred backfill status` shows those there are")]
    Unknown(String),
}

impl Backfills {
    /// The backfills behind this connection.
    pub fn new(broker: &Broker) -> Self {
        Self { broker: broker.clone(), records: Records::new(broker, names::BACKFILLS_BUCKET) }
    }

    /// Starts one: fixes its range, writes its record, makes its consumer.
    pub async fn start(
        &self,
        order: Order,
        settings: &NatsSettings,
        now: OffsetDateTime,
    ) -> Result<Backfill, BackfillsError> {
        let id = order.id.unwrap_or_else(|| backfill::default_id(now));
        backfill::check_id(&id)?;
        let stream = self.broker.stream(names::JOBS_STREAM).await?;
        let (from, to) = range(&stream, order.from, order.to).await?;
        let made =
            Backfill { rate: order.rate, analyses: order.analyses, ..Backfill::new(id, from, to, now) };
        if !self.records.create(&made.id, &made).await? {
            let state = self.get(&made.id).await?.state;
            return Err(BackfillsError::Taken { id: made.id, state });
        }
        if let Err(error) = stream.create_consumer_strict(consumer_of(&made, settings)).await {
            // Without its consumer it is nothing: the id stays free for the next try.
            self.records.remove(&made.id).await?;
            return Err(failed("cannot make the backfill's consumer")(error).into());
        }
        Ok(made)
    }

    /// Ends one before its time; jobs that workers hold are finished. One that has ended stays as it is.
    pub async fn stop(&self, id: &str, now: OffsetDateTime) -> Result<Backfill, BackfillsError> {
        let found = self.get(id).await?;
        let at = self.position(&found).await?;
        self.end(&found.id, State::Stopped, at, now).await
    }

    /// Ends one if all its jobs are settled; `true`: it has ended, now or before. Any worker may ask, at any time.
    pub async fn finish(&self, backfill: &Backfill, now: OffsetDateTime) -> Result<bool, BackfillsError> {
        let Some(at) = self.position(backfill).await?.filter(|at| backfill.is_finished(*at)) else {
            return Ok(!self.get(&backfill.id).await?.is_running());
        };
        self.end(&backfill.id, State::Done, Some(at), now).await?;
        Ok(true)
    }

    /// All that are known, by id.
    pub async fn list(&self) -> Result<Vec<Backfill>, BrokerError> {
        self.records.all().await
    }

    /// The one of that id.
    pub async fn get(&self, id: &str) -> Result<Backfill, BackfillsError> {
        let unknown = || BackfillsError::Unknown(id.escape_debug().to_string());
        backfill::check_id(id).map_err(|_| unknown())?;
        Ok(self.records.get(id).await?.ok_or_else(unknown)?.record)
    }

    /// Where its consumer stands; `None`: it has none.
    pub async fn position(&self, backfill: &Backfill) -> Result<Option<Position>, BrokerError> {
        let name = backfill.consumer();
        let found: Result<Consumer<pull::Config>, _> =
            self.broker.jetstream.get_consumer_from_stream(&name, names::JOBS_STREAM).await;
        match found {
            Ok(consumer) => Ok(Some(position(consumer.cached_info()))),
            Err(error) if is_gone(&error.kind()) => Ok(None),
            Err(error) => Err(failed("cannot read the backfill's consumer")(error)),
        }
    }

    async fn end(
        &self,
        id: &str,
        state: State,
        at: Option<Position>,
        now: OffsetDateTime,
    ) -> Result<Backfill, BackfillsError> {
        let ended = loop {
            let unknown = || BackfillsError::Unknown(id.to_owned());
            let kept = self.records.get(id).await?.ok_or_else(unknown)?;
            let running = kept.record.is_running();
            let ended = kept.record.ended(state, at, now);
            if !running || self.records.replace(id, &ended, kept.revision).await? {
                break ended;
            }
        };
        // Also when somebody else ended it: that one may have died before it came to this.
        match self.broker.jetstream.delete_consumer_from_stream(ended.consumer(), names::JOBS_STREAM).await {
            Ok(_) => Ok(ended),
            Err(error) if is_gone(&error.kind()) => Ok(ended),
            Err(error) => Err(failed("cannot delete the backfill's consumer")(error).into()),
        }
    }
}

fn consumer_of(backfill: &Backfill, settings: &NatsSettings) -> pull::Config {
    pull::Config {
        durable_name: Some(backfill.consumer()),
        description: Some("jobs that are worked again".to_owned()),
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: backfill.from },
        ack_policy: AckPolicy::Explicit,
        ack_wait: settings.ack_wait,
        max_deliver: settings.max_deliver.into(),
        max_ack_pending: settings.max_ack_pending.into(),
        max_batch: MAX_BATCH,
        filter_subject: names::JOBS_SUBJECTS.to_owned(),
        inactive_threshold: INACTIVE,
        ..Default::default()
    }
}

fn position(info: &jetstream::consumer::Info) -> Position {
    Position {
        delivered: info.delivered.stream_sequence,
        ack_floor: info.ack_floor.stream_sequence,
        pending: info.num_pending,
        in_flight: info.num_ack_pending as u64,
    }
}

fn is_gone(kind: &ConsumerErrorKind) -> bool {
    matches!(kind, ConsumerErrorKind::JetStream(error) if error.error_code() == ErrorCode::CONSUMER_NOT_FOUND)
}

/// The sequences that are meant; there is at least one job in them.
async fn range(stream: &Stream, from: Bound, to: Option<Bound>) -> Result<(u64, u64), BackfillsError> {
    let state = &stream.cached_info().state;
    let (first, last) = (state.first_sequence, state.last_sequence);
    let from = match from {
        Bound::Sequence(sequence) => sequence.max(first),
        Bound::Time(at) => since(stream, at).await?,
    };
    let to = match to {
        None => last,
        Some(Bound::Sequence(sequence)) => sequence.min(last),
        Some(Bound::Time(at)) => since(stream, at + time::Duration::NANOSECOND).await?.saturating_sub(1),
    };
    let begins = next_job(stream, from).await?.map(|(sequence, _)| sequence);
    match begins {
        Some(begin) if begin <= to => Ok((begin, to)),
        _ => Err(BackfillsError::Empty { from, to, first, last }),
    }
}

/// The sequence from which on jobs were published at that time or later; behind the last one if there are none.
///
/// A binary search: servers before 2.11 do not look a message up by its time.
async fn since(stream: &Stream, at: OffsetDateTime) -> Result<u64, BrokerError> {
    let state = &stream.cached_info().state;
    let (mut low, mut high) = (state.first_sequence, state.last_sequence.saturating_add(1));
    while low < high {
        let middle = low + (high - low) / 2;
        match next_job(stream, middle).await? {
            Some((sequence, published)) if published < at => low = sequence + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// The first job from a sequence on, and when it was published.
async fn next_job(stream: &Stream, from: u64) -> Result<Option<(u64, OffsetDateTime)>, BrokerError> {
    match stream.direct_get_next_for_subject(names::JOBS_SUBJECTS, Some(from.max(1))).await {
        Ok(message) => Ok(Some((message.sequence, message.time))),
        Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("cannot read a job")(error)),
    }
}
