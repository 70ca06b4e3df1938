//! Few jobs among idle workers, and very many jobs.

use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use futures_util::StreamExt;
use maitred::broker::names;
use maitred::scheduler::Lane;
use maitred_testkit::wait_until;
use time::OffsetDateTime;

use super::team::{Member, Team, job_of};
use crate::fleet::ground::until;

/// All is well within this, or never: forty thousand writes to a disk that others use too.
const LIMIT: Duration = Duration::from_mins(10);

#[tokio::test(flavor = "multi_thread")]
async fn no_worker_idles_while_another_one_holds_queued_jobs() {
    let Some(team) = Team::new(|program| {
        program.set("sim.step", "600ms").set("worker.slots", "1").set("worker.look_ahead", "4")
    })
    .await
    else {
        return;
    };
    // The first one's jobs take so long that it still has them when the second is there, however late that is.
    let jobs = team.publish_some(5).await;
    let first = team.worker("first");
    first.wait_jobs("queued", |queued| queued == 4);
    let second = team.worker_with("second", |program| program.set("sim.step", "100ms"));
    let ready = OffsetDateTime::now_utc();
    let report = team.checker(jobs).await.wait(LIMIT).await;
    assert_eq!(report.results.len(), 5, "{}", report.told());
    let worked = second.settled();
    let first_job = worked.iter().map(|settled| settled.received - ready).min();
    eprintln!(
        "fairness: the second worker had a job {:.2} s after it was ready and worked {} of 5; {} handed back",
        first_job.expect("the second worker gets a job").as_seconds_f64(),
        worked.len(),
        first.jobs("handed_back"),
    );
    assert!(first.jobs("handed_back") >= 1);
    assert!(!first.settled().is_empty(), "and the first one keeps some");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_tiny_jobs_neither_fills_the_memory_nor_lets_a_lease_end() {
    let jobs = std::env::var("MAITRED_FLOOD_JOBS").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000_usize);
    let Some(team) = Team::new(|program| {
        program
            // Shorter than the flood by far, and longer than a disk that is busy with others stands still.
            .set("nats.ack_wait", "8s")
            .set("sim.step", "10us")
            .set("sim.token", "10ns")
            .set("worker.slots", "4")
            .set("worker.look_ahead", "4")
            // A line for each of ten thousand jobs would be most of the work.
            .set("log.level", "warn")
    })
    .await
    else {
        return;
    };
    team.program.run(&["init"]).ended(0);
    let info = |program: maitred_testkit::Maitred| program.set("log.level", "info");
    let workers = ["w-1", "w-2"].map(|name| team.worker_with(name, info));
    let begun = Instant::now();
    publish_flood(&team, jobs).await;
    let published = begun.elapsed();
    let done = async || team.ground.messages(names::RESULTS_STREAM).await as usize;
    wait_for(jobs / 5, &done).await;
    let early = workers.each_ref().map(resident_kib);
    wait_for(jobs, &done).await;
    let late = workers.each_ref().map(resident_kib);
    eprintln!(
        "flood: {jobs} jobs published in {:.1} s, worked in {:.1} s; KiB at a fifth {early:?}, at the end {late:?}",
        published.as_secs_f64(),
        begun.elapsed().as_secs_f64(),
    );
    for (early, late) in early.into_iter().zip(late) {
        assert!(late < early + early / 2, "{early} KiB became {late}");
    }
    let handed_back = || workers.iter().map(|worker| worker.jobs("handed_back")).sum::<u64>();
    // Every delivery is a job's first one, or follows a hand-back to a worker that had none.
    until("all is settled, and each delivery accounted for", async || {
        let lane = team.lane(Lane::Live).await;
        let well =
            lane.num_ack_pending == 0 && lane.delivered.consumer_sequence == jobs as u64 + handed_back();
        well.then_some(())
    })
    .await;
    assert_eq!(done().await, jobs, "one result each");
    assert_eq!(team.ground.messages(names::DEAD_LETTERS_STREAM).await, 0);
    wait_until("no marks are left", || workers.iter().all(|worker| worker.jobs("held") == 0));
}

/// Publishes jobs of one review each, many at a time.
async fn publish_flood(team: &Team, jobs: usize) {
    let publish = |n: usize| async move {
        let mut job = job_of(&format!("f-{n}"), &format!("r-{n}"), "Good.");
        job["analyses"] = serde_json::json!(["sentiment"]);
        let mut headers = HeaderMap::new();
        headers.insert(names::CONTENT_TYPE, names::JSON);
        team.publish_as(names::job_subject(Lane::Live, &format!("r-{n}")), headers, job.to_string()).await
    };
    futures_util::stream::iter(0..jobs).map(publish).buffer_unordered(64).count().await;
}

async fn wait_for(count: usize, done: &impl AsyncFn() -> usize) {
    let begun = Instant::now();
    let mut beat = tokio::time::interval(Duration::from_millis(200));
    while done().await < count {
        beat.tick().await;
        assert!(begun.elapsed() < LIMIT, "{} of {count} after {LIMIT:?}", done().await);
    }
}

/// Memory that the process has in use.
fn resident_kib(worker: &Member) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", worker.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
