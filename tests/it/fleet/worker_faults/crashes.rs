//! Workers that die, stand still or hang, with jobs in their hands.

use std::time::{Duration, Instant};

use maitred::broker::names;
use maitred::scheduler::Lane;
use maitred_testkit::Maitred;
use nix::sys::signal::Signal;
use rstest::rstest;
use time::OffsetDateTime;

use super::team::{ACK_WAIT, Member, Team, job_of, long_job};
use crate::common::fleet::Checker;
use crate::fleet::ground::until;

/// All is well within this, or never.
const LIMIT: Duration = Duration::from_mins(3);

/// The code of a process that aborted.
const ABORTED: i32 = -6;

#[rstest]
#[case::received("received")]
#[case::started("started")]
#[case::published("published")]
#[case::recorded("recorded")]
#[case::draining("draining")]
#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_a_worker_that_dies_are_worked_once_elsewhere_and_are_not_blamed(#[case] stage: &str) {
    const JOBS: usize = 8;
    let Some(team) = Team::new(|program| program.set("sim.step", "10ms")).await else { return };
    // Who is to be asked to stop in mid-job has jobs of seconds.
    let step = if stage == "draining" { "100ms" } else { "10ms" };
    let victim = |program: Maitred| program.set("sim.crash_at", stage).set("sim.step", step);
    let mut victim = team.worker_with("victim", victim);
    let jobs = team.publish_some(JOBS).await;
    if stage == "draining" {
        victim.wait_jobs("running", |running| running == 2);
        victim.signal(Signal::SIGTERM);
    }
    assert_eq!(victim.wait_code(), ABORTED);
    let marks = team.attempts().await;
    assert!(marks.len() <= 2 && marks.iter().all(|mark| mark.running), "only what ran is marked: {marks:?}");
    // As many slots as jobs: what it is given it can start.
    let heir = team.worker_with("heir", |program| program.set("worker.slots", "8"));
    let ready = OffsetDateTime::now_utc();
    let report = team.checker(jobs).await.wait(LIMIT).await;
    assert_eq!(report.results.len(), JOBS, "{}", report.told());
    until("the marks are gone", async || team.attempts().await.is_empty().then_some(())).await;
    // What is remembered of failures would be in the bucket, and those that were never begun are no suspects.
    let log = heir.log();
    assert!(!log.contains("failed for a passing reason"));
    assert!(log.matches("a suspect: runs alone").count() <= marks.len());
    if stage != "draining" {
        let again = heir.settled().into_iter().filter(|settled| settled.delivered > 1);
        let last = again.map(|settled| settled.received - ready).max().expect("redelivered jobs");
        eprintln!("{stage}: elsewhere {:.2} s after the heir, ack_wait {ACK_WAIT:?}", last.as_seconds_f64());
        assert!(last < 3 * ACK_WAIT + Duration::from_secs(30), "{last}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stood_still_acks_late_and_takes_no_job_from_its_new_holder() {
    const JOBS: usize = 4;
    // Jobs of many seconds at their new holders, which must have them in hand when the sleeper wakes. Fewer at the
    // sleeper, whose acks so come late but before theirs; what is asserted holds in the other order too.
    let Some(team) = Team::new(|program| program.set("sim.step", "400ms")).await else { return };
    for n in 0..JOBS {
        team.publish(Lane::Live, &long_job(n, 60)).await;
    }
    let jobs: Vec<String> = (0..JOBS).map(|n| format!("j-{n}")).collect();
    let mut sleeper = team.worker_with("sleeper", |program| program.set("sim.step", "100ms"));
    sleeper.wait_jobs("held", |held| held == 4);
    sleeper.wait_jobs("running", |running| running == 2);
    sleeper.stop();
    let stopped = Instant::now();
    // One job for each and no queue: nobody has anything to hand to the sleeper when that is idle.
    let single = |program: Maitred| program.set("worker.slots", "1").set("worker.look_ahead", "0");
    let mut heirs: [Member; JOBS] = std::array::from_fn(|n| team.start_with(&format!("heir-{n}"), single));
    heirs.iter_mut().for_each(Member::wait_ready);
    until("all four are lent again", async || {
        (team.lane(Lane::Live).await.delivered.consumer_sequence == 8).then_some(())
    })
    .await;
    until("two ack waits have passed", async || (stopped.elapsed() >= 2 * ACK_WAIT).then_some(())).await;
    assert!(team.results().await.is_empty(), "the jobs must be in other hands when it wakes");
    sleeper.cont();
    let report = team.checker(jobs).await.wait(LIMIT).await;
    assert_eq!(report.results.len(), JOBS, "{}", report.told());
    // A late ack ends a job that its new holder still runs; that one finds so at its end.
    until("the new holders have finished too", async || {
        heirs.iter().all(|heir| heir.settled().len() == 1).then_some(())
    })
    .await;
    sleeper.signal(Signal::SIGTERM);
    assert_eq!(sleeper.wait_code(), 0);
    assert_eq!(sleeper.settled().len(), 2, "what ran when it was stopped was finished there as well");
    let info = team.lane(Lane::Live).await;
    assert_eq!(info.delivered.consumer_sequence, 8, "nothing was handed back after the pause");
    assert_eq!((info.num_ack_pending, info.num_redelivered), (0, 0));
    assert_eq!(team.results().await.len(), JOBS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_hangs_every_engine_ends_as_poison_and_its_neighbours_survive() {
    const NEIGHBOURS: usize = 6;
    let Some(team) = Team::new(|program| {
        program
            .set("sim.hang_byte", b'~'.to_string())
            .set("engine.step_limit", "6s")
            .set("worker.stall_timeout", "2s")
    })
    .await
    else {
        return;
    };
    let mut workers = ["w-1", "w-2"].map(|name| team.worker(name));
    let mut jobs = team.publish_some(NEIGHBOURS).await;
    team.publish(Lane::Live, &job_of("bad", "r-bad", "The soup was ~ hot.")).await;
    jobs.push("bad".to_owned());
    let (ends, unready) = nurse(&team.checker(jobs).await, &mut workers, 1).await;
    eprintln!("hang: {ends} workers ended, {unready} times found not ready");
    assert!(unready > 0, "a worker whose engine hangs is not ready");
    assert_only_poison(&team, NEIGHBOURS).await;
    // At first beside others, then three times alone.
    assert!((3..=4).contains(&ends), "{ends}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_kills_its_worker_ends_as_poison_and_its_sixteen_neighbours_survive() {
    const NEIGHBOURS: usize = 16;
    let Some(team) = Team::new(|program| {
        program
            .set("sim.abort_byte", b'~'.to_string())
            .set("sim.step", "20ms")
            .set("worker.slots", "4")
            .set("worker.look_ahead", "13")
    })
    .await
    else {
        return;
    };
    let bad = job_of("bad", "r-bad", "The soup was ~ hot.");
    let mut jobs = team.publish_some(2).await;
    team.publish(Lane::Live, &bad).await;
    for n in 2..NEIGHBOURS {
        team.publish(Lane::Live, &super::team::job(n)).await;
        jobs.push(format!("j-{n}"));
    }
    jobs.push("bad".to_owned());
    let mut workers = [team.worker("w-1")];
    let (ends, _) = nurse(&team.checker(jobs).await, &mut workers, ABORTED).await;
    eprintln!("poison: the worker died {ends} times");
    assert_only_poison(&team, NEIGHBOURS).await;
    assert!((3..=4).contains(&ends), "{ends}");
}

/// Starts workers again that have ended, which they must with this code, until all jobs have ended. Tells how many
/// did, and how often one was found that said it was not ready because of its engine.
async fn nurse(checker: &Checker, workers: &mut [Member], code: i32) -> (usize, usize) {
    let begun = Instant::now();
    let (mut ends, mut unready) = (0, 0);
    loop {
        for worker in &mut *workers {
            if worker.is_running() {
                let health = worker.health("/readyz");
                unready +=
                    usize::from(health.is_some_and(|(code, why)| code == 503 && why.contains("engine")));
            } else {
                assert_eq!(worker.wait_code(), code);
                ends += 1;
                // Not waited for: the other one may be unready meanwhile.
                worker.restart();
            }
        }
        let report = checker.look().await;
        if report.problems.is_empty() {
            return (ends, unready);
        }
        assert!(begun.elapsed() < LIMIT, "{ends} ended\n{}", report.told());
    }
}

/// The bad job is the only dead letter, after as many runs alone as the settings say.
async fn assert_only_poison(team: &Team, neighbours: usize) {
    let letters = team.dead_letters().await;
    assert_eq!(letters.len(), 1, "{letters:?}");
    let letter = &letters[0];
    assert_eq!((letter.job_id.as_deref(), letter.reason.code.as_str()), (Some("bad"), "poison"));
    assert!(letter.reason.message.starts_with("3 workers"), "{}", letter.reason.message);
    assert_eq!(letter.consumer, names::lane_consumer(Lane::Live));
    let results = team.results().await;
    assert_eq!(results.len(), neighbours);
    for published in results {
        let outcome = &published.result.outcome;
        assert!(outcome.has_findings(), "{}: {outcome:?}", published.result.job_id);
    }
}
