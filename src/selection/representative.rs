//! The representative vector of a restaurant: the weighted mean of its reviews' vectors, updated in place.
//!
//! A review weighs by age (up to 365 days 1.0, up to 730 days 0.8, older 0.6, unknown 0.8), times 1.5 if the guest
//! recommends the restaurant. Age is counted from `as_of`, which stays what it was at the start: that is what lets
//! a review be taken out with the weight it was put in with. When `as_of` has become old
//! ([`Representative::is_outdated`]), the vector is made anew.
//!
//! Adding and removing, in any order, gives the same vector, count and digest as making it from what remains.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::{Duration, OffsetDateTime};

use super::vector::UnitVector;
use crate::job::Review;

/// How much a recommendation adds.
const RECOMMENDED: f64 = 1.5;
/// After this time the weights are counted anew.
const OUTDATED: Duration = Duration::days(30);

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
    /// There is no review left to remove.
    #[error("no review is left to remove; make the representative vector anew")]
    Empty,
}

/// Running sums from which the vector follows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Representative {
    /// The embedding model; vectors of another one do not belong in here.
    pub model: String,
    /// The day ages are counted from.
    #[serde(with = "time::serde::rfc3339")]
    as_of: OffsetDateTime,
    /// Sum of weight times vector; empty before the first review.
    weighted_sum: Vec<f64>,
    /// Sum of the weights.
    weight: f64,
    /// Reviews in it.
    count: u64,
    /// Digest of the set of reviews: independent of order, and a review can be taken out of it again.
    digest: [u64; 4],
}

impl Representative {
    /// Without reviews. `now` becomes the day that ages are counted from.
    pub fn new(model: impl Into<String>, now: OffsetDateTime) -> Self {
        let (weighted_sum, digest) = (Vec::new(), [0; 4]);
        Self { model: model.into(), as_of: now, weighted_sum, weight: 0.0, count: 0, digest }
    }

    /// Adds a review.
    pub fn add(&mut self, review: &Review, vector: &UnitVector) -> Result<(), UpdateError> {
        if self.weighted_sum.is_empty() {
            self.weighted_sum = vec![0.0; vector.dimension()];
        }
        self.accumulate(review, vector, 1.0)?;
        self.count += 1;
        for (lane, part) in self.digest.iter_mut().zip(digest_of(review)) {
            *lane = lane.wrapping_add(part);
        }
        Ok(())
    }

    /// Takes out a review that was added, unchanged since then.
    pub fn remove(&mut self, review: &Review, vector: &UnitVector) -> Result<(), UpdateError> {
        if self.count == 0 {
            return Err(UpdateError::Empty);
        }
        self.accumulate(review, vector, -1.0)?;
        self.count -= 1;
        for (lane, part) in self.digest.iter_mut().zip(digest_of(review)) {
            *lane = lane.wrapping_sub(part);
        }
        if self.count == 0 {
            // Rounding must not leave a direction behind.
            (self.weighted_sum, self.weight) = (Vec::new(), 0.0);
        }
        Ok(())
    }

    fn accumulate(&mut self, review: &Review, vector: &UnitVector, sign: f64) -> Result<(), UpdateError> {
        let (expected, found) = (self.weighted_sum.len(), vector.dimension());
        if expected != found {
            return Err(UpdateError::Dimension { expected, found });
        }
        let weight = sign * weight(review, self.as_of);
        self.weight += weight;
        for (sum, &x) in self.weighted_sum.iter_mut().zip(vector.as_slice()) {
            *sum += weight * f64::from(x);
        }
        Ok(())
    }

    /// The vector; nothing without reviews, or if they cancel out.
    pub fn vector(&self) -> Option<UnitVector> {
        let mean = self.weighted_sum.iter().map(|sum| (sum / self.weight) as f32);
        (self.count > 0).then(|| UnitVector::new(mean.collect())).flatten()
    }

    /// Reviews in it.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Digest of the set of reviews (ids and texts) in hexadecimal. Tells sets apart; no protection against
    /// someone who makes reviews to measure.
    pub fn digest(&self) -> String {
        self.digest.iter().fold(String::with_capacity(64), |mut text, lane| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{lane:016x}");
            text
        })
    }

    /// Whether the weights rest on ages counted too long ago.
    pub fn is_outdated(&self, now: OffsetDateTime) -> bool {
        now - self.as_of > OUTDATED
    }
}

/// What a review weighs by age and recommendation.
pub fn weight(review: &Review, now: OffsetDateTime) -> f64 {
    let by_age = match review.created_at.map(|at| (now - at).whole_days()) {
        Some(..=365) => 1.0,
        Some(366..=730) | None => 0.8,
        Some(731..) => 0.6,
    };
    by_age * if review.recommended == Some(true) { RECOMMENDED } else { 1.0 }
}

/// Digest of one review, as four numbers that are summed over the set.
fn digest_of(review: &Review) -> [u64; 4] {
    let mut hash = Sha256::new();
    // The length parts id and text: ("ab", "c") and ("a", "bc") differ.
    hash.update((review.id.len() as u64).to_le_bytes());
    hash.update(review.id.as_bytes());
    hash.update(review.text.as_bytes());
    let bytes: [u8; 32] = hash.finalize().into();
    let (lanes, _) = bytes.as_chunks::<8>();
    std::array::from_fn(|n| u64::from_le_bytes(lanes[n]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
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
        let close = |a: f64, b: f64| (a - b).abs() < 1e-12;
        for (days, expected) in [
            (Some(0), 1.0),
            (Some(365), 1.0),
            (Some(366), 0.8),
            (Some(731), 0.6),
            (None, 0.8),
            (Some(-5), 1.0),
        ] {
            assert!(close(weight(&review("a", days, None), NOW), expected), "{days:?}");
            assert!(close(weight(&review("a", days, Some(false)), NOW), expected), "{days:?}");
            assert!(close(weight(&review("a", days, Some(true)), NOW), expected * 1.5), "{days:?}");
        }
    }

    #[test]
    fn newer_and_recommended_reviews_pull_harder() {
        let (x, y) = (UnitVector::new(vec![1.0, 0.0]).unwrap(), UnitVector::new(vec![0.0, 1.0]).unwrap());
        let mut representative = Representative::new("m", NOW);
        representative.add(&review("new", Some(1), Some(true)), &x).unwrap();
        representative.add(&review("old", Some(1000), None), &y).unwrap();
        let vector = representative.vector().unwrap();
        // 1.5 to 0.6
        assert!((vector.as_slice()[0] / vector.as_slice()[1] - 2.5).abs() < 1e-4, "{vector:?}");
    }

    #[test]
    fn vectors_of_another_model_are_refused_and_change_nothing() {
        let mut representative = Representative::new("m", NOW);
        representative.add(&review("a", None, None), &UnitVector::new(vec![1.0, 2.0]).unwrap()).unwrap();
        let before = representative.clone();
        let error =
            representative.add(&review("b", None, None), &UnitVector::new(vec![1.0]).unwrap()).unwrap_err();
        assert_eq!(error, UpdateError::Dimension { expected: 2, found: 1 });
        assert_eq!(representative, before);
    }

    #[test]
    fn nothing_can_be_removed_from_nothing() {
        let mut representative = Representative::new("m", NOW);
        let vector = UnitVector::new(vec![1.0]).unwrap();
        assert_eq!(representative.remove(&review("a", None, None), &vector), Err(UpdateError::Empty));
        assert_eq!(representative.vector(), None);
    }

    #[test]
    fn the_digest_tells_texts_and_ids_apart() {
        let vector = UnitVector::new(vec![1.0]).unwrap();
        let of = |id: &str, text: &str| {
            let mut representative = Representative::new("m", NOW);
            let review = Review { text: text.into(), ..review(id, None, None) };
            representative.add(&review, &vector).unwrap();
            representative.digest()
        };
        assert_ne!(of("ab", "c"), of("a", "bc"));
        assert_ne!(of("a", "text"), of("a", "text."));
        assert_eq!(of("a", "text"), of("a", "text"));
    }

    #[test]
    fn it_is_outdated_after_a_month_and_survives_storage() {
        let mut representative = Representative::new("m", NOW);
        representative.add(&review("a", Some(3), None), &UnitVector::new(vec![0.3, -0.2]).unwrap()).unwrap();
        assert!(!representative.is_outdated(NOW + Duration::days(30)));
        assert!(representative.is_outdated(NOW + Duration::days(31)));
        let stored = rmp_serde::to_vec_named(&representative).unwrap();
        assert_eq!(rmp_serde::from_slice::<Representative>(&stored).unwrap(), representative);
    }

    proptest! {
        #[test]
        fn adding_and_removing_equals_making_it_anew(
            all in prop::collection::vec((unit(8), prop::option::of(0_i64..1500), any::<Option<bool>>(), any::<bool>()), 1..40),
        ) {
            let reviews: Vec<_> = all
                .iter()
                .enumerate()
                .map(|(n, (_, days, recommended, _))| review(&n.to_string(), *days, *recommended))
                .collect();
            let mut updated = Representative::new("m", NOW);
            for (review, (vector, ..)) in reviews.iter().zip(&all) {
                updated.add(review, vector).unwrap();
            }
            let mut anew = Representative::new("m", NOW);
            for (review, (vector, .., stays)) in reviews.iter().zip(&all) {
                if *stays {
                    anew.add(review, vector).unwrap();
                } else {
                    updated.remove(review, vector).unwrap();
                }
            }
            prop_assert_eq!((updated.count(), updated.digest()), (anew.count(), anew.digest()));
            match (updated.vector(), anew.vector()) {
                (Some(a), Some(b)) => prop_assert!(a.dot(&b) > 1.0 - 1e-4),
                (a, b) => prop_assert_eq!(a, b),
            }
        }
    }
}
