//! What each of the four users may do, and that they may do no more.

use std::time::Duration;

use async_nats::jetstream::object_store::ObjectStore;
use async_nats::jetstream::{self, consumer};
use futures_util::StreamExt;
use maitred::broker::backfill::Bound;
use maitred::broker::nats::{Backfills, Broker, Order};
use maitred::broker::topology::Topology;
use maitred_testkit::{LIMIT, Maitred, Nats, http_get, jetstream, wait_until};
use serde_json::Value;
use time::OffsetDateTime;
use tokio::io::AsyncReadExt;

use super::{url_as, with_users};
use crate::common::fleet::{Workload, maitred};
use crate::fleet::topology::settings;

/// A plain client of one of the users.
async fn plain(nats: &Nats, user: &str) -> jetstream::Context {
    let options = async_nats::ConnectOptions::with_user_and_password(user.to_owned(), format!("{user}pw"))
        .custom_inbox_prefix(format!("_INBOX.{user}"));
    let client = options.connect(nats.address()).await.unwrap();
    jetstream(client)
}

async fn put(store: &ObjectStore, name: &str, mut bytes: &[u8]) {
    store.put(name, &mut bytes).await.unwrap();
}

async fn get(store: &ObjectStore, name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    store.get(name).await.unwrap().read_to_end(&mut bytes).await.unwrap();
    bytes
}

async fn publish(context: &jetstream::Context, subject: &'static str) {
    context.publish(subject, "a message".into()).await.unwrap().await.unwrap();
}

/// Whether the server refuses every one of these to a user, by its own word.
async fn refuses(nats: &Nats, user: &jetstream::Context, subjects: &[&'static str]) {
    let client = user.client();
    for subject in subjects {
        client.publish(*subject, "{}".into()).await.unwrap();
    }
    client.flush().await.unwrap();
    for subject in subjects {
        let refused = format!("Publish Violation - Subject \"{subject}\"");
        wait_until(&refused, || nats.log().contains(&refused));
    }
}

/// A server with users on which the operator has run `maitred init`.
fn made() -> Option<Nats> {
    let nats = with_users(None)?;
    let maitred = maitred(nats.folder()).set("nats.url", url_as(&nats, "operator"));
    maitred.run(&["init"]).ended(0);
    Some(nats)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_submits_and_reads_results_and_nothing_else() {
    let Some(nats) = made() else { return };
    let producer = plain(&nats, "producer").await;
    publish(&producer, "jobs.analysis.live.r").await;
    let bucket = producer.get_object_store("maitred_payloads").await.unwrap();
    put(&bucket, "reviews", &vec![7; 300_000]).await;
    put(&bucket, "reviews", &vec![8; 300_000]).await;
    assert_eq!(get(&bucket, "reviews").await, vec![8; 300_000]);

    let worker = plain(&nats, "worker").await;
    publish(&worker, "results.analysis.r").await;
    let results = producer.get_stream("ANALYSIS_RESULTS").await.unwrap();
    assert_eq!(results.get_last_raw_message_by_subject("results.analysis.r").await.unwrap().sequence, 1);
    let followed = results
        .create_consumer(consumer::pull::OrderedConfig {
            filter_subject: "results.analysis.>".to_owned(),
            ..Default::default()
        })
        .await
        .unwrap();
    let first = followed.messages().await.unwrap().next().await.unwrap().unwrap();
    assert_eq!(first.subject.as_str(), "results.analysis.r");

    let forbidden = [
        "results.analysis.r",
        "dlq.analysis.live.r",
        "ctl.cancel.token",
        "$KV.maitred_backfills.x",
        "$JS.API.CONSUMER.INFO.REVIEW_JOBS.worker-live",
        "$JS.API.CONSUMER.MSG.NEXT.REVIEW_JOBS.worker-live",
        "$JS.API.CONSUMER.CREATE.REVIEW_JOBS",
        "$JS.API.CONSUMER.CREATE.REVIEW_JOBS.mine.jobs.analysis.live.r",
        "$JS.ACK.REVIEW_JOBS.worker-live.1.1.1.1.1",
        "$JS.API.STREAM.DELETE.REVIEW_JOBS",
        "$JS.API.STREAM.PURGE.ANALYSIS_RESULTS",
        "$JS.API.STREAM.MSG.DELETE.REVIEW_JOBS",
    ];
    refuses(&nats, &producer, &forbidden).await;
    let operator = plain(&nats, "operator").await;
    assert_eq!(operator.get_stream("REVIEW_JOBS").await.unwrap().cached_info().state.messages, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_does_its_work_and_cannot_change_the_streams_or_submit() {
    let Some(nats) = made() else { return };
    let producer = plain(&nats, "producer").await;
    publish(&producer, "jobs.analysis.hi.r").await;
    let as_worker = settings(&url_as(&nats, "worker"));
    let broker = Broker::connect(&as_worker, "test").await.unwrap();
    broker.verify(&Topology::desired(&as_worker)).await.unwrap();
    broker.round_trip().await.unwrap();

    let worker = plain(&nats, "worker").await;
    let lane: consumer::PullConsumer =
        worker.get_consumer_from_stream("worker-hi", "REVIEW_JOBS").await.unwrap();
    let job = lane.fetch().max_messages(1).messages().await.unwrap().next().await.unwrap().unwrap();
    job.ack_with(jetstream::AckKind::Progress).await.unwrap();
    publish(&worker, "results.analysis.r").await;
    publish(&worker, "dlq.analysis.hi.r").await;
    job.double_ack().await.unwrap();
    let jobs = worker.get_stream("REVIEW_JOBS").await.unwrap();
    jobs.direct_get(1).await.unwrap();
    jobs.get_raw_message(1).await.unwrap();

    for name in ["maitred_workers", "maitred_attempts", "maitred_backfills"] {
        let bucket = worker.get_key_value(name).await.unwrap();
        bucket.create("key", "1".into()).await.unwrap();
        bucket.put("key", "2".into()).await.unwrap();
        assert_eq!(bucket.get("key").await.unwrap().as_deref(), Some(b"2".as_slice()));
        assert_eq!(bucket.keys().await.unwrap().count().await, 1);
        let mut watch = bucket.watch_with_history(">").await.unwrap();
        assert_eq!(watch.next().await.unwrap().unwrap().key, "key");
        bucket.purge("key").await.unwrap();
    }
    let bucket = worker.get_object_store("maitred_payloads").await.unwrap();
    put(&bucket, "body", b"large").await;
    assert_eq!(get(&bucket, "body").await, b"large");
    bucket.delete("body").await.unwrap();
    let sweeper: consumer::PullConsumer =
        worker.get_consumer_from_stream("sweeper", "ANALYSIS_ADVISORIES").await.unwrap();
    assert_eq!(sweeper.fetch().max_messages(1).messages().await.unwrap().count().await, 0);

    let forbidden = [
        "jobs.analysis.hi.r",
        "ctl.cancel.token",
        "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.REVIEW_JOBS.worker-hi",
        "$JS.API.STREAM.CREATE.MINE",
        "$JS.API.STREAM.UPDATE.REVIEW_JOBS",
        "$JS.API.STREAM.DELETE.REVIEW_JOBS",
        "$JS.API.STREAM.PURGE.REVIEW_JOBS",
        "$JS.API.STREAM.PURGE.ANALYSIS_RESULTS",
        "$JS.API.STREAM.MSG.DELETE.REVIEW_JOBS",
        "$JS.API.CONSUMER.CREATE.REVIEW_JOBS",
        "$JS.API.CONSUMER.CREATE.REVIEW_JOBS.worker-hi.jobs.analysis.hi.>",
        "$JS.API.CONSUMER.DURABLE.CREATE.REVIEW_JOBS.mine",
        "$JS.API.CONSUMER.DELETE.REVIEW_JOBS.worker-hi",
        "$JS.API.CONSUMER.DELETE.ANALYSIS_ADVISORIES.sweeper",
    ];
    refuses(&nats, &worker, &forbidden).await;
    let operator = plain(&nats, "operator").await;
    assert_eq!(operator.get_stream("REVIEW_JOBS").await.unwrap().cached_info().state.messages, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_ends_a_backfill_and_hears_and_answers_who_cancels_a_job() {
    let Some(nats) = made() else { return };
    let (operator, worker) = (plain(&nats, "operator").await, plain(&nats, "worker").await);
    let config = consumer::pull::Config {
        durable_name: Some("backfill-1".to_owned()),
        filter_subject: "jobs.analysis.>".to_owned(),
        ..Default::default()
    };
    operator.create_consumer_on_stream(config, "REVIEW_JOBS").await.unwrap();
    worker
        .get_consumer_from_stream::<consumer::pull::Config, _, _>("backfill-1", "REVIEW_JOBS")
        .await
        .unwrap();
    worker.delete_consumer_from_stream("backfill-1", "REVIEW_JOBS").await.unwrap();

    let mut heard = worker.client().subscribe("ctl.cancel.*").await.unwrap();
    worker.query_account().await.unwrap(); // A round trip: the subscription is in place.
    let answer = async {
        let asked = heard.next().await.unwrap();
        worker.client().publish(asked.reply.unwrap(), "dropped".into()).await.unwrap();
    };
    let client = operator.client();
    let (told, ()) = tokio::join!(client.request("ctl.cancel.token", "".into()), answer);
    assert_eq!(told.unwrap().payload, "dropped");
}

/// The program itself under these permissions: whatever it asks of the server, nothing of it is refused.
#[tokio::test(flavor = "multi_thread")]
async fn the_fleet_does_its_work_as_four_users_and_nothing_is_refused() {
    // So small that the largest job and the dead letter go into the bucket.
    let Some(nats) = with_users(Some(140_000)) else { return };
    let as_user = |user: &str| {
        let maitred = maitred(nats.folder()).set("nats.url", url_as(&nats, user));
        maitred
            .set("engine.backend", "sim")
            .set("sim.step", "1us")
            .set("sim.token", "1ns")
            .set("health.listen", "none")
    };
    as_user("operator").run(&["init"]).ended(0);
    let mut worker = as_user("worker").worker("w-1");
    let file = nats.folder().join("jobs.jsonl");
    let sizes = std::cell::RefCell::new([1500, 1, 2, 3, 4, 5].into_iter());
    let workload = Workload::with(7, 6, move |_| sizes.borrow_mut().next().unwrap_or(1));
    workload.write(&file);
    let producer = as_user("producer");
    producer.run(&["submit", "--wait", file.to_str().unwrap()]).ended(0);
    // Known already: their results are looked up.
    producer.run(&["submit", "--wait", file.to_str().unwrap()]).ended(0);
    let results = producer.run(&["results", "--format", "jsonl"]).ended(0);
    assert_eq!(results.stdout.lines().count(), 6);

    let operator = plain(&nats, "operator").await;
    operator.publish("jobs.analysis.hi.r", vec![b'?'; 139_000].into()).await.unwrap().await.unwrap();
    let count = async |stream: &str| operator.get_stream(stream).await.unwrap().cached_info().state.messages;
    let all = async {
        let settings = settings(&url_as(&nats, "operator"));
        let backfills = Backfills::new(&Broker::connect(&settings, "test").await.unwrap());
        let order = Order {
            id: Some("again".to_owned()),
            from: Bound::Sequence(1),
            to: None,
            rate: None,
            analyses: None,
        };
        backfills.start(order, &settings, OffsetDateTime::now_utc()).await.unwrap();
        while count("ANALYSIS_RESULTS").await < 12 || count("ANALYSIS_DLQ").await < 2 {}
        // As an operator does; the worker may have ended it by then, which is no error.
        let as_worker = Broker::connect(&self::settings(&url_as(&nats, "worker")), "test").await.unwrap();
        Backfills::new(&as_worker).stop("again", OffsetDateTime::now_utc()).await.unwrap();
    };
    tokio::time::timeout(LIMIT, all).await.unwrap();
    as_user("operator").run(&["cancel", "unknown", "--patience", "1"]).ended(1);
    look_around(&as_user("viewer"));
    let objects = operator.get_stream("OBJ_maitred_payloads").await.unwrap();
    assert!(objects.cached_info().state.messages > 0);
    worker.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(worker.wait_code(), 0);
    let log = nats.log();
    let refused: Vec<&str> = log.lines().filter(|line| line.contains("Violation")).collect();
    assert_eq!(refused, [""; 0]);
}

/// Asks the status and every path of the page that shows something.
fn look_around(viewer: &Maitred) {
    viewer.run(&["status"]).ended(0);
    let mut page = viewer.start("ui", &["ui", "--listen", "127.0.0.1:0"]);
    let url = page.wait_printed("http://");
    let port = url.trim_end_matches('/').rsplit(':').next().unwrap().parse().unwrap();
    let json = |path: &str| -> Option<Value> {
        let (status, body) = http_get(port, path).ok()?;
        (status == 200).then(|| serde_json::from_str(&body).unwrap())
    };
    let shown = |path: &str, at: &str| json(path)?.pointer(at)?.as_array().cloned();
    let some = |path: &str, at: &str| {
        wait_until(path, || shown(path, at).is_some_and(|all| !all.is_empty()));
        shown(path, at).unwrap().remove(0)
    };
    // The largest result lies in the bucket, and so does the dead letter.
    let restaurants = || shown("/api/restaurants", "/restaurants").unwrap_or_default();
    wait_until("all restaurants", || restaurants().len() == 6);
    for restaurant in restaurants() {
        let path = format!("/api/restaurants/{}", restaurant["restaurant_id"].as_str().unwrap());
        assert!(json(&path).is_some(), "{path}");
    }
    let letter = some("/api/state", "/dead_letters");
    assert!(json(&format!("/api/dead-letters/{}", letter["sequence"])).is_some());
    some("/api/state", "/status/workers");
    assert!(json("/api/backlog").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_can_take_change_and_delete_nothing() {
    let Some(nats) = made() else { return };
    let viewer = plain(&nats, "viewer").await;
    let forbidden = [
        "jobs.analysis.hi.r",
        "results.analysis.r",
        "dlq.analysis.live.r",
        "ctl.cancel.token",
        "$KV.maitred_backfills.x",
        "$KV.maitred_workers.x",
        "$O.maitred_payloads.M.x",
        "$JS.API.CONSUMER.MSG.NEXT.REVIEW_JOBS.worker-live",
        "$JS.API.CONSUMER.CREATE.REVIEW_JOBS",
        "$JS.API.CONSUMER.DELETE.REVIEW_JOBS.worker-live",
        "$JS.ACK.REVIEW_JOBS.worker-live.1.1.1.1.1",
        "$JS.API.STREAM.MSG.DELETE.ANALYSIS_DLQ",
        "$JS.API.STREAM.PURGE.ANALYSIS_RESULTS",
        "$JS.API.STREAM.PURGE.OBJ_maitred_payloads",
        "$JS.API.STREAM.UPDATE.REVIEW_JOBS",
    ];
    refuses(&nats, &viewer, &forbidden).await;
    // And sees what waits, with since when.
    publish(&plain(&nats, "producer").await, "jobs.analysis.live.r").await;
    let as_viewer = maitred(nats.folder()).set("nats.url", url_as(&nats, "viewer"));
    let told = as_viewer.run(&["status", "--json"]).ended(0).stdout;
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(
        (&told["lanes"][1]["pending"], &told["lanes"][1]["oldest"]["sequence"]),
        (&1.into(), &1.into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_reads_the_replies_of_others() {
    let Some(nats) = with_users(None) else { return };
    let worker = plain(&nats, "worker").await.client();
    let operator = plain(&nats, "operator").await.client();
    let mut others = worker.subscribe("_INBOX.operator.>").await.unwrap();
    let mut own = worker.subscribe("_INBOX.worker.test").await.unwrap();
    worker.flush().await.unwrap();
    // Until the own subscription is in place, and so the other one refused.
    let heard = async {
        loop {
            operator.publish("_INBOX.operator.test", "secret".into()).await.unwrap();
            operator.publish("_INBOX.worker.test", "mine".into()).await.unwrap();
            if tokio::time::timeout(Duration::from_millis(100), own.next()).await.is_ok() {
                return;
            }
        }
    };
    tokio::time::timeout(LIMIT, heard).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(200), others.next()).await.is_err());
}
