//! Which backfills run, as a worker follows it.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::jetstream::kv::{Operation, Watch};
use futures_util::StreamExt;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Backfills;
use crate::broker::backfill::Backfill;
use crate::broker::names;
use crate::broker::nats::records::{Records, decode, failed};
use crate::broker::nats::{Broker, BrokerError};

/// When the bucket cannot be watched, the next try is this much later.
const REST: Duration = Duration::from_secs(2);
/// How often a worker looks whether a backfill is over.
const BEAT: Duration = Duration::from_secs(5);

impl Backfills {
    /// Follows the records until it is told to stop: the value is always the backfills that run, by id.
    ///
    /// Lost connections and a missing bucket are waited out; what was known last stands meanwhile, since the server
    /// decides what is delivered anyway.
    pub fn watch(broker: &Broker, stop: CancellationToken) -> watch::Receiver<Vec<Backfill>> {
        let (told, running) = watch::channel(Vec::new());
        let records = Records::new(broker, names::BACKFILLS_BUCKET);
        tokio::spawn(async move {
            let follow = async {
                loop {
                    match follow(&records, &told).await {
                        Err(BrokerError::Missing { what }) => {
                            tracing::debug!(what, "no backfills: there is no bucket");
                            tell(&told, &BTreeMap::new());
                        }
                        Err(error) => tracing::warn!(%error, "backfills are not followed; trying again"),
                        Ok(()) => {}
                    }
                    // Ends with the token, as everything here does.
                    let _ = tokio::time::timeout(REST, stop.cancelled()).await;
                }
            };
            stop.run_until_cancelled(follow).await;
        });
        running
    }

    /// Ends the backfills that are over, until it is told to stop. Every worker does this, none is in charge: an end
    /// is found by looking at the consumer, and may be found twice.
    pub async fn tend(&self, running: watch::Receiver<Vec<Backfill>>, stop: CancellationToken) {
        let tend = async {
            let mut beat = tokio::time::interval(BEAT);
            beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                beat.tick().await;
                let known = running.borrow().clone();
                for backfill in known {
                    match self.finish(&backfill, OffsetDateTime::now_utc()).await {
                        Ok(false) => {}
                        Ok(true) => tracing::info!(backfill = backfill.id, "backfill is over"),
                        Err(error) => {
                            tracing::warn!(backfill = backfill.id, %error, "cannot see whether it is over");
                        }
                    }
                }
            }
        };
        stop.run_until_cancelled(Box::pin(tend)).await;
    }
}

/// Follows the records until the watch breaks off.
async fn follow(records: &Records<Backfill>, told: &watch::Sender<Vec<Backfill>>) -> Result<(), BrokerError> {
    let store = records.open().await?;
    let empty = store.stream.cached_info().state.messages == 0;
    let mut watch: Watch = store.watch_with_history(">").await.map_err(failed("cannot watch a bucket"))?;
    // What was known before may be out of date; it is replaced once all that is there now has been seen.
    let mut known = BTreeMap::new();
    if empty {
        tell(told, &known);
    }
    while let Some(entry) = watch.next().await {
        let entry = entry.map_err(failed("cannot watch a bucket"))?;
        match decode::<Backfill>(&entry) {
            Some(backfill) if entry.operation == Operation::Put => known.insert(entry.key.clone(), backfill),
            _ => known.remove(&entry.key),
        };
        if entry.seen_current {
            tell(told, &known);
        }
    }
    Ok(())
}

fn tell(told: &watch::Sender<Vec<Backfill>>, known: &BTreeMap<String, Backfill>) {
    let running: Vec<Backfill> = known.values().filter(|backfill| backfill.is_running()).cloned().collect();
    told.send_if_modified(|before| {
        let differs = *before != running;
        *before = running;
        differs
    });
}
