//! How long an idle worker is worth keeping.
//!
//! Staying idle costs money by the second; ending costs a start when the next job comes. Nobody knows when that is, and
//! whoever ends after the time `C` that a start is worth pays at most twice what a prophet would: `C` idle and `C` for the
//! start, where the prophet paid `C` at least (the ski-rental rule; no rule without knowledge does better in the worst
//! case).
//!
//! With the pauses `g` that were seen, a better moment `τ` can be looked for: the one that would have cost least,
//!
//! ```text
//! cost(τ) = Σ  g      if g ≤ τ   (work came while it waited)
//!              τ + C  if g > τ   (it ended, and had to start again)
//! ```
//!
//! kept within `C/2 ≤ τ ≤ 2C`, so that a past that does not come again costs at most three times what the prophet pays.
//! A worker never sees the end of the pause that ended it, so its own pauses are all short ones. Those of its
//! predecessors can be read off the times at which jobs were published.
//!
//! All costs are in idle time: the price of the machine cancels out.

use std::time::Duration;

/// Pauses below which the past says nothing.
const ENOUGH: usize = 8;

/// The idle time after which ending is cheaper than staying, where a start costs as much as `start` of idling and pauses
/// between jobs were `gaps`.
pub fn break_even(start: Duration, gaps: &[Duration]) -> Duration {
    if gaps.len() < ENOUGH {
        return start;
    }
    let (least, most) = (start / 2, start.saturating_mul(2));
    let seen = gaps.iter().copied().filter(|gap| (least..=most).contains(gap));
    // `start` first: of equal costs the first one is taken.
    let candidates = [start, least].into_iter().chain(seen);
    candidates.min_by_key(|wait| cost(*wait, start, gaps)).unwrap_or(start)
}

/// What the pauses would have cost with `wait` as the limit.
fn cost(wait: Duration, start: Duration, gaps: &[Duration]) -> Duration {
    let one = |gap| if gap <= wait { gap } else { wait.saturating_add(start) };
    gaps.iter().fold(Duration::ZERO, |sum, gap| sum.saturating_add(one(*gap)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(of: &[u64]) -> Vec<Duration> {
        of.iter().copied().map(Duration::from_secs).collect()
    }

    fn after(start: u64, gaps: &[u64]) -> u64 {
        break_even(Duration::from_secs(start), &seconds(gaps)).as_secs()
    }

    #[test]
    fn without_a_past_it_waits_for_as_long_as_a_start_is_worth() {
        assert_eq!(after(120, &[]), 120);
        assert_eq!(after(120, &[1000; 7]), 120, "seven pauses are no past");
    }

    #[test]
    fn where_pauses_are_long_it_ends_early_and_where_they_are_just_longer_it_waits() {
        assert_eq!(after(120, &[5000; 8]), 60, "waiting never paid");
        assert_eq!(after(120, &[150; 8]), 150, "a little more patience saves every start");
        assert_eq!(after(120, &[10; 8]), 120, "short pauses end by themselves");
    }

    proptest! {
        #[test]
        fn the_past_would_have_cost_no_more_than_without_looking_at_it(
            start in 1_u64..2000,
            gaps in prop::collection::vec(0_u64..5000, 0..64),
        ) {
            let (start, gaps) = (Duration::from_secs(start), seconds(&gaps));
            let chosen = break_even(start, &gaps);
            prop_assert!(cost(chosen, start, &gaps) <= cost(start, start, &gaps));
        }

        #[test]
        fn a_future_that_is_nothing_like_the_past_costs_at_most_three_times_the_least(
            start in 1_u64..2000,
            gaps in prop::collection::vec(0_u64..5000, 0..64),
            next in 1_u64..10_000,
        ) {
            let (start, next) = (Duration::from_secs(start), Duration::from_secs(next));
            let chosen = break_even(start, &seconds(&gaps));
            let paid = cost(chosen, start, &[next]);
            prop_assert!(paid <= 3 * next.min(start), "waits {chosen:?}, pays {paid:?}");
        }
    }
}
