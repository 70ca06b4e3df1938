//! Workers that live, and `maitred status`, over a real server.

use std::collections::BTreeMap;

use maitred::broker::backfill::Bound;
use maitred::broker::names;
use maitred::broker::nats::{Backfills, DeadLetters, Order, Presence};
use maitred::broker::presence::{Home, Worker};
use maitred::broker::wire::{DeadLetter, Reason};
use maitred::scheduler::Lane;
use maitred_testkit::{Nats, NatsConfig};
use serde_json::json;
use time::OffsetDateTime;

use crate::fleet::ground::{Ground, maitred, until};

fn worker(name: &str) -> Worker {
    Worker { slots: 2, running: 1, ..Worker::new(name, OffsetDateTime::now_utc()) }
}

async fn names_of(presence: &Presence) -> Vec<String> {
    presence.live_workers().await.unwrap().into_iter().map(|worker| worker.name).collect()
}

#[tokio::test]
async fn a_worker_that_writes_its_record_lives_and_one_that_ends_does_not() {
    let Some(ground) = Ground::new().await else { return };
    let presence = Presence::new(&ground.broker);
    assert!(presence.live_workers().await.unwrap().is_empty());
    let mut second = worker("w-2");
    second.stores.redis = Home::Down;
    presence.put(&second).await.unwrap();
    presence.put(&worker("w-1")).await.unwrap();
    second.draining = true;
    presence.put(&second).await.unwrap();
    let live = presence.live_workers().await.unwrap();
    assert_eq!(live.len(), 2);
    assert_eq!(live[1], second, "the last that it said of itself");
    presence.remove("w-2").await.unwrap();
    assert_eq!(names_of(&presence).await, ["w-1"]);
    presence.put(&worker("w-2")).await.unwrap();
    assert_eq!(names_of(&presence).await, ["w-1", "w-2"], "it may come back");
}

#[tokio::test]
async fn a_worker_that_falls_silent_fades_out() {
    let Some(ground) = Ground::new().await else { return };
    let presence = Presence::new(&ground.broker);
    presence.put(&worker("silent")).await.unwrap();
    presence.put(&worker("loud")).await.unwrap();
    let faded = until("the silent one's end", async || {
        presence.put(&worker("loud")).await.unwrap();
        Some(names_of(&presence).await).filter(|names| *names == ["loud"])
    });
    faded.await;
}

#[tokio::test]
async fn a_record_that_nobody_can_read_hides_no_other() {
    let Some(ground) = Ground::new().await else { return };
    let presence = Presence::new(&ground.broker);
    let bucket = ground.context.get_key_value(names::WORKERS_BUCKET).await.unwrap();
    bucket.put("a-bad-one", "not json".into()).await.unwrap();
    presence.put(&worker("w-1")).await.unwrap();
    assert_eq!(names_of(&presence).await, ["w-1"]);
}

#[tokio::test]
async fn the_status_of_a_busy_fleet_has_its_figures() {
    let Some(ground) = Ground::new().await else { return };
    for n in 0..5 {
        ground.submit(Lane::Live, &format!("r-{n}")).await;
    }
    ground.submit(Lane::Hi, "urgent").await;
    let held = ground.pull(&names::lane_consumer(Lane::Live)).await;
    ground.pull(&names::lane_consumer(Lane::Live)).await.double_ack().await.unwrap();
    Presence::new(&ground.broker).put(&worker("kitchen-1")).await.unwrap();
    let order =
        Order { id: Some("b".into()), from: Bound::Sequence(1), to: None, rate: None, analyses: None };
    Backfills::new(&ground.broker)
        .start(order, &ground.settings.nats, OffsetDateTime::now_utc())
        .await
        .unwrap();
    DeadLetters::new(&ground.broker).put(&letter()).await.unwrap();

    let status = ground.maitred(&["status", "--json"]).json();
    assert!(status["server"]["version"].as_str().unwrap().starts_with("2."));
    assert_eq!(status["streams"][0]["name"], "REVIEW_JOBS");
    assert_eq!(
        (&status["streams"][0]["messages"], &status["streams"][0]["last_sequence"]),
        (&json!(6), &json!(6))
    );
    assert_eq!((&status["lanes"][0]["lane"], &status["lanes"][0]["pending"]), (&json!("hi"), &json!(1)));
    let live = &status["lanes"][1];
    assert_eq!((&live["pending"], &live["in_flight"]), (&json!(3), &json!(1)));
    assert_eq!(live["oldest"]["sequence"], held.info().unwrap().stream_sequence);
    assert_eq!(status["workers"][0]["name"], "kitchen-1");
    assert_eq!(status["backfills"][0]["progress"]["total"], 6);
    assert_eq!(status["dead_letters"], 1);
    assert_eq!(status["alarms"], json!([]));

    let table = ground.maitred(&["status"]).well();
    for shown in ["REVIEW_JOBS", "kitchen-1", "1 dead letter:", "1 worker"] {
        assert!(table.contains(shown), "{shown}: {table}");
    }
}

#[tokio::test]
async fn jobs_that_nobody_works_are_an_alarm() {
    let Some(ground) = Ground::new().await else { return };
    ground.submit(Lane::Backfill, "r").await;
    let status = ground.maitred(&["status", "--json"]).json();
    assert_eq!(status["alarms"], json!([{ "alarm": "unattended", "pending": 1 }]));
    let table = ground.maitred(&["status"]).well();
    assert!(table.contains("no workers\n") && table.contains("alarm: jobs wait (1)"), "{table}");
}

#[test]
fn without_a_topology_the_commands_say_what_to_run() {
    let Some(nats) = Nats::start_with(&NatsConfig::default()) else { return };
    for command in
        [&["status"][..], &["dlq", "ls"], &["backfill", "status"], &["backfill", "start", "--from", "1"]]
    {
        let ran = maitred(&nats.url(), command);
        assert_eq!(ran.code, Some(1), "{command:?}");
        assert!(ran.stderr.contains("run `maitred init`"), "{command:?}: {}", ran.stderr);
    }
}

#[test]
fn without_a_server_the_commands_say_where_they_looked() {
    let Some(mut nats) = Nats::start() else { return };
    nats.kill();
    for command in [&["status"][..], &["dlq", "ls"], &["backfill", "status"]] {
        let ran = maitred(&nats.url(), command);
        assert_eq!(ran.code, Some(1), "{command:?}");
        assert!(ran.stderr.contains(&nats.port().to_string()), "{}", ran.stderr);
        assert!(ran.stderr.contains("nats.url"), "{}", ran.stderr);
    }
}

fn letter() -> DeadLetter {
    DeadLetter {
        v: 1,
        job_id: None,
        restaurant_id: None,
        lane: Lane::Live,
        stream: names::JOBS_STREAM.to_owned(),
        sequence: 1,
        subject: names::job_subject(Lane::Live, "r"),
        consumer: names::lane_consumer(Lane::Live),
        delivered: 1,
        failures: 0,
        reason: Reason { code: "malformed".to_owned(), message: "not a job".to_owned() },
        worker: "w".to_owned(),
        traceparent: None,
        backfill: None,
        at: OffsetDateTime::now_utc(),
        headers: BTreeMap::new(),
        payload: Vec::new(),
    }
}
