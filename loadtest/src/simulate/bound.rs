//! Who may pass whom, checked on what really happened.
//!
//! The promise of the order is about *passing*: a job passes another if it arrived later and the model began with
//! it earlier. A job of cost C that arrived at A is passed by one of cost c only if that one arrived by
//! `A + λ·(C − c)`, lanes being equal. So nothing that arrives after `A + λ·C` passes it, whatever comes, and
//! a job as large or larger never does. That is a bound on who passes and not on seconds: what arrived in time still
//! has to be worked, and so do the jobs before.
//!
//! What exactly is guaranteed, and where the slack comes from:
//!
//! - Jobs consist of requests, and it is requests that are admitted. All of a job's carry its key. While any of them
//!   waits *in the heap*, no request of a larger key is admitted ([`out_of_order`] checks just that). So the rest of
//!   a job that has begun is passed under the same condition as its beginning, and [`check`], which looks at
//!   beginnings, needs no slack for admission piece by piece.
//! - A request that was admitted is not taken back. A job that arrives during a step waits for its end, and for as
//!   many sequences to become free as its request needs: a step's time in which it passes nobody and nobody passes it.
//! - A job is on its way for a while: decoded, cut, embedded, priced, taken from the queue when its worker has room.
//!   Only in the heap it can be passed; `on_the_way` is the longest time from arrival to heap. What was
//!   admitted by then is not held against the order.
//! - Equal keys go by arrival in the heap, equal moments of admission are one step: neither is passing.
//! - Out of scope: requests put back for want of cells (counted as evictions, and admission makes them
//!   impossible), suspects of a failed decode call, which run alone and first, and a job that has to wait because another of its restaurant runs.

use maitred::scheduler::Policy;
use serde::{Deserialize, Serialize};

use crate::sample::Sample;

/// Rounding of keys near a billion seconds.
const ROUNDING: f64 = 1e-6;

/// A request's stay in the heap.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stay {
    /// Whose request.
    pub job: usize,
    /// When it was put into the heap.
    pub entered: f64,
    /// When it was given its sequence.
    pub admitted: f64,
}

/// One job passed another.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Pass {
    /// The job that waited.
    pub passed: usize,
    /// The job that came later and began earlier.
    pub passing: usize,
    /// By how many seconds it came later.
    pub later: f64,
    /// By how many seconds at most it might: λ(C − c).
    pub bound: f64,
}

impl Pass {
    /// How far it was from the bound; negative beyond it.
    pub fn margin(&self) -> f64 {
        self.bound - self.later
    }
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checked {
    /// Pairs of which one passed the other. A check that saw none has shown nothing.
    pub passes: usize,
    /// The pair nearest to its bound, or farthest beyond.
    pub tightest: Option<Pass>,
    /// Pairs beyond it.
    pub violations: Vec<Pass>,
}

/// Checks all pairs of jobs of one lane. `cost` in the samples must be what the order knew, and `on_the_way` is the
/// longest time that a job took from its arrival into the heap. Jobs that never began are passed by none: the
/// model did not know them.
pub fn check(samples: &[Sample], policy: &Policy, on_the_way: f64) -> Checked {
    let weight = policy.weight();
    let mut checked = Checked { passes: 0, tightest: None, violations: Vec::new() };
    for old in samples {
        let Some(began) = old.admitted else { continue };
        for new in samples.iter().filter(|new| new.arrived > old.arrived) {
            let in_heap = old.arrived + on_the_way;
            if !new.admitted.is_some_and(|admitted| admitted < began && admitted >= in_heap) {
                continue;
            }
            let pass = Pass {
                passed: old.job,
                passing: new.job,
                later: new.arrived - old.arrived,
                bound: weight * (old.cost - new.cost),
            };
            checked.passes += 1;
            if checked.tightest.is_none_or(|tightest| pass.margin() < tightest.margin()) {
                checked.tightest = Some(pass);
            }
            if pass.margin() < -ROUNDING * (1.0 + weight) {
                checked.violations.push(pass);
            }
        }
    }
    checked
}

/// The pairs beyond the bound.
pub fn violations(samples: &[Sample], policy: &Policy, on_the_way: f64) -> Vec<Pass> {
    check(samples, policy, on_the_way).violations
}

/// Pairs of jobs (admitted, waiting) of which the first got a sequence while a request of the second, with a smaller
/// key, waited in the heap. `keys` by job.
pub fn out_of_order(stays: &[Stay], keys: &[f64]) -> Vec<(usize, usize)> {
    let key = |stay: &Stay| keys.get(stay.job).copied().unwrap_or(f64::INFINITY);
    let mut found = Vec::new();
    for went in stays {
        let waited = stays.iter().filter(|other| {
            other.job != went.job && other.entered <= went.admitted && went.admitted < other.admitted
        });
        let wrong = waited.filter(|other| key(other) + ROUNDING * (1.0 + key(other).abs()) < key(went));
        found.extend(wrong.map(|other| (went.job, other.job)));
    }
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use maitred::scheduler::Order;

    use super::*;
    use crate::sample::Size;

    fn sample(job: usize, arrived: f64, cost: f64, admitted: f64) -> Sample {
        Sample {
            job,
            size: Size::Small,
            cost,
            arrived,
            admitted: Some(admitted),
            first_output: Some(admitted),
            finished: admitted,
            tokens: 1,
            ok: true,
        }
    }

    fn lambda(lambda: f64) -> Policy {
        Policy { lambda, ..Policy::default() }
    }

    #[test]
    fn a_pass_within_the_bound_is_counted_and_one_beyond_is_a_violation() {
        let large = sample(0, 0.0, 10.0, 50.0);
        let in_time = sample(1, 17.0, 1.0, 20.0);
        let too_late = sample(2, 19.0, 1.0, 21.0);
        let checked = check(&[large, in_time, too_late], &lambda(2.0), 0.0);
        assert_eq!(checked.passes, 2);
        assert_eq!(checked.violations.iter().map(|pass| pass.passing).collect::<Vec<_>>(), [2]);
        assert!((checked.tightest.unwrap().margin() + 1.0).abs() < 1e-9);
    }

    #[test]
    fn under_fifo_any_pass_is_a_violation() {
        let fifo = Policy { order: Order::Fifo, ..lambda(9.0) };
        let pair = [sample(0, 0.0, 10.0, 5.0), sample(1, 1.0, 1.0, 4.0)];
        assert_eq!(violations(&pair, &fifo, 0.0).len(), 1);
        assert_eq!(violations(&pair, &lambda(1.0), 0.0), []);
    }

    #[test]
    fn what_began_before_the_job_was_in_the_heap_has_not_passed_it() {
        let pair = [sample(0, 0.0, 1.0, 5.0), sample(1, 1.0, 10.0, 2.0)];
        assert_eq!(check(&pair, &lambda(1.0), 0.0).violations.len(), 1);
        assert_eq!(check(&pair, &lambda(1.0), 3.0).passes, 0);
    }

    #[test]
    fn one_moment_of_admission_is_no_pass() {
        let pair = [sample(0, 0.0, 1.0, 5.0), sample(1, 1.0, 10.0, 5.0)];
        assert_eq!(check(&pair, &lambda(1.0), 0.0).passes, 0);
    }

    #[test]
    fn a_request_that_waits_behind_a_larger_key_is_found() {
        let stay = |job, entered, admitted| Stay { job, entered, admitted };
        let keys = [5.0, 9.0];
        assert_eq!(out_of_order(&[stay(0, 0.0, 3.0), stay(1, 0.0, 2.0)], &keys), [(1, 0)]);
        assert_eq!(out_of_order(&[stay(0, 0.0, 2.0), stay(1, 0.0, 2.0)], &keys), []);
        assert_eq!(out_of_order(&[stay(0, 2.5, 3.0), stay(1, 0.0, 2.0)], &keys), []);
    }
}
