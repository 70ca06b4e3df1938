//! A consumer that a worker takes jobs from: a lane's, or a backfill's.
//!
//! Jobs are pulled only when there is room for them, and what a pull brings is handed over whole: nothing ages in a
//! buffer while its lease runs. No idle heartbeats are asked for: with this client they leave a pull without a waker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::consumer::pull::Batch;
use async_nats::jetstream::message::Acker as JetStreamAcker;
use async_nats::jetstream::{self, AckKind};
use bytes::Bytes;
use futures_util::StreamExt;
use time::OffsetDateTime;

use super::{Broker, BrokerError};
use crate::broker::lease::Settlement;
use crate::broker::names;
use crate::scheduler::Lane;

/// A pull that asks for what is there now ends at once; this long only if the server has gone.
const FETCH_LIMIT: Duration = Duration::from_secs(5);
/// An acknowledgement that is not confirmed by then is sent again.
const SETTLE_LIMIT: Duration = Duration::from_secs(5);

/// A consumer to take jobs from.
#[derive(Clone)]
pub struct Source {
    consumer: PullConsumer,
    /// Its name.
    pub name: String,
    /// The lane whose share its jobs take.
    pub lane: Lane,
}

/// A job as it was delivered, not looked into yet.
pub struct Delivered {
    /// Its place in the stream.
    pub sequence: u64,
    /// How often it was delivered, this time included.
    pub delivered: u64,
    /// Jobs that wait behind it.
    pub pending: u64,
    /// When the server took it (UTC).
    pub published_at: OffsetDateTime,
    /// What it was published under.
    pub subject: String,
    /// Headers; one that occurs twice has two values.
    pub headers: BTreeMap<String, Vec<String>>,
    /// The body.
    pub body: Bytes,
    /// The right to settle it.
    pub acker: Acker,
}

impl Delivered {
    /// The first value of a header, whatever the case of its name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.and_then(|(_, values)| values.first()).map(String::as_str)
    }
}

/// Who waits at a consumer, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// Pulls that wait for a job, of all workers.
    pub waiting: usize,
    /// Jobs that nobody has taken.
    pub pending: u64,
}

/// Settles a delivery, and renews its lease until then.
#[derive(Clone)]
pub struct Acker(Arc<JetStreamAcker>);

impl Acker {
    /// Asks for another `ack_wait` and waits for the server's word: a connection may be silent for long before it is
    /// known to be.
    pub async fn renew(&self) -> Result<(), BrokerError> {
        self.confirmed("renewing a lease", AckKind::Progress).await
    }

    /// Settles and waits for the server's word.
    pub async fn settle(&self, settlement: Settlement) -> Result<(), BrokerError> {
        let kind = match settlement {
            Settlement::Ack => AckKind::Ack,
            Settlement::Nak(delay) => AckKind::Nak(delay),
            Settlement::Term => AckKind::Term,
        };
        self.confirmed("settling a job", kind).await
    }

    async fn confirmed(&self, what: &'static str, kind: AckKind) -> Result<(), BrokerError> {
        match tokio::time::timeout(SETTLE_LIMIT, self.0.double_ack_with(kind)).await {
            Ok(done) => done.map_err(BrokerError::request(what)),
            Err(late) => Err(BrokerError::Request { what, cause: Box::new(late) }),
        }
    }
}

impl Broker {
    /// The consumer of a lane.
    pub async fn lane(&self, lane: Lane) -> Result<Source, BrokerError> {
        self.source(&names::lane_consumer(lane), lane).await
    }

    /// The consumer of a backfill.
    pub async fn backfill(&self, id: &str) -> Result<Source, BrokerError> {
        self.source(&names::backfill_consumer(id), Lane::Backfill).await
    }

    async fn source(&self, name: &str, lane: Lane) -> Result<Source, BrokerError> {
        let found = self.jetstream.get_consumer_from_stream(name, names::JOBS_STREAM).await;
        let consumer = found.map_err(|cause| BrokerError::Request {
            what: "looking up a consumer",
            cause: format!("{name}: {cause}").into(),
        })?;
        Ok(Source { consumer, name: name.to_owned(), lane })
    }
}

impl Source {
    /// Takes up to `most` jobs that are there now.
    pub async fn fetch(&self, most: usize) -> Result<Vec<Delivered>, BrokerError> {
        let pull = async {
            let batch = self.consumer.fetch().max_messages(most).messages().await;
            collect(batch.map_err(|cause| failed(cause.into()))?, most).await
        };
        match tokio::time::timeout(FETCH_LIMIT, pull).await {
            Ok(taken) => taken,
            Err(late) => Err(failed(Box::new(late))),
        }
    }

    /// Waits for a job, `patience` at most.
    pub async fn wait(&self, patience: Duration) -> Result<Vec<Delivered>, BrokerError> {
        let batch = self.consumer.batch().max_messages(1).expires(patience).messages().await;
        collect(batch.map_err(|cause| failed(cause.into()))?, 1).await
    }

    /// Who waits here, and for what.
    pub async fn demand(&self) -> Result<Demand, BrokerError> {
        let info = self.consumer.get_info().await.map_err(|cause| failed(Box::new(cause)))?;
        Ok(Demand { waiting: info.num_waiting, pending: info.num_pending })
    }
}

fn failed(cause: Box<dyn std::error::Error + Send + Sync>) -> BrokerError {
    BrokerError::Request { what: "pulling jobs", cause }
}

/// Drains a pull. An error after some jobs came ends it with those: their leases have begun.
async fn collect(mut batch: Batch, most: usize) -> Result<Vec<Delivered>, BrokerError> {
    let mut taken = Vec::with_capacity(most);
    while let Some(next) = batch.next().await {
        match next {
            Ok(message) => taken.extend(delivered(message)),
            Err(cause) if taken.is_empty() => return Err(failed(cause)),
            Err(error) => {
                tracing::debug!(%error, "a pull ended early");
                break;
            }
        }
    }
    Ok(taken)
}

/// A message without a consumer's reply subject is no delivery; the server sends none.
fn delivered(message: jetstream::Message) -> Option<Delivered> {
    let info = message.info().ok()?;
    let (sequence, pending, published_at) = (info.stream_sequence, info.pending, info.published);
    let delivered = u64::try_from(info.delivered).unwrap_or(1);
    let (message, acker) = message.split();
    Some(Delivered {
        sequence,
        delivered,
        pending,
        published_at,
        subject: message.subject.to_string(),
        headers: message.headers.as_ref().map(listed).unwrap_or_default(),
        body: message.payload,
        acker: Acker(Arc::new(acker)),
    })
}

fn listed(headers: &HeaderMap) -> BTreeMap<String, Vec<String>> {
    let values = |values: &Vec<async_nats::HeaderValue>| values.iter().map(ToString::to_string).collect();
    headers.iter().map(|(name, all)| (name.to_string(), values(all))).collect()
}
