//! What was finished last: a map that forgets the entry put or asked for longest ago.
//!
//! Invariant: `order` holds exactly one stamp per entry, and a smaller stamp was used longer ago.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// See the module.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    entries: HashMap<K, (u64, V)>,
    order: BTreeMap<u64, K>,
    clock: u64,
    capacity: usize,
}

impl<K: Eq + Hash + Clone, V: Copy> Recent<K, V> {
    pub(super) fn new(capacity: usize) -> Self {
        Self { entries: HashMap::new(), order: BTreeMap::new(), clock: 0, capacity }
    }

    pub(super) fn put(&mut self, key: K, value: V) {
        self.clock += 1;
        if let Some((stamp, _)) = self.entries.insert(key.clone(), (self.clock, value)) {
            self.order.remove(&stamp);
        }
        self.order.insert(self.clock, key);
        while self.entries.len() > self.capacity {
            let Some((_, oldest)) = self.order.pop_first() else { return };
            self.entries.remove(&oldest);
        }
    }

    /// The value; the entry is thereby the one used last.
    pub(super) fn get<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: std::borrow::Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let (stamp, value) = self.entries.get_mut(key)?;
        if let Some(key) = self.order.remove(stamp) {
            self.clock += 1;
            *stamp = self.clock;
            self.order.insert(self.clock, key);
        }
        Some(*value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_used_longest_ago_is_forgotten_first() {
        let mut recent = Recent::new(2);
        recent.put("a", 1);
        recent.put("b", 2);
        assert_eq!(recent.get("a"), Some(1));
        recent.put("c", 3);
        assert_eq!((recent.get("a"), recent.get("b"), recent.get("c")), (Some(1), None, Some(3)));
    }

    #[test]
    fn an_entry_put_again_has_one_place_and_its_newest_value() {
        let mut recent = Recent::new(2);
        for value in 0..5 {
            recent.put("a", value);
        }
        recent.put("b", 9);
        assert_eq!((recent.get("a"), recent.get("b"), recent.order.len()), (Some(4), Some(9), 2));
    }
}
