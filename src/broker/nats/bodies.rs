//! Bodies that are too large for a message: an object holds them, and the message names it with its digest.

use async_nats::jetstream::object_store::{GetErrorKind, ObjectStore};
use tokio::io::AsyncReadExt;
use tokio::sync::OnceCell;

use super::records::{failed, not_there_or};
use super::{Broker, BrokerError};
use crate::broker::names;
use crate::digest::bytes_digest;

/// Room that is left in a message for subject and headers.
const MARGIN: usize = 8 << 10;

/// The bucket of objects, looked up at the first use.
pub(super) struct Bodies {
    broker: Broker,
    store: OnceCell<ObjectStore>,
}

impl Bodies {
    pub(super) fn new(broker: &Broker) -> Self {
        Self { broker: broker.clone(), store: OnceCell::new() }
    }

    /// Whether a body fits into a message.
    pub(super) fn fits(&self, bytes: usize) -> bool {
        bytes.saturating_add(MARGIN) <= self.broker.max_payload()
    }

    /// Writes an object in the place of any of that name.
    pub(super) async fn put(&self, name: &str, mut bytes: &[u8]) -> Result<(), BrokerError> {
        self.store().await?.put(name, &mut bytes).await.map_err(failed("cannot write an object"))?;
        Ok(())
    }

    /// The bytes of an object; `None`: it is not there, or not the one that was meant.
    pub(super) async fn get(&self, name: &str, digest: &str) -> Result<Option<Vec<u8>>, BrokerError> {
        let mut object = match self.store().await?.get(name).await {
            Ok(object) => object,
            Err(error) if error.kind() == GetErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("cannot read an object")(error)),
        };
        let mut bytes = Vec::new();
        object.read_to_end(&mut bytes).await.map_err(failed("cannot read an object"))?;
        Ok((bytes_digest(&bytes) == digest).then_some(bytes))
    }

    /// Takes an object away, if it is there.
    pub(super) async fn remove(&self, name: &str) -> Result<(), BrokerError> {
        let store = self.store().await?;
        match store.info(name).await {
            Ok(info) if !info.deleted => store.delete(name).await.map_err(failed("cannot remove an object")),
            _ => Ok(()),
        }
    }

    async fn store(&self) -> Result<&ObjectStore, BrokerError> {
        let open = || async {
            let bucket = names::OBJECTS_BUCKET;
            let found = self.broker.jetstream.get_object_store(bucket).await;
            found
                .map_err(|error| not_there_or(&format!("the bucket {bucket}"), "cannot open a bucket", error))
        };
        self.store.get_or_try_init(open).await
    }
}
