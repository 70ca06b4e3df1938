//! Reads what is on the server, and makes it what it should be.
//!
//! [`Broker::take`] is the only code that creates or changes anything, and only `maitred init` takes steps; workers
//! [verify](Broker::verify). What was
//! written is read back: older servers drop fields that they do not know without a word.

use std::error::Error;

use async_nats::jetstream::consumer::{self, AckPolicy, DeliverPolicy};
use async_nats::jetstream::context::{GetStreamErrorKind, RequestError, RequestErrorKind};
use async_nats::jetstream::stream::{self, ConsumerErrorKind, DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::jetstream::{self, ErrorCode};

use super::{Broker, BrokerError};
use crate::broker::topology::{
    Action, Consumer, Discard, Object, Retention, Step, Storage, Stream, Topology, differences,
};

impl Broker {
    /// What is to be done so that the server has what is desired. Changes nothing.
    pub async fn plan(&self, desired: &Topology) -> Result<Vec<Step>, BrokerError> {
        Ok(desired.plan(&self.actual(desired).await?))
    }

    /// Creates and changes what is to be: the steps taken. If anything would have to be made anew, nothing is done.
    pub async fn init(&self, desired: &Topology) -> Result<Vec<Step>, BrokerError> {
        let plan = self.plan(desired).await?;
        possible(&plan)?;
        for step in &plan {
            self.take(step, desired).await?;
        }
        self.kept(desired).await?;
        Ok(plan)
    }

    /// Takes one step of a plan for what is desired.
    pub async fn take(&self, step: &Step, desired: &Topology) -> Result<(), BrokerError> {
        if let Some(stream) = desired.stream(&step.object) {
            return self.write_stream(stream, &step.action).await;
        }
        match desired.consumer(&step.object) {
            Some(consumer) => self.write_consumer(consumer, &step.action).await,
            None => Ok(()),
        }
    }

    /// Reads back what was written: whether nothing was dropped.
    pub async fn kept(&self, desired: &Topology) -> Result<(), BrokerError> {
        let left = differences(desired, &self.actual(desired).await?);
        if left.is_empty() { Ok(()) } else { Err(BrokerError::Ignored(left)) }
    }

    /// Refuses a server that has not got what is desired, or has it otherwise.
    pub async fn verify(&self, desired: &Topology) -> Result<(), BrokerError> {
        let (mut missing, mut differing) = (Vec::new(), Vec::new());
        for step in self.plan(desired).await? {
            match step.action {
                Action::Create => missing.push(step.object.to_string()),
                Action::Change(found) | Action::Refuse(found) => differing.extend(found),
                Action::Keep => {}
            }
        }
        match (missing.is_empty(), differing.is_empty()) {
            (false, _) => Err(BrokerError::Missing { what: missing.join(", ") }),
            (true, false) => Err(BrokerError::Drift(differing)),
            (true, true) => Ok(()),
        }
    }

    /// What there is of what is desired.
    async fn actual(&self, desired: &Topology) -> Result<Topology, BrokerError> {
        let mut actual = Topology::default();
        for stream in &desired.streams {
            let found = self.stream_config(stream).await?;
            actual.streams.extend(found.map(|config| read_stream(stream.object.clone(), config)));
        }
        for consumer in &desired.consumers {
            let found = self.consumer_config(consumer).await?;
            actual.consumers.extend(found.map(|config| read_consumer(consumer, config)));
        }
        Ok(actual)
    }

    async fn write_stream(&self, stream: &Stream, action: &Action) -> Result<(), BrokerError> {
        match action {
            Action::Create => {
                let config = write_stream(stream, stream::Config::default());
                self.jetstream
                    .create_stream(config)
                    .await
                    .map_err(failed("cannot create", &stream.object))?;
            }
            Action::Change(_) => {
                let found = self.stream_config(stream).await?.unwrap_or_default();
                let changed = self.jetstream.update_stream(write_stream(stream, found)).await;
                changed.map_err(failed("cannot change", &stream.object))?;
            }
            Action::Keep | Action::Refuse(_) => {}
        }
        Ok(())
    }

    async fn write_consumer(&self, consumer: &Consumer, action: &Action) -> Result<(), BrokerError> {
        match action {
            Action::Create => {
                let config = write_consumer(consumer, consumer::Config::default());
                let created = self.jetstream.create_consumer_strict_on_stream(config, &consumer.stream).await;
                created.map_err(failed("cannot create", &consumer.object))?;
            }
            Action::Change(_) => {
                let found = self.consumer_config(consumer).await?.unwrap_or_default();
                let config = write_consumer(consumer, found);
                let changed = self.jetstream.update_consumer_on_stream(config, &consumer.stream).await;
                changed.map_err(failed("cannot change", &consumer.object))?;
            }
            Action::Keep | Action::Refuse(_) => {}
        }
        Ok(())
    }

    async fn stream_config(&self, stream: &Stream) -> Result<Option<stream::Config>, BrokerError> {
        match self.jetstream.get_stream(stream.server_name()).await {
            Ok(found) => Ok(Some(found.cached_info().config.clone())),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(told) if is_absent(&told) => Ok(None),
                GetStreamErrorKind::JetStream(told) if is_off(&told) => Err(BrokerError::NoJetStream),
                _ => Err(failed("cannot read", &stream.object)(error)),
            },
        }
    }

    async fn consumer_config(&self, wanted: &Consumer) -> Result<Option<consumer::Config>, BrokerError> {
        let found: Result<consumer::Consumer<consumer::Config>, _> =
            self.jetstream.get_consumer_from_stream(&wanted.object.name, &wanted.stream).await;
        match found {
            Ok(found) => Ok(Some(found.cached_info().config.clone())),
            Err(error) => match error.kind() {
                ConsumerErrorKind::JetStream(told) if is_absent(&told) => Ok(None),
                _ => Err(failed("cannot read", &wanted.object)(error)),
            },
        }
    }
}

/// Refuses a plan with a step that the server cannot take.
pub fn possible(plan: &[Step]) -> Result<(), BrokerError> {
    for Step { object, action } in plan {
        if let Action::Refuse(found) = action {
            return Err(BrokerError::Fixed(object.clone(), found.clone()));
        }
    }
    Ok(())
}

fn is_absent(error: &jetstream::Error) -> bool {
    matches!(error.error_code(), ErrorCode::STREAM_NOT_FOUND | ErrorCode::CONSUMER_NOT_FOUND)
}

pub(super) fn is_off(error: &jetstream::Error) -> bool {
    let code = error.error_code();
    matches!(code, ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT)
}

fn failed<E: Error + 'static>(what: &'static str, object: &Object) -> impl FnOnce(E) -> BrokerError {
    move |error| {
        let unanswered = error.source().and_then(|source| source.downcast_ref::<RequestError>());
        if unanswered.is_some_and(|request| request.kind() == RequestErrorKind::NoResponders) {
            return BrokerError::NoJetStream;
        }
        BrokerError::Request { what, cause: format!("{object}: {error}").into() }
    }
}

fn read_stream(object: Object, config: stream::Config) -> Stream {
    Stream {
        object,
        subjects: config.subjects,
        retention: match config.retention {
            RetentionPolicy::Limits => Retention::Limits,
            RetentionPolicy::Interest => Retention::Interest,
            RetentionPolicy::WorkQueue => Retention::WorkQueue,
        },
        storage: match config.storage {
            StorageType::File => Storage::File,
            StorageType::Memory => Storage::Memory,
        },
        discard: match config.discard {
            DiscardPolicy::Old => Discard::Old,
            DiscardPolicy::New => Discard::New,
        },
        max_age: config.max_age,
        max_bytes: read_limit(config.max_bytes),
        max_per_subject: read_limit(config.max_messages_per_subject),
        duplicate_window: config.duplicate_window,
        allow_direct: config.allow_direct,
        allow_rollup: config.allow_rollup,
        deny_delete: config.deny_delete,
        replicas: config.num_replicas as u64,
    }
}

/// Only our settings are put into `config`; the operator's others stay.
fn write_stream(stream: &Stream, config: stream::Config) -> stream::Config {
    stream::Config {
        name: stream.server_name(),
        subjects: stream.subjects.clone(),
        retention: match stream.retention {
            Retention::Limits => RetentionPolicy::Limits,
            Retention::Interest => RetentionPolicy::Interest,
            Retention::WorkQueue => RetentionPolicy::WorkQueue,
        },
        storage: match stream.storage {
            Storage::File => StorageType::File,
            Storage::Memory => StorageType::Memory,
        },
        discard: match stream.discard {
            Discard::Old => DiscardPolicy::Old,
            Discard::New => DiscardPolicy::New,
        },
        max_age: stream.max_age,
        max_bytes: write_limit(stream.max_bytes),
        max_messages_per_subject: write_limit(stream.max_per_subject),
        duplicate_window: stream.duplicate_window,
        allow_direct: stream.allow_direct,
        allow_rollup: stream.allow_rollup,
        deny_delete: stream.deny_delete,
        num_replicas: usize::try_from(stream.replicas).unwrap_or(usize::MAX),
        ..config
    }
}

fn read_consumer(wanted: &Consumer, config: consumer::Config) -> Consumer {
    let one = Some(config.filter_subject).filter(|filter| !filter.is_empty());
    Consumer {
        object: wanted.object.clone(),
        stream: wanted.stream.clone(),
        filter: one.into_iter().chain(config.filter_subjects).collect(),
        pull: config.deliver_subject.is_none(),
        from_start: config.deliver_policy == DeliverPolicy::All,
        explicit_ack: config.ack_policy == AckPolicy::Explicit,
        ack_wait: config.ack_wait,
        max_deliver: read_limit(config.max_deliver),
        max_ack_pending: read_limit(config.max_ack_pending).unwrap_or(u64::MAX),
        max_batch: read_limit(config.max_batch),
        backoff: config.backoff,
    }
}

/// As above. Settings that cannot be changed are as desired already, or there is nothing yet.
fn write_consumer(consumer: &Consumer, config: consumer::Config) -> consumer::Config {
    let (filter_subject, filter_subjects) = match consumer.filter.as_slice() {
        [one] => (one.clone(), Vec::new()),
        several => (String::new(), several.to_vec()),
    };
    consumer::Config {
        durable_name: Some(consumer.object.name.clone()),
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::Explicit,
        filter_subject,
        filter_subjects,
        ack_wait: consumer.ack_wait,
        max_deliver: write_limit(consumer.max_deliver),
        max_ack_pending: write_limit(Some(consumer.max_ack_pending)),
        max_batch: consumer.max_batch.map_or(0, |most| write_limit(Some(most))),
        backoff: consumer.backoff.clone(),
        ..config
    }
}

/// Servers say "no limit" with a number below one.
fn read_limit(number: i64) -> Option<u64> {
    u64::try_from(number).ok().filter(|number| *number > 0)
}

fn write_limit(limit: Option<u64>) -> i64 {
    limit.map_or(-1, |number| i64::try_from(number).unwrap_or(i64::MAX))
}
