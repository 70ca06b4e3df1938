//! `maitred submit`, `results` and `cancel` over a real server, with a stand-in for the worker.

use std::time::Duration;

use maitred::broker::names;
use maitred::broker::nats::{
    Broker, CancelReply, CancelRequest, Cancelled, Ending, Endings, Held, PayloadError, Results, Since,
    Wanted,
};
use maitred::broker::wire::{DeadLetter, Encoding, Reason, Refusal, codes, encode_job};
use maitred::job::{Job, Limits, WIRE_VERSION};
use maitred::result::Outcome;
use maitred::scheduler::Lane;
use maitred::telemetry::TraceContext;
use maitred_testkit::{LIMIT, NatsConfig, Ran};
use nix::sys::signal::Signal;
use serde_json::Value;
use time::OffsetDateTime;

use crate::fleet::standin::{Fleet, answer};

const PATIENCE: Duration = Duration::from_secs(2);
const LIMITS: Limits =
    Limits { reviews_per_job: 10_000, chars_per_review: 20_000, bytes_per_job: 64 << 20, bytes_per_id: 128 };

/// The objects that a command printed.
fn objects(ran: &Ran) -> Vec<Value> {
    ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn trace() -> TraceContext {
    TraceContext::root(&mut fastrand::Rng::new())
}

/// Work of the broker is spawned: what it awaits must be able to move between threads.
#[expect(dead_code, reason = "the compiler is the test")]
fn whatever_the_broker_does_can_be_spawned(
    broker: &Broker,
    job: &Job,
    endings: &mut Endings,
    results: &mut Results,
) {
    fn spawned<F: Future + Send>(_: F) {}
    spawned(broker.submit(job, Lane::Live, trace()));
    spawned(broker.with_reviews(job.clone(), &LIMITS));
    spawned(async { broker.publish_result(&answer(job), Encoding::Json, trace(), None).await });
    spawned(broker.cancel("j", None, &LIMITS, PATIENCE));
    spawned(broker.endings(Since::At(OffsetDateTime::UNIX_EPOCH)));
    spawned(broker.results(Wanted::default()));
    spawned(endings.next());
    spawned(results.next());
}

#[test]
fn a_file_that_is_submitted_twice_is_stored_once() {
    let Some(fleet) = Fleet::start() else { return };
    let file = fleet.restaurants(&["a", "b", "c"]);
    let first = fleet.program.run(&["submit", &file]).ended(0);
    assert_eq!(first.stdout, "3 jobs published\n");
    let second = fleet.program.run(&["submit", &file]).ended(0);
    assert_eq!(second.stdout, "0 jobs published, 3 duplicates that the queue had already\n");
    let newer = fleet.program.run(&["submit", &file, "--epoch", "2", "--json"]).ended(0);
    assert_eq!(objects(&newer)[0]["submitted"]["published"], 3);
}

#[test]
fn a_line_that_cannot_be_used_is_named_and_the_others_are_published() {
    let Some(fleet) = Fleet::start() else { return };
    let file = fleet.restaurants(&["good", "a/b", "fine"]);
    let ran = fleet.program.run(&["submit", &file]).ended(1);
    ran.told(&["line 2", "restaurant id `a/b`"]);
    assert_eq!(ran.stdout, "2 jobs published, 1 refused\n");
    fleet.program.run(&["submit", "nowhere.jsonl"]).ended(2).told(&["cannot open `nowhere.jsonl`"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_while_a_file_is_submitted_has_each_job_once_in_the_end() {
    let Some(mut fleet) = Fleet::start() else { return };
    let ids: Vec<String> = (0..3000).map(|n| format!("r{n}")).collect();
    let file = fleet.restaurants(&ids.iter().map(String::as_str).collect::<Vec<_>>());
    let (_, context) = fleet.plain_client().await;
    let stored = async || context.get_stream(names::JOBS_STREAM).await.unwrap().cached_info().state.messages;
    let mut submitting = fleet.program.start("submitting", &["submit", &file, "--json"]);
    while stored().await < 100 {
        assert!(submitting.is_running(), "{}", submitting.log());
    }
    fleet.nats.kill();
    fleet.nats.restart();
    assert_eq!(submitting.wait_code(), 0, "{}", submitting.log());
    let told: Value = serde_json::from_str(&submitting.stdout()).unwrap();
    let count = |what: &str| told["submitted"][what].as_u64().unwrap();
    // What was stored when its PubAck was lost is told as a duplicate.
    assert_eq!(count("published") + count("duplicates"), 3000);
    assert_eq!(stored().await, 3000);
}

#[test]
fn a_dry_run_needs_no_server_and_publishes_nothing() {
    let Some(mut fleet) = Fleet::start() else { return };
    let file = fleet.restaurants(&["a", "b"]);
    fleet.nats.kill();
    let ran = fleet.program.run(&["submit", &file, "--dry-run", "--lane", "hi", "--json"]).ended(0);
    let told = objects(&ran);
    assert_eq!(told[0]["job"]["subject"], "jobs.analysis.hi.a");
    assert_eq!(told[0]["job"]["reviews"], 2);
    assert_eq!(told[2]["submitted"]["would_publish"], 2);
}

#[test]
fn without_streams_it_says_to_run_init() {
    let Some(fleet) = Fleet::bare(&NatsConfig::default()) else { return };
    let file = fleet.restaurants(&["a"]);
    for args in [&["submit", &file][..], &["submit", &file, "--wait"], &["results"], &["cancel", "j"]] {
        fleet.program.run(args).ended(1).told(&["missing", "maitred init"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_ends_with_the_last_result_and_duplicates_are_waited_for_too() {
    let Some(fleet) = Fleet::start() else { return };
    let file = fleet.restaurants(&["a", "b"]);
    let stand_in = fleet.stand_in().await;
    let mut waiting = fleet.program.start("waiting", &["submit", &file, "--wait", "--json"]);
    stand_in.work(2).await;
    assert_eq!(waiting.wait_code(), 0, "{}", waiting.log());
    let printed = waiting.stdout();
    assert_eq!(printed.matches("\"result\":{").count(), 2, "{printed}");
    assert!(
        printed.ends_with("{\"ended\":{\"dead_letters\":0,\"results\":{\"no_data\":2},\"waiting\":0}}\n"),
        "{printed}"
    );
    // All are duplicates, and have their results: nothing is left to wait for.
    let again = fleet.program.run(&["submit", &file, "--wait"]).ended(0);
    assert!(again.stdout.contains("2 duplicates"), "{}", again.stdout);
    assert!(again.stdout.contains("2 results, 2 no data"), "{}", again.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_ends_the_wait_for_its_job_and_is_a_failure() {
    let Some(fleet) = Fleet::start() else { return };
    let file = fleet.restaurants(&["a"]);
    let stand_in = fleet.stand_in().await;
    let mut waiting = fleet.program.start("waiting", &["submit", &file, "--wait"]);
    let taken = stand_in.take().await;
    let info = taken.message.info().unwrap();
    let letter = DeadLetter {
        v: WIRE_VERSION,
        job_id: None,
        restaurant_id: Some("a".into()),
        lane: Lane::Live,
        stream: names::JOBS_STREAM.into(),
        sequence: info.stream_sequence,
        subject: taken.message.subject.to_string(),
        consumer: info.consumer.to_owned(),
        delivered: 1,
        failures: 1,
        reason: Reason { code: codes::MALFORMED.into(), message: "a test".into() },
        worker: "stand-in".into(),
        traceparent: None,
        backfill: None,
        at: OffsetDateTime::now_utc(),
        headers: std::collections::BTreeMap::new(),
        payload: taken.message.payload.to_vec(),
    };
    let (_, context) = fleet.plain_client().await;
    let subject = names::dead_letter_subject(Lane::Live, Some("a"));
    context.publish(subject, letter.encode().unwrap().into()).await.unwrap().await.unwrap();
    assert_eq!(waiting.wait_code(), 1, "{}", waiting.log());
    assert!(waiting.stdout().contains("malformed: a test"), "{}", waiting.stdout());
}

#[test]
fn an_interrupt_ends_the_wait_and_leaves_the_jobs() {
    let Some(fleet) = Fleet::start() else { return };
    let file = fleet.restaurants(&["a"]);
    let mut waiting = fleet.program.start("waiting", &["submit", &file, "--wait"]);
    waiting.wait_printed("1 job published");
    waiting.signal(Signal::SIGINT);
    assert_eq!(waiting.wait_code(), 130);
    assert!(waiting.stdout().contains("1 not ended yet"), "{}", waiting.stdout());
    let again = fleet.program.run(&["submit", &file]).ended(0);
    assert!(again.stdout.contains("1 duplicate"), "{}", again.stdout);
}

/// A server whose messages have 64 KiB, and a job of more.
fn large() -> Option<(Fleet, Job)> {
    let fleet = Fleet::start_with(&NatsConfig { max_payload: Some(64 << 10), ..NatsConfig::default() })?;
    let text = "The soup was good. ".repeat(100);
    let reviews = (0..100).map(|n| serde_json::json!({"id": n.to_string(), "text": text}));
    let job = serde_json::json!({
        "v": 1, "job_id": "large", "restaurant_id": "r", "analyses": ["summary"], "reviews": reviews.collect::<Vec<_>>(),
    });
    Some((fleet, serde_json::from_value(job).unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
async fn reviews_that_fit_into_no_message_are_an_object_that_is_written_once() {
    let Some((fleet, job)) = large() else { return };
    let (broker, stand_in) = (fleet.broker().await, fleet.stand_in().await);
    assert!(!broker.submit(&job, Lane::Live, trace()).await.unwrap().duplicate);
    let decoded = stand_in.take().await.decoded;
    assert!(decoded.job.reviews.is_empty());
    let reference = decoded.job.reviews_ref.clone().unwrap();
    assert_eq!((reference.reviews, &reference.object), (100, &reference.sha256));
    let whole = broker.with_reviews(decoded.job, &LIMITS).await.unwrap();
    assert_eq!(whole, job);
    // Again: the server has both.
    let (_, context) = fleet.plain_client().await;
    let written = async || {
        let mut stream = context.get_stream(format!("OBJ_{}", names::OBJECTS_BUCKET)).await.unwrap();
        stream.info().await.unwrap().state.last_sequence
    };
    let before = written().await;
    assert!(broker.submit(&job, Lane::Live, trace()).await.unwrap().duplicate);
    assert_eq!(written().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn reviews_that_are_not_there_or_not_the_ones_meant_are_told_apart() {
    let Some((fleet, job)) = large() else { return };
    let (broker, stand_in) = (fleet.broker().await, fleet.stand_in().await);
    broker.submit(&job, Lane::Live, trace()).await.unwrap();
    let referring = stand_in.take().await.decoded.job;
    let with = |change: &dyn Fn(&mut maitred::job::ReviewsRef)| {
        let mut job = referring.clone();
        change(job.reviews_ref.as_mut().unwrap());
        job
    };
    let limits = Limits::default();
    let missing = broker.with_reviews(with(&|it| it.object = "nowhere".into()), &limits).await.unwrap_err();
    assert!(matches!(missing, PayloadError::Missing(_)), "{missing}");
    assert_eq!(missing.reason().0, codes::REVIEWS_MISSING);
    for change in [
        (&|it: &mut maitred::job::ReviewsRef| it.sha256 = "0".repeat(64))
            as &dyn Fn(&mut maitred::job::ReviewsRef),
        &|it| it.reviews += 1,
    ] {
        let error = broker.with_reviews(with(change), &limits).await.unwrap_err();
        assert!(matches!(error, PayloadError::Refused(Refusal::Permanent { .. })), "{error}");
        assert_eq!(error.reason().0, codes::REVIEWS_MISMATCH);
    }
    let small = Limits { bytes_per_job: 1000, ..Limits::default() };
    let error = broker.with_reviews(referring.clone(), &small).await.unwrap_err();
    assert_eq!(error.reason().0, codes::TOO_LARGE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_fits_into_no_message_is_read_like_any_other() {
    let Some((fleet, job)) = large() else { return };
    let broker = fleet.broker().await;
    let message = "all of it ".repeat(20_000);
    let result = maitred::result::AnalysisResult { outcome: Outcome::Partial { message }, ..answer(&job) };
    let since = broker.now().await.unwrap();
    let stored = broker.publish_result(&result, Encoding::Json, trace(), None).await.unwrap();
    let again = broker.publish_result(&result, Encoding::Json, trace(), None).await.unwrap();
    assert!(!stored.duplicate && again.duplicate);
    assert_eq!(broker.latest_result("r").await.unwrap().unwrap().result, result);
    assert!(broker.latest_result("other").await.unwrap().is_none());
    let Ending::Result(found) = broker.endings(since).await.unwrap().next().await.unwrap().unwrap() else {
        panic!("a dead letter");
    };
    assert_eq!(found.result, result);
    let shown = fleet.program.run(&["results", "--format", "jsonl"]).ended(0);
    assert_eq!(objects(&shown)[0]["job_id"], "large");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_latest_result_of_each_restaurant_is_shown_and_then_each_new_one() {
    let Some(fleet) = Fleet::start() else { return };
    let broker = fleet.broker().await;
    let publish = async |restaurant: &str, job: &str| {
        let job: Job = serde_json::from_value(serde_json::json!({
            "v": 1, "job_id": job, "restaurant_id": restaurant, "analyses": ["summary"],
        }))
        .unwrap();
        broker.publish_result(&answer(&job), Encoding::Msgpack, trace(), None).await.unwrap();
    };
    fleet.program.run(&["results"]).ended(0).told(&["there are no results"]);
    for (restaurant, job) in [("a", "a-1"), ("b", "b-1"), ("a", "a-2"), ("c", "c-1")] {
        publish(restaurant, job).await;
    }
    let shown = |args: &[&str]| {
        let ran = fleet.program.run(&[&["results", "--format", "jsonl"], args].concat()).ended(0);
        objects(&ran).iter().map(|result| result["job_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(shown(&[]), ["b-1", "a-2", "c-1"]);
    assert_eq!(shown(&["--limit", "2"]), ["a-2", "c-1"]);
    assert_eq!(shown(&["--restaurant", "a"]), ["a-2"]);
    fleet.program.run(&["results", "--restaurant", "d"]).ended(1).told(&["no results of restaurant `d`"]);
    fleet.program.run(&["results", "--restaurant", "*"]).ended(2);
    let mut following =
        fleet.program.start("following", &["results", "--follow", "--format", "jsonl", "--limit", "1"]);
    following.wait_printed("c-1");
    publish("b", "b-2").await;
    following.wait_printed("b-2");
    following.signal(Signal::SIGINT);
    assert_eq!(following.wait_code(), 0);
    assert_eq!(following.stdout().lines().count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_leaves_the_queue_and_ends_with_a_result() {
    let Some(fleet) = Fleet::start() else { return };
    let file = fleet.restaurants(&["a", "b"]);
    fleet.program.run(&["submit", &file]).ended(0);
    let dry = objects(&fleet.program.run(&["submit", &file, "--dry-run", "--json"]).ended(0));
    let id = dry[0]["job"]["job_id"].as_str().unwrap();
    let ran = fleet.program.run(&["cancel", id]).ended(0);
    assert_eq!(ran.stdout, "cancelled: taken out of the queue (lane live, sequence 1)\n");
    let shown = objects(&fleet.program.run(&["results", "--format", "jsonl"]).ended(0));
    assert_eq!(
        (&shown[0]["job_id"], &shown[0]["outcome"]["code"]),
        (&dry[0]["job"]["job_id"], &"cancelled".into())
    );
    // The other one is still there, and nothing else.
    let stand_in = fleet.stand_in().await;
    let taken = stand_in.take().await;
    assert_eq!(taken.decoded.job.restaurant_id, "b");
    assert_eq!(taken.message.info().unwrap().pending, 0);
    stand_in.finish(&taken).await;
    let ran = fleet.program.run(&["cancel", id, "--restaurant", "a"]).ended(1);
    assert!(ran.stdout.starts_with("not found: "), "{}", ran.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_a_silent_worker_holds_gets_one_result_whoever_is_first() {
    let Some(fleet) = Fleet::start() else { return };
    let (broker, stand_in) = (fleet.broker().await, fleet.stand_in().await);
    let file = fleet.restaurants(&["a", "b"]);
    fleet.program.run(&["submit", &file]).ended(0);
    let (first, second) = (stand_in.take().await, stand_in.take().await);
    let id = |taken: &crate::fleet::standin::Taken| taken.decoded.job.job_id.clone();
    // The wish first: the worker's result is dropped, and its ack still settles the deleted message.
    let became = broker.cancel(&id(&first), None, &LIMITS, PATIENCE).await.unwrap();
    assert_eq!(became, Cancelled::InQueue { lane: Lane::Live, sequence: 1 });
    assert!(stand_in.finish(&first).await.duplicate);
    // The worker first: its result stands.
    let published =
        broker.publish_result(&answer(&second.decoded.job), Encoding::Msgpack, trace(), None).await.unwrap();
    assert!(!published.duplicate);
    let became = broker.cancel(&id(&second), Some("b"), &LIMITS, PATIENCE).await.unwrap();
    assert_eq!(became, Cancelled::HasResult);
    assert!(stand_in.finish(&second).await.duplicate);
    let mut results = broker.results(Wanted::default()).await.unwrap();
    let mut found = Vec::new();
    while let Some(result) = results.next().await {
        found.push(result.unwrap().result.outcome.status());
    }
    assert_eq!(found, ["failed", "no_data"]);
    let (_, context) = fleet.plain_client().await;
    let stream = context.get_stream(names::JOBS_STREAM).await.unwrap();
    let about = stream.consumer_info(names::lane_consumer(Lane::Live)).await.unwrap();
    assert_eq!((about.num_ack_pending, about.num_pending), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_a_dead_worker_held_leaves_nothing_behind_when_it_is_cancelled() {
    let Some(fleet) = Fleet::bare(&NatsConfig::default()) else { return };
    fleet.program.clone().set("nats.ack_wait", "1s").run(&["init"]).ended(0);
    let (broker, stand_in) = (fleet.broker().await, fleet.stand_in().await);
    fleet.program.run(&["submit", &fleet.restaurants(&["a"])]).ended(0);
    let held = stand_in.take().await;
    let id = &held.decoded.job.job_id;
    let became = broker.cancel(id, None, &LIMITS, PATIENCE).await.unwrap();
    assert_eq!(became, Cancelled::InQueue { lane: Lane::Live, sequence: 1 });
    let (_, context) = fleet.plain_client().await;
    let stream = context.get_stream(names::JOBS_STREAM).await.unwrap();
    // The lease runs out, and there is nothing to deliver again.
    let mut beat = tokio::time::interval(Duration::from_millis(100));
    let start = std::time::Instant::now();
    while stream.consumer_info(names::lane_consumer(Lane::Live)).await.unwrap().num_ack_pending > 0 {
        assert!(start.elapsed() < LIMIT, "it is still waited for");
        beat.tick().await;
    }
    // In the queue there is only what comes now.
    fleet.program.run(&["submit", &fleet.restaurants(&["b"])]).ended(0);
    assert_eq!(stand_in.take().await.decoded.job.restaurant_id, "b");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_worker_that_holds_a_job_is_asked_first() {
    use futures_util::StreamExt;
    let Some(fleet) = Fleet::start() else { return };
    let (client, _) = fleet.plain_client().await;
    let mut wishes = client.subscribe(format!("{}.*", names::CANCEL_PREFIX)).await.unwrap();
    client.flush().await.unwrap();
    let worker = tokio::spawn(async move {
        let wish = wishes.next().await.unwrap();
        assert_eq!(wish.subject.as_str(), names::cancel_subject("held"));
        let request: CancelRequest = serde_json::from_slice(&wish.payload).unwrap();
        assert_eq!(request.job_id, "held");
        let reply = serde_json::to_vec(&CancelReply { state: Held::Running }).unwrap();
        assert_eq!(reply, br#"{"state":"running"}"#);
        client.publish(wish.reply.unwrap(), reply.into()).await.unwrap();
        client.flush().await.unwrap();
        // And is silent from now on.
        wishes
    });
    let ran = fleet.program.run(&["cancel", "held", "--patience", "60"]).ended(0);
    assert!(ran.stdout.starts_with("cancelling: a worker is running it"), "{}", ran.stdout);
    let _silent = worker.await.unwrap();
    let ran = fleet.program.run(&["cancel", "unknown", "--patience", "1"]).ended(1);
    assert!(ran.stdout.starts_with("not found: "), "{}", ran.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn endings_go_on_over_a_restart_of_the_server() {
    let Some(mut fleet) = Fleet::start() else { return };
    let broker = fleet.broker().await;
    let job = |id: &str| -> Job {
        serde_json::from_value(serde_json::json!({
            "v": 1, "job_id": id, "restaurant_id": "r", "analyses": ["summary"],
        }))
        .unwrap()
    };
    assert!(!encode_job(&job("x"), Encoding::Json).unwrap().is_empty());
    broker.publish_result(&answer(&job("before")), Encoding::Msgpack, trace(), None).await.unwrap();
    let since = broker.now().await.unwrap();
    assert_eq!(since, Since::Behind { results: 1, dead_letters: 0 });
    let mut endings = broker.endings(since).await.unwrap();
    fleet.nats.kill();
    fleet.nats.restart();
    let other = fleet.broker().await;
    other.publish_result(&answer(&job("after")), Encoding::Msgpack, trace(), None).await.unwrap();
    let found = loop {
        match endings.next().await.unwrap() {
            Ok(Ending::Result(found)) => break found,
            // What is told of the gap is an item of its own.
            Ok(_) => panic!("a dead letter"),
            Err(_) => {}
        }
    };
    assert_eq!(found.result.job_id, "after");
}
