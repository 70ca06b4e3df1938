//! Seeing backfills to their end, and sharing their rate among the workers there are.
//!
//! Every worker looks; whoever sees first that a backfill is done says so, and the others find it said.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::dispatcher::Event;
use crate::broker::backfill::Backfill;
use crate::broker::nats::{Backfills, Broker, Presence};

/// How often: the end of a backfill is news for people.
const LOOK: Duration = Duration::from_secs(3);

/// Looks until `ended`.
pub(super) async fn tend(
    broker: Broker,
    presence: Arc<Presence>,
    running: watch::Receiver<Vec<Backfill>>,
    events: mpsc::Sender<Event>,
    ended: CancellationToken,
) {
    let backfills = Backfills::new(&broker);
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = ended.cancelled() => return,
            _ = looks.tick() => {}
        }
        let running = running.borrow().clone();
        for backfill in &running {
            finish_if_done(&backfills, backfill).await;
        }
        if running.iter().any(|backfill| backfill.rate.is_some())
            && let Ok(workers) = presence.live_workers().await
        {
            // The dispatcher may have ended; then nobody needs to know.
            let _ = events.send(Event::Workers(workers.len().max(1))).await;
        }
    }
}

async fn finish_if_done(backfills: &Backfills, backfill: &Backfill) {
    let finished = match backfills.position(backfill).await {
        Ok(position) => position.is_some_and(|at| backfill.is_finished(at)),
        Err(error) => {
            tracing::debug!(%error, backfill = backfill.id, "the position of a backfill is not known");
            false
        }
    };
    if !finished {
        return;
    }
    match backfills.finish(backfill, OffsetDateTime::now_utc()).await {
        Ok(true) => tracing::info!(backfill = backfill.id, "backfill done"),
        Ok(false) => {}
        Err(error) => {
            tracing::warn!(%error, backfill = backfill.id, "backfill not marked as done; trying again");
        }
    }
}
