//! The last values of a figure, for a sparkline. Pure.

use std::collections::VecDeque;

use serde::Serialize;

use super::POINTS;

/// The last [`POINTS`] values, oldest first. A value that could not be had is a gap, not a zero.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Series(VecDeque<Option<f64>>);

impl Series {
    /// Adds the newest value. What is not finite is a gap: JSON could not hold it.
    pub fn push(&mut self, value: Option<f64>) {
        if self.0.len() == POINTS {
            self.0.pop_front();
        }
        self.0.push_back(value.filter(|value| value.is_finite()));
    }

    /// The newest value.
    pub fn last(&self) -> Option<f64> {
        *self.0.back()?
    }

    /// The values that are there, oldest first.
    pub fn values(&self) -> impl Iterator<Item = f64> {
        self.0.iter().flatten().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_gap_is_null_and_not_zero() {
        let mut series = Series::default();
        for value in [Some(1.0), None, Some(f64::NAN), Some(0.0)] {
            series.push(value);
        }
        assert_eq!(serde_json::to_string(&series).unwrap(), "[1.0,null,null,0.0]");
        assert_eq!(series.last(), Some(0.0));
        assert!(series.values().eq([1.0, 0.0]));
    }

    proptest! {
        #[test]
        fn the_newest_values_are_kept_in_their_order(count in 0..3 * POINTS) {
            let mut series = Series::default();
            for n in 0..count {
                series.push(Some(n as f64));
            }
            let expected = count.saturating_sub(POINTS)..count;
            prop_assert!(series.values().eq(expected.map(|n| n as f64)));
        }
    }
}
