//! A server on which `maitred init` has been run, and what tests do on it besides.

use std::process::{Command, Output};
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::{self, consumer::pull};
use maitred::broker::names;
use maitred::broker::nats::Broker;
use maitred::broker::topology::Topology;
use maitred::config::{Secret, SecretUrl, Settings};
use maitred::scheduler::Lane;
use maitred_testkit::{LIMIT, Nats, NatsConfig, jetstream};
use serde_json::json;

use crate::common::fleet::JOBS_MAX_BYTES;

/// A server that is ready for workers; killed when dropped.
pub struct Ground {
    pub nats: Nats,
    pub settings: Settings,
    pub broker: Broker,
    /// What a plain client does.
    pub context: jetstream::Context,
}

impl Ground {
    /// As it is by default; `None` where there is no server to start.
    pub async fn new() -> Option<Self> {
        Self::with(&NatsConfig::default(), |_| {}).await
    }

    pub async fn with(config: &NatsConfig, change: impl FnOnce(&mut Settings)) -> Option<Self> {
        let nats = Nats::start_with(config)?;
        let mut settings = Settings::default();
        settings.nats.url = Secret::Value(SecretUrl::new(nats.url()));
        settings.nats.jobs_max_bytes = JOBS_MAX_BYTES;
        change(&mut settings);
        let broker = Broker::connect(&settings.nats, "test").await.unwrap();
        broker.init(&Topology::desired(&settings.nats)).await.unwrap();
        let context = jetstream(nats.connect().await);
        Some(Self { nats, settings, broker, context })
    }

    /// Publishes a body where jobs are; its sequence.
    pub async fn publish(&self, lane: Lane, restaurant: &str, body: impl Into<Vec<u8>>) -> u64 {
        let mut headers = HeaderMap::new();
        headers.insert(names::CONTENT_TYPE, names::JSON);
        headers.insert(names::TRACEPARENT, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        let subject = names::job_subject(lane, restaurant);
        let body: Vec<u8> = body.into();
        let stored = self.context.publish_with_headers(subject, headers, body.into()).await.unwrap();
        stored.await.unwrap().sequence
    }

    /// Publishes a sound job of a restaurant; its sequence. The job's id is `j-RESTAURANT`.
    pub async fn submit(&self, lane: Lane, restaurant: &str) -> u64 {
        self.publish(lane, restaurant, job(restaurant)).await
    }

    pub async fn consumer(&self, name: &str) -> jetstream::consumer::Consumer<pull::Config> {
        self.context.get_consumer_from_stream(name, names::JOBS_STREAM).await.unwrap()
    }

    /// The next job of a consumer, as a worker gets it.
    pub async fn pull(&self, consumer: &str) -> jetstream::Message {
        let consumer = self.consumer(consumer).await;
        let mut batch = consumer.batch().max_messages(1).expires(LIMIT).messages().await.unwrap();
        futures_util::StreamExt::next(&mut batch).await.expect("a job within the limit").unwrap()
    }

    /// Messages in a stream.
    pub async fn messages(&self, stream: &str) -> u64 {
        self.context.get_stream(stream).await.unwrap().cached_info().state.messages
    }

    /// Runs the program against this server.
    pub fn maitred(&self, arguments: &[&str]) -> Ran {
        maitred(&self.nats.url(), arguments)
    }
}

/// How a run of the program ended.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Ran {
    /// What it printed, if it ended well.
    #[track_caller]
    pub fn well(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        String::from_utf8(self.stdout).unwrap()
    }

    /// What it printed as JSON, if it ended well.
    #[track_caller]
    pub fn json(self) -> serde_json::Value {
        let text = self.well();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

/// Runs the program against the server at that URL, with the defaults else.
pub fn maitred(url: &str, arguments: &[&str]) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let run = Command::new(env!("CARGO_BIN_EXE_maitred"))
        .args(arguments)
        .current_dir(folder.path())
        .env("XDG_CONFIG_HOME", folder.path())
        .env("MAITRED__NATS__URL", url)
        .env("MAITRED__NATS__JOBS_MAX_BYTES", JOBS_MAX_BYTES.to_string())
        .output();
    let Output { status, stdout, stderr } = run.unwrap();
    Ran { code: status.code(), stdout, stderr: String::from_utf8(stderr).unwrap() }
}

/// A sound job of a restaurant.
pub fn job(restaurant: &str) -> String {
    let review = json!({ "id": "r1", "text": "The soup was hot." });
    let job = json!({
        "v": 1, "job_id": format!("j-{restaurant}"), "restaurant_id": restaurant, "analyses": ["sentiment"],
        "reviews": [review],
    });
    job.to_string()
}

/// Looks again and again until there is a value; fails the test when there is none within the limit.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let waited = tokio::time::timeout(LIMIT, async {
        let mut beat = tokio::time::interval(Duration::from_millis(20));
        loop {
            beat.tick().await;
            if let Some(value) = look().await {
                return value;
            }
        }
    });
    waited.await.unwrap_or_else(|_| panic!("waited {LIMIT:?} in vain: {what}"))
}
