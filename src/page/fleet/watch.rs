//! Looking at the fleet, and reading its results, for as long as the page is served.
//!
//! One look serves everybody: however many pages are open, the server is asked as often.

use std::time::{Duration, Instant};

use time::OffsetDateTime;
use tokio::time::MissedTickBehavior;

use super::Fleet;
use crate::broker::dead_letter::Filter;
use crate::broker::nats::{BrokerError, PayloadError, Wanted};

/// How often the fleet is looked at.
pub(super) const BEAT: Duration = Duration::from_secs(2);
/// Dead letters that are listed, the newest.
const LETTERS: usize = 100;

/// Looks again and again, at once after something was done.
pub(super) async fn look(fleet: Fleet) {
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = beat.tick() => {}
            () = fleet.done.notified() => {}
        }
        if let Err(error) = look_once(&fleet).await {
            fleet.seen().note_fault(error.to_string());
        }
    }
}

async fn look_once(fleet: &Fleet) -> Result<(), BrokerError> {
    let asked = Instant::now();
    let status = fleet.broker.status(OffsetDateTime::now_utc()).await?;
    let wanted = fleet.seen().wants_letters(&status);
    if let Some(of) = wanted {
        let letters = fleet.letters().list(&Filter::default(), LETTERS).await?;
        fleet.seen().note_letters(of, letters);
    }
    fleet.seen().note(status, asked);
    Ok(())
}

/// Reads the latest result of each restaurant and then each new one; from the start again when reading breaks off.
pub(super) async fn read(fleet: Fleet) {
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        let broken = read_on(&fleet).await;
        tracing::debug!(broken, "reading the results again");
        fleet.index().note_fault(broken);
    }
}

/// Reads until something breaks; what.
async fn read_on(fleet: &Fleet) -> String {
    let mut results = match fleet.broker.results(Wanted { follow: true, ..Wanted::default() }).await {
        Ok(results) => results,
        Err(error) => return error.to_string(),
    };
    fleet.index().begin(results.has_caught_up());
    while let Some(next) = results.next().await {
        match next {
            Ok(found) => fleet.index().note(&found, results.has_caught_up()),
            Err(PayloadError::Broker(error)) => return error.to_string(),
            Err(error) => {
                tracing::warn!(%error, "a result cannot be read");
                fleet.index().note_unreadable(results.has_caught_up());
            }
        }
    }
    "the connection was closed".to_owned()
}
