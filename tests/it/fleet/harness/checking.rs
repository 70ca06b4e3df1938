//! The checker finds what is wrong, each kind of it.

use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{Context, stream};
use maitred::broker::names;
use maitred_testkit::{LIMIT, Nats, jetstream};
use serde_json::json;

use crate::common::fleet::Checker;

/// The streams, as far as the checker reads them.
async fn streams(nats: &Nats) -> Context {
    let context = jetstream(nats.connect().await);
    for (name, subjects) in [
        (names::JOBS_STREAM, names::JOBS_SUBJECTS),
        (names::RESULTS_STREAM, names::RESULTS_SUBJECTS),
        (names::DEAD_LETTERS_STREAM, names::DEAD_LETTERS_SUBJECTS),
    ] {
        let config = stream::Config {
            name: name.to_owned(),
            subjects: vec![subjects.to_owned()],
            ..Default::default()
        };
        context.create_stream(config).await.unwrap();
    }
    context
}

async fn publish(context: &Context, subject: &str, message: PublishMessage) {
    context.send_publish(subject.to_owned(), message).await.unwrap().await.unwrap();
}

async fn result(context: &Context, job: &str) {
    let body = rmp_serde::to_vec_named(&json!({"v": 1, "job_id": job, "outcome": "ok"})).unwrap();
    let message = PublishMessage::build().header(names::CONTENT_TYPE, names::MSGPACK).payload(body.into());
    publish(context, "results.analysis.r", message).await;
}

async fn dead(context: &Context, job: Option<&str>, sequence: u64) {
    let body = rmp_serde::to_vec_named(&json!({"v": 1, "job_id": job, "reason": {"code": "bad"}})).unwrap();
    let id = format!("dlq:{}:{sequence}", names::JOBS_STREAM);
    publish(context, "dlq.analysis.live.r", PublishMessage::build().message_id(id).payload(body.into()))
        .await;
}

fn jobs(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_result_or_one_dead_letter_for_each_job_is_well() {
    let Some(nats) = Nats::start() else { return };
    let context = streams(&nats).await;
    result(&context, "a").await;
    let body = json!({"job_id": "b"}).to_string();
    let in_json = PublishMessage::build().header(names::CONTENT_TYPE, names::JSON).payload(body.into());
    publish(&context, "results.analysis.r", in_json).await;
    dead(&context, Some("c"), 3).await;
    let report = Checker::new(&nats.url(), jobs(&["a", "b", "c"])).await.wait(LIMIT).await;
    assert_eq!((report.results.len(), report.dead.len()), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_names_what_is_missing_double_or_not_asked_for() {
    let Some(nats) = Nats::start() else { return };
    let context = streams(&nats).await;
    result(&context, "twice").await;
    result(&context, "twice").await;
    result(&context, "both").await;
    dead(&context, Some("both"), 1).await;
    result(&context, "stranger").await;
    publish(&context, "results.analysis.r", PublishMessage::build().payload("not msgpack".into())).await;
    let report = Checker::new(&nats.url(), jobs(&["both", "missing", "twice"])).await.look().await;
    let expected = [
        "ANALYSIS_RESULTS: message 5 cannot be read",
        "both: 1 results, 1 dead letters",
        "missing: 0 results, 0 dead letters",
        "twice: 2 results, 0 dead letters",
        "stranger: nobody asked for it",
    ];
    assert_eq!(report.problems, expected, "{}", report.told());
}

#[tokio::test(flavor = "multi_thread")]
async fn it_names_a_consumer_with_jobs_left() {
    let Some(nats) = Nats::start() else { return };
    let context = streams(&nats).await;
    let config = pull::Config { durable_name: Some("worker-live".to_owned()), ..Default::default() };
    let consumer = context.create_consumer_on_stream(config, names::JOBS_STREAM).await.unwrap();
    for n in 0..2 {
        let body = json!({"job_id": format!("j{n}")}).to_string();
        let message = PublishMessage::build().header(names::CONTENT_TYPE, names::JSON).payload(body.into());
        publish(&context, "jobs.analysis.live.r", message).await;
        result(&context, &format!("j{n}")).await;
    }
    let held = consumer.fetch().max_messages(1).messages().await.unwrap();
    let held: Vec<_> = futures_util::StreamExt::collect(held).await;
    assert_eq!(held.len(), 1);
    let report = Checker::of_all_jobs(&nats.url()).await.look().await;
    assert_eq!(report.problems, ["worker-live: 1 wait, 1 are not acknowledged"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_read_is_known_by_its_sequence() {
    let Some(nats) = Nats::start() else { return };
    let context = streams(&nats).await;
    publish(&context, "jobs.analysis.live.r", PublishMessage::build().payload("not msgpack".into())).await;
    dead(&context, None, 1).await;
    Checker::of_all_jobs(&nats.url()).await.wait(LIMIT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_counted_apart_from_the_first_run() {
    let Some(nats) = Nats::start() else { return };
    let context = streams(&nats).await;
    result(&context, "a").await;
    let checker = Checker::new(&nats.url(), jobs(&["a"])).await.and_replayed("b7", jobs(&["a"]));
    assert_eq!(checker.look().await.problems, ["a@b7: 0 results, 0 dead letters"]);
    let body = rmp_serde::to_vec_named(&json!({"job_id": "a"})).unwrap();
    let replayed = PublishMessage::build().header(names::BACKFILL, "b7").payload(body.into());
    publish(&context, "results.analysis.r", replayed).await;
    checker.wait(LIMIT).await;
}
