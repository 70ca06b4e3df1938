//! From rows to figures: what is counted where, and what is missing when.

use proptest::prelude::*;
use time::macros::datetime;

use super::rows::{GpuSeen, JobSeen, LetterSeen, RequestsSeen, WindowSeen, WorkerSeen};
use super::tally::{Axis, Tally};
use super::{Period, Report};

/// 2026-01-31 09:00 UTC.
const NINE: i64 = 1_769_850_000;

const PERIOD: Period = Period { from: datetime!(2026-01-31 00:00 UTC), to: datetime!(2026-02-01 00:00 UTC) };

fn job(second: i64, lane: Option<&str>, reviews: i64, ttft_ms: f64) -> JobSeen {
    JobSeen {
        second,
        lane: lane.map(str::to_owned),
        reviews,
        outcome: "ok".into(),
        ttft_ms: Some(ttft_ms),
        total_ms: ttft_ms + 1000.0,
        within_sla: Some(ttft_ms < 2000.0),
        reviews_read: reviews,
        prompt_tokens: 100,
        cached_tokens: 500,
        forced_tokens: 20,
        generated_tokens: 30,
        baseline_tokens: 600,
        claims_written: 3,
        claims_kept: 2,
        ..JobSeen::default()
    }
}

fn failed(second: i64, code: &str) -> JobSeen {
    JobSeen {
        outcome: "failed".into(),
        error_code: Some(code.into()),
        ttft_ms: None,
        within_sla: Some(false),
        ..job(second, Some("live"), 3, 0.0)
    }
}

fn unchanged(second: i64) -> JobSeen {
    JobSeen {
        outcome: "unchanged".into(),
        ttft_ms: None,
        within_sla: None,
        prompt_tokens: 0,
        forced_tokens: 0,
        generated_tokens: 0,
        baseline_tokens: 0,
        claims_written: 0,
        claims_kept: 0,
        reviews_read: 0,
        cached_tokens: 0,
        ..job(second, Some("backfill"), 40, 0.0)
    }
}

fn window(worker: &str, from: i64, seconds: f64, tokens: i64) -> WindowSeen {
    WindowSeen {
        worker: worker.into(),
        from_second: from as f64,
        to_second: from as f64 + seconds,
        jobs: 2,
        tokens,
        tokens_met: tokens / 2,
        wall_seconds: seconds,
        busy_seconds: Some(seconds / 4.0),
    }
}

fn gpu(second: i64, utilization: Option<f64>) -> GpuSeen {
    GpuSeen {
        second,
        worker: "w-1".into(),
        device: 0,
        name: "A GPU".into(),
        utilization,
        memory_used_bytes: Some(3 << 30),
        memory_total_bytes: Some(8 << 30),
        power_watts: Some(71.0),
        temperature_celsius: Some(61.0),
    }
}

fn worker(name: &str, started_second: i64) -> WorkerSeen {
    WorkerSeen {
        worker: name.into(),
        model: "gemma-3-270m".into(),
        device: Some("cpu".into()),
        slots: Some(8),
        started_second,
        ended_second: None,
    }
}

fn generation(requests: i64, answered: i64) -> RequestsSeen {
    RequestsSeen {
        kind: "generation".into(),
        requests,
        answered,
        queue_ms: Some(120.0),
        prefill_ms: Some(240.0),
        decode_ms: Some(900.0),
    }
}

fn tally() -> Tally {
    Tally::new(Axis::over(NINE, NINE + 600))
}

/// Nothing was ever written.
pub(crate) fn nothing() -> Report {
    tally().finish(PERIOD, Some(1.0))
}

/// Something in every part.
pub(crate) fn full() -> Report {
    let mut tally = tally();
    for n in 0..20 {
        tally.job(&job(NINE + n, Some("live"), 3, 100.0 * (n + 1) as f64));
    }
    tally.job(&job(NINE + 5, Some("hi"), 12, 2500.0));
    tally.job(&unchanged(NINE + 6 + 3600));
    tally.job(&failed(NINE + 7, "model_failure"));
    for minute in [0, 1, 2, 5] {
        tally.window(&window("w-1", NINE + 60 * minute, 60.0, 600 * (minute + 1)));
    }
    tally.window(&window("w-2", NINE, 60.0, 0));
    tally.gpu(&gpu(NINE + 30, Some(0.5)));
    tally.gpu(&gpu(NINE + 130, Some(0.7)));
    tally.requests(generation(40, 39));
    (1..=10).for_each(|millis| tally.tpot(f64::from(millis)));
    tally.worker(worker("w-1", NINE));
    tally.earlier_worker(worker("w-2", NINE - 90_000));
    tally.earlier_worker(worker("w-gone", NINE - 90_000));
    tally.letter(&LetterSeen { reason: "poison".into() });
    tally.finish(PERIOD, Some(0.5))
}

#[test]
fn without_rows_nothing_is_known_and_nothing_is_zero() {
    let report = nothing();
    assert_eq!((&report.jobs, &report.flow, &report.tokens, &report.cost), (&None, &None, &None, &None));
    assert_eq!((&report.errors, &report.dead_letters), (&None, &None));
    assert!(report.service.is_empty() && report.hours.is_empty() && report.workers.is_empty());
    let json = serde_json::to_value(&report).unwrap();
    assert!(json["jobs"].is_null() && json["dead_letters"].is_null(), "{json}");
    assert_eq!(json["period"]["from"], "2026-01-31T00:00:00Z");
}

#[test]
fn a_worker_that_had_nothing_to_do_makes_the_zero_a_measured_one() {
    let mut tally = tally();
    tally.window(&WindowSeen { jobs: 0, ..window("w", NINE, 60.0, 0) });
    let report = tally.finish(PERIOD, Some(2.0));
    assert_eq!(report.jobs.unwrap().total, 0);
    assert_eq!(report.dead_letters, Some(vec![]), "a worker would have told");
    assert!(report.flow.unwrap().throughput_tps.abs() < f64::EPSILON);
    let cost = report.cost.unwrap();
    assert_eq!((cost.per_1000_restaurants, cost.restaurants), (None, 0), "idling costs, but no restaurant");
    assert!(report.tokens.is_none() && report.errors.is_none());
}

#[test]
fn jobs_are_counted_by_lane_and_outcome_and_served_by_lane_and_size() {
    let report = full();
    let jobs = report.jobs.unwrap();
    assert_eq!((jobs.total, jobs.lanes["live"]["ok"], jobs.lanes["live"]["failed"]), (23, 20, 1));
    let kinds: Vec<(&str, &str, u64)> =
        report.service.iter().map(|line| (line.lane.as_str(), line.size, line.jobs)).collect();
    let expected = [("hi", "medium", 1), ("live", "small", 21), ("backfill", "large", 1), ("all", "all", 23)];
    assert_eq!(kinds, expected);
    let live = &report.service[1];
    assert_eq!((live.judged, live.met), (21, 19), "a failed job is judged, and not within it");
    let ttft = live.ttft_ms.unwrap();
    assert_eq!((ttft.count, ttft.p50, ttft.p95), (20, 1000.0, 1900.0));
    let unasked = &report.service[2];
    assert_eq!((unasked.compliance(), unasked.ttft_ms), (None, None), "the model was not needed");
}

#[test]
fn sizes_end_where_they_are_said_to_end() {
    let mut tally = tally();
    for reviews in [0, 5, 6, 30, 31] {
        tally.job(&job(NINE, None, reviews, 1.0));
    }
    let counts: Vec<(String, &str, u64)> = tally
        .finish(PERIOD, None)
        .service
        .into_iter()
        .map(|line| (line.lane, line.size, line.jobs))
        .collect();
    let line = |size, jobs| ("file".to_owned(), size, jobs);
    assert_eq!(counts[..3], [line("small", 2), line("medium", 2), line("large", 1)]);
}

#[test]
fn a_minute_in_which_no_worker_was_there_is_a_gap_and_no_zero() {
    let flow = full().flow.unwrap();
    let rates: Vec<Option<f64>> = flow.points[..6].iter().map(|point| point.throughput_tps).collect();
    assert_eq!(rates, [Some(10.0), Some(20.0), Some(30.0), None, None, Some(60.0)]);
    assert!((flow.throughput_tps - 30.0).abs() < 1e-9, "over four minutes, not six: {}", flow.throughput_tps);
    assert!((flow.goodput_tps - 15.0).abs() < 1e-9);
}

#[test]
fn two_workers_at_the_same_time_add_up() {
    let mut tally = tally();
    tally.window(&window("a", NINE, 60.0, 600));
    tally.window(&window("b", NINE, 60.0, 300));
    let flow = tally.finish(PERIOD, None).flow.unwrap();
    assert_eq!(flow.points[0].throughput_tps, Some(15.0));
}

#[test]
fn a_window_across_steps_is_shared_out_by_time() {
    let mut tally = tally();
    tally.window(&window("a", NINE + 45, 60.0, 600));
    let flow = tally.finish(PERIOD, None).flow.unwrap();
    let rates: Vec<Option<f64>> = flow.points[..3].iter().map(|point| point.throughput_tps).collect();
    assert_eq!(rates, [Some(10.0), Some(10.0), None], "the same rate in both, over its part of each");
}

#[test]
fn failures_save_nothing_and_what_they_cost_is_in_the_tokens() {
    let mut tally = tally();
    tally.job(&job(NINE, Some("hi"), 3, 10.0));
    tally.job(&failed(NINE, "model_failure"));
    let tokens = tally.finish(PERIOD, None).tokens.unwrap();
    assert_eq!((tokens.prompt, tokens.baseline), (200, 600));
    assert!((tokens.saved_share.unwrap() - 0.75).abs() < 1e-12, "150 of 600 were computed");
}

#[test]
fn costs_are_those_of_workers_and_restaurants_with_findings_share_them() {
    let cost = full().cost.unwrap();
    assert_eq!(cost.restaurants, 22, "20 and 1 worked, 1 unchanged, the failed one not");
    assert!((cost.worker_hours - 5.0 / 60.0).abs() < 1e-12);
    assert!((cost.busy_hours.unwrap() - cost.worker_hours / 4.0).abs() < 1e-12);
    let paid = 0.5 * cost.worker_hours / 22.0 * 1000.0;
    assert!((cost.per_1000_restaurants.unwrap() - paid).abs() < 1e-12);
    assert!((cost.per_1000_restaurants_busy.unwrap() - paid / 4.0).abs() < 1e-12);
    let mut unmeasured = tally();
    unmeasured.window(&WindowSeen { busy_seconds: None, ..window("a", NINE, 60.0, 600) });
    unmeasured.window(&window("b", NINE, 60.0, 600));
    assert_eq!(
        unmeasured.finish(PERIOD, Some(1.0)).cost.unwrap().busy_hours,
        None,
        "a part is not the whole"
    );
}

#[test]
fn workers_are_those_that_left_a_trace_in_the_period() {
    let workers = full().workers;
    let lines: Vec<(&str, u64, Option<f64>)> =
        workers.iter().map(|worker| (worker.worker.as_str(), worker.starts, worker.busy_share)).collect();
    assert_eq!(lines, [("w-1", 1, Some(0.25)), ("w-2", 0, Some(0.25))]);
    let mut fresh = tally();
    fresh.worker(worker("just-started", NINE));
    let line = fresh.finish(PERIOD, None).workers.remove(0);
    assert_eq!((line.busy_share, line.starts), (None, 1), "no window yet: its share is not known");
}

#[test]
fn a_gpu_whose_driver_tells_nothing_is_listed_without_figures() {
    let mut tally = tally();
    tally.gpu(&GpuSeen { worker: "w".into(), name: "x".into(), second: NINE, ..GpuSeen::default() });
    let gpu = tally.finish(PERIOD, None).gpus.remove(0);
    assert_eq!((gpu.utilization, gpu.memory_used_bytes, gpu.power_watts), (None, None, None));
    assert!(gpu.over_time.iter().all(Option::is_none));
    let known = full().gpus.remove(0);
    assert_eq!((known.utilization, known.over_time[0], known.over_time[1]), (Some(0.6), Some(0.5), None));
}

#[test]
fn hours_are_of_the_day_and_the_longest_list_names_the_most_frequent() {
    let report = full();
    assert_eq!((report.hours[9].jobs, report.hours[10].jobs, report.hours[0].jobs), (22, 1, 0));
    assert_eq!(report.hours[10].ttft_p95_ms, None);
    let mut tally = tally();
    for code in 0..30 {
        (0..=code).for_each(|_| tally.job(&failed(NINE, &format!("code-{code:02}"))));
    }
    let errors = tally.finish(PERIOD, None).errors.unwrap();
    assert_eq!((errors.len(), errors[0].name.as_str(), errors[0].count), (10, "code-29", 30));
}

proptest! {
    #[test]
    fn an_axis_holds_its_time_in_few_steps(from in 0_i64..2_000_000_000, length in 0_i64..400_000_000) {
        let axis = Axis::over(from, from + length);
        prop_assert!(axis.from <= from && axis.second(axis.steps) >= from + length);
        prop_assert!(axis.steps <= 97 || axis.step == 604_800, "{axis:?}");
    }

    #[test]
    fn no_token_of_a_window_is_lost_or_counted_twice(
        windows in prop::collection::vec((0_i64..3000, 1_i64..700, 0_i64..10_000), 1..20)
    ) {
        let mut tally = Tally::new(Axis::over(NINE, NINE + 4000));
        for (after, seconds, tokens) in &windows {
            tally.window(&window("w", NINE + after, *seconds as f64, *tokens));
        }
        let report = tally.finish(PERIOD, None);
        let told: i64 = windows.iter().map(|(_, _, tokens)| tokens).sum();
        prop_assert_eq!(report.workers[0].tokens, told as u64);
        let flow = report.flow.unwrap();
        prop_assert!(flow.goodput_tps <= flow.throughput_tps + 1e-9);
        prop_assert!(flow.points.iter().all(|point| point.goodput_tps <= point.throughput_tps));
    }

    #[test]
    fn the_order_of_rows_does_not_matter(seeds in prop::collection::vec((0_i64..7000, 0_i64..60, 0_u32..5000), 0..40)) {
        let report = |order: &mut dyn Iterator<Item = &(i64, i64, u32)>| {
            let mut tally = Tally::new(Axis::over(NINE, NINE + 7000));
            for (after, reviews, ttft) in order {
                tally.job(&job(NINE + after, Some("live"), *reviews, f64::from(*ttft)));
            }
            tally.finish(PERIOD, None)
        };
        prop_assert_eq!(report(&mut seeds.iter()), report(&mut seeds.iter().rev()));
    }
}
