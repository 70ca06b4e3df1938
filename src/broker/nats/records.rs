//! Key-value buckets that hold one JSON record a key.
//!
//! The bucket is looked up at the first use, not when the handle is made, so that a worker may start before `maitred
//! init` was run or the server is there.

use std::error::Error;
use std::marker::PhantomData;

use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::kv::{CreateErrorKind, Entry, Operation, Store, UpdateErrorKind};
use async_nats::jetstream::{self, ErrorCode};
use futures_util::{StreamExt, TryStreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;

pub(super) use super::payload::failed;
use super::{Broker, BrokerError};

/// Records that are read at the same time when all are listed.
const READERS: usize = 16;

/// The records of one bucket.
pub(super) struct Records<T> {
    broker: Broker,
    bucket: &'static str,
    store: OnceCell<Store>,
    holds: PhantomData<fn() -> T>,
}

/// A record, and the revision that a change of it must name.
pub(super) struct Kept<T> {
    pub(super) record: T,
    pub(super) revision: u64,
}

impl<T: Serialize + DeserializeOwned> Records<T> {
    pub(super) fn new(broker: &Broker, bucket: &'static str) -> Self {
        Self { broker: broker.clone(), bucket, store: OnceCell::new(), holds: PhantomData }
    }

    /// The bucket, looked up anew: its state is that of now.
    pub(super) async fn open(&self) -> Result<Store, BrokerError> {
        self.broker.jetstream.get_key_value(self.bucket).await.map_err(|error| {
            not_there_or(&format!("the bucket {}", self.bucket), "cannot open a bucket", error)
        })
    }

    async fn store(&self) -> Result<&Store, BrokerError> {
        self.store.get_or_try_init(|| self.open()).await
    }

    /// Writes a record, whatever was there.
    pub(super) async fn put(&self, key: &str, record: &T) -> Result<(), BrokerError> {
        let value = encode(record)?;
        self.store().await?.put(key, value.into()).await.map_err(failed("cannot write a record"))?;
        Ok(())
    }

    /// Writes a record unless there is one; `false`: there is.
    pub(super) async fn create(&self, key: &str, record: &T) -> Result<bool, BrokerError> {
        let value = encode(record)?;
        match self.store().await?.create(key, value.into()).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == CreateErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(failed("cannot write a record")(error)),
        }
    }

    /// Writes a record in the place of a revision; `false`: somebody was faster.
    pub(super) async fn replace(&self, key: &str, record: &T, revision: u64) -> Result<bool, BrokerError> {
        let value = encode(record)?;
        match self.store().await?.update(key, value.into(), revision).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => Ok(false),
            Err(error) => Err(failed("cannot write a record")(error)),
        }
    }

    /// Takes a record away, with its history.
    pub(super) async fn remove(&self, key: &str) -> Result<(), BrokerError> {
        self.store().await?.purge(key).await.map_err(failed("cannot remove a record"))
    }

    /// Reads a record.
    pub(super) async fn get(&self, key: &str) -> Result<Option<Kept<T>>, BrokerError> {
        let entry = self.store().await?.entry(key).await.map_err(failed("cannot read a record"))?;
        Ok(entry.and_then(|entry| Some(Kept { record: decode(&entry)?, revision: entry.revision })))
    }

    /// All records, in the order of their keys.
    pub(super) async fn all(&self) -> Result<Vec<T>, BrokerError> {
        let store = self.store().await?;
        let keys = store.keys().await.map_err(failed("cannot list records"))?;
        let mut keys: Vec<String> = keys.try_collect().await.map_err(failed("cannot list records"))?;
        keys.sort();
        let read = futures_util::stream::iter(keys).map(|key| store.entry(key)).buffered(READERS);
        let entries: Vec<Option<Entry>> = read.try_collect().await.map_err(failed("cannot read a record"))?;
        Ok(entries.iter().flatten().filter_map(decode).collect())
    }
}

fn encode<T: Serialize>(record: &T) -> Result<Vec<u8>, BrokerError> {
    serde_json::to_vec(record).map_err(failed("cannot encode a record"))
}

/// The record of an entry. One that cannot be read is as good as none: it is of another program, or damaged.
pub(super) fn decode<T: DeserializeOwned>(entry: &Entry) -> Option<T> {
    if entry.operation != Operation::Put {
        return None;
    }
    serde_json::from_slice(&entry.value)
        .inspect_err(
            |error| tracing::warn!(bucket = %entry.bucket, key = %entry.key, %error, "unreadable record"),
        )
        .ok()
}

/// The error of looking something up: that it is missing, or that the request failed.
pub(super) fn not_there_or<E>(name: &str, what: &'static str, error: E) -> BrokerError
where
    E: Error + Send + Sync + 'static,
{
    if says_missing(&error) { BrokerError::Missing { what: name.to_owned() } } else { failed(what)(error) }
}

/// Whether an error, or one of its causes, says that a stream or a consumer does not exist.
fn says_missing(error: &(dyn Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error: &&(dyn Error + 'static)| (*error).source());
    causes.any(|cause| {
        let code = match cause
            .downcast_ref::<jetstream::context::GetStreamError>()
            .map(async_nats::error::Error::kind)
        {
            Some(GetStreamErrorKind::JetStream(error)) => Some(error.error_code()),
            _ => cause.downcast_ref::<jetstream::Error>().map(jetstream::Error::error_code),
        };
        matches!(code, Some(ErrorCode::STREAM_NOT_FOUND | ErrorCode::CONSUMER_NOT_FOUND))
    })
}
