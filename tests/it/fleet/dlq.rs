//! Dead letters over a real server: what is written, listed, replayed and dropped, and what the server gives up.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::jetstream::AckKind;
use async_nats::jetstream::consumer::{Consumer, pull};
use futures_util::StreamExt;
use futures_util::future::try_join_all;
use maitred::broker::dead_letter::Filter;
use maitred::broker::names;
use maitred::broker::nats::{DeadLetterError, DeadLetters, Sweeper, Swept, Written};
use maitred::broker::wire::{DeadLetter, Reason};
use maitred::job::Limits;
use maitred::scheduler::Lane;
use maitred_testkit::NatsConfig;
use time::OffsetDateTime;

use crate::fleet::ground::{Ground, until};

/// Bytes that are no job and no text, and that a careless codec would change.
const BAD: &[u8] = b"\xff\xfe{\0\r\n\x80 not a job";

/// Bytes that just fit into a message of 64 KiB, but not with what a letter has beside them.
const LARGE: usize = (64 << 10) - 256;

fn letter(sequence: u64, restaurant: &str, code: &str, payload: &[u8]) -> DeadLetter {
    DeadLetter {
        v: 1,
        job_id: Some(format!("j-{restaurant}")),
        restaurant_id: Some(restaurant.to_owned()),
        lane: Lane::Live,
        stream: names::JOBS_STREAM.to_owned(),
        sequence,
        subject: names::job_subject(Lane::Live, restaurant),
        consumer: names::lane_consumer(Lane::Live),
        delivered: 1,
        failures: 0,
        reason: Reason { code: code.to_owned(), message: "the body is not a job".to_owned() },
        worker: "w-1".to_owned(),
        traceparent: None,
        backfill: None,
        at: OffsetDateTime::now_utc(),
        headers: BTreeMap::from([
            ("X-Own".to_owned(), vec!["a".to_owned(), "b".to_owned()]),
            ("Nats-Msg-Id".to_owned(), vec!["first".to_owned()]),
        ]),
        payload: payload.to_vec(),
    }
}

async fn listed(letters: &DeadLetters) -> Vec<u64> {
    let all = letters.list(&Filter::default(), usize::MAX).await.unwrap();
    all.iter().map(|letter| letter.sequence).collect()
}

#[tokio::test]
async fn a_letter_that_is_written_twice_is_kept_once_and_another_backfills_is_another() {
    let Some(ground) = Ground::new().await else { return };
    let letters = DeadLetters::new(&ground.broker);
    let put = async || letters.put(&letter(5, "r", "malformed", BAD)).await.unwrap();
    assert_eq!((put().await, put().await), (Written::Stored, Written::Before(1)));
    assert_eq!(listed(&letters).await, [1]);
    let replayed = DeadLetter { backfill: Some("b".into()), ..letter(5, "r", "malformed", BAD) };
    letters.put(&replayed).await.unwrap();
    assert_eq!(letters.count().await.unwrap(), 2);
    assert_eq!(letters.get(2).await.unwrap().backfill.as_deref(), Some("b"));
}

#[tokio::test]
async fn a_replay_publishes_the_same_bytes_and_headers_where_the_job_was_first() {
    let Some(ground) = Ground::new().await else { return };
    let letters = DeadLetters::new(&ground.broker);
    letters.put(&letter(5, "가게-1", "malformed", BAD)).await.unwrap();
    let replayed = letters.replay(1).await.unwrap();
    assert!(!replayed.repeated);
    let job = ground.pull(&names::lane_consumer(Lane::Live)).await;
    assert_eq!((job.subject.as_str(), &job.payload[..]), ("jobs.analysis.live.가게-1", BAD));
    let headers = job.headers.as_ref().unwrap();
    let own: Vec<&str> = headers.get_all("X-Own").map(async_nats::HeaderValue::as_str).collect();
    assert_eq!(own, ["a", "b"]);
    assert_eq!(
        headers.get_all(names::MESSAGE_ID).map(async_nats::HeaderValue::as_str).collect::<Vec<_>>(),
        ["replay:1"]
    );
    assert!(listed(&letters).await.is_empty());
    assert!(matches!(letters.replay(1).await, Err(DeadLetterError::Gone(1))));
}

#[tokio::test]
async fn a_replay_that_was_interrupted_before_the_letter_was_deleted_publishes_the_job_once() {
    let Some(ground) = Ground::new().await else { return };
    let letters = DeadLetters::new(&ground.broker);
    letters.put(&letter(5, "r", "malformed", BAD)).await.unwrap();
    // What the interrupted one had done.
    let mut headers = async_nats::HeaderMap::new();
    headers.insert(names::MESSAGE_ID, "replay:1");
    let subject = names::job_subject(Lane::Live, "r");
    let stored = ground.context.publish_with_headers(subject, headers, BAD.into()).await.unwrap();
    stored.await.unwrap();
    assert!(letters.replay(1).await.unwrap().repeated);
    assert_eq!(ground.messages(names::JOBS_STREAM).await, 1);
    assert!(listed(&letters).await.is_empty());
}

#[tokio::test]
async fn a_letter_that_is_too_large_for_a_message_is_an_object_and_goes_with_it() {
    let config = NatsConfig { max_payload: Some(64 << 10), ..NatsConfig::default() };
    let Some(ground) = Ground::with(&config, |_| {}).await else { return };
    let letters = DeadLetters::new(&ground.broker);
    // Fits, as the job that it was; its letter has headers and reasons beside it.
    let large: Vec<u8> = (0..LARGE).map(|n| (n * 31 % 251) as u8).collect();
    letters.put(&letter(5, "r", "malformed", &large)).await.unwrap();
    // Written again a moment later it has another date, and must not take the first one's object.
    letters.put(&letter(5, "r", "malformed", &large)).await.unwrap();
    assert_eq!(listed(&letters).await, [1]);
    assert_eq!(letters.get(1).await.unwrap().payload, large);
    letters.replay(1).await.unwrap();
    assert_eq!(ground.pull(&names::lane_consumer(Lane::Live)).await.payload, large);
    assert!(listed(&letters).await.is_empty());
}

#[tokio::test]
async fn a_letter_whose_object_is_gone_says_so_and_can_be_dropped() {
    let config = NatsConfig { max_payload: Some(64 << 10), ..NatsConfig::default() };
    let Some(ground) = Ground::with(&config, |_| {}).await else { return };
    let letters = DeadLetters::new(&ground.broker);
    letters.put(&letter(5, "r", "malformed", &vec![7; LARGE])).await.unwrap();
    let stream = ground.context.get_stream(format!("OBJ_{}", names::OBJECTS_BUCKET)).await.unwrap();
    stream.purge().await.unwrap();
    let error = letters.get(1).await.map(drop).unwrap_err();
    assert!(matches!(error, DeadLetterError::Body { sequence: 1, .. }), "{error}");
    assert!(letters.drop(1).await.unwrap());
    assert!(!letters.drop(1).await.unwrap());
}

#[tokio::test]
async fn a_letter_from_where_no_jobs_are_published_is_not_replayed() {
    let Some(ground) = Ground::new().await else { return };
    let letters = DeadLetters::new(&ground.broker);
    let stray = DeadLetter { subject: "results.analysis.r".into(), ..letter(5, "r", "malformed", BAD) };
    letters.put(&stray).await.unwrap();
    assert!(matches!(letters.replay(1).await, Err(DeadLetterError::Subject { .. })));
    assert_eq!(listed(&letters).await, [1]);
    assert_eq!(ground.messages(names::RESULTS_STREAM).await, 0);
}

#[tokio::test]
async fn a_list_can_be_narrowed_and_ends_with_the_newest() {
    let Some(ground) = Ground::new().await else { return };
    let letters = DeadLetters::new(&ground.broker);
    for n in 0..300 {
        let (restaurant, code) = (format!("r-{}", n % 3), if n % 2 == 0 { "malformed" } else { "too_large" });
        letters.put(&letter(n, &restaurant, code, b"{}")).await.unwrap();
    }
    let all = letters.list(&Filter::default(), usize::MAX).await.unwrap();
    assert!(all.iter().map(|letter| letter.sequence).eq(1..=300));
    let last = letters.list(&Filter::default(), 2).await.unwrap();
    assert_eq!(last.iter().map(|letter| letter.sequence).collect::<Vec<_>>(), [299, 300]);
    let filter =
        Filter { restaurant: Some("r-1".into()), reason: Some("malformed".into()), lane: Some(Lane::Live) };
    let some = letters.list(&filter, usize::MAX).await.unwrap();
    assert_eq!(some.len(), 50);
    assert!(
        some.iter().all(|letter| letter.job_id.as_deref() == Some("j-r-1") && letter.reason == "malformed")
    );
    let none = letters.list(&Filter { lane: Some(Lane::Hi), ..Filter::default() }, 9).await.unwrap();
    assert!(none.is_empty());
}

#[tokio::test]
async fn the_program_lists_shows_replays_and_drops() {
    let Some(ground) = Ground::new().await else { return };
    assert_eq!(ground.maitred(&["dlq", "ls"]).well(), "no dead letters\n");
    let letters = DeadLetters::new(&ground.broker);
    for (n, code) in [(5, "malformed"), (6, "too_large"), (7, "malformed"), (8, "too_large")] {
        letters.put(&letter(n, "r", code, BAD)).await.unwrap();
    }
    let listed = ground.maitred(&["dlq", "ls", "--json", "--reason", "malformed"]).json();
    let sequences: Vec<u64> =
        listed.as_array().unwrap().iter().map(|l| l["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequences, [1, 3]);
    assert_eq!(listed[0]["origin"], "REVIEW_JOBS:5");

    let shown = ground.maitred(&["dlq", "show", "1"]).well();
    assert!(shown.contains("malformed: the body is not a job") && shown.contains("X-Own: b"), "{shown}");
    assert!(!shown.contains("not a job\n{") && shown.contains(&format!("{} bytes", BAD.len())), "{shown}");
    assert_eq!(ground.maitred(&["dlq", "show", "1", "--payload"]).stdout, BAD);

    assert_eq!(ground.maitred(&["dlq", "replay", "1"]).well(), "replayed 1 as job 1\n");
    assert_eq!(ground.pull(&names::lane_consumer(Lane::Live)).await.payload, BAD);
    assert_eq!(
        ground.maitred(&["dlq", "replay", "--all", "--reason", "malformed"]).well(),
        "replayed 3 as job 2\n"
    );
    assert_eq!(ground.maitred(&["dlq", "drop", "2"]).well(), "dropped 2\n");
    let gone = ground.maitred(&["dlq", "drop", "2"]);
    assert_eq!(gone.code, Some(1));
    assert!(gone.stderr.contains("no dead letter 2"), "{}", gone.stderr);
    let unsure = ground.maitred(&["dlq", "drop", "--all"]);
    assert_eq!((unsure.code, letters.count().await.unwrap()), (Some(2), 1), "{}", unsure.stderr);
    assert_eq!(ground.maitred(&["dlq", "drop", "--all", "--yes"]).well(), "dropped 4\n");
    assert_eq!(letters.count().await.unwrap(), 0);
    for wrong in [&["dlq", "replay"][..], &["dlq", "show", "0"], &["dlq", "ls", "--restaurant", "a.*"]] {
        assert_eq!(ground.maitred(wrong).code, Some(2), "{wrong:?}");
    }
}

/// A server on which a job is given up after its second delivery.
async fn impatient() -> Option<(Ground, Sweeper, DeadLetters)> {
    let config = NatsConfig::default();
    let ground = Ground::with(&config, |settings| {
        settings.nats.max_deliver = 2;
        // Longer than this test takes from a delivery to its word on it.
        settings.nats.ack_wait = Duration::from_secs(3);
    });
    let ground = ground.await?;
    let sweeper = Sweeper::new(&ground.broker, "w-2", Limits::default());
    let letters = DeadLetters::new(&ground.broker);
    Some((ground, sweeper, letters))
}

/// Takes the job and hands it back until the server gives it up: after two deliveries, or more if it was killed before
/// it had noted the last one.
pub async fn give_up(ground: &Ground) {
    let consumer = ground.consumer(&names::lane_consumer(Lane::Live)).await;
    for _ in 0..2 {
        let job = ground.pull(&names::lane_consumer(Lane::Live)).await;
        job.double_ack_with(AckKind::Nak(None)).await.unwrap();
    }
    // A job that was handed back is given up when the next one is asked for.
    while let Some(job) = consumer.fetch().max_messages(1).messages().await.unwrap().next().await {
        job.unwrap().double_ack_with(AckKind::Nak(None)).await.unwrap();
    }
}

/// Says so many times more what the server has said of this job, which it gave up.
pub async fn say_again(ground: &Ground, job: u64, times: usize) {
    let stream = ground.context.get_stream(names::ADVISORIES_STREAM).await.unwrap();
    let said = until("an advisory of the job", async || {
        let last = stream.get_info().await.unwrap().state.last_sequence;
        let said = stream.get_raw_message(last).await.ok()?;
        let advisory: serde_json::Value = serde_json::from_slice(&said.payload).unwrap();
        (advisory["stream_seq"] == job).then_some(said)
    })
    .await;
    for _ in 0..times {
        let again = ground.context.publish(said.subject.clone(), said.payload.clone()).await.unwrap();
        again.await.unwrap();
    }
}

async fn has_nothing(consumer: &Consumer<pull::Config>) -> bool {
    consumer.fetch().max_messages(1).messages().await.unwrap().next().await.is_none()
}

async fn sweep(sweeper: &Sweeper) -> Vec<Swept> {
    let swept = async || Some(sweeper.once().await.unwrap()).filter(|swept| !swept.is_empty());
    until("an advisory", swept).await
}

#[tokio::test]
async fn what_the_server_gives_up_becomes_a_letter_with_all_that_it_was() {
    let Some((ground, sweeper, letters)) = impatient().await else { return };
    let sequence = ground.submit(Lane::Live, "r").await;
    give_up(&ground).await;
    assert_eq!(sweep(&sweeper).await, [Swept::Letter]);
    let letter = letters.get(1).await.unwrap();
    assert_eq!((letter.reason.code.as_str(), letter.sequence), ("max_deliveries", sequence));
    assert_eq!((letter.job_id.as_deref(), letter.delivered), (Some("j-r"), 2));
    assert_eq!((letter.consumer.as_str(), letter.worker.as_str()), ("worker-live", "w-2"));
    assert!(letter.traceparent.is_some());
    assert_eq!(letter.payload, crate::fleet::ground::job("r").into_bytes());
    assert_eq!(letter.headers[names::CONTENT_TYPE], [names::JSON]);
    assert!(sweeper.once().await.unwrap().is_empty(), "the advisory is acked");
}

#[tokio::test]
async fn what_is_gone_or_has_an_end_already_gets_no_letter() {
    let Some((ground, sweeper, letters)) = impatient().await else { return };
    let deleted = ground.submit(Lane::Live, "deleted").await;
    give_up(&ground).await;
    let jobs = ground.context.get_stream(names::JOBS_STREAM).await.unwrap();
    jobs.delete_message(deleted).await.unwrap();
    assert_eq!(sweep(&sweeper).await, [Swept::Gone]);

    ground.submit(Lane::Live, "worked").await;
    give_up(&ground).await;
    publish_result(&ground, "worked").await;
    assert_eq!(sweep(&sweeper).await, [Swept::Ended]);

    let refused = ground.submit(Lane::Live, "refused").await;
    give_up(&ground).await;
    letters.put(&letter(refused, "refused", "malformed", b"{}")).await.unwrap();
    assert_eq!(sweep(&sweeper).await, [Swept::Ended]);
    assert_eq!(listed(&letters).await, [1], "only the worker's own");
}

#[tokio::test]
async fn of_several_sweepers_at_once_one_counts_the_letter_and_all_tell_the_one_that_is_stored() {
    let Some((ground, _, letters)) = impatient().await else { return };
    let sequence = ground.submit(Lane::Live, "r").await;
    give_up(&ground).await;
    // More than one of them takes at a time.
    say_again(&ground, sequence, 39).await;
    let told = Arc::<Mutex<Vec<(DeadLetter, Written)>>>::default();
    let sweeping = (0..3).map(|n| {
        let told = Arc::clone(&told);
        let sweeper = Sweeper::new(&ground.broker, format!("w-{n}"), Limits::default());
        let sweeper =
            sweeper.telling(move |letter, written| told.lock().unwrap().push((letter.clone(), written)));
        tokio::spawn(async move { sweeper.once().await.unwrap() })
    });
    let swept: Vec<Swept> = try_join_all(sweeping).await.unwrap().concat();
    // What takes longer than its lease comes again, too.
    assert!(swept.len() >= 40, "{swept:?}");
    assert_eq!(letters.count().await.unwrap(), 1);
    assert_eq!(swept.iter().filter(|swept| **swept == Swept::Letter).count(), 1, "{swept:?}");
    let stored = letters.get(1).await.unwrap();
    let told = std::mem::take(&mut *told.lock().unwrap());
    assert_eq!(told.len(), swept.len());
    assert!(told.iter().all(|(letter, _)| *letter == stored), "{told:#?}");
    assert_eq!(told.iter().filter(|(_, written)| *written == Written::Stored).count(), 1);
}

#[tokio::test]
async fn a_letter_that_was_written_and_not_told_is_told_when_the_advisory_comes_again() {
    let Some((ground, sweeper, letters)) = impatient().await else { return };
    let sequence = ground.submit(Lane::Live, "r").await;
    give_up(&ground).await;
    // Whoever wrote it was gone before it could tell.
    let mut gone = letter(sequence, "r", "max_deliveries", b"{}");
    gone.worker = "w-gone".to_owned();
    assert_eq!(letters.put(&gone).await.unwrap(), Written::Stored);
    let told = Arc::<Mutex<Vec<(DeadLetter, Written)>>>::default();
    let telling = Arc::clone(&told);
    let sweeper =
        sweeper.telling(move |letter, written| telling.lock().unwrap().push((letter.clone(), written)));
    assert_eq!(sweep(&sweeper).await, [Swept::Ended]);
    assert_eq!(*told.lock().unwrap(), [(gone, Written::Before(1))]);
    // Nor is it, if the job has a result by then: the letter goes.
    publish_result(&ground, "r").await;
    say_again(&ground, sequence, 1).await;
    assert_eq!(sweep(&sweeper).await, [Swept::Ended]);
    assert_eq!(letters.count().await.unwrap(), 0);
    assert_eq!(told.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_worker_that_was_only_slow_takes_the_letter_back() {
    let Some((ground, sweeper, letters)) = impatient().await else { return };
    ground.submit(Lane::Live, "r").await;
    ground.pull(&names::lane_consumer(Lane::Live)).await.double_ack_with(AckKind::Nak(None)).await.unwrap();
    let last = ground.pull(&names::lane_consumer(Lane::Live)).await;
    // It holds the last delivery for longer than its lease, while others go on asking for jobs.
    let consumer = ground.consumer("worker-live").await;
    let swept = until("an advisory", async || {
        assert!(has_nothing(&consumer).await, "it is not delivered a third time");
        Some(sweeper.once().await.unwrap()).filter(|swept| !swept.is_empty())
    });
    assert_eq!(swept.await, [Swept::Letter]);
    publish_result(&ground, "r").await;
    let info = last.info().unwrap();
    assert!(letters.retract(info.stream, info.stream_sequence, None, info.published).await.unwrap());
    assert!(!letters.retract(info.stream, info.stream_sequence, None, info.published).await.unwrap());
    assert!(listed(&letters).await.is_empty());
}

#[tokio::test]
async fn the_sweeper_runs_until_it_is_told_to_stop_and_outlives_a_restart_of_the_server() {
    let Some((mut ground, sweeper, letters)) = impatient().await else { return };
    let stop = tokio_util::sync::CancellationToken::new();
    let token = stop.clone();
    let running = tokio::spawn(async move { sweeper.run(token).await });
    ground.submit(Lane::Live, "before").await;
    give_up(&ground).await;
    until("a letter", async || (letters.count().await.ok() == Some(1)).then_some(())).await;
    ground.nats.kill();
    ground.nats.restart();
    until("the server", async || letters.count().await.ok()).await;
    ground.submit(Lane::Live, "after").await;
    give_up(&ground).await;
    until("a second letter", async || (letters.count().await.ok() == Some(2)).then_some(())).await;
    stop.cancel();
    running.await.unwrap();
}

async fn publish_result(ground: &Ground, restaurant: &str) {
    let mut headers = async_nats::HeaderMap::new();
    headers.insert(names::MESSAGE_ID, names::result_id(&format!("j-{restaurant}"), None).as_str());
    let subject = names::result_subject(restaurant);
    ground.context.publish_with_headers(subject, headers, "{}".into()).await.unwrap().await.unwrap();
}
