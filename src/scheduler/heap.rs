//! The order of waiting work.
//!
//! An entry's key is computed once, when it arrives, and never changes:
//!
//! `key = arrival + λ · cost − bonus(lane)`
//!
//! The smallest key goes first, the earlier arrival among equals. Because time goes on and keys stand still, an
//! entry of cost `C` that arrived at `A` can only be passed by an entry of cost `c` that arrives before
//! `A + λ·(C − c) + bonus(its lane) − bonus(own lane)`: the wait that size and lane can cause is bounded, without
//! any ageing pass over the heap. λ = 0 is first come, first served; a large λ is shortest first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use serde::{Deserialize, Serialize};

use super::Seconds;

/// Whether cost counts in the order.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// By arrival, less the lane's bonus.
    Fifo,
    /// By arrival and cost, less the lane's bonus.
    #[default]
    PrefillCost,
}

/// How urgent work is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    /// Someone waits for it.
    Hi,
    /// A restaurant's reviews changed.
    #[default]
    Live,
    /// Replay of old jobs.
    Backfill,
}

impl Lane {
    /// Every lane, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Hi, Self::Live, Self::Backfill];

    /// The name in subjects and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hi => "hi",
            Self::Live => "live",
            Self::Backfill => "backfill",
        }
    }
}

impl std::fmt::Display for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Lane {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|lane| lane.name() == text);
        found.ok_or_else(|| format!("unknown lane `{text}`: use one of hi, live, backfill"))
    }
}

/// The order's settings.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Whether cost counts.
    pub order: Order,
    /// λ: seconds of later arrival that a second of cost weighs. Not negative.
    pub lambda: f64,
    /// Head start of the lane `hi`, in seconds.
    pub hi_bonus: f64,
    /// Head start of the lane `live`, in seconds.
    pub live_bonus: f64,
    /// Head start of the lane `backfill`, in seconds.
    pub backfill_bonus: f64,
}

impl Default for Policy {
    /// A second of cost weighs twenty of waiting; live work passes backfill that came up to a minute before it.
    fn default() -> Self {
        Self {
            order: Order::PrefillCost,
            lambda: 20.0,
            hi_bonus: 120.0,
            live_bonus: 60.0,
            backfill_bonus: 0.0,
        }
    }
}

impl Policy {
    /// Head start of a lane; what is not a number counts as none.
    pub fn bonus(&self, lane: Lane) -> Seconds {
        Seconds::new(match lane {
            Lane::Hi => self.hi_bonus,
            Lane::Live => self.live_bonus,
            Lane::Backfill => self.backfill_bonus,
        })
    }

    /// λ as it enters the key: 0 under [`Order::Fifo`].
    pub fn weight(&self) -> f64 {
        match self.order {
            Order::PrefillCost if self.lambda > 0.0 => self.lambda.min(1e6),
            Order::Fifo | Order::PrefillCost => 0.0,
        }
    }
}

/// What an entry's place depends on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Arrival {
    /// When it arrived, from the process's start.
    pub at: Seconds,
    /// What it will take, from [`super::cost::CostModel`].
    pub cost: Seconds,
    /// How urgent it is.
    pub lane: Lane,
}

/// An entry's place: smaller goes first. Total, because no part of it is ever NaN.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    value: f64,
    sequence: u64,
}

impl Key {
    /// `arrival + λ · cost − bonus`, in seconds.
    pub const fn value(self) -> f64 {
        self.value
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.value.total_cmp(&other.value).then(self.sequence.cmp(&other.sequence))
    }
}

/// Work that waits for room, in order.
#[derive(Debug)]
pub struct Ready<T> {
    heap: BinaryHeap<Reverse<Entry<T>>>,
    policy: Policy,
    pushed: u64,
}

impl<T> Ready<T> {
    /// An empty heap.
    pub const fn new(policy: Policy) -> Self {
        Self { heap: BinaryHeap::new(), policy, pushed: 0 }
    }

    /// Adds an entry and tells its place.
    pub fn push(&mut self, item: T, arrival: Arrival) -> Key {
        let value = arrival.at.get() + self.policy.weight() * arrival.cost.get()
            - self.policy.bonus(arrival.lane).get();
        let key = Key { value, sequence: self.pushed };
        self.pushed += 1;
        self.heap.push(Reverse(Entry { key, item }));
        key
    }

    /// The entry whose turn it is.
    pub fn peek(&self) -> Option<&T> {
        self.heap.peek().map(|Reverse(entry)| &entry.item)
    }

    /// The place of the entry whose turn it is.
    pub fn peek_key(&self) -> Option<Key> {
        self.heap.peek().map(|Reverse(entry)| entry.key)
    }

    /// Puts an entry that was taken back into its old place.
    pub fn put_back(&mut self, key: Key, item: T) {
        self.heap.push(Reverse(Entry { key, item }));
    }

    /// Takes the entry whose turn it is, and its place.
    pub fn pop(&mut self) -> Option<(Key, T)> {
        self.heap.pop().map(|Reverse(entry)| (entry.key, entry.item))
    }

    /// Entries waiting.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Removes the entries that fail the test, and returns them in no particular order. The others keep their
    /// places. Linear: for cancelled and superseded work, not for every step.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) -> Vec<T> {
        let (kept, removed): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.heap).into_iter().partition(|Reverse(entry)| keep(&entry.item));
        self.heap = BinaryHeap::from(kept);
        removed.into_iter().map(|Reverse(entry)| entry.item).collect()
    }
}

/// Compares by key alone, so that entries need no order of their own.
#[derive(Debug)]
struct Entry<T> {
    key: Key,
    item: T,
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn live(at: f64, cost: f64) -> Arrival {
        Arrival { at: Seconds::new(at), cost: Seconds::new(cost), lane: Lane::Live }
    }

    fn drain<T>(mut ready: Ready<T>) -> Vec<T> {
        std::iter::from_fn(move || ready.pop().map(|(_, item)| item)).collect()
    }

    #[test]
    fn a_small_job_passes_a_big_one_that_came_shortly_before() {
        let mut ready = Ready::new(Policy { lambda: 2.0, ..Policy::default() });
        ready.push("big", live(0.0, 10.0));
        ready.push("small, within the bound", live(17.0, 1.0));
        ready.push("small, too late to pass", live(19.0, 1.0));
        assert_eq!(drain(ready), ["small, within the bound", "big", "small, too late to pass"]);
    }

    #[test]
    fn lanes_give_a_head_start_and_no_more() {
        let mut ready = Ready::new(Policy { order: Order::Fifo, ..Policy::default() });
        let at = |at, lane| Arrival { lane, ..live(at, 0.0) };
        ready.push("backfill", at(100.0, Lane::Backfill));
        ready.push("live, a minute later", at(159.0, Lane::Live));
        ready.push("live, over a minute later", at(161.0, Lane::Live));
        ready.push("hi, two minutes later", at(218.0, Lane::Hi));
        assert_eq!(
            drain(ready),
            ["hi, two minutes later", "live, a minute later", "backfill", "live, over a minute later"]
        );
    }

    #[test]
    fn removed_entries_come_back_and_the_rest_keep_their_places() {
        let mut ready = Ready::new(Policy::default());
        for n in 0..10 {
            ready.push(n, live(f64::from(n), 0.0));
        }
        let mut removed = ready.retain(|n| n % 3 != 0);
        removed.sort_unstable();
        assert_eq!(removed, [0, 3, 6, 9]);
        assert_eq!(ready.len(), 6);
        assert_eq!(drain(ready), [1, 2, 4, 5, 7, 8]);
    }

    #[test]
    fn what_is_put_back_goes_before_what_came_after_it() {
        let mut ready = Ready::new(Policy::default());
        for n in 0..4 {
            ready.push(n, live(0.0, 0.0));
        }
        let (key, first) = ready.pop().unwrap();
        ready.put_back(key, first);
        assert_eq!(ready.peek_key(), Some(key));
        assert_eq!(drain(ready), [0, 1, 2, 3]);
    }

    #[test]
    fn settings_that_are_no_numbers_weigh_nothing() {
        let odd = Policy { lambda: f64::NAN, hi_bonus: f64::NAN, live_bonus: -1.0, ..Policy::default() };
        assert_eq!(odd.weight().to_bits(), 0.0_f64.to_bits());
        assert_eq!(odd.bonus(Lane::Hi), Seconds::ZERO);
        assert_eq!(odd.bonus(Lane::Live), Seconds::ZERO);
    }

    fn arrivals() -> impl Strategy<Value = Vec<Arrival>> {
        let lane = prop::sample::select(vec![Lane::Hi, Lane::Live, Lane::Backfill]);
        // Whole numbers, so that equal keys do occur.
        let one = (0_u16..200, 0_u16..50, lane).prop_map(|(at, cost, lane)| Arrival {
            at: Seconds::new(f64::from(at)),
            cost: Seconds::new(f64::from(cost)),
            lane,
        });
        prop::collection::vec(one, 0..60).prop_map(|mut all| {
            all.sort_by(|a, b| a.at.get().total_cmp(&b.at.get()));
            all
        })
    }

    proptest! {
        #[test]
        fn entries_leave_in_key_order_and_none_is_lost(arrivals in arrivals(), lambda in 0.0..20.0_f64) {
            let mut ready = Ready::new(Policy { lambda, ..Policy::default() });
            let mut keys: Vec<_> = arrivals.iter().enumerate().map(|(n, arrival)| (ready.push(n, *arrival), n)).collect();
            keys.sort();
            let expected: Vec<_> = keys.into_iter().map(|(_, n)| n).collect();
            prop_assert_eq!(drain(ready), expected);
        }

        #[test]
        fn an_entry_is_passed_only_within_the_bound(arrivals in arrivals(), lambda in 0.0..20.0_f64) {
            let policy = Policy { lambda, ..Policy::default() };
            let mut ready = Ready::new(policy);
            for (n, arrival) in arrivals.iter().enumerate() {
                ready.push(n, *arrival);
            }
            let order = drain(ready);
            for (place, &passed) in order.iter().enumerate() {
                for &passing in order[..place].iter().filter(|&&other| other > passed) {
                    let (old, new) = (arrivals[passed], arrivals[passing]);
                    let bound = lambda * (old.cost.get() - new.cost.get())
                        + policy.bonus(new.lane).get()
                        - policy.bonus(old.lane).get();
                    prop_assert!(new.at.get() - old.at.get() <= bound + 1e-9);
                }
            }
        }

        #[test]
        fn without_weight_and_bonus_the_order_is_that_of_arrival(arrivals in arrivals(), fifo in any::<bool>()) {
            let order = if fifo { Order::Fifo } else { Order::PrefillCost };
            let lambda = if fifo { 9.0 } else { 0.0 };
            let mut ready =
                Ready::new(Policy { order, lambda, hi_bonus: 0.0, live_bonus: 0.0, backfill_bonus: 0.0 });
            for (n, arrival) in arrivals.iter().enumerate() {
                ready.push(n, *arrival);
            }
            prop_assert_eq!(drain(ready), (0..arrivals.len()).collect::<Vec<_>>());
        }
    }
}
