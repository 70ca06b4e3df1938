//! Backfills and dead letters through real workers.

use std::collections::BTreeSet;

use async_nats::HeaderMap;
use async_nats::jetstream::{self, consumer::pull};
use futures_util::StreamExt;
use maitred::broker::names;
use maitred::result::AnalysisResult;
use maitred::scheduler::Lane;
use maitred_testkit::{LIMIT, jetstream, wait_until};
use serde_json::Value;
use time::OffsetDateTime;

use super::super::faults::{Fleet, PATIENCE, health, until_ready};
use super::jobs;
use crate::common::fleet::{Checker, Workload};
use crate::fleet::ground::until;

/// A result of a backfill, as it lies in the stream.
struct Replayed {
    result: AnalysisResult,
    /// When it was stored.
    at: OffsetDateTime,
}

/// The results with this backfill's header, in order.
async fn replayed(fleet: &Fleet, backfill: &str) -> Vec<Replayed> {
    let context = jetstream(fleet.nats.connect().await);
    let stream = context.get_stream(names::RESULTS_STREAM).await.unwrap();
    let config = pull::Config { ack_policy: jetstream::consumer::AckPolicy::None, ..pull::Config::default() };
    let consumer = stream.create_consumer(config).await.unwrap();
    let mut batch = consumer.fetch().max_messages(500).messages().await.unwrap();
    let mut found = Vec::new();
    while let Some(message) = batch.next().await {
        let message = message.unwrap();
        let header = message.headers.as_ref().and_then(|headers| headers.get(names::BACKFILL));
        if header.is_some_and(|header| header.as_str() == backfill) {
            let at = message.info().unwrap().published;
            let result = rmp_serde::from_slice(&message.payload).unwrap();
            found.push(Replayed { result, at });
        }
    }
    found
}

/// The state in a backfill's record.
fn state(fleet: &Fleet, backfill: &str) -> String {
    let told = fleet.maitred.run(&["backfill", "status", backfill, "--json"]).ended(0).stdout;
    let rows: Value = serde_json::from_str(&told).unwrap();
    rows[0]["backfill"]["state"].as_str().unwrap().to_owned()
}

/// Works so many jobs of two workers' fleet; their ids.
async fn worked(fleet: &Fleet, seed: u64, count: usize) -> BTreeSet<String> {
    fleet.submit(&Workload::with(seed, count, |_| 3));
    let report = fleet.all_end().await;
    assert_eq!((report.results.len(), report.dead.len()), (count, 0), "{}", report.told());
    report.results.into_keys().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_works_old_jobs_again_under_its_own_name_and_ends() {
    let Some(fleet) = Fleet::new() else { return };
    let mut workers = ["w-1", "w-2"].map(|name| fleet.worker(name));
    let ids = worked(&fleet, 101, 30).await;
    let start = std::time::Instant::now();
    fleet.maitred.run(&["backfill", "start", "--from", "1", "--id", "again"]).ended(0);
    let checker = Checker::of_all_jobs(&fleet.nats.url()).await.and_replayed("again", ids.clone());
    let report = checker.wait(PATIENCE).await;
    assert_eq!((report.results.len(), report.dead.len()), (60, 0), "{}", report.told());
    let found = replayed(&fleet, "again").await;
    let again: BTreeSet<String> = found.into_iter().map(|found| found.result.job_id).collect();
    assert_eq!(again, ids);
    eprintln!("30 jobs worked again in {:.1?}", start.elapsed());
    wait_until("the record ends", || state(&fleet, "again") == "done");
    eprintln!("the record is done after {:.1?}", start.elapsed());
    for worker in &mut workers {
        until_ready(worker, true);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_asks_only_for_the_analyses_that_it_names() {
    let Some(fleet) = Fleet::new() else { return };
    let _worker = fleet.worker("w-1");
    let ids = worked(&fleet, 102, 4).await;
    let arguments = ["backfill", "start", "--from", "1", "--id", "narrow", "--analyses", "sentiment"];
    fleet.maitred.run(&arguments).ended(0);
    let checker = Checker::of_all_jobs(&fleet.nats.url()).await.and_replayed("narrow", ids);
    checker.wait(PATIENCE).await;
    let found = replayed(&fleet, "narrow").await;
    assert_eq!(found.len(), 4);
    for Replayed { result, .. } in found {
        let asked: Vec<String> = result.outcomes.keys().map(|analysis| format!("{analysis:?}")).collect();
        assert_eq!(asked, ["Sentiment"], "{}", result.restaurant_id);
        assert!(result.sentiment.is_some() && result.summary.is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_with_a_rate_keeps_it_however_many_workers_there_are() {
    const RATE: f64 = 3.0;
    const JOBS: usize = 40;
    // Of each worker.
    const BURST: usize = 4;
    let Some(fleet) = Fleet::new() else { return };
    let _workers = ["w-1", "w-2"].map(|name| fleet.maitred.clone().set("sim.step", "1ms").worker(name));
    let ids = worked(&fleet, 103, JOBS).await;
    // From here on, not from the first result: that may be late, and what is granted meanwhile comes at once with it.
    let begun = OffsetDateTime::now_utc();
    fleet.maitred.run(&["backfill", "start", "--from", "1", "--id", "slow", "--rate", "3/s"]).ended(0);
    let checker = Checker::of_all_jobs(&fleet.nats.url()).await.and_replayed("slow", ids);
    checker.wait(PATIENCE).await;
    let found = replayed(&fleet, "slow").await;
    let times: Vec<f64> = found.iter().map(|found| (found.at - begun).as_seconds_f64()).collect();
    let took = times[JOBS - 1];
    let by = |seconds: f64| times.iter().filter(|at| **at <= seconds).count();
    eprintln!(
        "{JOBS} jobs in {took:.1} s at 3/s; by 1 s {}, by 3 s {}, by 6 s {}",
        by(1.0),
        by(3.0),
        by(6.0)
    );
    for (before, at) in times.iter().enumerate() {
        let most = 2.0 * BURST as f64 + RATE * at * 1.5 + 1.0;
        assert!(before as f64 <= most, "{} jobs after {at:.2} s", before + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_that_is_stopped_leaves_its_workers_well() {
    let Some(fleet) = Fleet::new() else { return };
    let first = fleet.worker("w-0");
    let ids = worked(&fleet, 104, 30).await;
    drop(first);
    // Who knows nothing of the reviews yet takes as long as it took the first time.
    let slow = fleet.maitred.clone().set("sim.step", "300ms").set("worker.look_ahead", 4);
    let mut workers = ["w-1", "w-2"].map(|name| slow.worker(name));
    for worker in &mut workers {
        until_ready(worker, true);
    }
    fleet.maitred.run(&["backfill", "start", "--from", "1", "--id", "stopped"]).ended(0);
    until("some are worked again", async || (replayed(&fleet, "stopped").await.len() >= 2).then_some(()))
        .await;
    fleet.maitred.run(&["backfill", "stop", "stopped"]).ended(0);
    wait_until("nothing is held", || {
        workers.iter_mut().all(|worker| {
            let ready = health(worker, "/readyz");
            assert_eq!(ready.0, 200, "{}", ready.1);
            jobs(worker, "held") == 0
        })
    });
    let again: Vec<String> =
        replayed(&fleet, "stopped").await.into_iter().map(|found| found.result.job_id).collect();
    eprintln!("{} of {} were worked again before the stop", again.len(), ids.len());
    assert!(again.len() < ids.len(), "it was over before it was stopped");
    assert_eq!(state(&fleet, "stopped"), "stopped");
    fleet.submit(&Workload::new(105, 4));
    let checker = Checker::of_all_jobs(&fleet.nats.url()).await.and_replayed("stopped", again);
    let report = checker.wait(PATIENCE).await;
    assert!(report.dead.is_empty(), "{}", report.told());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_job_comes_back_from_the_dead_letters_and_a_bad_one_does_not() {
    let Some(mut fleet) = Fleet::new() else { return };
    fleet.maitred = fleet.maitred.set("nats.max_deliver", 2);
    fleet.maitred.run(&["init"]).ended(0);
    fleet.submit(&Workload::with(106, 1, |_| 3));
    let context = jetstream(fleet.nats.connect().await);
    let consumer: jetstream::consumer::Consumer<pull::Config> =
        context.get_consumer_from_stream(names::lane_consumer(Lane::Live), names::JOBS_STREAM).await.unwrap();
    for delivery in 1..=2 {
        // Somebody takes it and is never heard of again.
        let mut batch = consumer.batch().max_messages(1).expires(LIMIT).messages().await.unwrap();
        let job = batch.next().await.unwrap().unwrap();
        assert_eq!(job.info().unwrap().delivered, delivery);
    }
    let mut headers = HeaderMap::new();
    headers.insert(names::CONTENT_TYPE, names::JSON);
    let stored = context.publish_with_headers(names::job_subject(Lane::Live, "bad"), headers, "{".into());
    stored.await.unwrap().await.unwrap();
    let mut worker = fleet.worker("w-1");
    until_ready(&mut worker, true);
    let report = fleet.all_end().await;
    assert_eq!((report.results.len(), report.dead.len()), (0, 2), "{}", report.told());
    let listed = |arguments: &[&str]| -> Value {
        serde_json::from_str(&fleet.maitred.run(arguments).ended(0).stdout).unwrap()
    };
    let given_up = listed(&["dlq", "ls", "--reason", "max_deliveries", "--json"]);
    let malformed = listed(&["dlq", "ls", "--reason", "malformed", "--json"]);
    assert_eq!((given_up.as_array().unwrap().len(), malformed.as_array().unwrap().len()), (1, 1));
    fleet.maitred.run(&["dlq", "replay", &given_up[0]["sequence"].to_string()]).ended(0);
    let report = fleet.all_end().await;
    assert_eq!((report.results.len(), report.dead.len()), (1, 1), "{}", report.told());
    assert!(report.dead.keys().all(|id| id.starts_with("unreadable:")), "{report:?}");
    // Told every few seconds.
    let mut status = Value::Null;
    wait_until("the worker tells of what it did", || {
        status = listed(&["status", "--json"]);
        status["workers"][0]["totals"]["results"] == 1
    });
    assert_eq!(status["dead_letters"], 1);
    assert_eq!(status["workers"][0]["name"], "w-1");
    let lanes: Vec<&Value> = status["lanes"].as_array().unwrap().iter().map(|lane| &lane["lane"]).collect();
    assert_eq!(lanes, ["hi", "live", "backfill"]);
    let idle = |lane: &Value| lane["pending"] == 0 && lane["in_flight"] == 0;
    assert!(status["lanes"].as_array().unwrap().iter().all(idle), "{status}");
}
