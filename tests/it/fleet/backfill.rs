//! Backfills over a real server: ranges, ends, and how workers follow them.

use std::time::Duration;

use futures_util::StreamExt;
use maitred::broker::backfill::{Backfill, Bound, State};
use maitred::broker::names;
use maitred::broker::nats::{Backfills, BackfillsError, Order};
use maitred::scheduler::Lane;
use maitred_testkit::LIMIT;
use serde_json::json;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::fleet::ground::{Ground, until};

fn order(id: &str, from: Bound, to: Option<Bound>) -> Order {
    Order { id: Some(id.to_owned()), from, to, rate: None, analyses: None }
}

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

async fn start(ground: &Ground, order: Order) -> Result<Backfill, BackfillsError> {
    Backfills::new(&ground.broker).start(order, &ground.settings.nats, now()).await
}

/// When a job was published.
async fn published(ground: &Ground, sequence: u64) -> OffsetDateTime {
    let jobs = ground.context.get_stream(names::JOBS_STREAM).await.unwrap();
    jobs.direct_get(sequence).await.unwrap().time
}

/// Takes as many jobs as there are now, and acks them; their sequences.
async fn work(ground: &Ground, backfill: &Backfill) -> Vec<u64> {
    let consumer = ground.consumer(&backfill.consumer()).await;
    let mut batch = consumer.fetch().max_messages(64).messages().await.unwrap();
    let mut worked = Vec::new();
    while let Some(job) = batch.next().await {
        let job = job.unwrap();
        worked.push(job.info().unwrap().stream_sequence);
        job.double_ack().await.unwrap();
    }
    worked
}

#[tokio::test]
async fn old_jobs_are_delivered_again_beside_the_live_ones_and_the_end_is_found() {
    let Some(ground) = Ground::new().await else { return };
    for n in 1..=6 {
        ground.submit([Lane::Live, Lane::Hi][n % 2], &format!("r-{n}")).await;
    }
    for _ in 0..3 {
        ground.pull(&names::lane_consumer(Lane::Live)).await.double_ack().await.unwrap();
    }
    let backfills = Backfills::new(&ground.broker);
    let made = start(&ground, order("b", Bound::Sequence(2), None)).await.unwrap();
    assert_eq!((made.from, made.to, made.state), (2, 6, State::Running));
    ground.submit(Lane::Live, "newer").await;
    assert!(!backfills.finish(&made, now()).await.unwrap());
    let worked = work(&ground, &made).await;
    assert_eq!(worked, [2, 3, 4, 5, 6, 7]);
    assert!(worked[..5].iter().all(|sequence| made.covers(*sequence)) && !made.covers(7));

    assert!(backfills.finish(&made, now()).await.unwrap());
    assert_eq!(backfills.get("b").await.unwrap().state, State::Done);
    assert_eq!(backfills.position(&made).await.unwrap(), None, "its consumer is deleted");
    assert!(backfills.finish(&made, now()).await.unwrap(), "another worker may find the same");
    // The live lane has not noticed.
    let live = ground.consumer(&names::lane_consumer(Lane::Live)).await;
    assert_eq!(live.cached_info().num_pending, 1);
}

#[tokio::test]
async fn a_worker_that_tends_backfills_ends_those_that_are_over_and_no_other() {
    let Some(ground) = Ground::new().await else { return };
    ground.submit(Lane::Live, "r").await;
    let over = start(&ground, order("over", Bound::Sequence(1), None)).await.unwrap();
    start(&ground, order("waits", Bound::Sequence(1), None)).await.unwrap();
    let stop = CancellationToken::new();
    let mut running = Backfills::watch(&ground.broker, stop.clone());
    let backfills = Backfills::new(&ground.broker);
    let (token, known) = (stop.clone(), running.clone());
    let tending = tokio::spawn(async move { backfills.tend(known, token).await });
    work(&ground, &over).await;
    wait_for(&mut running, &["waits"]).await;
    let backfills = Backfills::new(&ground.broker);
    assert_eq!(backfills.get("over").await.unwrap().state, State::Done);
    stop.cancel();
    tending.await.unwrap();
    assert!(backfills.get("waits").await.unwrap().is_running());
}

#[tokio::test]
async fn a_range_by_time_holds_the_jobs_of_that_time() {
    let Some(ground) = Ground::new().await else { return };
    for n in 1..=9 {
        ground.submit(Lane::Live, &format!("r-{n}")).await;
    }
    let (third, sixth) = (published(&ground, 3).await, published(&ground, 6).await);
    let range = start(&ground, order("b", Bound::Time(third), Some(Bound::Time(sixth)))).await.unwrap();
    assert_eq!((range.from, range.to), (3, 6));
    let late = sixth + time::Duration::NANOSECOND;
    let range = start(&ground, order("later", Bound::Time(late), None)).await.unwrap();
    assert_eq!((range.from, range.to), (7, 9));
}

#[tokio::test]
async fn a_range_begins_at_a_job_that_is_still_there() {
    let Some(ground) = Ground::new().await else { return };
    for n in 1..=6 {
        ground.submit(Lane::Live, &format!("r-{n}")).await;
    }
    let jobs = ground.context.get_stream(names::JOBS_STREAM).await.unwrap();
    for gone in [1, 3, 4] {
        jobs.delete_message(gone).await.unwrap();
    }
    let range = start(&ground, order("b", Bound::Sequence(0), None)).await.unwrap();
    assert_eq!((range.from, range.to), (2, 6));
    let range = start(&ground, order("c", Bound::Sequence(3), Some(Bound::Sequence(99)))).await.unwrap();
    assert_eq!((range.from, range.to), (5, 6));
}

#[tokio::test]
async fn a_range_without_jobs_is_refused_and_leaves_nothing() {
    let Some(ground) = Ground::new().await else { return };
    let refused = start(&ground, order("b", Bound::Sequence(1), None)).await.unwrap_err();
    assert!(matches!(refused, BackfillsError::Empty { .. }), "{refused}");
    ground.submit(Lane::Live, "r").await;
    let hour = time::Duration::HOUR;
    for (from, to) in [
        (Bound::Sequence(2), None),
        (Bound::Time(now() + hour), None),
        (Bound::Time(now() - hour), Some(Bound::Time(now() - hour))),
        (Bound::Sequence(1), Some(Bound::Sequence(0))),
    ] {
        let refused = start(&ground, order("b", from, to)).await.unwrap_err();
        assert!(matches!(refused, BackfillsError::Empty { .. }), "{from:?} {to:?}: {refused}");
    }
    assert!(Backfills::new(&ground.broker).list().await.unwrap().is_empty());
}

#[tokio::test]
async fn an_id_is_used_once_whatever_became_of_it() {
    let Some(ground) = Ground::new().await else { return };
    ground.submit(Lane::Live, "r").await;
    let backfills = Backfills::new(&ground.broker);
    start(&ground, order("b", Bound::Sequence(1), None)).await.unwrap();
    let stopped = backfills.stop("b", now()).await.unwrap();
    assert_eq!(stopped.state, State::Stopped);
    let refused = start(&ground, order("b", Bound::Sequence(1), None)).await.unwrap_err();
    assert!(matches!(refused, BackfillsError::Taken { state: State::Stopped, .. }), "{refused}");
    // What has ended stays as it ended.
    assert_eq!(backfills.stop("b", now()).await.unwrap(), stopped);
    assert!(matches!(backfills.stop("other", now()).await, Err(BackfillsError::Unknown(_))));
    assert!(matches!(backfills.stop("no.id", now()).await, Err(BackfillsError::Unknown(_))));
}

#[tokio::test]
async fn of_those_that_end_a_backfill_at_the_same_time_one_wins() {
    let Some(ground) = Ground::new().await else { return };
    ground.submit(Lane::Live, "r").await;
    let made = start(&ground, order("b", Bound::Sequence(1), None)).await.unwrap();
    work(&ground, &made).await;
    let backfills = Backfills::new(&ground.broker);
    let ends = futures_util::future::join_all((0..8).map(|n| {
        let (backfills, made) = (&backfills, &made);
        async move {
            let later = now() + time::Duration::seconds(n);
            if n % 2 == 0 {
                assert!(backfills.finish(made, later).await.unwrap());
            } else {
                backfills.stop("b", later).await.unwrap();
            }
        }
    }));
    ends.await;
    let ended = backfills.get("b").await.unwrap();
    assert!(!ended.is_running());
    assert_eq!(ended.done, 1, "stopped or done, its job was worked");
}

#[tokio::test]
async fn a_worker_follows_what_starts_and_ends_through_a_restart_of_the_server() {
    let Some(mut ground) = Ground::new().await else { return };
    ground.submit(Lane::Live, "r").await;
    let stop = CancellationToken::new();
    let mut running = Backfills::watch(&ground.broker, stop.clone());
    let backfills = Backfills::new(&ground.broker);
    start(&ground, order("a", Bound::Sequence(1), None)).await.unwrap();
    start(&ground, order("b", Bound::Sequence(1), None)).await.unwrap();
    wait_for(&mut running, &["a", "b"]).await;
    backfills.stop("a", now()).await.unwrap();
    wait_for(&mut running, &["b"]).await;
    ground.nats.kill();
    ground.nats.restart();
    until("the server", async || backfills.list().await.ok()).await;
    assert_eq!(ids(&running.borrow()), ["b"], "what was known stands meanwhile");
    start(&ground, order("c", Bound::Sequence(1), None)).await.unwrap();
    wait_for(&mut running, &["b", "c"]).await;
    // Somebody who joins later sees the same.
    wait_for(&mut Backfills::watch(&ground.broker, stop.clone()), &["b", "c"]).await;
    stop.cancel();
    let ended = async { while running.changed().await.is_ok() {} };
    tokio::time::timeout(LIMIT, ended).await.expect("the watch ends when it is told to");
}

#[tokio::test]
async fn a_watch_waits_for_its_bucket() {
    let Some(ground) = Ground::new().await else { return };
    ground.submit(Lane::Live, "r").await;
    ground.context.delete_key_value(names::BACKFILLS_BUCKET).await.unwrap();
    let mut running = Backfills::watch(&ground.broker, CancellationToken::new());
    let again = maitred::broker::topology::Topology::desired(&ground.settings.nats);
    ground.broker.init(&again).await.unwrap();
    start(&ground, order("a", Bound::Sequence(1), None)).await.unwrap();
    wait_for(&mut running, &["a"]).await;
}

#[tokio::test]
async fn the_program_starts_shows_and_stops_one() {
    let Some(ground) = Ground::new().await else { return };
    let empty = ground.maitred(&["backfill", "start", "--from", "14d"]);
    assert_eq!(empty.code, Some(1));
    assert!(empty.stderr.contains("no job to work again"), "{}", empty.stderr);
    for n in 1..=4 {
        ground.submit(Lane::Live, &format!("r-{n}")).await;
    }
    let arguments = [
        "backfill",
        "start",
        "--from",
        "1h",
        "--rate",
        "30/min",
        "--analyses",
        "summary,sentiment",
        "--id",
        "b",
    ];
    let told = ground.maitred(&arguments).well();
    assert!(told.starts_with("backfill b works the jobs 1 to 4 again\n"), "{told}");
    let made = Backfills::new(&ground.broker).get("b").await.unwrap();
    assert_eq!(made.rate, Some(0.5));
    let consumer = ground.consumer("backfill-b").await;
    assert_eq!(consumer.cached_info().config.inactive_threshold, Duration::from_hours(7 * 24));

    let shown = ground.maitred(&["backfill", "status", "--json"]).json();
    assert_eq!(shown[0]["backfill"]["analyses"], json!(["sentiment", "summary"]));
    assert_eq!((&shown[0]["progress"]["done"], &shown[0]["progress"]["total"]), (&json!(0), &json!(4)));
    let told = ground.maitred(&["backfill", "stop", "b"]).well();
    assert_eq!(told, "backfill b is stopped: 0 of 4 done; jobs that run are finished\n");
    let shown = ground.maitred(&["backfill", "status", "b"]).well();
    assert!(shown.contains("stopped"), "{shown}");
    let unknown = ground.maitred(&["backfill", "status", "x"]);
    assert_eq!(unknown.code, Some(1));
    assert_eq!(ground.maitred(&["backfill", "start", "--from", "yesterday"]).code, Some(2));
}

fn ids(running: &[Backfill]) -> Vec<&str> {
    running.iter().map(|backfill| backfill.id.as_str()).collect()
}

async fn wait_for(running: &mut watch::Receiver<Vec<Backfill>>, wanted: &[&str]) {
    let so = running.wait_for(|now| ids(now) == wanted);
    tokio::time::timeout(LIMIT, so)
        .await
        .unwrap_or_else(|_| panic!("waited in vain for {wanted:?}"))
        .unwrap();
}
