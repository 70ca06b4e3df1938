//! The representative vector of a restaurant: the weighted mean of its reviews' vectors, updated in place.
//!
//! A review weighs by age (up to 365 days 1.0, up to 730 days 0.8, older 0.6, unknown 0.8), times 1.5 if the guest
//! recommends the restaurant. Ages are counted from the day that the caller gives.
//!
//! Invariant: the sums are exactly those over the members with the weights noted beside them. They are kept in whole
//! numbers (weights in tenths, components in units of 2⁻³²), so that adding and taking out, in any order, leaves no
//! rounding behind: updated and made anew are equal to the last bit ([`Representative::brought_up_to`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use super::vector::UnitVector;
use crate::job::Review;

/// Units of a component in the sums. A component is at most 1 and a weight at most 15 tenths, so that 2²⁷ reviews fit.
const UNITS: f64 = 4_294_967_296.0;

/// What an update cannot be made with. The vector is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    /// The review's vector comes from another model.
    #[error(
        "vector of dimension {found} does not belong to a representative vector of dimension {expected}; embed the review with its model, or make the vector anew"
    )]
    Dimension {
        /// Of the representative vector.
        expected: usize,
        /// Of the review's vector.
        found: usize,
    },
    /// The review, with this vector, is not in it.
    #[error("the review is not in the representative vector; make the vector anew")]
    NotIn,
}

/// Running sums from which the vector follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Representative {
    /// The embedding model; vectors of another one do not belong in here.
    pub model: String,
    /// Sum of weight times vector; empty before the first review.
    weighted_sum: Vec<i64>,
    /// What is in it: a digest of the review and its vector, and the weight in tenths that it was added with. Sorted,
    /// so independent of the order of adding. Digests of 64 bits tell a restaurant's reviews apart; they are no
    /// protection against someone who makes reviews to measure.
    members: BTreeMap<u64, u8>,
}

impl Representative {
    /// Without reviews.
    pub fn new(model: impl Into<String>) -> Self {
        Self { model: model.into(), weighted_sum: Vec::new(), members: BTreeMap::new() }
    }

    /// Of these reviews, with their ages as of `now`. Reviews whose vector has another dimension than the first one's
    /// are left out.
    pub fn of(model: &str, reviews: &[(&Review, &UnitVector)], now: OffsetDateTime) -> Self {
        Self::new(model).brought_up_to(reviews, now)
    }

    /// The same as [`Representative::of`], touching only what changed since: reviews that came are added, reviews that
    /// weigh otherwise by now are weighed anew. If one left, or has another text or vector, all of it is made
    /// anew: what it added is not at hand any more.
    #[must_use]
    pub fn brought_up_to(self, reviews: &[(&Review, &UnitVector)], now: OffsetDateTime) -> Self {
        let members: Vec<u64> = reviews.iter().map(|(review, vector)| identity(review, vector)).collect();
        let wanted: BTreeSet<u64> = members.iter().copied().collect();
        let fits = reviews.first().is_none_or(|(_, vector)| vector.dimension() == self.weighted_sum.len());
        let none_left = self.members.keys().all(|member| wanted.contains(member));
        let mut current = if fits && none_left { self } else { Self::new(self.model) };
        for (member, (review, vector)) in members.into_iter().zip(reviews) {
            // A vector of another dimension has nothing in common with the others.
            let _ = current.put(member, vector, tenths(review, now));
        }
        current
    }

    /// Adds a review. One that is in it already is weighed anew.
    pub fn add(
        &mut self,
        review: &Review,
        vector: &UnitVector,
        now: OffsetDateTime,
    ) -> Result<(), UpdateError> {
        self.put(identity(review, vector), vector, tenths(review, now))
    }

    fn put(&mut self, member: u64, vector: &UnitVector, tenths: u8) -> Result<(), UpdateError> {
        if self.weighted_sum.is_empty() {
            self.weighted_sum = vec![0; vector.dimension()];
        }
        self.refuse_other_dimension(vector)?;
        let before = self.members.insert(member, tenths).unwrap_or_default();
        if before != tenths {
            self.accumulate(vector, i64::from(tenths) - i64::from(before));
        }
        Ok(())
    }

    /// Takes out a review that was added with this vector, with the weight that it was added with.
    pub fn remove(&mut self, review: &Review, vector: &UnitVector) -> Result<(), UpdateError> {
        self.refuse_other_dimension(vector)?;
        let tenths = self.members.remove(&identity(review, vector)).ok_or(UpdateError::NotIn)?;
        self.accumulate(vector, -i64::from(tenths));
        if self.members.is_empty() {
            // The next one may come from anywhere.
            self.weighted_sum = Vec::new();
        }
        Ok(())
    }

    fn refuse_other_dimension(&self, vector: &UnitVector) -> Result<(), UpdateError> {
        let (expected, found) = (self.weighted_sum.len(), vector.dimension());
        if expected == found { Ok(()) } else { Err(UpdateError::Dimension { expected, found }) }
    }

    fn accumulate(&mut self, vector: &UnitVector, tenths: i64) {
        for (sum, &x) in self.weighted_sum.iter_mut().zip(vector.as_slice()) {
            // A product of at most 15 × 2³². Wrapping: sums that someone tampered with give a wrong vector, no panic.
            *sum = sum.wrapping_add(tenths * (f64::from(x) * UNITS).round() as i64);
        }
    }

    /// The vector; nothing without reviews, or if they cancel out.
    pub fn vector(&self) -> Option<UnitVector> {
        // Its length is one whatever the weights add up to, so the sum will do.
        UnitVector::new(self.weighted_sum.iter().map(|&sum| (sum as f64 / UNITS) as f32).collect())
    }

    /// Reviews in it.
    pub fn count(&self) -> usize {
        self.members.len()
    }

    /// Digest of what is in it and with what weight, in hexadecimal: the version that an update was made from.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.model.as_bytes());
        for (member, tenths) in &self.members {
            hash.update(member.to_le_bytes());
            hash.update([*tenths]);
        }
        hash.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

/// What a review weighs by age and recommendation, in tenths.
pub fn tenths(review: &Review, now: OffsetDateTime) -> u8 {
    let (plain, recommended) = match review.created_at.map(|at| (now - at).whole_days()) {
        Some(..=365) => (10, 15),
        Some(366..=730) | None => (8, 12),
        Some(731..) => (6, 9),
    };
    if review.recommended == Some(true) { recommended } else { plain }
}

/// Digest of what a review adds: its id and text, and its vector.
fn identity(review: &Review, vector: &UnitVector) -> u64 {
    let mut hash = Sha256::new();
    // The lengths part id and text: ("ab", "c") and ("a", "bc") differ.
    hash.update((review.id.len() as u64).to_le_bytes());
    hash.update(review.id.as_bytes());
    hash.update((review.text.len() as u64).to_le_bytes());
    hash.update(review.text.as_bytes());
    for x in vector.as_slice() {
        hash.update(x.to_le_bytes());
    }
    let bytes: [u8; 32] = hash.finalize().into();
    let (lanes, _) = bytes.as_chunks::<8>();
    u64::from_le_bytes(lanes[0])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::Duration;
    use time::macros::datetime;

    use super::*;
    use crate::selection::vector::tests::unit;

    const NOW: OffsetDateTime = datetime!(2024-06-01 0:00 UTC);

    fn review(id: &str, days_old: Option<i64>, recommended: Option<bool>) -> Review {
        Review {
            id: id.into(),
            text: format!("text of {id}"),
            rating: None,
            recommended,
            created_at: days_old.map(|days| NOW - Duration::days(days)),
            embedding: None,
        }
    }

    #[test]
    fn a_review_weighs_by_age_and_recommendation() {
        for (days, expected, recommended) in [
            (Some(0), 10, 15),
            (Some(365), 10, 15),
            (Some(366), 8, 12),
            (Some(731), 6, 9),
            (None, 8, 12),
            (Some(-5), 10, 15),
        ] {
            assert_eq!(tenths(&review("a", days, None), NOW), expected, "{days:?}");
            assert_eq!(tenths(&review("a", days, Some(false)), NOW), expected, "{days:?}");
            assert_eq!(tenths(&review("a", days, Some(true)), NOW), recommended, "{days:?}");
        }
    }

    #[test]
    fn newer_and_recommended_reviews_pull_harder() {
        let (x, y) = (UnitVector::new(vec![1.0, 0.0]).unwrap(), UnitVector::new(vec![0.0, 1.0]).unwrap());
        let mut representative = Representative::new("m");
        representative.add(&review("new", Some(1), Some(true)), &x, NOW).unwrap();
        representative.add(&review("old", Some(1000), None), &y, NOW).unwrap();
        let vector = representative.vector().unwrap();
        // 1.5 to 0.6
        assert!((vector.as_slice()[0] / vector.as_slice()[1] - 2.5).abs() < 1e-4, "{vector:?}");
    }

    #[test]
    fn vectors_of_another_model_are_refused_and_change_nothing() {
        let mut representative = Representative::new("m");
        let (two, one) = (UnitVector::new(vec![1.0, 2.0]).unwrap(), UnitVector::new(vec![1.0]).unwrap());
        representative.add(&review("a", None, None), &two, NOW).unwrap();
        let before = representative.clone();
        let error = UpdateError::Dimension { expected: 2, found: 1 };
        assert_eq!(representative.add(&review("b", None, None), &one, NOW), Err(error));
        assert_eq!(representative.remove(&review("a", None, None), &one), Err(error));
        assert_eq!(representative, before);
    }

    #[test]
    fn what_is_not_in_it_cannot_be_taken_out() {
        let mut representative = Representative::new("m");
        let vector = UnitVector::new(vec![1.0]).unwrap();
        representative.add(&review("a", None, None), &vector, NOW).unwrap();
        assert_eq!(representative.remove(&review("b", None, None), &vector), Err(UpdateError::NotIn));
        representative.remove(&review("a", None, None), &vector).unwrap();
        assert_eq!((representative.vector(), representative.clone()), (None, Representative::new("m")));
    }

    #[test]
    fn adding_a_review_twice_counts_it_once() {
        let vector = UnitVector::new(vec![0.6, -0.8]).unwrap();
        let once = Representative::of("m", &[(&review("a", Some(1), None), &vector)], NOW);
        let mut twice = once.clone();
        twice.add(&review("a", Some(1), None), &vector, NOW).unwrap();
        assert_eq!(twice, once);
    }

    #[test]
    fn the_digest_tells_texts_ids_vectors_and_weights_apart() {
        let of = |id: &str, text: &str, vector: Vec<f32>, recommended| {
            let review = Review { text: text.into(), ..review(id, None, recommended) };
            Representative::of("m", &[(&review, &UnitVector::new(vector).unwrap())], NOW).digest()
        };
        let one = of("a", "text", vec![1.0, 0.0], None);
        assert_eq!(one, of("a", "text", vec![1.0, 0.0], None));
        assert_ne!(of("ab", "c", vec![1.0], None), of("a", "bc", vec![1.0], None));
        assert_ne!(one, of("a", "text.", vec![1.0, 0.0], None));
        assert_ne!(one, of("a", "text", vec![0.0, 1.0], None));
        assert_ne!(one, of("a", "text", vec![1.0, 0.0], Some(true)));
    }

    #[test]
    fn it_survives_storage() {
        let vector = UnitVector::new(vec![0.3, -0.2]).unwrap();
        let representative = Representative::of("m", &[(&review("a", Some(3), None), &vector)], NOW);
        let stored = rmp_serde::to_vec_named(&representative).unwrap();
        assert_eq!(rmp_serde::from_slice::<Representative>(&stored).unwrap(), representative);
    }

    type Drawn = (UnitVector, Option<i64>, Option<bool>, bool);

    fn drawn(reviews: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Drawn>> {
        let one = (unit(8), prop::option::of(0_i64..1500), any::<Option<bool>>(), any::<bool>());
        prop::collection::vec(one, reviews)
    }

    fn reviews_of(all: &[Drawn]) -> Vec<Review> {
        let of =
            |(n, (_, days, recommended, _)): (usize, &Drawn)| review(&n.to_string(), *days, *recommended);
        all.iter().enumerate().map(of).collect()
    }

    proptest! {
        #[test]
        fn adding_and_removing_equals_making_it_anew(all in drawn(1..40)) {
            let reviews = reviews_of(&all);
            let mut updated = Representative::new("m");
            for (review, (vector, ..)) in reviews.iter().zip(&all) {
                updated.add(review, vector, NOW).unwrap();
            }
            let mut anew = Representative::new("m");
            for (review, (vector, .., stays)) in reviews.iter().zip(&all).rev() {
                if *stays {
                    anew.add(review, vector, NOW).unwrap();
                } else {
                    updated.remove(review, vector).unwrap();
                }
            }
            prop_assert_eq!(&updated, &anew);
            prop_assert_eq!((updated.vector(), updated.digest()), (anew.vector(), anew.digest()));
        }

        /// Reviews come, go and grow older; what is kept from before makes no difference.
        #[test]
        fn bringing_it_up_to_date_equals_making_it_anew(
            all in drawn(1..40),
            kept in 0_usize..40,
            days in 0_i64..900,
            leaves in any::<bool>(),
        ) {
            let reviews = reviews_of(&all);
            let pairs: Vec<_> = reviews.iter().zip(all.iter().map(|(vector, ..)| vector)).collect();
            let before = Representative::of("m", &pairs[..kept.min(pairs.len())], NOW);
            let later = NOW + Duration::days(days);
            let now_there = if leaves { &pairs[1..] } else { &pairs[..] };
            prop_assert_eq!(before.brought_up_to(now_there, later), Representative::of("m", now_there, later));
        }
    }
}
