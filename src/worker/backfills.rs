//! Sharing the rate of a backfill among the workers there are.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::dispatcher::Event;
use crate::broker::backfill::Backfill;
use crate::broker::nats::Presence;

/// How often workers are counted; presence is told as often.
const LOOK: Duration = Duration::from_secs(3);

/// Counts workers while a backfill with a rate runs, until `ended`.
pub(super) async fn share_rates(
    presence: Arc<Presence>,
    mut running: watch::Receiver<Vec<Backfill>>,
    events: mpsc::Sender<Event>,
    ended: CancellationToken,
) {
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = ended.cancelled() => return,
            _ = looks.tick() => {}
            // At once: until then each worker takes the whole rate for its own.
            Ok(()) = running.changed() => {}
        }
        let has_rate = running.borrow().iter().any(|backfill| backfill.rate.is_some());
        if has_rate && let Ok(workers) = presence.live_workers().await {
            // The dispatcher may have ended; then nobody needs to know.
            let _ = events.send(Event::Workers(workers.len().max(1))).await;
        }
    }
}
