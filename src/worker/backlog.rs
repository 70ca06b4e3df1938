//! What waits in the lanes and in running backfills, of the whole fleet, asked from the server every few seconds: for
//! metrics, and for whoever has to know whether there is work.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::broker::backfill::Backfill;
use crate::broker::nats::{Backlog, Broker};

/// How often the server is asked.
const ASK: Duration = Duration::from_secs(10);
/// An answer that is older says nothing of now.
const STALE: Duration = Duration::from_secs(35);

/// The last answer. Cheap to clone.
#[derive(Clone, Default)]
pub struct SharedBacklog(Arc<Mutex<Option<Known>>>);

#[derive(Debug, Clone)]
struct Known {
    backlog: Backlog,
    /// When it was told: by a clock that does not jump, and by the wall's, against which ages count.
    at: Instant,
    told: OffsetDateTime,
}

impl SharedBacklog {
    /// What waits, and when it was told (UTC); nothing if nobody knows.
    pub fn read(&self) -> Option<(Backlog, OffsetDateTime)> {
        self.read_at(Instant::now())
    }

    fn read_at(&self, now: Instant) -> Option<(Backlog, OffsetDateTime)> {
        let known = self.lock();
        let known = known.as_ref().filter(|known| now.saturating_duration_since(known.at) < STALE)?;
        Some((known.backlog.clone(), known.told))
    }

    fn set(&self, backlog: Backlog, at: Instant, told: OffsetDateTime) {
        *self.lock() = Some(Known { backlog, at, told });
    }

    /// Plain values, sound at every moment: a panic elsewhere does not spoil them.
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks until `ended`. A question that fails leaves the last answer, until that is stale.
pub(super) async fn ask(
    broker: Broker,
    mut running: watch::Receiver<Vec<Backfill>>,
    backlog: SharedBacklog,
    ended: CancellationToken,
) {
    let mut asks = tokio::time::interval(ASK);
    asks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = ended.cancelled() => return,
            _ = asks.tick() => {}
            // At once: what was told before knows nothing of one that has just begun.
            Ok(()) = running.changed() => {}
        }
        let now_running = running.borrow_and_update().clone();
        match broker.backlog(&now_running).await {
            Ok(found) => backlog.set(found, Instant::now(), OffsetDateTime::now_utc()),
            Err(error) => tracing::debug!(%error, "what waits is not known"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::status::Load;

    #[test]
    fn an_answer_counts_until_it_is_stale() {
        let (shared, now) = (SharedBacklog::default(), Instant::now());
        assert!(shared.read_at(now).is_none());
        let backlog = Backlog { lanes: Vec::new(), replays: Load::default(), dead_letters: 3 };
        shared.set(backlog.clone(), now, OffsetDateTime::UNIX_EPOCH);
        let told = Some((backlog, OffsetDateTime::UNIX_EPOCH));
        assert_eq!(shared.read_at(now + STALE / 2), told);
        assert_eq!(shared.read_at(now + STALE), None);
    }
}
