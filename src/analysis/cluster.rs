//! Average-linkage clustering of a bounded number of items.
//!
//! Deterministic: the most alike pair is joined first, of equal pairs the one that comes first. Likeness of groups
//! is the mean over all pairs (Lance and Williams 1967), kept in a matrix; each row remembers its best partner, so
//! that a join costs about one pass over the rows. Meant for some hundreds of items: memory is their square.

/// Likeness of all pairs of items; symmetric.
#[derive(Debug, Clone)]
pub struct Likeness {
    items: usize,
    values: Vec<f32>,
}

impl Likeness {
    /// Computes `of(i, j)` for every `i < j`.
    pub fn new(items: usize, of: impl Fn(usize, usize) -> f32) -> Self {
        let mut likeness = Self { items, values: vec![0.0; items * items] };
        for i in 0..items {
            for j in i + 1..items {
                likeness.set(i, j, of(i, j));
            }
        }
        likeness
    }

    fn get(&self, i: usize, j: usize) -> f32 {
        self.values[i * self.items + j]
    }

    fn set(&mut self, i: usize, j: usize, value: f32) {
        self.values[i * self.items + j] = value;
        self.values[j * self.items + i] = value;
    }

    /// The value below which `share` of the pairs lie; nothing without pairs.
    pub fn quantile(&self, share: f32) -> Option<f32> {
        let mut pairs: Vec<f32> =
            (0..self.items).flat_map(|i| (i + 1..self.items).map(move |j| self.get(i, j))).collect();
        let place = (share.clamp(0.0, 1.0) * pairs.len().checked_sub(1)? as f32) as usize;
        Some(*pairs.select_nth_unstable_by(place, f32::total_cmp).1)
    }
}

/// A row's most alike other row.
#[derive(Clone, Copy)]
struct Best {
    partner: usize,
    value: f32,
}

/// Joins groups while the most alike two have a mean likeness of at least `threshold`. Groups come by their first
/// item, items in order; every item is in exactly one.
pub fn average_linkage(mut likeness: Likeness, threshold: f32) -> Vec<Vec<usize>> {
    let items = likeness.items;
    let mut groups: Vec<Vec<usize>> = (0..items).map(|i| vec![i]).collect();
    let mut alive: Vec<usize> = (0..items).collect();
    let mut best: Vec<Option<Best>> = (0..items).map(|i| best_of(&likeness, &alive, i)).collect();
    while let Some((kept, partner)) = most_alike(&alive, &best, threshold) {
        let (into, from) = (kept.min(partner), kept.max(partner));
        let (a, b) = (groups[into].len() as f32, groups[from].len() as f32);
        let moved = std::mem::take(&mut groups[from]);
        groups[into].extend(moved);
        alive.retain(|&i| i != from);
        for &k in alive.iter().filter(|&&k| k != into) {
            let mean = (a * likeness.get(into, k) + b * likeness.get(from, k)) / (a + b);
            likeness.set(into, k, mean);
        }
        for &k in &alive {
            // A mean is never above both of its parts, so only rows that pointed at the two can change.
            if k == into || best[k].is_some_and(|best| best.partner == into || best.partner == from) {
                best[k] = best_of(&likeness, &alive, k);
            }
        }
    }
    groups.retain(|group| !group.is_empty());
    for group in &mut groups {
        group.sort_unstable();
    }
    groups
}

fn best_of(likeness: &Likeness, alive: &[usize], row: usize) -> Option<Best> {
    let mut best: Option<Best> = None;
    for &partner in alive.iter().filter(|&&other| other != row) {
        let value = likeness.get(row, partner);
        if best.is_none_or(|best| value > best.value) {
            best = Some(Best { partner, value });
        }
    }
    best
}

fn most_alike(alive: &[usize], best: &[Option<Best>], threshold: f32) -> Option<(usize, usize)> {
    let mut found: Option<(usize, Best)> = None;
    for &row in alive {
        let Some(candidate) = best[row].filter(|best| best.value >= threshold) else { continue };
        if found.is_none_or(|(_, best)| candidate.value > best.value) {
            found = Some((row, candidate));
        }
    }
    found.map(|(row, best)| (row, best.partner))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn on_a_line(places: &[f32]) -> Likeness {
        Likeness::new(places.len(), |i, j| 1.0 - (places[i] - places[j]).abs())
    }

    #[test]
    fn near_items_are_grouped_and_far_ones_are_not() {
        let likeness = on_a_line(&[0.0, 0.9, 0.1, 0.95, 0.05, 0.5]);
        assert_eq!(average_linkage(likeness, 0.8), vec![vec![0, 2, 4], vec![1, 3], vec![5]]);
    }

    #[test]
    fn a_chain_does_not_grow_without_end() {
        // Each is near to the next; single linkage would make one group of all.
        let places: Vec<f32> = (0..10).map(|n| n as f32 * 0.15).collect();
        let groups = average_linkage(on_a_line(&places), 0.8);
        assert!(groups.len() >= 4, "{groups:?}");
    }

    #[test]
    fn quantiles_are_of_pairs_not_of_the_diagonal() {
        let likeness = on_a_line(&[0.0, 0.25, 1.0]);
        assert_eq!(likeness.quantile(0.0), Some(0.0));
        assert_eq!(likeness.quantile(0.5), Some(0.25));
        assert_eq!(likeness.quantile(1.0), Some(0.75));
        assert_eq!(on_a_line(&[0.0]).quantile(0.5), None);
        assert_eq!(on_a_line(&[]).quantile(0.5), None);
    }

    proptest! {
        #[test]
        fn groups_are_a_partition_that_cannot_be_joined_further(
            places in prop::collection::vec(0.0..1.0_f32, 0..40), threshold in 0.3..1.0_f32,
        ) {
            let likeness = on_a_line(&places);
            let groups = average_linkage(likeness.clone(), threshold);
            let mut items: Vec<usize> = groups.iter().flatten().copied().collect();
            items.sort_unstable();
            prop_assert_eq!(items, (0..places.len()).collect::<Vec<_>>());
            for (n, a) in groups.iter().enumerate() {
                for b in &groups[n + 1..] {
                    let pairs = a.iter().flat_map(|&i| b.iter().map(move |&j| (i, j)));
                    let sum: f32 = pairs.map(|(i, j)| likeness.get(i, j)).sum();
                    let mean = sum / (a.len() * b.len()) as f32;
                    prop_assert!(mean < threshold + 1e-4, "{a:?} and {b:?} are {mean} alike");
                }
            }
        }
    }
}
