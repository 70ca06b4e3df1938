//! What became of one job, and figures over many: quantiles by size, service level, goodput.
//!
//! Pure. Times are seconds since the start of the run on a monotonic clock.

use serde::{Deserialize, Serialize};

/// How large a job is to the language model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Size {
    /// A review or a few: what a new review of a known restaurant asks for.
    Small,
    /// A score of reviews.
    Medium,
    /// A whole restaurant, read for the first time.
    Large,
}

impl Size {
    /// All of them, smallest first.
    pub const ALL: [Self; 3] = [Self::Small, Self::Medium, Self::Large];

    /// As in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Medium => "medium",
            Self::Large => "large",
        }
    }
}

/// One job, from its arrival to its end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Its place in the trace.
    pub job: usize,
    /// How large it is.
    pub size: Size,
    /// What the scheduler expected it to take, in seconds; 0 where it is not known.
    pub cost: f64,
    /// When it arrived: the schedule's time, not that of a sender which was late.
    pub arrived: f64,
    /// When the model began with it; absent if it never did.
    pub admitted: Option<f64>,
    /// When its first label or token was known; absent if there was none.
    pub first_output: Option<f64>,
    /// When it ended.
    pub finished: f64,
    /// Tokens that the model computed for it.
    pub tokens: u64,
    /// Whether it ended with findings.
    pub ok: bool,
}

impl Sample {
    /// Time to first token, queue wait included; absent without one.
    pub fn ttft(&self) -> Option<f64> {
        self.first_output.map(|at| at - self.arrived)
    }

    /// Whether its first answer came in time, and it ended well.
    pub fn meets(&self, sla: f64) -> bool {
        self.ok && self.ttft().is_some_and(|ttft| ttft < sla)
    }
}

/// Nearest-rank quantile, `q` in 0 to 1: a value that was measured; `None` of nothing.
pub fn quantile(values: &[f64], q: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() as f64 * q).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

/// Times to first token of the jobs of one size.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TtftFigures {
    /// Jobs with a first token.
    pub jobs: usize,
    /// Median, in seconds.
    pub p50: f64,
    /// 95 in 100 were as fast, in seconds.
    pub p95: f64,
    /// 99 in 100 were as fast, in seconds.
    pub p99: f64,
    /// The slowest, in seconds.
    pub max: f64,
}

/// Over the samples of `size`, or all; `None` where none has a first token.
pub fn ttft(samples: &[Sample], size: Option<Size>) -> Option<TtftFigures> {
    let wanted = samples.iter().filter(|sample| size.is_none_or(|size| sample.size == size));
    let times: Vec<f64> = wanted.filter_map(Sample::ttft).collect();
    Some(TtftFigures {
        jobs: times.len(),
        p50: quantile(&times, 0.5)?,
        p95: quantile(&times, 0.95)?,
        p99: quantile(&times, 0.99)?,
        max: quantile(&times, 1.0)?,
    })
}

/// A run in figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Jobs that ended.
    pub jobs: usize,
    /// Of those, the ones with findings.
    pub ok: usize,
    /// From the first arrival to the last end, in seconds.
    pub makespan: f64,
    /// Jobs that arrived per second of the time in which they arrived.
    pub offered: f64,
    /// Jobs ended well per second of the makespan.
    pub throughput: f64,
    /// The same over those that met the service level.
    pub goodput: f64,
    /// Share of the jobs that met the service level, 0 to 1.
    pub compliance: f64,
    /// The service level: longest time to first token, in seconds.
    pub sla: f64,
    /// Tokens computed per second of the makespan.
    pub tokens_per_second: f64,
    /// Times to first token of small jobs.
    pub small: Option<TtftFigures>,
    /// Of medium ones.
    pub medium: Option<TtftFigures>,
    /// Of large ones.
    pub large: Option<TtftFigures>,
}

/// The figures of a run; `None` of no samples. Jobs that ended without asking the model (unchanged, refused) count in
/// `jobs` and, since the service level speaks of first tokens, meet none.
pub fn figures(samples: &[Sample], sla: f64) -> Option<Figures> {
    let begin = samples.iter().map(|s| s.arrived).min_by(f64::total_cmp)?;
    let last_arrival = samples.iter().map(|s| s.arrived).max_by(f64::total_cmp)?;
    let end = samples.iter().map(|s| s.finished).max_by(f64::total_cmp)?;
    let makespan = end - begin;
    let per = |count: f64, seconds: f64| if seconds > 0.0 { count / seconds } else { 0.0 };
    let ok = samples.iter().filter(|s| s.ok).count();
    let met = samples.iter().filter(|s| s.meets(sla)).count();
    Some(Figures {
        jobs: samples.len(),
        ok,
        makespan,
        offered: per((samples.len() - 1) as f64, last_arrival - begin),
        throughput: per(ok as f64, makespan),
        goodput: per(met as f64, makespan),
        compliance: met as f64 / samples.len() as f64,
        sla,
        tokens_per_second: per(samples.iter().map(|s| s.tokens).sum::<u64>() as f64, makespan),
        small: ttft(samples, Some(Size::Small)),
        medium: ttft(samples, Some(Size::Medium)),
        large: ttft(samples, Some(Size::Large)),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(arrived: f64, first: Option<f64>, finished: f64, ok: bool) -> Sample {
        Sample {
            job: 0,
            size: Size::Small,
            cost: 0.0,
            arrived,
            admitted: first,
            first_output: first,
            finished,
            tokens: 10,
            ok,
        }
    }

    #[test]
    fn waiting_counts_in_the_time_to_first_token_and_failures_meet_no_level() {
        let samples = [
            sample(0.0, Some(1.0), 2.0, true),
            sample(1.0, Some(4.0), 5.0, true),
            sample(1.0, Some(1.5), 5.0, false),
            sample(2.0, None, 4.0, true),
        ];
        let figures = figures(&samples, 2.0).unwrap();
        assert_eq!((figures.jobs, figures.ok), (4, 3));
        assert!((figures.compliance - 0.25).abs() < 1e-12);
        assert!((figures.makespan - 5.0).abs() < 1e-12);
        assert!((figures.goodput - 0.2).abs() < 1e-12);
        assert_eq!(figures.small.map(|small| small.jobs), Some(3));
        assert_eq!(figures.large, None);
    }

    proptest! {
        #[test]
        fn a_quantile_is_a_value_that_enough_others_do_not_exceed(
            values in prop::collection::vec(-1e3_f64..1e3, 1..50), q in 0.0..=1.0_f64,
        ) {
            let found = quantile(&values, q).unwrap();
            prop_assert!(values.iter().any(|value| value.total_cmp(&found).is_eq()));
            let below = values.iter().filter(|value| **value <= found).count();
            prop_assert!(below as f64 >= values.len() as f64 * q - 1e-9);
        }
    }
}
