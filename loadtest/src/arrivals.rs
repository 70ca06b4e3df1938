//! When jobs arrive, and of which restaurant each is. Pure: the same seed gives the same schedule.
//!
//! Every random schedule is one unit-rate Poisson process, stretched so that its rate follows the schedule's. Two
//! schedules from one seed so differ in nothing but their rates: what is compared over loads is compared under the
//! same luck.
//!
//! Invariants, for any rates: times are finite, not negative, and in order.

use std::fmt;
use std::str::FromStr;

use fastrand::Rng;

/// Rates below this count as this: a schedule has an end.
const LEAST_RATE: f64 = 1e-6;

/// How jobs come. Open loop: no job waits for an earlier one's answer. Rates are jobs per second, times seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Arrivals {
    /// At random, always at the same rate.
    Poisson {
        /// Rate.
        rate: f64,
    },
    /// At random, at a rate that changes steadily from the first job to the last.
    Ramp {
        /// Rate at the beginning.
        from: f64,
        /// Rate at the end.
        to: f64,
    },
    /// At random, with bursts at regular times, the first at the beginning.
    Burst {
        /// Rate between the bursts.
        base: f64,
        /// Rate in a burst.
        burst: f64,
        /// From the start of a burst to the start of the next.
        every: f64,
        /// How long a burst lasts.
        lasting: f64,
    },
    /// All at the beginning: a backlog, or a backfill.
    Drain,
}

impl Arrivals {
    /// Arrival times of `jobs` jobs, in order.
    pub fn times(&self, jobs: usize, rng: &mut Rng) -> Vec<f64> {
        let mut units = 0.0;
        let one = |_| {
            // An exponential gap; 1 − f64() is never 0.
            units -= (1.0 - rng.f64()).ln();
            self.when(units, jobs)
        };
        (0..jobs).map(one).collect()
    }

    /// The time at which `units` jobs are expected to have come: the inverse of the rate's integral.
    fn when(&self, units: f64, jobs: usize) -> f64 {
        match *self {
            Self::Poisson { rate } => units / at_least(rate),
            Self::Ramp { from, to } => ramp(at_least(from), at_least(to), jobs as f64, units),
            Self::Burst { base, burst, every, lasting } => {
                let (base, burst, every) = (at_least(base), at_least(burst), at_least(every));
                let lasting = lasting.clamp(0.0, every);
                let in_burst = burst * lasting;
                let in_period = in_burst + base * (every - lasting);
                let periods = (units / in_period).floor();
                let rest = units - periods * in_period;
                let within = if rest < in_burst { rest / burst } else { lasting + (rest - in_burst) / base };
                periods * every + within.min(every)
            }
            Self::Drain => 0.0,
        }
    }
}

/// From `from` to `to` over the time in which `jobs` are expected, then on at `to`.
fn ramp(from: f64, to: f64, jobs: f64, units: f64) -> f64 {
    let lasting = 2.0 * jobs / (from + to);
    if units >= jobs {
        return lasting + (units - jobs) / to;
    }
    // from·t + slope·t²/2 = units, in the form that a slope of zero does not break.
    let slope = (to - from) / lasting;
    2.0 * units / (from + (from * from + 2.0 * slope * units).max(0.0).sqrt())
}

/// The form of a schedule; its rates are given by the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// At random, always at the same rate.
    Poisson,
    /// From half the rate to half as much again.
    Ramp,
    /// A low rate, and four times that for a fifth of the time.
    Burst,
    /// All at the beginning: a backlog, or a backfill.
    Drain,
}

impl Shape {
    /// The schedule with the mean rate `rate`, for about `jobs` jobs.
    pub fn at(self, rate: f64, jobs: usize) -> Arrivals {
        // Five bursts in the time that the jobs take to come.
        let every = jobs as f64 / at_least(rate) / 5.0;
        match self {
            Self::Poisson => Arrivals::Poisson { rate },
            Self::Ramp => Arrivals::Ramp { from: 0.5 * rate, to: 1.5 * rate },
            Self::Burst => {
                let base = rate / 1.6;
                Arrivals::Burst { base, burst: 4.0 * base, every, lasting: every / 5.0 }
            }
            Self::Drain => Arrivals::Drain,
        }
    }
}

fn at_least(rate: f64) -> f64 {
    if rate > LEAST_RATE { rate.min(1e9) } else { LEAST_RATE }
}

impl fmt::Display for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Poisson { rate } => write!(f, "poisson:{rate}"),
            Self::Ramp { from, to } => write!(f, "ramp:{from},{to}"),
            Self::Burst { base, burst, every, lasting } => {
                write!(f, "burst:{base},{burst},{every},{lasting}")
            }
            Self::Drain => f.write_str("drain"),
        }
    }
}

impl FromStr for Arrivals {
    type Err = String;

    /// `poisson:RATE`, `ramp:FROM,TO`, `burst:BASE,BURST,EVERY,LASTING` or `drain`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, rest) = text.split_once(':').unwrap_or((text, ""));
        let numbers: Vec<f64> = rest.split(',').filter_map(|number| number.trim().parse().ok()).collect();
        let given = if rest.is_empty() { 0 } else { rest.split(',').count() };
        let positive =
            numbers.len() == given && numbers.iter().all(|number| *number > 0.0 && number.is_finite());
        match (name, numbers.as_slice()) {
            _ if !positive => Err(format!("schedule `{text}`: rates and times are numbers above 0")),
            ("poisson", &[rate]) => Ok(Self::Poisson { rate }),
            ("ramp", &[from, to]) => Ok(Self::Ramp { from, to }),
            ("burst", &[base, burst, every, lasting]) if lasting <= every => {
                Ok(Self::Burst { base, burst, every, lasting })
            }
            ("drain", []) => Ok(Self::Drain),
            _ => Err(format!(
                "unknown schedule `{text}`: use poisson:RATE, ramp:FROM,TO, burst:BASE,BURST,EVERY,LASTING (a burst is no longer than its period) or drain"
            )),
        }
    }
}

/// The restaurant of each of `jobs` jobs, out of `restaurants`: number 0 is the hot one, number k comes
/// `(k + 1)^exponent` times less often. With exponent 0 all are alike. None of none.
pub fn zipf(restaurants: usize, exponent: f64, jobs: usize, rng: &mut Rng) -> Vec<usize> {
    let Some(last) = restaurants.checked_sub(1) else { return Vec::new() };
    let mut sum = 0.0;
    let add = |place: usize| {
        sum += (place as f64 + 1.0).powf(-exponent.max(0.0));
        sum
    };
    let sums: Vec<f64> = (0..restaurants).map(add).collect();
    let pick = |_| {
        let drawn = rng.f64() * sum;
        sums.partition_point(|&below| below <= drawn).min(last)
    };
    (0..jobs).map(pick).collect()
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;
    use proptest::prelude::*;

    use super::*;

    fn any_schedule() -> impl Strategy<Value = Arrivals> {
        let rate = || 0.0..50.0_f64;
        prop_oneof![
            rate().prop_map(|rate| Arrivals::Poisson { rate }),
            (rate(), rate()).prop_map(|(from, to)| Arrivals::Ramp { from, to }),
            (rate(), rate(), 0.0..100.0_f64, 0.0..100.0_f64)
                .prop_map(|(base, burst, every, lasting)| Arrivals::Burst { base, burst, every, lasting }),
            Just(Arrivals::Drain),
        ]
    }

    proptest! {
        #[test]
        fn a_shape_keeps_the_mean_rate(seed in any::<u64>(), rate in 0.1..10.0_f64) {
            for shape in [Shape::Poisson, Shape::Ramp, Shape::Burst] {
                let times = shape.at(rate, 4000).times(4000, &mut Rng::with_seed(seed));
                let found = 4000.0 / times[3999];
                prop_assert!((found / rate - 1.0).abs() < 0.12, "{:?}: {} for {}", shape, found, rate);
            }
        }

        #[test]
        fn times_are_finite_and_in_order_whatever_the_schedule(
            schedule in any_schedule(), jobs in 0_usize..200, seed: u64,
        ) {
            let times = schedule.times(jobs, &mut Rng::with_seed(seed));
            prop_assert_eq!(times.len(), jobs);
            prop_assert!(times.iter().all(|at| at.is_finite() && *at >= 0.0), "{times:?}");
            prop_assert!(times.is_sorted(), "{times:?}");
        }

        #[test]
        fn the_mean_rate_is_the_one_asked_for(rate in 0.01..100.0_f64, seed: u64) {
            let jobs = 20_000;
            let times = Arrivals::Poisson { rate }.times(jobs, &mut Rng::with_seed(seed));
            let measured = jobs as f64 / times.last().unwrap();
            // The relative deviation is 1/√jobs: six of them.
            prop_assert!((measured / rate - 1.0).abs() < 6.0 / (jobs as f64).sqrt(), "{measured} for {rate}");
        }

        #[test]
        fn loads_drawn_from_one_seed_differ_in_their_rate_alone(rate in 0.1..10.0_f64, seed: u64) {
            let at = |rate| Arrivals::Poisson { rate }.times(50, &mut Rng::with_seed(seed));
            for (slow, fast) in at(rate).into_iter().zip(at(2.0 * rate)) {
                prop_assert!((slow - 2.0 * fast).abs() <= 1e-9 * slow);
            }
        }

        #[test]
        fn what_is_printed_is_read_back(schedule in any_schedule()) {
            let parsed = schedule.to_string().parse::<Arrivals>();
            match (schedule, parsed) {
                (_, Ok(parsed)) => prop_assert_eq!(parsed, schedule),
                // A burst longer than its period is refused in words, and cut to it when made in code.
                (Arrivals::Burst { every, lasting, .. }, Err(_)) => {
                    prop_assert!(lasting > every || schedule.to_string().contains(":0"));
                }
                (_, Err(error)) => prop_assert!(false, "{error}"),
            }
        }

        #[test]
        fn a_drain_has_all_jobs_at_the_beginning(jobs in 0_usize..50, seed: u64) {
            let times = Arrivals::Drain.times(jobs, &mut Rng::with_seed(seed));
            prop_assert!(times.iter().all(|at| at.to_bits() == 0));
        }

        #[test]
        fn the_hot_restaurant_is_the_hottest(restaurants in 2_usize..60, exponent in 0.8..2.0_f64, seed: u64) {
            let drawn = zipf(restaurants, exponent, 20_000, &mut Rng::with_seed(seed));
            let mut counts = vec![0_usize; restaurants];
            for restaurant in drawn {
                counts[restaurant] += 1;
            }
            prop_assert!(counts[1..].iter().all(|count| *count < counts[0]), "{counts:?}");
        }
    }

    /// Arrivals in `span`, in a schedule of many.
    fn count(times: &[f64], span: std::ops::Range<f64>) -> f64 {
        times.iter().filter(|at| span.contains(at)).count() as f64
    }

    #[test]
    fn a_ramp_begins_and_ends_at_its_rates() {
        let (jobs, lasting) = (40_000, 40_000.0 * 2.0 / 5.0);
        for (from, to) in [(1.0, 4.0), (4.0, 1.0)] {
            let times = Arrivals::Ramp { from, to }.times(jobs, &mut Rng::with_seed(7));
            let tenth = lasting / 10.0;
            let first = count(&times, 0.0..tenth) / tenth;
            let last = count(&times, 9.0 * tenth..lasting) / tenth;
            assert!((first - (from + 0.05 * (to - from))).abs() < 0.2, "{first} of {from}");
            assert!((last - (to - 0.05 * (to - from))).abs() < 0.2, "{last} of {to}");
        }
    }

    #[test]
    fn bursts_come_at_their_times_and_rates() {
        let schedule = Arrivals::Burst { base: 1.0, burst: 20.0, every: 60.0, lasting: 10.0 };
        let times = schedule.times(50_000, &mut Rng::with_seed(7));
        let periods = 190.0;
        let in_bursts = times.iter().filter(|at| **at < periods * 60.0 && *at % 60.0 < 10.0).count() as f64;
        let between = times.iter().filter(|at| **at < periods * 60.0 && *at % 60.0 >= 10.0).count() as f64;
        assert!((in_bursts / (periods * 10.0) - 20.0).abs() < 0.7, "{in_bursts}");
        assert!((between / (periods * 50.0) - 1.0).abs() < 0.07, "{between}");
    }

    #[test]
    fn no_restaurants_give_no_jobs_and_exponent_zero_makes_them_alike() {
        let mut rng = Rng::with_seed(1);
        assert_eq!(zipf(0, 1.0, 5, &mut rng), Vec::<usize>::new());
        let drawn = zipf(4, 0.0, 40_000, &mut rng);
        for restaurant in 0..4 {
            let share = drawn.iter().filter(|r| **r == restaurant).count() as f64 / 40_000.0;
            assert!((share - 0.25).abs() < 0.02, "{share}");
        }
    }

    #[test]
    fn words_that_are_no_schedule_are_refused_with_those_that_are() {
        for bad in ["", "poisson", "poisson:0", "poisson:x", "ramp:1", "burst:1,2,3,4", "drain:1", "often:2"]
        {
            assert!(bad.parse::<Arrivals>().is_err(), "{bad}");
        }
        assert!("often:2".parse::<Arrivals>().unwrap_err().contains("poisson:RATE"));
    }
}
