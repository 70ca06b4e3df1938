//! Room in the context: sequences and KV cells, taken together or not at all.
//!
//! A [`Grant`] holds both and gives both back when it is dropped, whatever ended the work. What is granted plus
//! what is free is always the whole room, so the context cannot overflow: work is refused or waits before it
//! starts, and never fails in the middle for want of cells.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What one request takes while it runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Need {
    /// Sequence ids: the body's and one for each branch.
    pub sequences: u32,
    /// KV cells over all of them: body, branches and the bounds of what they generate; pinned prefixes excluded.
    pub cells: u32,
}

/// What a context has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Sequence ids that requests may take.
    pub sequences: u32,
    /// KV cells of the whole context.
    pub cells: u32,
    /// KV cells that one sequence can have at most; equal to `cells` where all share one buffer.
    pub cells_per_sequence: u32,
}

/// A request that will never fit, however long it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "needs {} sequences and {} cells, but the context has {} sequences and {} cells ({} for one sequence); shorten the text or enlarge the context",
    need.sequences, need.cells, capacity.sequences, capacity.cells, capacity.cells_per_sequence
)]
pub struct TooLarge {
    /// What was asked.
    pub need: Need,
    /// What there is, pinned cells excluded.
    pub capacity: Capacity,
}

/// The room of one context. Clones share it.
#[derive(Debug, Clone)]
pub struct Room {
    capacity: Capacity,
    sequences: Arc<Semaphore>,
    cells: Arc<Semaphore>,
    pinned: Arc<AtomicU32>,
}

impl Room {
    /// All of it free.
    pub fn new(capacity: Capacity) -> Self {
        let semaphore =
            |permits: u32| Arc::new(Semaphore::new((permits as usize).min(Semaphore::MAX_PERMITS)));
        Self {
            capacity,
            sequences: semaphore(capacity.sequences),
            cells: semaphore(capacity.cells),
            pinned: Arc::default(),
        }
    }

    /// What requests can hold at most: the capacity without what is pinned.
    pub fn capacity(&self) -> Capacity {
        let cells = self.capacity.cells - self.pinned.load(Ordering::Acquire);
        Capacity { cells, cells_per_sequence: self.capacity.cells_per_sequence.min(cells), ..self.capacity }
    }

    /// What nobody holds at this moment.
    pub fn free(&self) -> Need {
        let count = |semaphore: &Semaphore| u32::try_from(semaphore.available_permits()).unwrap_or(u32::MAX);
        Need { sequences: count(&self.sequences), cells: count(&self.cells) }
    }

    /// Whether the need fits into the empty room.
    pub fn check(&self, need: Need) -> Result<(), TooLarge> {
        let capacity = self.capacity();
        let in_its_sequences = u64::from(need.sequences) * u64::from(capacity.cells_per_sequence);
        if need.sequences > capacity.sequences
            || need.cells > capacity.cells
            || u64::from(need.cells) > in_its_sequences
        {
            return Err(TooLarge { need, capacity });
        }
        Ok(())
    }

    /// Takes both, or neither.
    ///
    /// Of two threads that try at once, one may be refused because the other holds its sequences for the moment
    /// in which it learns that there are no cells. No wake-up is lost by that: cells are only missing while some
    /// grant holds them, and its end is the next occasion to try.
    pub fn try_admit(&self, need: Need) -> Option<Grant> {
        let sequences = Arc::clone(&self.sequences).try_acquire_many_owned(need.sequences).ok()?;
        let cells = Arc::clone(&self.cells).try_acquire_many_owned(need.cells).ok()?;
        Some(Grant { need, _sequences: sequences, _cells: cells })
    }

    /// Takes cells out of the room for good, for pinned prefixes. They must be free now: pin before admitting.
    pub fn reserve_permanently(&self, cells: u32) -> Result<(), TooLarge> {
        let need = Need { sequences: 0, cells };
        let permit = self.cells.try_acquire_many(cells).map_err(|_| TooLarge {
            need,
            capacity: Capacity { cells: self.free().cells, ..self.capacity() },
        })?;
        self.pinned.fetch_add(cells, Ordering::AcqRel);
        permit.forget();
        Ok(())
    }
}

/// Room held by one request; dropping it gives all of it back.
#[derive(Debug)]
#[must_use = "the room is given back when the grant is dropped"]
pub struct Grant {
    need: Need,
    _sequences: OwnedSemaphorePermit,
    _cells: OwnedSemaphorePermit,
}

impl Grant {
    /// What it holds.
    pub const fn need(&self) -> Need {
        self.need
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CAPACITY: Capacity = Capacity { sequences: 4, cells: 100, cells_per_sequence: 40 };

    fn need(sequences: u32, cells: u32) -> Need {
        Need { sequences, cells }
    }

    #[test]
    fn what_can_never_fit_is_refused_with_both_figures() {
        let room = Room::new(CAPACITY);
        for bad in [need(5, 10), need(3, 101), need(2, 81), need(0, 1)] {
            let error = room.check(bad).unwrap_err();
            assert_eq!((error.need, error.capacity), (bad, CAPACITY));
        }
        let message = room.check(need(5, 10)).unwrap_err().to_string();
        assert!(message.contains("5 sequences and 10 cells"), "{message}");
        assert!(message.contains("4 sequences and 100 cells"), "{message}");
        assert_eq!(room.check(need(4, 100)), Ok(()));
    }

    #[test]
    fn a_refused_need_leaves_nothing_held() {
        let room = Room::new(CAPACITY);
        let held = room.try_admit(need(1, 70)).unwrap();
        assert!(room.try_admit(need(2, 40)).is_none(), "cells are short");
        assert_eq!(room.free(), need(3, 30));
        assert!(room.try_admit(need(4, 1)).is_none(), "sequences are short");
        assert_eq!(room.free(), need(3, 30));
        drop(held);
        assert_eq!(room.free(), need(4, 100));
    }

    #[test]
    fn pinned_cells_are_gone_for_good_and_count_in_the_check() {
        let room = Room::new(CAPACITY);
        room.reserve_permanently(70).unwrap();
        assert_eq!(room.free(), need(4, 30));
        assert_eq!(room.capacity(), Capacity { sequences: 4, cells: 30, cells_per_sequence: 30 });
        assert!(room.check(need(1, 31)).is_err());
        drop(room.try_admit(need(4, 30)).unwrap());
        assert_eq!(room.free(), need(4, 30));
        let error = room.reserve_permanently(31).unwrap_err();
        assert_eq!((error.need.cells, error.capacity.cells), (31, 30));
    }

    #[test]
    fn a_panic_in_the_work_gives_the_room_back() {
        let room = Room::new(CAPACITY);
        let inner = room.clone();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _grant = inner.try_admit(need(2, 50)).unwrap();
            panic!("the work fails");
        }));
        assert!(outcome.is_err());
        assert_eq!(room.free(), need(4, 100));
    }

    #[derive(Debug, Clone)]
    enum Event {
        Admit(Need),
        Drop(usize),
        Pin(u32),
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let event = prop_oneof![
            5 => (0_u32..6, 0_u32..120).prop_map(|(sequences, cells)| Event::Admit(need(sequences, cells))),
            4 => any::<prop::sample::Index>().prop_map(|i| Event::Drop(i.index(1000))),
            1 => (0_u32..30).prop_map(Event::Pin),
        ];
        prop::collection::vec(event, 0..80)
    }

    proptest! {
        #[test]
        fn room_is_conserved_over_any_sequence_of_events(events in events()) {
            let room = Room::new(CAPACITY);
            let (mut grants, mut pinned): (Vec<Grant>, u32) = (Vec::new(), 0);
            for event in events {
                let free = room.free();
                match event {
                    Event::Admit(need) => {
                        let fits = need.sequences <= free.sequences && need.cells <= free.cells;
                        let grant = room.try_admit(need);
                        prop_assert_eq!(grant.is_some(), fits);
                        grants.extend(grant);
                    }
                    Event::Drop(_) if grants.is_empty() => {}
                    Event::Drop(n) => drop(grants.swap_remove(n % grants.len())),
                    Event::Pin(cells) => {
                        prop_assert_eq!(room.reserve_permanently(cells).is_ok(), cells <= free.cells);
                        pinned += if cells <= free.cells { cells } else { 0 };
                    }
                }
                let sequences: u32 = grants.iter().map(|grant| grant.need().sequences).sum();
                let cells: u32 = grants.iter().map(|grant| grant.need().cells).sum();
                prop_assert_eq!(room.free(), need(CAPACITY.sequences - sequences, CAPACITY.cells - pinned - cells));
                prop_assert_eq!(room.capacity().cells, CAPACITY.cells - pinned);
            }
            drop(grants);
            prop_assert_eq!(room.free(), need(CAPACITY.sequences, CAPACITY.cells - pinned));
        }
    }

    #[test]
    fn threads_never_hold_more_than_there_is() {
        let room = Room::new(CAPACITY);
        let held = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for thread in 0..4_u32 {
                let (room, held) = (&room, &held);
                scope.spawn(move || {
                    for round in 0..500 {
                        let cells = 20 + (thread * 7 + round) % 60;
                        if let Some(grant) = room.try_admit(need(1, cells)) {
                            let now = held.fetch_add(cells, Ordering::SeqCst) + cells;
                            assert!(now <= CAPACITY.cells);
                            held.fetch_sub(cells, Ordering::SeqCst);
                            drop(grant);
                        }
                    }
                });
            }
        });
        assert_eq!(room.free(), need(4, 100));
    }
}
