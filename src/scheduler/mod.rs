//! Which work runs next, and whether there is room for it.
//!
//! Pure: no clock of its own, no async, no I/O. Three parts:
//!
//! - [`cost`]: what work will take, from exact token counts and times per token fitted to real steps;
//! - [`heap`]: the order, by a key that is fixed when the work arrives;
//! - [`admission`]: the room, in sequences and KV cells, taken whole or not at all.
//!
//! Only the head of the heap is admitted ([`admit_next`]). While it does not fit, nothing passes it: room that is
//! given back collects until it does. With the key's bound on who may pass whom, this is why nothing starves.

pub mod admission;
pub mod cost;
pub mod heap;
#[cfg(test)]
mod properties;

pub use admission::{Capacity, Grant, Need, Room, TooLarge};
pub use cost::{CostModel, DeviceClass, Tokens};
pub use heap::{Arrival, Key, Lane, Order, Policy, Ready};

/// A span of time, or a moment counted from the process's start. Always finite, 0 to [`Seconds::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct Seconds(f64);

impl Seconds {
    /// Nothing, or the start.
    pub const ZERO: Self = Self(0.0);
    /// Over thirty years; at this size moments still differ by less than a microsecond.
    pub const MAX: Self = Self(1e9);

    /// Brings any number into range: what is not a number, or negative, is zero.
    pub fn new(seconds: f64) -> Self {
        if seconds > 0.0 { Self(seconds.min(Self::MAX.0)) } else { Self::ZERO }
    }

    /// The number of seconds.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl From<std::time::Duration> for Seconds {
    fn from(duration: std::time::Duration) -> Self {
        Self::new(duration.as_secs_f64())
    }
}

/// Takes the head of the heap if there is room for it now.
///
/// Work that can never fit must be refused with [`Room::check`] before it is pushed, or it would wait at the head
/// for ever.
pub fn admit_next<T>(
    ready: &mut Ready<T>,
    room: &Room,
    need: impl FnOnce(&T) -> Need,
) -> Option<(Key, T, Grant)> {
    let grant = room.try_admit(need(ready.peek()?))?;
    // The head that was peeked at is still there: `ready` is borrowed for the whole call.
    ready.pop().map(|(key, item)| (key, item, grant))
}
