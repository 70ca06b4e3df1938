//! The state of the connection, and what is said of it: each change once, not each of the attempts between.

use std::sync::Mutex;
use std::time::Instant;

use async_nats::Event;
use tokio::sync::watch;

/// The connection as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Whether there is one.
    pub connected: bool,
    /// Since when it is so.
    pub since: Instant,
    /// How often it came back.
    pub reconnects: u64,
    /// How often messages were dropped because nobody took them in time.
    pub slow_consumers: u64,
}

impl Link {
    /// Not connected yet.
    pub(super) const fn new(now: Instant) -> Self {
        Self { connected: false, since: now, reconnects: 0, slow_consumers: 0 }
    }

    /// The state after an event; `first`: there was no connection before.
    fn after(self, event: &Event, first: bool, now: Instant) -> Self {
        match event {
            Event::Connected if !self.connected => {
                let reconnects = self.reconnects + u64::from(!first);
                Self { connected: true, since: now, reconnects, ..self }
            }
            Event::Disconnected | Event::Closed if self.connected => {
                Self { connected: false, since: now, ..self }
            }
            Event::SlowConsumer(_) => Self { slow_consumers: self.slow_consumers + 1, ..self },
            _ => self,
        }
    }
}

/// Hears the client's events, tells the state and logs its changes.
pub(super) struct Listener {
    told: watch::Sender<Link>,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    was_connected: bool,
    /// What was complained of last.
    trouble: Option<String>,
}

impl Listener {
    pub(super) fn new(now: Instant) -> (Self, watch::Receiver<Link>) {
        let (told, link) = watch::channel(Link::new(now));
        (Self { told, memory: Mutex::default() }, link)
    }

    /// Takes an event in.
    pub(super) fn hear(&self, event: &Event, now: Instant) {
        // Poisoned only if a thread panicked within the few lines below; what they keep is still right.
        let mut memory = self.memory.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let before = *self.told.borrow();
        let after = before.after(event, !memory.was_connected, now);
        memory.was_connected |= after.connected;
        memory.log(event, before, after);
        self.told.send_if_modified(|link| std::mem::replace(link, after) != after);
    }
}

impl Memory {
    fn log(&mut self, event: &Event, before: Link, after: Link) {
        let away_ms = || after.since.saturating_duration_since(before.since).as_millis() as u64;
        match event {
            Event::Connected if before.connected => {}
            Event::Connected => {
                self.trouble = None;
                match after.reconnects {
                    0 => tracing::info!("connected to nats"),
                    reconnects => tracing::info!(reconnects, away_ms = away_ms(), "connected to nats again"),
                }
            }
            Event::Disconnected if before.connected => {
                tracing::warn!("the connection to nats is lost; trying to get it back");
            }
            Event::Closed => tracing::info!("the connection to nats is closed"),
            Event::LameDuckMode => tracing::info!("the nats server is about to shut down"),
            Event::SlowConsumer(_) => {
                tracing::warn!(
                    times = after.slow_consumers,
                    "messages from nats were dropped: nobody took them"
                );
            }
            Event::ServerError(error) => self.complain(error.to_string()),
            Event::ClientError(error) => self.complain(error.to_string()),
            _ => {}
        }
    }

    /// Each attempt to connect fails with the same words.
    fn complain(&mut self, trouble: String) {
        if self.trouble.as_ref() != Some(&trouble) {
            tracing::warn!(%trouble, "nats");
            self.trouble = Some(trouble);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn told(events: &[Event]) -> Vec<Link> {
        let start = Instant::now();
        let (listener, link) = Listener::new(start);
        let mut seen = Vec::new();
        for (second, event) in (1..).zip(events) {
            listener.hear(event, start + Duration::from_secs(second));
            let link = *link.borrow();
            seen.push(link);
        }
        seen
    }

    #[test]
    fn the_first_connection_is_no_reconnect() {
        let seen = told(&[Event::Connected, Event::Disconnected, Event::Connected, Event::Connected]);
        let reconnects: Vec<u64> = seen.iter().map(|link| link.reconnects).collect();
        assert_eq!(reconnects, [0, 0, 1, 1]);
        assert_eq!(seen.iter().map(|link| link.connected).collect::<Vec<_>>(), [true, false, true, true]);
    }

    #[test]
    fn since_moves_only_when_the_state_does() {
        let failed = || Event::ClientError(async_nats::ClientError::Other("refused".to_owned()));
        let seen =
            told(&[failed(), Event::Connected, Event::Connected, Event::Disconnected, failed(), failed()]);
        let first = seen[1].since;
        assert_eq!(seen[2].since, first);
        assert!(seen[3].since > first);
        assert_eq!(seen[5], seen[3]);
    }

    #[test]
    fn dropped_messages_are_counted_whatever_the_connection_does() {
        let seen =
            told(&[Event::SlowConsumer(1), Event::Connected, Event::SlowConsumer(2), Event::Disconnected]);
        assert_eq!(seen.last().unwrap().slow_consumers, 2);
    }
}
