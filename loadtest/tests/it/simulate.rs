//! The real core on virtual time: nobody is passed beyond the bound, whatever comes.

use maitred::scheduler::{Order, Policy};
use maitred_loadtest::sample::Size;
use maitred_loadtest::simulate::bound::{check, out_of_order};
use maitred_loadtest::simulate::{Device, Hold, Run, Work, run};
use proptest::prelude::*;

/// A small device, so that short traces fill it.
const DEVICE: Device =
    Device { step: 0.02, token: 0.0025, sequences: 6, pinned: 1, cells: 600, batch_tokens: 96 };

fn weighted(lambda: f64) -> Policy {
    Policy { lambda, ..Policy::default() }
}

fn work(probes: Vec<u32>) -> Work {
    Work::new(Size::Small, 0, probes, &DEVICE)
}

fn go(jobs: &[(f64, Vec<u32>)], policy: Policy, hold: Hold) -> Run {
    let work: Vec<Work> = jobs.iter().map(|(_, probes)| work(probes.clone())).collect();
    let times: Vec<f64> = jobs.iter().map(|(at, _)| *at).collect();
    run(&work, &times, policy, hold, &DEVICE).unwrap()
}

/// Keys as the heap has them, by job.
fn keys(run: &Run, policy: &Policy) -> Vec<f64> {
    run.samples.iter().map(|sample| sample.arrived + policy.weight() * sample.cost).collect()
}

fn jobs() -> impl Strategy<Value = Vec<(f64, Vec<u32>)>> {
    let probes = prop_oneof![
        4 => prop::collection::vec(10_u32..60, 1..4),
        1 => prop::collection::vec(10_u32..60, 30..80),
    ];
    // Gaps in the size of a step, and sometimes none: arrivals within steps, and together.
    let gap = prop_oneof![Just(0.0), 0.0..0.5_f64, 0.0..3.0_f64];
    prop::collection::vec((gap, probes), 2..30).prop_map(|mut all| {
        let mut at = 0.0;
        for (time, _) in &mut all {
            at += *time;
            *time = at;
        }
        all
    })
}

fn hold() -> impl Strategy<Value = Hold> {
    prop_oneof![
        Just(Hold::ALL),
        (1_usize..5, 0_usize..5).prop_map(|(slots, look_ahead)| Hold { slots: Some(slots), look_ahead }),
    ]
}

fn policy() -> impl Strategy<Value = Policy> {
    prop_oneof![
        Just(Policy { order: Order::Fifo, ..Policy::default() }),
        (0.0..20.0_f64).prop_map(weighted),
        Just(weighted(1e6)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn nobody_is_passed_beyond_the_bound(jobs in jobs(), policy in policy(), hold in hold()) {
        let run = go(&jobs, policy, hold);
        prop_assert!(run.samples.iter().all(|sample| sample.ok && sample.admitted.is_some()));
        let checked = check(&run.samples, &policy, 0.0);
        prop_assert!(checked.violations.is_empty(), "{:?}", checked.violations);
    }

    #[test]
    fn no_request_goes_before_one_of_a_smaller_key_that_waits(
        jobs in jobs(), policy in policy(), hold in hold(),
    ) {
        let run = go(&jobs, policy, hold);
        let requests: usize = jobs.iter().map(|(_, probes)| probes.len()).sum();
        prop_assert_eq!(run.stays.len(), requests);
        prop_assert_eq!(out_of_order(&run.stays, &keys(&run, &policy)), vec![]);
    }

    #[test]
    fn a_device_with_work_never_rests(jobs in jobs(), policy in policy()) {
        // Work conserving: whatever the order, a job ends within the time in which all of it could be worked after
        // its arrival, one request a step.
        let run = go(&jobs, policy, Hold::ALL);
        let alone = |probes: &Vec<u32>| probes.iter().map(|&tokens| f64::from(tokens) * DEVICE.token + 2.0 * DEVICE.step).sum::<f64>();
        let all: f64 = jobs.iter().map(|(_, probes)| alone(probes)).sum();
        let last = jobs.last().map_or(0.0, |(at, _)| *at);
        prop_assert!(run.samples.iter().all(|sample| sample.finished <= last + all + 1e-6));
    }
}

/// A backlog of large jobs, and small ones that keep coming.
fn a_queue_with_small_jobs_behind() -> Vec<(f64, Vec<u32>)> {
    let large = (0..4).map(|_| (0.0, vec![40; 60]));
    let small = (0..60).map(|n| (0.4 * f64::from(n), vec![30; 2]));
    let mut jobs: Vec<_> = large.chain(small).collect();
    jobs.sort_by(|a, b| a.0.total_cmp(&b.0));
    jobs
}

#[test]
fn small_jobs_pass_large_ones_and_each_pass_is_within_the_bound() {
    let run = go(&a_queue_with_small_jobs_behind(), weighted(2.0), Hold::ALL);
    let checked = check(&run.samples, &weighted(2.0), 0.0);
    assert!(checked.passes > 50, "{checked:?}");
    assert_eq!(checked.violations, []);
    assert!(checked.tightest.unwrap().margin() >= 0.0);
}

#[test]
fn the_check_finds_a_run_that_broke_the_bound() {
    // Ordered with one weight and held against a smaller one: the same passes are too many.
    let run = go(&a_queue_with_small_jobs_behind(), weighted(50.0), Hold::ALL);
    let checked = check(&run.samples, &weighted(0.5), 0.0);
    assert!(!checked.violations.is_empty());
    assert_ne!(out_of_order(&run.stays, &keys(&run, &weighted(0.5))), vec![]);
}

#[test]
fn a_window_of_one_is_first_come_first_served_whatever_the_weight() {
    let run = go(&a_queue_with_small_jobs_behind(), weighted(50.0), Hold::window(1));
    assert!(run.samples.is_sorted_by(|a, b| a.admitted <= b.admitted));
    assert_eq!(check(&run.samples, &weighted(50.0), 0.0).passes, 0);
}

#[test]
fn looking_ahead_lets_small_jobs_past_those_that_wait_for_a_slot() {
    let slots = |look_ahead| {
        let run = go(&a_queue_with_small_jobs_behind(), weighted(50.0), Hold { slots: Some(1), look_ahead });
        check(&run.samples, &weighted(50.0), 0.0).passes
    };
    assert_eq!(slots(0), 0);
    assert!(slots(8) > 0);
}

#[test]
fn a_trace_comes_out_the_same_every_time() {
    let jobs = a_queue_with_small_jobs_behind();
    let once = go(&jobs, weighted(5.0), Hold::ALL);
    let again = go(&jobs, weighted(5.0), Hold::ALL);
    assert_eq!(once.samples, again.samples);
    assert_eq!(once.steps, again.steps);
}

#[test]
fn times_out_of_order_and_missing_ones_are_refused() {
    let two = [work(vec![20]), work(vec![20])];
    assert!(run(&two, &[1.0, 0.5], weighted(1.0), Hold::ALL, &DEVICE).is_err());
    assert!(run(&two, &[1.0], weighted(1.0), Hold::ALL, &DEVICE).is_err());
    assert!(run(&two, &[1.0, f64::NAN], weighted(1.0), Hold::ALL, &DEVICE).is_err());
}

#[test]
fn a_probe_that_fits_no_context_fails_its_own_job_only() {
    let run = go(&[(0.0, vec![20]), (0.1, vec![900]), (0.2, vec![20])], weighted(1.0), Hold::ALL);
    assert_eq!(run.samples.iter().map(|sample| sample.ok).collect::<Vec<_>>(), [true, false, true]);
}
