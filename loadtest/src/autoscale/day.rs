//! When jobs come in the course of a day. Pure: the same seed gives the same day.

use std::str::FromStr;

use fastrand::Rng;
use serde::{Deserialize, Serialize};

const HOUR: f64 = 3600.0;

/// Rates at each full hour, as shares of the busiest; between them the rate changes steadily. After the last comes the
/// first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Day(Vec<f64>);

impl Default for Day {
    /// A day of guests who write after lunch and after dinner, and sleep at night. Assumed, not measured.
    fn default() -> Self {
        Self(vec![
            0.15, 0.05, 0.0, 0.0, 0.0, 0.0, 0.05, 0.15, 0.25, 0.3, 0.35, 0.5, 0.9, 1.0, 0.6, 0.4, 0.35, 0.5,
            0.85, 1.0, 0.95, 0.7, 0.45, 0.3,
        ])
    }
}

impl FromStr for Day {
    type Err = String;

    /// Rates separated by commas, an hour each, such as `0,0.2,1,0.2`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rates: Option<Vec<f64>> = text.split(',').map(|rate| rate.trim().parse().ok()).collect();
        rates.and_then(Self::new).ok_or_else(|| {
            format!("day `{text}`: use a rate for each hour, not negative and not all 0, such as 0,0.2,1,0.2")
        })
    }
}

impl Day {
    /// With these rates; they are divided by the largest. `None` where no job would ever come.
    pub fn new(rates: Vec<f64>) -> Option<Self> {
        let most = rates.iter().copied().fold(0.0, f64::max);
        let sound = rates.iter().all(|rate| rate.is_finite() && *rate >= 0.0);
        (sound && most > 0.0).then(|| Self(rates.into_iter().map(|rate| rate / most).collect()))
    }

    /// How long it is.
    pub fn seconds(&self) -> f64 {
        self.0.len() as f64 * HOUR
    }

    /// The rate at a time, as a share of the busiest.
    pub fn rate(&self, at: f64) -> f64 {
        let hours = (at / HOUR).rem_euclid(self.0.len() as f64);
        let (from, to) = self.hour(hours as usize);
        from + (to - from) * hours.fract()
    }

    /// Rates at the beginning and the end of an hour.
    fn hour(&self, hour: usize) -> (f64, f64) {
        let last = self.0.len() - 1;
        (self.0[hour.min(last)], self.0[(hour + 1) % self.0.len()])
    }

    /// When jobs come if `peak` of them come each second at the busiest time: a Poisson process, stretched so that its
    /// rate follows the day's. In order.
    pub fn times(&self, peak: f64, rng: &mut Rng) -> Vec<f64> {
        let mut times = Vec::new();
        let (mut units, mut before) = (0.0, 0.0);
        let mut hour = 0;
        loop {
            // An exponential gap; 1 − f64() is never 0.
            units -= (1.0 - rng.f64()).ln();
            loop {
                if hour == self.0.len() {
                    return times;
                }
                let (from, to) = self.hour(hour);
                let (from, to) = (from * peak, to * peak);
                let within = HOUR * f64::midpoint(from, to);
                if units - before < within {
                    times.push(hour as f64 * HOUR + moment(from, to, units - before));
                    break;
                }
                before += within;
                hour += 1;
            }
        }
    }
}

/// When so many jobs are expected to have come in an hour that begins and ends with these rates.
fn moment(from: f64, to: f64, jobs: f64) -> f64 {
    // from·t + slope·t²/2 = jobs, in the form that a slope of zero does not break.
    let slope = (to - from) / HOUR;
    let root = (from * from + 2.0 * slope * jobs).max(0.0).sqrt();
    let time = if from + root > 0.0 { 2.0 * jobs / (from + root) } else { 0.0 };
    time.clamp(0.0, HOUR)
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn times_are_in_order_and_within_the_day(
            rates in prop::collection::vec(prop_oneof![Just(0.0), 0.0..1.0_f64], 1..30), peak in 0.001..0.2_f64, seed: u64,
        ) {
            let Some(day) = Day::new(rates) else { return Ok(()) };
            let times = day.times(peak, &mut Rng::with_seed(seed));
            prop_assert!(times.is_sorted());
            prop_assert!(times.iter().all(|at| *at >= 0.0 && *at <= day.seconds()));
        }

        #[test]
        fn as_many_come_in_each_hour_as_its_rates_say(seed: u64) {
            let (day, peak) = (Day::default(), 2.0);
            let times = day.times(peak, &mut Rng::with_seed(seed));
            for hour in 0..24 {
                let (from, to) = day.hour(hour);
                let expected = peak * HOUR * f64::midpoint(from, to);
                let begin = hour as f64 * HOUR;
                let found = times.iter().filter(|at| **at >= begin && **at < begin + HOUR).count() as f64;
                // Six deviations.
                prop_assert!((found - expected).abs() <= 6.0 * expected.sqrt() + 1e-9, "{hour}: {found} for {expected}");
            }
        }
    }

    #[test]
    fn nobody_comes_while_the_rate_is_nought() {
        let times = Day::default().times(1.0, &mut Rng::with_seed(5));
        assert!(!times.iter().any(|at| (2.0 * HOUR..5.0 * HOUR).contains(at)));
        assert!(times.len() > 20_000);
    }

    #[test]
    fn the_rate_between_two_hours_is_between_theirs() {
        let day = Day::new(vec![1.0, 3.0]).unwrap();
        let near = |at: f64, rate: f64| assert!((day.rate(at) - rate).abs() < 1e-9, "{}", day.rate(at));
        near(0.0, 1.0 / 3.0);
        near(1800.0, 2.0 / 3.0);
        near(3600.0, 1.0);
        // And back to the first.
        near(5400.0, 2.0 / 3.0);
    }

    #[test]
    fn days_without_jobs_are_refused() {
        for bad in ["", "0,0", "-1,2", "x", "1,inf"] {
            assert!(bad.parse::<Day>().is_err(), "{bad}");
        }
        assert_eq!("0,2".parse::<Day>().unwrap(), Day::new(vec![0.0, 1.0]).unwrap());
    }
}
