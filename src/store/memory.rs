//! Facts in memory, for a run that keeps nothing: bounded by bytes, so that memory does not grow with the input.
//!
//! Invariants: the bytes charged are never above the bound; the running totals are exactly the sum of the shares
//! held. When shares themselves outgrow their part of the bound, the restaurant put longest ago leaves the totals as a
//! whole.
//!
//! Values are kept packed: their size is known exactly, and each is one allocation.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::codec::{pack, unpack};
use super::lru::Lru;
use super::{AspectRate, FactKey, FactStore, LastResult, ReviewFacts, StoreError};
use crate::selection::representative::Representative;

const STORE: &str = "memory";

/// See the module.
pub struct MemoryFacts {
    held: Mutex<Held>,
}

struct Held {
    facts: Lru<FactKey, Box<[u8]>>,
    results: Lru<String, Last>,
    /// By restaurant and model.
    representatives: Lru<(String, String), Kept>,
    rates: Rates,
}

/// A packed [`LastResult`].
struct Last {
    epoch: u64,
    value: Box<[u8]>,
}

/// A packed [`Representative`].
struct Kept {
    digest: String,
    value: Box<[u8]>,
}

impl MemoryFacts {
    /// A store of at most `max_bytes`: five eighths for facts, an eighth each for last results, for representative
    /// vectors and for the restaurants' shares in the running totals.
    pub fn new(max_bytes: usize) -> Self {
        let eighth = max_bytes / 8;
        let held = Held {
            facts: Lru::new(max_bytes - 3 * eighth),
            results: Lru::new(eighth),
            representatives: Lru::new(eighth),
            rates: Rates::new(eighth),
        };
        Self { held: Mutex::new(held) }
    }

    /// Bytes charged for what is held.
    pub fn bytes(&self) -> usize {
        let held = self.lock();
        held.facts.bytes() + held.results.bytes() + held.representatives.bytes() + held.rates.shares.bytes()
    }

    /// Nothing panics while it holds the lock; were it to, the worst is a value computed again.
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FactStore for MemoryFacts {
    async fn get_many(&self, keys: &[FactKey]) -> Result<Vec<Option<ReviewFacts>>, StoreError> {
        let mut held = self.lock();
        Ok(keys.iter().map(|key| unpack(STORE, held.facts.get(key)?)).collect())
    }

    async fn known_many(&self, keys: &[FactKey]) -> Result<Vec<bool>, StoreError> {
        let held = self.lock();
        Ok(keys.iter().map(|key| held.facts.peek(key).is_some()).collect())
    }

    async fn put_many(&self, facts: Vec<(FactKey, ReviewFacts)>) -> Result<(), StoreError> {
        let packed: Vec<_> = facts
            .into_iter()
            .map(|(key, facts)| Ok((key, pack(STORE, &facts)?.into_boxed_slice())))
            .collect::<Result<_, StoreError>>()?;
        let mut held = self.lock();
        for (key, value) in packed {
            let bytes = key.reader.capacity() + key.text.capacity() + value.len();
            held.facts.put(key, value, bytes);
        }
        Ok(())
    }

    async fn last_result(&self, restaurant: &str) -> Result<Option<LastResult>, StoreError> {
        let mut held = self.lock();
        Ok(held.results.get(&restaurant.to_owned()).and_then(|last| unpack(STORE, &last.value)))
    }

    async fn last_epoch(&self, restaurant: &str) -> Result<Option<u64>, StoreError> {
        Ok(self.lock().results.peek(&restaurant.to_owned()).map(|last| last.epoch))
    }

    async fn put_last_result(&self, last: LastResult) -> Result<(), StoreError> {
        let value = pack(STORE, &last)?.into_boxed_slice();
        let (restaurant, epoch) = (last.result.restaurant_id, last.result.epoch);
        let bytes = restaurant.capacity() + value.len();
        let mut held = self.lock();
        if held.results.peek(&restaurant).is_none_or(|kept| kept.epoch <= epoch) {
            held.results.put(restaurant, Last { epoch, value }, bytes);
        }
        Ok(())
    }

    async fn aspect_rates(
        &self,
        reader: &str,
        restaurant: &str,
        aspects: usize,
    ) -> Result<Vec<AspectRate>, StoreError> {
        Ok(self.lock().rates.without(reader, restaurant, aspects))
    }

    async fn put_aspect_counts(
        &self,
        reader: &str,
        restaurant: &str,
        reviews: u64,
        positive: &[u64],
    ) -> Result<(), StoreError> {
        self.lock().rates.put(reader, restaurant, Share { reviews, positive: positive.into() });
        Ok(())
    }

    async fn representative(
        &self,
        restaurant: &str,
        model: &str,
    ) -> Result<Option<Representative>, StoreError> {
        let mut held = self.lock();
        let key = (restaurant.to_owned(), model.to_owned());
        Ok(held.representatives.get(&key).and_then(|kept| unpack(STORE, &kept.value)))
    }

    async fn put_representative(
        &self,
        restaurant: &str,
        expected: Option<&str>,
        new: &Representative,
    ) -> Result<bool, StoreError> {
        let kept = Kept { digest: new.digest(), value: pack(STORE, new)?.into_boxed_slice() };
        let key = (restaurant.to_owned(), new.model.clone());
        let bytes = key.0.capacity() + key.1.capacity() + kept.digest.capacity() + kept.value.len();
        let mut held = self.lock();
        let wins = held.representatives.peek(&key).map(|kept| kept.digest.as_str()) == expected;
        if wins {
            held.representatives.put(key, kept, bytes);
        }
        Ok(wins)
    }
}

/// What one restaurant adds to the totals.
struct Share {
    reviews: u64,
    positive: Box<[u64]>,
}

/// Running totals per reader, with the shares they are the sum of.
struct Rates {
    /// By reader and restaurant.
    shares: Lru<(String, String), Share>,
    /// By reader; a reader without shares has no entry.
    totals: HashMap<String, Vec<AspectRate>>,
}

impl Rates {
    fn new(max_bytes: usize) -> Self {
        Self { shares: Lru::new(max_bytes), totals: HashMap::new() }
    }

    fn put(&mut self, reader: &str, restaurant: &str, share: Share) {
        let totals = self.totals.entry(reader.to_owned()).or_default();
        if totals.len() < share.positive.len() {
            totals.resize(share.positive.len(), AspectRate::default());
        }
        for (total, positive) in totals.iter_mut().zip(&share.positive) {
            total.restaurants += 1;
            total.reviews += share.reviews;
            total.positive += positive;
        }
        // The totals are charged as if every share had a reader of its own, which bounds them from above.
        let per_aspect = size_of::<u64>() + size_of::<AspectRate>();
        let bytes = 2 * reader.len() + restaurant.len() + share.positive.len() * per_aspect;
        let key = (reader.to_owned(), restaurant.to_owned());
        for (gone, share) in self.shares.put(key, share, bytes) {
            self.subtract(&gone.0, &share);
        }
    }

    fn subtract(&mut self, reader: &str, share: &Share) {
        let Some(totals) = self.totals.get_mut(reader) else { return };
        for (total, positive) in totals.iter_mut().zip(&share.positive) {
            total.restaurants -= 1;
            total.reviews -= share.reviews;
            total.positive -= positive;
        }
        if totals.iter().all(|total| total.restaurants == 0) {
            self.totals.remove(reader);
        }
    }

    fn without(&self, reader: &str, restaurant: &str, aspects: usize) -> Vec<AspectRate> {
        let mut rates = self.totals.get(reader).cloned().unwrap_or_default();
        rates.resize(aspects, AspectRate::default());
        if let Some(own) = self.shares.peek(&(reader.to_owned(), restaurant.to_owned())) {
            for (rate, positive) in rates.iter_mut().zip(&own.positive) {
                rate.restaurants -= 1;
                rate.reviews -= own.reviews;
                rate.positive -= positive;
            }
        }
        rates
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::contract::{self, block_on, facts_of, key, last_of};

    #[test]
    fn it_keeps_the_contract_of_fact_stores() {
        block_on(contract::holds(&MemoryFacts::new(1 << 20)));
    }

    #[test]
    fn a_restaurant_that_leaves_takes_its_share_along() {
        block_on(async {
            let store = MemoryFacts::new(8 * 2 * 400);
            for (restaurant, positive) in [("a", 1), ("b", 2), ("c", 3)] {
                store.put_aspect_counts("m", restaurant, 10, &[positive]).await.unwrap();
            }
            let rates = store.aspect_rates("m", "elsewhere", 1).await.unwrap();
            assert_eq!(rates, [AspectRate { restaurants: 2, reviews: 20, positive: 5 }]);
        });
    }

    proptest! {
        #[test]
        fn bytes_stay_under_the_bound_and_the_latest_put_is_there(
            max in 8_000_usize..60_000,
            puts in prop::collection::vec((0_u8..40, 0_usize..12), 1..80),
        ) {
            block_on(async {
                let store = MemoryFacts::new(max);
                for (id, clauses) in puts {
                    let (key, facts) = (key("m", &id.to_string()), facts_of(clauses, f32::from(id) / 40.0));
                    let packed = pack(STORE, &facts).unwrap().len();
                    store.put_many(vec![(key.clone(), facts.clone())]).await.unwrap();
                    store.put_last_result(last_of(&id.to_string(), "m", clauses)).await.unwrap();
                    store.put_aspect_counts("m", &id.to_string(), 9, &[u64::from(id); 8]).await.unwrap();
                    prop_assert!(store.bytes() <= max, "{} of {max}", store.bytes());
                    // What cannot fit at all is the one thing that may be missing.
                    if packed < max / 2 {
                        prop_assert_eq!(store.get_many(&[key]).await.unwrap(), [Some(facts)]);
                    }
                }
                Ok(())
            })?;
        }
    }
}
