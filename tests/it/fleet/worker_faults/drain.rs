//! Workers that are asked to stop.

use std::time::Instant;

use async_nats::jetstream::AckKind;
use futures_util::StreamExt;
use maitred::broker::names;
use maitred::scheduler::Lane;
use maitred_testkit::{LIMIT, Maitred};
use nix::sys::signal::Signal;

use super::team::{Member, Team};

/// Jobs of many seconds: what runs must still run when it has been seen and the worker is asked to stop.
const SLOW: &str = "600ms";
/// For who is to work what was handed back.
const QUICK: &str = "5ms";

/// A worker with one job running and four queued.
async fn busy(change: impl FnOnce(Maitred) -> Maitred) -> Option<(Team, Member, Vec<String>)> {
    let team = Team::new(|program| {
        let slow = program.set("sim.step", SLOW).set("worker.slots", "1").set("worker.look_ahead", "4");
        change(slow)
    });
    let team = team.await?;
    // Before the worker begins: one that finds a backlog takes more than it can run.
    let jobs = team.publish_some(5).await;
    let worker = team.worker("leaver");
    worker.wait_jobs("running", |running| running == 1);
    worker.wait_jobs("queued", |queued| queued == 4);
    Some((team, worker, jobs))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_asked_to_stop_hands_back_what_waits_and_finishes_what_runs() {
    let Some((team, mut worker, jobs)) = busy(|program| program).await else { return };
    // Somebody else who takes what is handed back.
    let consumer = team.ground.consumer(&names::lane_consumer(Lane::Live)).await;
    let asked = Instant::now();
    worker.signal(Signal::SIGTERM);
    let mut batch = consumer.batch().max_messages(4).expires(LIMIT).messages().await.unwrap();
    let mut taken = Vec::new();
    while let Some(message) = batch.next().await {
        taken.push(message.unwrap());
    }
    let handover = asked.elapsed();
    worker.wait_health("/readyz", 503);
    let unready = asked.elapsed();
    assert_eq!(taken.len(), 4);
    assert_eq!(worker.wait_code(), 0);
    eprintln!(
        "drain: queued jobs elsewhere after {:.3} s, found not ready after {:.3} s, ended after {:.2} s",
        handover.as_secs_f64(),
        unready.as_secs_f64(),
        asked.elapsed().as_secs_f64()
    );
    assert_eq!(team.results().await.len(), 1, "what ran was finished");
    for message in taken {
        message.double_ack_with(AckKind::Nak(None)).await.unwrap();
    }
    let _heir = team.worker_with("heir", |program| program.set("sim.step", QUICK));
    let report = team.checker(jobs).await.wait(2 * LIMIT).await;
    assert_eq!(report.results.len(), 5, "{}", report.told());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_asked_twice_hands_everything_back_and_ends_with_130() {
    let Some((team, mut worker, jobs)) = busy(|program| program).await else { return };
    worker.signal(Signal::SIGTERM);
    worker.wait_line("draining");
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.wait_code(), 130);
    assert!(team.results().await.is_empty(), "it did not wait for what ran");
    let heir = team.worker_with("heir", |program| program.set("sim.step", QUICK));
    let report = team.checker(jobs).await.wait(2 * LIMIT).await;
    assert_eq!(report.results.len(), 5, "{}", report.told());
    assert!(!heir.log().contains("a suspect"), "being stopped is no crash");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_outlasts_the_grace_is_handed_back_unblamed() {
    let Some((team, mut worker, jobs)) = busy(|program| program.set("worker.grace", "200ms")).await else {
        return;
    };
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.wait_code(), 0);
    assert!(team.results().await.is_empty(), "the job takes longer than the grace");
    assert!(team.attempts().await.is_empty(), "its run ended, nothing speaks against it");
    let heir = team.worker_with("heir", |program| program.set("sim.step", QUICK));
    let report = team.checker(jobs).await.wait(2 * LIMIT).await;
    assert_eq!(report.results.len(), 5, "{}", report.told());
    assert!(!heir.log().contains("a suspect"), "being stopped is no crash");
}
