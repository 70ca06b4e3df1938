//! When a failed job comes again, and when it does not. Pure.
//!
//! The server's count of deliveries says little of a job: it also grows when a worker is shut down, when the network
//! fails, and when another job brings down the worker that held this one. So failures are counted by the workers
//! themselves, for each job: runs that ended in a failure, and runs that never ended.

use std::time::Duration;

use super::lease::LEAST_DELAY;

/// Greatest delay of a job that comes back.
pub const LONGEST_DELAY: Duration = Duration::from_mins(5);

/// What a failure says of the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Nothing: a server could not be reached, a store was full, a model was still loading. The job comes again
    /// after a [`delay`].
    Transient,
    /// It will fail wherever and whenever it runs: it cannot be decoded, breaks a limit, is too long for the model.
    /// It becomes a dead letter at first sight.
    Permanent,
    /// The process did not survive it. Nobody is left to say so: the next worker finds a run that began and never
    /// ended, and runs the job alone.
    Poison,
}

/// How a job fared before this delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct History {
    /// Runs that ended in a transient failure. A run that was stopped by a drain, a cancel or a timeout is none.
    pub failures: u32,
    /// Runs that began and never ended, since the last one that did: having survived one, it is no suspect any more.
    pub unfinished: u32,
    /// Those of the unfinished runs in which the job ran alone, so that nothing else can have been the cause.
    pub unfinished_alone: u32,
}

/// How much is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Transient failures after which a job becomes a dead letter.
    pub max_failures: u32,
    /// Runs alone that the worker did not survive, after which a job becomes a dead letter.
    pub max_crashes: u32,
}

/// What to do with a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Run it beside others.
    Run,
    /// Run it while nothing else runs: if it brings the worker down, no neighbour is blamed.
    RunAlone,
    /// Give it up.
    DeadLetter(GivenUp),
}

/// Why a job is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GivenUp {
    /// It failed too often, for reasons that should have passed.
    Failures,
    /// It brought down too many workers.
    Poison,
}

impl GivenUp {
    /// The reason's code in dead letters and metrics.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Failures => "too_many_failures",
            Self::Poison => "poison",
        }
    }
}

/// What to do with a job of this history. Crashes weigh more than failures: they say more.
pub const fn verdict(history: History, limits: Limits) -> Verdict {
    if history.unfinished_alone > 0 && history.unfinished_alone >= limits.max_crashes {
        Verdict::DeadLetter(GivenUp::Poison)
    } else if history.failures > 0 && history.failures >= limits.max_failures {
        Verdict::DeadLetter(GivenUp::Failures)
    } else if history.unfinished > 0 || history.unfinished_alone > 0 {
        Verdict::RunAlone
    } else {
        Verdict::Run
    }
}

/// How long a job stays away after its `failures`-th failure: evenly spread between the least delay and a bound that
/// doubles with each failure, up to [`LONGEST_DELAY`]. Jobs that failed together do not come back together.
///
/// `random` is in 0..1; what is not counts as the nearer end, or as 0 if it is no number.
pub fn delay(failures: u32, random: f64) -> Duration {
    let doubled = 2_u32.checked_pow(failures.max(1)).unwrap_or(u32::MAX);
    let bound = LEAST_DELAY.saturating_mul(doubled).min(LONGEST_DELAY);
    let random = if random > 0.0 { random.min(1.0) } else { 0.0 };
    LEAST_DELAY + bound.saturating_sub(LEAST_DELAY).mul_f64(random)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits { max_failures: 5, max_crashes: 3 };

    fn of(failures: u32, unfinished: u32, unfinished_alone: u32) -> Verdict {
        verdict(History { failures, unfinished, unfinished_alone }, LIMITS)
    }

    #[test]
    fn a_job_that_always_came_back_runs_beside_others() {
        assert_eq!(of(0, 0, 0), Verdict::Run);
        assert_eq!(of(4, 0, 0), Verdict::Run);
    }

    #[test]
    fn a_job_whose_run_never_ended_runs_alone() {
        assert_eq!(of(0, 1, 0), Verdict::RunAlone);
        assert_eq!(of(4, 2, 1), Verdict::RunAlone);
    }

    #[test]
    fn crashes_beside_others_never_make_a_dead_letter() {
        assert_eq!(of(0, 1000, 0), Verdict::RunAlone);
        assert_eq!(of(0, 1000, 2), Verdict::RunAlone);
    }

    #[test]
    fn a_job_that_brought_down_three_workers_alone_is_poison() {
        assert_eq!(of(0, 4, 3), Verdict::DeadLetter(GivenUp::Poison));
        assert_eq!(of(9, 4, 3), Verdict::DeadLetter(GivenUp::Poison), "the stronger reason is named");
        assert_eq!(GivenUp::Poison.code(), "poison");
    }

    #[test]
    fn a_job_that_failed_too_often_is_given_up() {
        assert_eq!(of(5, 0, 0), Verdict::DeadLetter(GivenUp::Failures));
        assert_eq!(of(5, 1, 0), Verdict::DeadLetter(GivenUp::Failures));
    }

    #[test]
    fn a_job_that_is_new_always_gets_a_run() {
        assert_eq!(verdict(History::default(), Limits { max_failures: 0, max_crashes: 0 }), Verdict::Run);
    }

    #[test]
    fn the_bound_doubles_up_to_five_minutes() {
        let bounds: Vec<_> = [0, 1, 2, 8, 9, 40].into_iter().map(|n| delay(n, 1.0).as_secs()).collect();
        assert_eq!(bounds, [2, 2, 4, 256, 300, 300]);
        assert_eq!(delay(3, 0.5), Duration::from_millis(4500));
    }

    proptest! {
        #[test]
        fn a_delay_is_a_second_to_five_minutes_whatever_is_given(failures in any::<u32>(), random in any::<f64>()) {
            let delay = delay(failures, random);
            prop_assert!(delay >= LEAST_DELAY && delay <= LONGEST_DELAY);
        }

        #[test]
        fn a_worse_history_is_never_judged_more_kindly(
            failures in 0_u32..8, unfinished in 0_u32..8, alone in 0_u32..8, worse in 0_usize..3,
        ) {
            let severity = |verdict| match verdict {
                Verdict::Run => 0,
                Verdict::RunAlone => 1,
                Verdict::DeadLetter(_) => 2,
            };
            let before = of(failures, unfinished, alone);
            let after = match worse {
                0 => of(failures + 1, unfinished, alone),
                1 => of(failures, unfinished + 1, alone),
                _ => of(failures, unfinished, alone + 1),
            };
            prop_assert!(severity(after) >= severity(before));
        }
    }
}
