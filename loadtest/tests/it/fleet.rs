//! A small fleet with the simulated engine over a real nats-server, under load.

use std::time::Duration;

use maitred::broker::nats::{Broker, Since};
use maitred::job::{Job, Review};
use maitred::scheduler::Lane;
use maitred_loadtest::fleet::{
    FleetOptions, Local, LocalFleet, LookAhead, Place, drive, look_ahead, program_beside, run,
};
use maitred_loadtest::jobs::{Mix, Timed, mixed};
use maitred_loadtest::sample::Sample;
use maitred_loadtest::scenario::telemetry::pair;
use maitred_testkit::{Nats, skipped};

const JOBS: usize = 30;
const PATIENCE: Duration = Duration::from_mins(3);

/// Workers that are quick; `None`, said on stderr, where there is nothing to start. Cargo builds the program for the
/// tests of its own package, not for these: `scripts/test.sh` runs both.
fn quick(workers: usize) -> Option<Local> {
    let program = program_beside(&std::env::current_exe().unwrap());
    if !program.is_file() {
        skipped(&format!("no program at {}, run the tests of the whole workspace", program.display()));
        return None;
    }
    Nats::program()?;
    let local = Local { program: Some(program), workers, redis: false, settings: Vec::new() };
    let local = local
        .set("engine.backend", "sim")
        // The server grants no more than its disk has free.
        .set("nats.jobs_max_bytes", "64 MiB")
        .set("worker.slots", 3)
        .set("sim.step", "2ms")
        .set("sim.token", "100ns");
    Some(local.set("analysis.language", "en"))
}

/// Made-up jobs of mixed sizes, which all arrive at the start.
fn jobs() -> Vec<Timed> {
    let reviews = (0..600).map(|n| Review {
        id: n.to_string(),
        text: format!("Visit {n}. The soup was good. Our waiter was kind, but the room is loud."),
        rating: None,
        recommended: None,
        created_at: None,
        embedding: None,
    });
    let json = r#"{"v":1,"job_id":"j","restaurant_id":"r","analyses":["sentiment","summary","strengths"],"reviews":[]}"#;
    let restaurant = Job { reviews: reviews.collect(), ..serde_json::from_str(json).unwrap() };
    mixed(&[restaurant], &Mix::default(), JOBS, &mut fastrand::Rng::with_seed(4)).unwrap()
}

/// The same, ten a second.
fn spread() -> Vec<Timed> {
    let mut trace = jobs();
    for (number, timed) in trace.iter_mut().enumerate() {
        timed.at = number as f64 * 0.1;
    }
    trace
}

fn options(place: Place) -> FleetOptions {
    FleetOptions { place, lane: Lane::Live, patience: PATIENCE }
}

/// One for each job, with the schedule's own arrival and everything in order.
fn assert_whole(samples: &[Sample], trace: &[Timed]) {
    let numbers: Vec<usize> = samples.iter().map(|sample| sample.job).collect();
    assert_eq!(numbers, (0..trace.len()).collect::<Vec<_>>());
    for (sample, timed) in samples.iter().zip(trace) {
        assert!(sample.ok, "{sample:?}");
        assert_eq!(sample.size, timed.size);
        assert_eq!(sample.arrived.to_bits(), timed.at.to_bits());
        let (admitted, first) = (sample.admitted.unwrap(), sample.first_output.unwrap());
        assert!(sample.arrived < admitted && admitted <= first && first <= sample.finished, "{sample:?}");
        assert!(sample.tokens > 0);
    }
}

/// Results that lie in the stream.
async fn results(broker: &Broker) -> u64 {
    match broker.now().await.unwrap() {
        Since::Behind { results, .. } => results,
        Since::At(_) => unreachable!("`now` tells places"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_job_of_a_local_fleet_has_one_sample_and_the_fleet_is_seen_over_time() {
    let Some(local) = quick(2) else { return };
    let trace = spread();
    let run = run(&options(Place::Local(local)), trace.clone()).await.unwrap().complete().unwrap();
    assert_whole(&run.samples, &trace);
    assert_eq!((run.open.len(), run.strays), (0, 0));
    let on_time = run.published.iter().zip(&trace).all(|(published, timed)| *published > timed.at);
    assert!(run.published.len() == JOBS && on_time, "{:?}", run.published);
    assert!(run.depth.is_sorted_by(|a, b| a.at < b.at) && !run.depth.is_empty());
    assert!(run.depth.iter().any(|point| point.workers == 2 && point.slots == 6), "{:?}", run.depth);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_published_though_nobody_works_them_and_their_wait_counts() {
    let Some(local) = quick(0) else { return };
    let mut fleet = LocalFleet::start(&local).await.unwrap();
    let (broker, trace) = (fleet.broker().await.unwrap(), jobs());
    let driving = tokio::spawn({
        let (broker, trace) = (broker.clone(), trace.clone());
        async move { drive(&broker, &trace, &options(Place::Local(local)), || Ok(())).await }
    });
    // All of them lie there before there is a worker: no publication waits for an end.
    let mut looks = tokio::time::interval(Duration::from_millis(50));
    let pending = async {
        loop {
            looks.tick().await;
            let status = broker.status(time::OffsetDateTime::now_utc()).await.unwrap();
            if status.lanes.iter().map(|lane| lane.pending).sum::<u64>() == JOBS as u64 {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, pending).await.expect("not all jobs are published");
    fleet.add_worker();
    let run = driving.await.unwrap().unwrap().complete().unwrap();
    assert_whole(&run.samples, &trace);
    assert_eq!(results(&broker).await, JOBS as u64, "a job has two results");
    // The last was published before the worker was started, so every job waited at least from then to its first token.
    let stored = run.published.iter().copied().fold(0.0, f64::max);
    assert!(run.samples.iter().all(|sample| sample.first_output.unwrap() > stored));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_that_runs_already_is_used_twice_and_one_without_workers_is_refused() {
    let Some(local) = quick(0) else { return };
    let mut fleet = LocalFleet::start(&local).await.unwrap();
    let there = options(Place::There(Box::new(fleet.nats())));
    let refused = run(&there, spread()).await.unwrap_err();
    assert!(refused.to_string().contains("`maitred worker`"), "{refused}");
    fleet.add_worker();
    fleet.until_ready().await.unwrap();
    let first = run(&there, spread()).await.unwrap().complete().unwrap();
    assert_whole(&first.samples, &spread());
    // The jobs are new to it, their reviews are not.
    let second = run(&there, spread()).await.unwrap().complete().unwrap();
    assert!(second.samples.len() == JOBS && second.samples.iter().all(|sample| sample.ok), "{second:?}");
    assert_eq!(second.strays, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_that_cannot_be_used_or_a_worker_that_dies_ends_the_run_and_says_why() {
    let Some(local) = quick(1) else { return };
    for (key, value, told) in
        [("worker.slots", "many", "worker.slots"), ("sim.crash_at", "started", "worker 0")]
    {
        let wrong = local.clone().set(key, value);
        let error = run(&options(Place::Local(wrong)), spread()).await.unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn look_aheads_are_compared_over_the_same_trace() {
    let Some(local) = quick(1) else { return };
    let mut told = Vec::new();
    let note = |one: &LookAhead| {
        told.push(one.look_ahead);
        Ok(())
    };
    let compared = look_ahead(&local, &[0, 8], &spread(), (PATIENCE, 2.0), note).await.unwrap();
    for one in &compared {
        assert_whole(&one.samples, &spread());
    }
    assert_eq!((compared.len(), told), (2, vec![0, 8]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_telemetry_costs_is_measured_over_the_same_work() {
    let Some(local) = quick(1) else { return };
    let pair = Box::pin(pair(&local, &jobs(), false, 0.05, PATIENCE)).await.unwrap();
    assert_eq!(pair.on.tokens, pair.off.tokens, "both sides did the same");
    assert!(pair.on.tokens > 0 && pair.on.scrapes > 0 && pair.off.scrapes == 0);
    assert!(pair.on.wall > 0.0 && pair.off.wall > 0.0);
    assert!(pair.on.cpu.is_some_and(|cpu| cpu > 0.0), "{pair:?}");
}
