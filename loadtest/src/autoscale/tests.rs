use proptest::prelude::*;

use super::*;

/// A day of three hours, so that many can be tried.
fn options(rates: &[f64], peak_workers: f64) -> Options {
    Options { day: Day::new(rates.to_vec()).unwrap(), peak_workers, seeds: vec![1], ..Options::default() }
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let rules = (0_u32..3, 1.0..16.0_f64, 0.0..400.0_f64, 0.0..400.0_f64).prop_map(
        |(min, lag_per_worker, cooldown, stabilization)| Rules {
            min,
            lag_per_worker,
            cooldown,
            stabilization,
            ..Rules::default()
        },
    );
    let idle = (10.0..120.0_f64, 1_u32..6, 0.0..900.0_f64).prop_map(|(interval, checks, min_runtime)| Idle {
        interval,
        checks,
        min_runtime,
    });
    prop_oneof![
        (1_u32..6).prop_map(Policy::Fixed),
        rules.clone().prop_map(Policy::Keda),
        (rules, idle).prop_map(|(up, idle)| Policy::Watchdog { up, idle }),
    ]
}

fn any_options() -> impl Strategy<Value = Options> {
    (prop::collection::vec(0.0..1.0_f64, 1..4), 0.2..5.0_f64, 1.0..300.0_f64, 1.0..90.0_f64, 1_usize..9)
        .prop_map(|(mut rates, peak, start, grace, slots)| {
            rates.push(1.0);
            let mut options = options(&rates, peak);
            (options.model.start, options.model.grace, options.model.slots) = (start, grace, slots);
            options
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_job_ends_once_whatever_the_fleet_does(policy in any_policy(), options in any_options(), seed: u64) {
        let jobs = options.jobs(seed);
        let run = run(&jobs, options.day.seconds(), policy, &options);
        prop_assert_eq!(run.samples.len(), jobs.len());
        for (sample, job) in run.samples.iter().zip(&jobs) {
            let (admitted, first) = (sample.admitted.unwrap(), sample.first_output.unwrap());
            prop_assert!(job.arrived <= admitted + 1e-6 && admitted <= first && first <= sample.finished);
            // Nobody is faster than alone on a worker.
            let alone = options.model.first.min(job.seconds);
            prop_assert!(sample.finished - job.arrived >= job.seconds - 1e-6);
            prop_assert!(first - job.arrived >= alone - 1e-6);
        }
    }

    #[test]
    fn workers_do_no_more_work_than_they_live(policy in any_policy(), options in any_options(), seed: u64) {
        let jobs = options.jobs(seed);
        let run = run(&jobs, options.day.seconds(), policy, &options);
        let work: f64 = jobs.iter().map(|job| job.seconds).sum();
        let lived: f64 = run.lives.iter().map(|(from, to)| to - from).sum();
        prop_assert!(run.lives.iter().all(|(from, to)| from <= to && *to <= run.end));
        prop_assert!(work <= lived + 1e-3, "{work} s of work in {lived} s");
        prop_assert!(run.behind.iter().all(|(from, to)| from <= to && *to <= run.end));
    }

    #[test]
    fn a_fixed_fleet_costs_its_size_for_as_long_as_the_day_takes(
        workers in 1_u32..6, options in any_options(), seed: u64,
    ) {
        let jobs = options.jobs(seed);
        let run = run(&jobs, options.day.seconds(), Policy::Fixed(workers), &options);
        prop_assert_eq!(run.lives.len(), workers as usize);
        prop_assert!(run.lives.iter().all(|life| life.0 == 0.0 && life.1.total_cmp(&run.end).is_eq()));
        prop_assert!(run.end >= options.day.seconds());
    }

    #[test]
    fn a_fleet_is_never_larger_than_its_rules_say(policy in any_policy(), options in any_options(), seed: u64) {
        let run = run(&options.jobs(seed), options.day.seconds(), policy, &options);
        let most = match policy {
            Policy::Fixed(workers) => workers,
            Policy::Keda(rules) | Policy::Watchdog { up: rules, .. } => rules.max,
        };
        // One that drains is on its way out, and its successor may be there.
        prop_assert!(run.watched.iter().all(|watched| watched.ready <= most));
    }

    #[test]
    fn one_more_worker_never_makes_a_fixed_fleet_slower_to_finish(options in any_options(), seed: u64) {
        let jobs = options.jobs(seed);
        let end = |workers| run(&jobs, options.day.seconds(), Policy::Fixed(workers), &options).end;
        // Jobs are handed out as they come: two ends may differ by a job.
        let longest = jobs.iter().map(|job| job.seconds).fold(0.0, f64::max);
        prop_assert!(end(2) <= end(1) + longest);
    }
}

/// A job a minute, alone each.
fn lone_jobs(count: usize) -> Vec<Job> {
    (0..count).map(|n| Job { arrived: 60.0 * n as f64, size: Size::Small, seconds: 1.0 }).collect()
}

#[test]
fn a_small_job_passes_a_large_one_on_the_same_worker() {
    let job = |arrived, size, seconds| Job { arrived, size, seconds };
    let jobs = [job(0.0, Size::Large, 20.0), job(5.0, Size::Small, 1.0)];
    let run = run(&jobs, 3600.0, Policy::Fixed(1), &options(&[1.0], 1.0));
    let ends: Vec<f64> = run.samples.iter().map(|sample| sample.finished).collect();
    assert!((ends[1] - 6.0).abs() < 1e-6 && (ends[0] - 21.0).abs() < 1e-6, "{ends:?}");
    assert!((run.samples[0].first_output.unwrap() - 0.8).abs() < 1e-6);
}

#[test]
fn from_none_to_one_takes_a_look_and_a_start() {
    let options = options(&[1.0], 1.0);
    let jobs = [Job { arrived: 100.0, size: Size::Small, seconds: 1.0 }];
    let run = run(&jobs, 3600.0, Policy::Keda(options.rules), &options);
    // Looks at 0, 15, …: the one at 105 sees it.
    let ready = 105.0 + options.model.start;
    assert!((run.samples[0].first_output.unwrap() - ready - 0.8).abs() < 1e-6, "{:?}", run.samples[0]);
    // Behind from its arrival until there is a worker.
    assert_eq!(run.behind, [(100.0, ready)]);
    // And it goes a cooldown after the last look that saw it, which is the one at its start.
    let (_, gone) = run.lives[0];
    assert!((gone - ready - options.rules.cooldown).abs() <= 2.0 * options.rules.polling, "{gone}");
}

#[test]
fn a_worker_that_gets_a_job_now_and_then_is_not_idle_to_the_watchdog() {
    let options = options(&[1.0], 1.0);
    let idle = Idle { interval: 60.0, checks: 3, min_runtime: 0.0 };
    let policy = Policy::Watchdog { up: options.rules, idle };
    let busy = run(&lone_jobs(40), 3600.0, policy, &options);
    assert_eq!(busy.lives.len(), 1, "{:?}", busy.lives);
    // The last job comes after 39 minutes; the worker has gone within four checks and the time to look.
    assert!(busy.lives[0].1 > 39.0 * 60.0 && busy.lives[0].1 < 45.0 * 60.0, "{:?}", busy.lives);
    let old = Policy::Watchdog { up: options.rules, idle: Idle { min_runtime: 3000.0, ..idle } };
    assert!(run(&lone_jobs(2), 3600.0, old, &options).lives[0].1 >= 3000.0);
}

#[test]
fn what_outlasts_a_drain_begins_again_and_is_counted() {
    let mut options = options(&[1.0], 1.0);
    options.model.grace = 5.0;
    // Two workers for a moment, because sixteen jobs come at once; each then has long ones.
    let jobs: Vec<Job> = (0..16).map(|_| Job { arrived: 0.0, size: Size::Large, seconds: 200.0 }).collect();
    let rules = Rules { stabilization: 0.0, lag_per_worker: 8.0, min: 1, ..options.rules };
    let run = run(&jobs, 3600.0, Policy::Keda(rules), &options);
    assert!(run.cut > 0);
    assert!(run.samples.iter().all(|sample| sample.finished.is_finite()));
}

#[test]
fn a_study_says_that_it_is_simulated_and_holds_each_fleet_once() {
    let options = Options { price: Some(2.0), ..options(&[0.2, 1.0, 0.0], 2.0) };
    let body = study(&options).unwrap();
    assert!(body.simulated && body.table().starts_with("SIMULATED"));
    let names: Vec<String> = body.rows.iter().map(|row| row.policy.name(options.rules)).collect();
    let distinct: std::collections::BTreeSet<&String> = names.iter().collect();
    assert_eq!(distinct.len(), names.len(), "{names:?}");
    for name in ["fixed 1", "fixed 3", "KEDA, 8 jobs a worker", "watchdog, 5 idle checks of 60 s"] {
        assert!(names.iter().any(|other| other == name), "{names:?}");
    }
    assert!(body.rows.iter().all(|row| row.cost == Some(2.0 * row.worker_hours)));
    assert_eq!(body.shown.len(), 3);
    assert_eq!(study(&options).unwrap(), body, "the same options give the same figures");
}

#[test]
fn what_cannot_be_studied_is_refused() {
    let sound = || options(&[1.0], 1.0);
    assert!(study(&Options { seeds: vec![], ..sound() }).is_err());
    assert!(study(&Options { peak_workers: 0.0, ..sound() }).is_err());
    assert!(study(&Options { lags: vec![0.0], ..sound() }).is_err());
    assert!(study(&Options { rules: Rules { min: 11, ..Rules::default() }, ..sound() }).is_err());
    assert!(study(&Options { idle_limits: vec![0], ..sound() }).is_err());
    assert!(study(&Options { model: Model { shares: [0.0; 3], ..Model::default() }, ..sound() }).is_err());
    assert!(study(&Options { model: Model { slots: 0, ..Model::default() }, ..sound() }).is_err());
}
