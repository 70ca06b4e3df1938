//! The connection, and what `maitred init` makes of a server.

use std::time::Duration;

use async_nats::jetstream::{self, consumer, stream};
use futures_util::StreamExt;
use maitred::broker::nats::{Broker, BrokerError, Link};
use maitred::broker::topology::{Action, Difference, Topology};
use maitred::config::{NatsSettings, Secret, SecretUrl, Settings};
use maitred_testkit::{LIMIT, Nats, NatsConfig, Ran, jetstream};
use tokio::sync::watch;

use crate::common::fleet::{JOBS_MAX_BYTES, maitred};

/// The default settings for this server, with a quick eye on the connection.
pub fn settings(url: &str) -> NatsSettings {
    NatsSettings {
        url: Secret::Value(SecretUrl::new(url)),
        ping_interval: Duration::from_secs(1),
        jobs_max_bytes: JOBS_MAX_BYTES,
        ..Settings::default().nats
    }
}

pub async fn wait_link(link: &mut watch::Receiver<Link>, so: impl FnMut(&Link) -> bool) -> Link {
    *tokio::time::timeout(LIMIT, link.wait_for(so)).await.expect("the link does not change").unwrap()
}

async fn context(nats: &Nats) -> jetstream::Context {
    jetstream(nats.connect().await)
}

async fn stream_names(nats: &Nats) -> Vec<String> {
    let mut names: Vec<String> = context(nats).await.stream_names().map(Result::unwrap).collect().await;
    names.sort_unstable();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn init_makes_everything_once_and_a_dry_run_nothing() {
    let Some(nats) = Nats::start() else { return };
    let maitred = maitred(nats.folder()).set("nats.url", nats.url());
    let lines =
        |ran: Ran, start: &str| ran.ended(0).stdout.lines().filter(|line| line.starts_with(start)).count();
    assert_eq!(lines(maitred.run(&["init", "--dry-run"]), "would create "), 12);
    assert_eq!(stream_names(&nats).await, [""; 0]);

    assert_eq!(lines(maitred.run(&["init"]), "created "), 12);
    assert_eq!(
        stream_names(&nats).await,
        [
            "ANALYSIS_ADVISORIES",
            "ANALYSIS_DLQ",
            "ANALYSIS_RESULTS",
            "KV_maitred_attempts",
            "KV_maitred_backfills",
            "KV_maitred_workers",
            "OBJ_maitred_payloads",
            "REVIEW_JOBS"
        ]
    );

    assert_eq!(lines(maitred.run(&["init"]), "unchanged "), 12);
    let settings = settings(&nats.url());
    let broker = Broker::connect(&settings, "test").await.unwrap();
    broker.verify(&Topology::desired(&settings)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_names_what_is_missing_and_does_not_make_it() {
    let Some(nats) = Nats::start() else { return };
    let settings = settings(&nats.url());
    let desired = Topology::desired(&settings);
    let broker = Broker::connect(&settings, "test").await.unwrap();
    let error = broker.verify(&desired).await.unwrap_err().to_string();
    assert!(error.contains("stream REVIEW_JOBS") && error.contains("maitred init"), "{error}");
    broker.init(&desired).await.unwrap();
    context(&nats).await.delete_stream("ANALYSIS_RESULTS").await.unwrap();
    let error = broker.verify(&desired).await.unwrap_err().to_string();
    assert_eq!(error, "stream ANALYSIS_RESULTS is missing on the server; run `maitred init`");
    assert!(!stream_names(&nats).await.contains(&"ANALYSIS_RESULTS".to_owned()));
}

/// Everything that can be set otherwise and put right, set otherwise.
async fn distort(context: &jetstream::Context, desired: &Topology) {
    for wanted in &desired.streams {
        let found = context.get_stream(wanted.server_name()).await.unwrap().cached_info().config.clone();
        let config = stream::Config {
            subjects: vec![format!("elsewhere.{}", wanted.object.name)],
            discard: match found.discard {
                stream::DiscardPolicy::Old => stream::DiscardPolicy::New,
                stream::DiscardPolicy::New => stream::DiscardPolicy::Old,
            },
            max_age: Duration::from_hours(7),
            max_bytes: 1 << 20,
            max_messages_per_subject: 9,
            duplicate_window: Duration::from_secs(77),
            allow_direct: false,
            allow_rollup: !found.allow_rollup,
            // Theirs, not ours.
            description: Some("kept".to_owned()),
            max_messages: 1234,
            ..found
        };
        context.update_stream(config).await.unwrap();
    }
    for wanted in &desired.consumers {
        let found: consumer::Consumer<consumer::Config> =
            context.get_consumer_from_stream(&wanted.object.name, &wanted.stream).await.unwrap();
        let config = consumer::Config {
            ack_wait: Duration::from_secs(77),
            max_deliver: 7,
            max_ack_pending: 7,
            max_batch: 7,
            backoff: vec![Duration::from_secs(77), Duration::from_secs(78)],
            filter_subject: String::new(),
            filter_subjects: Vec::new(),
            description: Some("kept".to_owned()),
            ..found.cached_info().config.clone()
        };
        context.update_consumer_on_stream(config, &wanted.stream).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_drifted_is_named_and_put_right_and_the_operators_own_settings_stay() {
    let Some(nats) = Nats::start() else { return };
    let settings = settings(&nats.url());
    let desired = Topology::desired(&settings);
    let broker = Broker::connect(&settings, "test").await.unwrap();
    broker.init(&desired).await.unwrap();
    let context = context(&nats).await;
    distort(&context, &desired).await;

    let Err(BrokerError::Drift(found)) = broker.verify(&desired).await else { panic!("no drift") };
    let fields = |name: &str| {
        let of = |found: &&Difference| found.object.name == name;
        found.iter().filter(of).map(|difference| difference.field).collect::<Vec<_>>()
    };
    let stream =
        "subjects discard max_age max_bytes max_msgs_per_subject duplicate_window allow_direct allow_rollup";
    assert_eq!(fields("REVIEW_JOBS").join(" "), stream);
    assert_eq!(fields("maitred_workers").join(" "), stream);
    let consumer = "filter ack_wait max_deliver max_ack_pending max_batch backoff";
    assert_eq!(fields("worker-live").join(" "), consumer);
    let told = broker.verify(&desired).await.unwrap_err().to_string();
    assert!(told.contains("consumer worker-live: ack_wait is 1m 17s, 30s is wanted"), "{told}");

    let steps = broker.init(&desired).await.unwrap();
    assert!(steps.iter().all(|step| matches!(step.action, Action::Change(_))), "{steps:?}");
    broker.verify(&desired).await.unwrap();
    let kept = context.get_stream("REVIEW_JOBS").await.unwrap().cached_info().config.clone();
    assert_eq!((kept.description.as_deref(), kept.max_messages), (Some("kept"), 1234));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_changed_is_refused_before_anything_is_done() {
    let Some(nats) = Nats::start() else { return };
    let wrong = stream::Config {
        name: "REVIEW_JOBS".to_owned(),
        subjects: vec!["jobs.analysis.>".to_owned()],
        retention: stream::RetentionPolicy::WorkQueue,
        ..stream::Config::default()
    };
    context(&nats).await.create_stream(wrong).await.unwrap();
    let maitred = maitred(nats.folder()).set("nats.url", nats.url());
    for arguments in [&["init", "--dry-run"][..], &["init"]] {
        let refused = maitred.run(arguments).ended(1);
        refused.told(&["stream REVIEW_JOBS: retention is workqueue, limits is wanted"]);
    }
    assert_eq!(stream_names(&nats).await, ["REVIEW_JOBS"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_word_that_it_gave_a_job_up_is_kept() {
    let Some(nats) = Nats::start() else { return };
    let settings = NatsSettings { ack_wait: Duration::from_secs(1), max_deliver: 2, ..settings(&nats.url()) };
    let broker = Broker::connect(&settings, "test").await.unwrap();
    broker.init(&Topology::desired(&settings)).await.unwrap();
    let context = context(&nats).await;
    context.publish("jobs.analysis.hi.r", "never settled".into()).await.unwrap().await.unwrap();
    let consumer: consumer::PullConsumer =
        context.get_consumer_from_stream("worker-hi", "REVIEW_JOBS").await.unwrap();
    let advisories = context.get_stream("ANALYSIS_ADVISORIES").await.unwrap();
    let given_up = async {
        loop {
            // Takes the job when there is one, and never answers.
            let wait = Duration::from_millis(200);
            let mut batch = consumer.batch().max_messages(1).expires(wait).messages().await.unwrap();
            while batch.next().await.is_some() {}
            if let Ok(message) = advisories.direct_get(1).await {
                return message;
            }
        }
    };
    let advisory = tokio::time::timeout(LIMIT, given_up).await.unwrap();
    let advisory: serde_json::Value = serde_json::from_slice(&advisory.payload).unwrap();
    assert_eq!((&advisory["stream_seq"], &advisory["consumer"]), (&1.into(), &"worker-hi".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_without_jetstream_is_told_from_one_that_is_empty() {
    let lines = "accounts { A: { users: [ { user: me, password: pw } ] } }\n".to_owned();
    let without = NatsConfig { lines, login: Some("me:pw".to_owned()), ..NatsConfig::default() };
    let Some(nats) = Nats::start_with(&without) else { return };
    let refused = maitred(nats.folder()).set("nats.url", nats.url()).run(&["init"]).ended(1);
    refused.told(&["without JetStream"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_may_be_started_before_its_server_and_a_command_says_at_once_that_there_is_none() {
    let Some(mut nats) = Nats::start() else { return };
    nats.kill();
    let settings = settings(&nats.url());
    let error = Broker::connect(&settings, "test").await.err().unwrap();
    assert!(matches!(error, BrokerError::Connect { .. }), "{error}");
    assert!(error.to_string().contains(&nats.url()), "{error}");

    let broker = Broker::connect_patiently(&settings, "test").await.unwrap();
    assert!(!broker.link().borrow().connected);
    assert!(matches!(broker.require_version(), Err(BrokerError::Away)));
    nats.restart();
    let link = wait_link(&mut broker.link(), |link| link.connected).await;
    assert_eq!(link.reconnects, 0);
    broker.round_trip().await.unwrap();
    broker.require_version().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_lost_comes_back_and_a_server_that_hangs_is_noticed() {
    let Some(mut nats) = Nats::start() else { return };
    // Not so quick that a busy machine is taken for a server that hangs: each change is counted.
    let settings = NatsSettings { ping_interval: Duration::from_secs(2), ..settings(&nats.url()) };
    let broker = Broker::connect(&settings, "test").await.unwrap();
    let mut link = broker.link();
    assert!(link.borrow().connected);
    nats.kill();
    wait_link(&mut link, |link| !link.connected).await;
    nats.restart();
    assert_eq!(wait_link(&mut link, |link| link.connected).await.reconnects, 1);
    nats.stop();
    wait_link(&mut link, |link| !link.connected).await;
    assert!(broker.round_trip().await.is_err());
    nats.cont();
    assert_eq!(wait_link(&mut link, |link| link.connected).await.reconnects, 2);
    broker.round_trip().await.unwrap();
}
