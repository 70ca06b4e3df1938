//! `maitred bench`: what of the machine's speed arrives, and what each of the engine's ideas is worth.
//!
//! - [`efficiency`]: the engine at its real work, against a bare loop that makes the very same calls;
//! - [`ratios`]: the engine against itself with one idea switched off, and with none of them.
//!
//! Both measure within one run and interleave what they compare, since a shared machine's speed drifts. What is
//! measured is the language model's work: embeddings are the same on all sides, and counted on none.
//!
//! Pure, and tested over the simulator: [`record`], [`variant`], [`drive`].

pub mod drive;
#[cfg(feature = "llama")]
pub mod efficiency;
#[cfg(feature = "llama")]
pub mod ratios;
pub mod record;
pub mod variant;
#[cfg(feature = "llama")]
pub mod workload;

/// The middle value, or the mean of the two middle ones; `None` of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (last, middle) = (sorted.len().checked_sub(1)?, sorted.len() / 2);
    Some(f64::midpoint(sorted[last / 2], sorted[middle]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert_eq!(median(&[4.0, 1.0, 3.0, 10.0]), Some(3.5));
        assert_eq!(median(&[7.0]), Some(7.0));
        assert_eq!(median(&[]), None);
    }

    proptest! {
        #[test]
        fn half_of_the_values_lie_on_either_side_of_the_median(
            values in proptest::collection::vec(-1e6f64..1e6, 1..40),
        ) {
            let middle = median(&values).unwrap();
            let below = values.iter().filter(|value| **value <= middle).count();
            let above = values.iter().filter(|value| **value >= middle).count();
            prop_assert!(2 * below >= values.len() && 2 * above >= values.len());
        }
    }
}
