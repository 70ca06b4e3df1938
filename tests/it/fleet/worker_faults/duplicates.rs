//! The same job twice, older states of a restaurant, and whose turn it is.

use std::time::Duration;

use async_nats::HeaderMap;
use maitred::broker::names;
use maitred::result::Outcome;
use maitred::scheduler::Lane;

use super::team::{Team, job, job_of};
use crate::fleet::ground::until;

const LIMIT: Duration = Duration::from_mins(3);

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_published_again_has_one_result_inside_the_window_and_outside_it() {
    let Some(team) = Team::new(|program| program.set("sim.step", "100ms")).await else { return };
    // Inside: the server drops the second one.
    let first = team.publish(Lane::Live, &job(0)).await;
    assert_eq!(team.publish(Lane::Live, &job(0)).await, first);
    assert_eq!(team.ground.messages(names::JOBS_STREAM).await, 1);
    // Outside, the server has forgotten the id: another id stands for that. One comes while the job is held, ...
    let again = async |id: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(names::CONTENT_TYPE, names::JSON);
        headers.insert(names::MESSAGE_ID, id);
        team.publish_as(names::job_subject(Lane::Live, "r-0"), headers, job(0).to_string()).await;
    };
    again("second").await;
    assert_eq!(team.ground.messages(names::JOBS_STREAM).await, 2);
    let worker = team.worker("w-1");
    let checker = team.checker(["j-0".to_owned()]).await;
    checker.wait(LIMIT).await;
    // ... one when it is done, and one when another worker must find that out.
    again("third").await;
    until("the third is taken", async || {
        (team.lane(Lane::Live).await.delivered.stream_sequence == 3).then_some(())
    })
    .await;
    checker.wait(LIMIT).await;
    drop(worker);
    let _other = team.worker("w-2");
    again("fourth").await;
    until("the fourth is taken", async || {
        (team.lane(Lane::Live).await.delivered.stream_sequence == 4).then_some(())
    })
    .await;
    checker.wait(LIMIT).await;
    team.result("j-0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_three_queued_states_of_a_restaurant_only_the_newest_is_worked() {
    let Some(team) = Team::new(|program| {
        program.set("sim.step", "200ms").set("worker.slots", "1").set("worker.look_ahead", "8")
    })
    .await
    else {
        return;
    };
    // The worker has its hands full with the first nine, whichever of them it begins with. It takes the three when places
    // become free, and then others are before them: all three are known before the turn of any.
    let mut ids = Vec::new();
    for n in 0..9 {
        ids.push(format!("before-{n}"));
        team.publish(Lane::Live, &job_of(&ids[n], &format!("r-{n}"), "In week 0 the soup was hot.")).await;
    }
    for epoch in 1..=3_u64 {
        let mut job = job_of(&format!("e-{epoch}"), "r", &format!("In week {epoch} the soup was hot."));
        job["epoch"] = epoch.into();
        team.publish(Lane::Live, &job).await;
        ids.push(format!("e-{epoch}"));
    }
    let _worker = team.worker("w-1");
    team.checker(ids).await.wait(LIMIT).await;
    for (job, stale) in [("e-1", true), ("e-2", true), ("e-3", false)] {
        let outcome = team.result(job).await.result.outcome;
        assert_eq!(outcome == Outcome::Stale, stale, "{job}: {outcome:?}");
        assert!(stale || outcome.has_findings(), "{job}: {outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lanes_share_by_their_weights_and_what_they_leave_goes_to_the_backfill() {
    const EACH: usize = 24;
    let Some(team) = Team::new(|program| program.set("sim.step", "10ms")).await else { return };
    let mut jobs = Vec::new();
    for lane in [Lane::Backfill, Lane::Live, Lane::Hi] {
        for n in 0..EACH {
            let id = format!("{lane}-{n}");
            team.publish(lane, &job_of(&id, &id, &format!("Guest {n} says: the soup was hot."))).await;
            jobs.push(id);
        }
    }
    let _worker = team.worker("w-1");
    team.checker(jobs).await.wait(LIMIT).await;
    let order: Vec<String> = team.results().await.into_iter().map(|found| found.result.job_id).collect();
    let share = |lane: &str, among: &[String]| among.iter().filter(|id| id.starts_with(lane)).count();
    // Two rounds of 8 + 4 + 1, in all of which every lane has jobs.
    let first = &order[..26];
    let (hi, live, backfill) = (share("hi", first), share("live", first), share("backfill", first));
    eprintln!("of the first 26: hi {hi}, live {live}, backfill {backfill}; weights 8, 4, 1");
    assert!(order[0].starts_with("hi"), "{}", order[0]);
    assert!(hi > live && live > backfill && backfill > 0, "{hi} {live} {backfill}");
    // A pull takes up to four at a time, and up to four more of each lane are in hand.
    assert!(hi.abs_diff(16) <= 4 && live.abs_diff(8) <= 4 && backfill <= 6, "{hi} {live} {backfill}");
    let last = &order[order.len() - 12..];
    assert_eq!(share("backfill", last), 12, "at the end nobody else has jobs: {last:?}");
}
