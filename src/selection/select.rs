//! Top-K: the nearest, made diverse, with a floor for the minority.
//!
//! Everything is deterministic: equal similarity (to a thousandth, below which embeddings tell nothing) falls back
//! to the newer review, then to the order given. Results are indices into the candidates, best first.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::vector::UnitVector;
use crate::result::Polarity;

/// How reviews are selected.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Reviews to keep.
    pub top_k: usize,
    /// Weight of likeness to what is already chosen against nearness, 0 (nearest only) to 1.
    pub diversity: f32,
    /// Least share of the places for the rarer of praise and complaint, 0 to 1.
    pub minority_share: f32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { top_k: 20, diversity: 0.3, minority_share: 0.1 }
    }
}

/// A review to choose from.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Its embedding.
    pub vector: &'a UnitVector,
    /// When it was written.
    pub created_at: Option<OffsetDateTime>,
    /// Its label, if known.
    pub polarity: Option<Polarity>,
}

/// Diverse top-K with the minority's floor: what strengths and summaries are written from.
pub fn select(query: &UnitVector, candidates: &[Candidate<'_>], settings: &Settings) -> Vec<usize> {
    let chosen = mmr(query, candidates, settings.top_k, settings.diversity);
    minority_floor(query, candidates, chosen, settings.minority_share)
}

/// The `k` nearest, newest first among equals.
pub fn top_k(query: &UnitVector, candidates: &[Candidate<'_>], k: usize) -> Vec<usize> {
    let mut ranked = ranked(query, candidates);
    ranked.truncate(k);
    ranked
}

/// Maximal marginal relevance (Carbonell and Goldstein 1998): `k` times the candidate with the greatest
/// `(1 − diversity) · likeness to the query − diversity · greatest likeness to one already chosen`.
///
/// Costs `k` dot products per candidate.
pub fn mmr(query: &UnitVector, candidates: &[Candidate<'_>], k: usize, diversity: f32) -> Vec<usize> {
    let diversity = if diversity > 0.0 { diversity.min(1.0) } else { 0.0 };
    // In rank order, so that the first of equals is the one to take.
    let mut left: Vec<(usize, f32, f32)> =
        ranked(query, candidates).into_iter().map(|n| (n, candidates[n].vector.dot(query), 0.0)).collect();
    let mut chosen = Vec::with_capacity(k.min(left.len()));
    while chosen.len() < k && !left.is_empty() {
        let gain =
            |&(_, near, like): &(usize, f32, f32)| thousandths((1.0 - diversity) * near - diversity * like);
        let mut best = 0;
        for place in 1..left.len() {
            if gain(&left[place]) > gain(&left[best]) {
                best = place;
            }
        }
        let (taken, ..) = left.remove(best);
        let first = chosen.is_empty();
        for (n, _, like) in &mut left {
            let to_taken = candidates[*n].vector.dot(candidates[taken].vector);
            *like = if first { to_taken } else { like.max(to_taken) };
        }
        chosen.push(taken);
    }
    chosen
}

/// Sees to it that the rarer of praise and complaint (complaint, if both are as many) has at least `share` of the
/// places, rounded up, as far as there are such reviews. The nearest of them take the places of the last others,
/// at the end.
pub fn minority_floor(
    query: &UnitVector,
    candidates: &[Candidate<'_>],
    mut chosen: Vec<usize>,
    share: f32,
) -> Vec<usize> {
    let count = |polarity| candidates.iter().filter(|c| c.polarity == Some(polarity)).count();
    let (positive, negative) = (count(Polarity::Positive), count(Polarity::Negative));
    let minority = if positive < negative { Polarity::Positive } else { Polarity::Negative };
    let is_minority = |n: usize| candidates[n].polarity == Some(minority);

    let share = if share > 0.0 { share.min(1.0) } else { 0.0 };
    // Without the small allowance, 0.1 of 20 would round up to 3: the f32 nearest to 0.1 lies above it.
    let floor = ((f64::from(share) * chosen.len() as f64 - 1e-6).ceil() as usize).min(positive.min(negative));
    let have = chosen.iter().filter(|&&n| is_minority(n)).count();
    let missing = floor.saturating_sub(have);
    if missing == 0 {
        return chosen;
    }
    let newcomers: Vec<usize> = ranked(query, candidates)
        .into_iter()
        .filter(|n| is_minority(*n) && !chosen.contains(n))
        .take(missing)
        .collect();
    for _ in &newcomers {
        if let Some(place) = chosen.iter().rposition(|&n| !is_minority(n)) {
            chosen.remove(place);
        }
    }
    chosen.extend(newcomers);
    chosen
}

/// All candidates, nearest first, newest first among equals, those without a date last.
fn ranked(query: &UnitVector, candidates: &[Candidate<'_>]) -> Vec<usize> {
    let mut keyed: Vec<_> = candidates
        .iter()
        .enumerate()
        .map(|(n, c)| (std::cmp::Reverse((thousandths(c.vector.dot(query)), c.created_at)), n))
        .collect();
    keyed.sort_unstable();
    keyed.into_iter().map(|(_, n)| n).collect()
}

fn thousandths(similarity: f32) -> i32 {
    (similarity * 1000.0).round() as i32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::Duration;
    use time::macros::datetime;

    use super::*;
    use crate::selection::vector::tests::unit;

    fn vector(components: &[f32]) -> UnitVector {
        UnitVector::new(components.to_vec()).unwrap()
    }

    fn at(day: i64) -> OffsetDateTime {
        datetime!(2024-01-01 0:00 UTC) + Duration::days(day)
    }

    fn candidate(vector: &UnitVector, created_at: Option<OffsetDateTime>) -> Candidate<'_> {
        Candidate { vector, created_at, polarity: None }
    }

    #[test]
    fn the_nearest_come_first_and_the_newest_among_equals() {
        let query = vector(&[1.0, 0.0]);
        let (near, almost, far) = (vector(&[1.0, 0.1]), vector(&[1.0, 0.1001]), vector(&[0.5, 0.5]));
        let candidates = [
            candidate(&far, Some(at(9))),
            candidate(&near, None),
            candidate(&near, Some(at(1))),
            candidate(&almost, Some(at(5))),
            candidate(&near, Some(at(1))),
        ];
        assert_eq!(top_k(&query, &candidates, 9), [3, 2, 4, 1, 0]);
        assert_eq!(top_k(&query, &candidates, 2), [3, 2]);
        assert_eq!(top_k(&query, &[], 2), [0; 0]);
    }

    #[test]
    fn diversity_prefers_another_subject_to_a_repetition() {
        let query = vector(&[1.0, 0.2, 0.0]);
        let (food, again, service) =
            (vector(&[1.0, 0.0, 0.0]), vector(&[0.99, 0.0, 0.05]), vector(&[0.4, 1.0, 0.0]));
        let candidates = [candidate(&food, None), candidate(&again, None), candidate(&service, None)];
        assert_eq!(mmr(&query, &candidates, 2, 0.0), [0, 1]);
        assert_eq!(mmr(&query, &candidates, 2, 0.6), [0, 2]);
    }

    #[test]
    fn likeness_to_any_chosen_review_counts_not_only_to_the_last() {
        let query = vector(&[1.0, 0.6, 0.4]);
        let (food, again) = (vector(&[1.0, 0.0, 0.0]), vector(&[1.0, 0.02, 0.0]));
        let (service, price) = (vector(&[0.0, 1.0, 0.0]), vector(&[0.0, 0.0, 1.0]));
        let candidates = [&food, &again, &service, &price].map(|vector| candidate(vector, None));
        assert_eq!(mmr(&query, &candidates, 3, 0.5), [1, 2, 3]);
    }

    #[test]
    fn the_minority_takes_the_last_places() {
        let query = vector(&[1.0, 0.0]);
        let praise: Vec<_> = (0..30_u8).map(|n| vector(&[1.0, f32::from(n) * 0.01])).collect();
        let complaints = [vector(&[-1.0, 0.3]), vector(&[0.0, 1.0]), vector(&[-1.0, 0.0])];
        let with = |v, polarity| Candidate { polarity: Some(polarity), ..candidate(v, None) };
        let candidates: Vec<_> = praise
            .iter()
            .map(|v| with(v, Polarity::Positive))
            .chain(complaints.iter().map(|v| with(v, Polarity::Negative)))
            .collect();
        let chosen = top_k(&query, &candidates, 20);
        let floored = minority_floor(&query, &candidates, chosen.clone(), 0.1);
        assert_eq!(floored[..18], chosen[..18]);
        assert_eq!(floored[18..], [31, 30], "the nearest complaints, nearest first");
        assert_eq!(minority_floor(&query, &candidates, chosen.clone(), 0.0), chosen);
        assert_eq!(minority_floor(&query, &candidates, chosen, 1.0).len(), 20);
    }

    fn candidates() -> impl Strategy<Value = Vec<(UnitVector, Option<i64>, Option<Polarity>)>> {
        let polarity = prop::sample::select(vec![Polarity::Positive, Polarity::Negative, Polarity::Neutral]);
        prop::collection::vec((unit(4), prop::option::of(0_i64..9), prop::option::of(polarity)), 0..40)
    }

    fn borrowed(all: &[(UnitVector, Option<i64>, Option<Polarity>)]) -> Vec<Candidate<'_>> {
        all.iter()
            .map(|(vector, day, polarity)| Candidate { vector, created_at: day.map(at), polarity: *polarity })
            .collect()
    }

    proptest! {
        #[test]
        fn a_selection_is_k_different_candidates_and_holds_the_floor(
            query in unit(4), all in candidates(), k in 0_usize..30, diversity in 0.0..1.0_f32, share in 0.0..1.0_f32,
        ) {
            let candidates = borrowed(&all);
            let settings = Settings { top_k: k, diversity, minority_share: share };
            let chosen = select(&query, &candidates, &settings);
            let distinct: std::collections::HashSet<_> = chosen.iter().collect();
            prop_assert_eq!(chosen.len(), k.min(candidates.len()));
            prop_assert_eq!(distinct.len(), chosen.len());

            let of = |polarity| candidates.iter().filter(|c| c.polarity == Some(polarity)).count();
            let (positive, negative) = (of(Polarity::Positive), of(Polarity::Negative));
            let minority = if positive < negative { Polarity::Positive } else { Polarity::Negative };
            let have = chosen.iter().filter(|&&n| candidates[n].polarity == Some(minority)).count();
            let floor = (share * chosen.len() as f32 - 1e-3).ceil() as usize;
            prop_assert!(have >= floor.min(positive.min(negative)));
        }

        #[test]
        fn without_diversity_mmr_is_top_k(query in unit(4), all in candidates(), k in 0_usize..30) {
            let candidates = borrowed(&all);
            prop_assert_eq!(mmr(&query, &candidates, k, 0.0), top_k(&query, &candidates, k));
        }

        #[test]
        fn what_is_left_out_is_no_nearer_than_what_is_taken(query in unit(4), all in candidates(), k in 1_usize..30) {
            let candidates = borrowed(&all);
            let chosen = top_k(&query, &candidates, k);
            let near = |n: usize| candidates[n].vector.dot(&query);
            let farthest = chosen.iter().map(|&n| near(n)).fold(1.0, f32::min);
            for n in (0..candidates.len()).filter(|n| !chosen.contains(n)) {
                prop_assert!(near(n) <= farthest + 1e-3);
            }
        }
    }
}
