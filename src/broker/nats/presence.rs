//! The bucket of live workers: each writes its record every few seconds, and one that stops writing fades out.

use std::time::Duration;

use super::records::Records;
use super::{Broker, BrokerError};
use crate::broker::names;
use crate::broker::presence::Worker;

/// Which workers live.
pub struct Presence {
    records: Records<Worker>,
}

impl Presence {
    /// How often a worker writes its record: five times within the age at which the bucket forgets it.
    pub const BEAT: Duration = Duration::from_secs(3);

    /// The bucket behind this connection.
    pub fn new(broker: &Broker) -> Self {
        Self { records: Records::new(broker, names::WORKERS_BUCKET) }
    }

    /// Writes the record of a worker that lives.
    pub async fn put(&self, worker: &Worker) -> Result<(), BrokerError> {
        self.records.put(&worker.name, worker).await
    }

    /// Takes a worker's record away, when it ends in good order.
    pub async fn remove(&self, name: &str) -> Result<(), BrokerError> {
        self.records.remove(name).await
    }

    /// The workers that wrote their records lately, by name.
    pub async fn live_workers(&self) -> Result<Vec<Worker>, BrokerError> {
        self.records.all().await
    }
}
