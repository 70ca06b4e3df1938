//! From a model's leaning to a probability: Platt scaling.
//!
//! A small model's label probabilities have a bias of their own (these lean to "positive") and are too sure. So
//! `p = σ(slope · x + offset)` with `x = ln P(positive) − ln P(negative)` is fitted on the pack's labelled
//! sentences, once per model and prompt. Targets are smoothed after Platt (1999), `(N₊+1)/(N₊+2)` and `1/(N₋+2)`,
//! so that a set which the model separates perfectly does not make the slope infinite.
//!
//! A sentence that only states a fact does not come out at one half: the models take "we went there on a Sunday" for
//! mild praise. Where such sentences lie, the neutral point, is measured too. A clause is labelled by its distance
//! from there; a review's label is the mean of its clauses' distances.

use serde::{Deserialize, Serialize};

use super::Thresholds;

/// The fitted map.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Positive.
    pub slope: f32,
    /// At `x = 0`.
    pub offset: f32,
    /// Calibrated log odds of sentences that only state facts.
    pub neutral: f32,
}

/// Bounds of the slope: a model that knows nothing gives a small one, but never one that turns labels over.
const SLOPE: (f64, f64) = (0.05, 20.0);

impl Calibration {
    /// As the model says.
    pub const NONE: Self = Self { slope: 1.0, offset: 0.0, neutral: 0.0 };

    /// Fits the map by Newton's method on the log loss over labelled readings, then the neutral point as the median
    /// of `neutral`. `None` without readings of each kind.
    pub fn fit(readings: &[(f32, bool)], neutral: &[f32]) -> Option<Self> {
        let fitted = Self::fit_map(readings)?;
        let mut odds: Vec<f32> =
            neutral.iter().map(|x| fitted.log_odds(*x)).filter(|x| x.is_finite()).collect();
        odds.sort_by(f32::total_cmp);
        Some(Self { neutral: *odds.get(odds.len() / 2)?, ..fitted })
    }

    fn fit_map(readings: &[(f32, bool)]) -> Option<Self> {
        let positive = readings.iter().filter(|reading| reading.1).count() as f64;
        let negative = readings.len() as f64 - positive;
        if positive < 1.0 || negative < 1.0 || readings.iter().any(|reading| !reading.0.is_finite()) {
            return None;
        }
        let (high, low) = ((positive + 1.0) / (positive + 2.0), 1.0 / (negative + 2.0));
        let (mut slope, mut offset) = (1.0f64, 0.0f64);
        for _ in 0..100 {
            let (mut ga, mut gb, mut haa, mut hab, mut hbb) = (0.0, 0.0, 1e-6, 0.0, 1e-6);
            for &(x, label) in readings {
                let x = f64::from(x);
                let p = sigmoid(slope * x + offset);
                let error = p - if label { high } else { low };
                let curve = (p * (1.0 - p)).max(1e-9);
                ga += error * x;
                gb += error;
                haa += curve * x * x;
                hab += curve * x;
                hbb += curve;
            }
            let determinant = haa * hbb - hab * hab;
            if determinant.abs() < 1e-12 {
                break;
            }
            // Half steps keep Newton from overshooting where the curve is flat.
            let da = 0.5 * (hbb * ga - hab * gb) / determinant;
            let db = 0.5 * (haa * gb - hab * ga) / determinant;
            slope = (slope - da).clamp(SLOPE.0, SLOPE.1);
            offset -= db;
            if da.abs() + db.abs() < 1e-7 {
                break;
            }
        }
        offset.is_finite().then_some(Self { slope: slope as f32, offset: offset as f32, neutral: 0.0 })
    }

    /// Calibrated log odds of positive.
    pub fn log_odds(&self, x: f32) -> f32 {
        self.slope * x + self.offset
    }

    /// Labels of clauses: `margin` log odds to either side of the neutral point.
    pub fn clause_thresholds(&self, margin: f32) -> Thresholds {
        let p = |log_odds: f32| sigmoid(f64::from(log_odds)) as f32;
        Thresholds { positive: p(self.neutral + margin), negative: p(self.neutral - margin) }
    }

    /// Calibrated probability of positive.
    pub fn probability(&self, x: f32) -> f32 {
        sigmoid(f64::from(self.log_odds(x))) as f32
    }
}

/// The logistic function.
pub fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Log odds of a probability, bounded so that certainty stays a number.
pub fn logit(p: f32) -> f32 {
    let p = p.clamp(1e-6, 1.0 - 1e-6);
    (p / (1.0 - p)).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bias_to_positive_is_taken_out() {
        let readings: Vec<(f32, bool)> = (0..40)
            .map(|i| (2.0 + if i % 2 == 0 { 1.0 } else { -1.0 } * (i % 5) as f32 * 0.3, i % 2 == 0))
            .collect();
        let fitted = Calibration::fit(&readings, &[2.0]).unwrap();
        assert!((fitted.probability(2.0) - 0.5).abs() < 0.05, "{fitted:?}");
        assert!(fitted.probability(3.0) > 0.7 && fitted.probability(1.0) < 0.3, "{fitted:?}");
    }

    #[test]
    fn perfect_separation_gives_a_finite_slope() {
        let fitted =
            Calibration::fit(&[(5.0, true), (6.0, true), (-5.0, false), (-4.0, false)], &[0.0]).unwrap();
        assert!(fitted.slope.is_finite() && fitted.slope > 0.0, "{fitted:?}");
    }

    #[test]
    fn one_label_alone_or_a_missing_number_cannot_be_fitted() {
        assert_eq!(Calibration::fit(&[(1.0, true), (2.0, true)], &[0.0]), None);
        assert_eq!(Calibration::fit(&[(f32::NAN, true), (2.0, false)], &[0.0]), None);
        assert_eq!(Calibration::fit(&[(1.0, true), (2.0, false)], &[]), None);
        assert_eq!(Calibration::fit(&[], &[0.0]), None);
    }

    #[test]
    fn clauses_are_labelled_by_their_distance_from_the_neutral_point() {
        let readings = [(3.0, true), (2.5, true), (-2.0, false), (-3.0, false)];
        let fitted = Calibration::fit(&readings, &[1.0, 1.2, 0.8]).unwrap();
        let thresholds = fitted.clause_thresholds(0.5);
        assert!(
            thresholds.negative < fitted.probability(1.0) && fitted.probability(1.0) < thresholds.positive
        );
        assert!(fitted.probability(1.0) > 0.5, "the neutral point of this model leans to praise");
    }

    proptest! {
        #[test]
        fn the_map_never_turns_labels_over(
            readings in proptest::collection::vec((-10f32..10.0, any::<bool>()), 2..60),
            a in -10f32..10.0, b in -10f32..10.0,
        ) {
            if let Some(fitted) = Calibration::fit(&readings, &[a]) {
                let (low, high) = (a.min(b), a.max(b));
                prop_assert!(fitted.probability(low) <= fitted.probability(high));
                prop_assert!((0.0..=1.0).contains(&fitted.probability(a)));
            }
        }
    }
}
