//! A nats-server with what `maitred init` makes, and somebody who plays the worker on it.

use std::time::Duration;

use async_nats::jetstream::{self, AckKind, consumer::pull};
use futures_util::StreamExt;
use maitred::broker::names;
use maitred::broker::nats::{Broker, Submitted, cancelled};
use maitred::broker::wire::{Decoded, Message, decode_job};
use maitred::config::{Config, Settings};
use maitred::job::{Job, Limits};
use maitred::result::{AnalysisResult, Outcome};
use maitred::scheduler::Lane;
use maitred::telemetry::TraceContext;
use maitred_testkit::{Maitred, Nats, NatsConfig, jetstream};
use tempfile::TempDir;

use crate::common::fleet::maitred;

/// A server, and the program that is set to it.
pub struct Fleet {
    pub program: Maitred,
    pub nats: Nats,
    pub folder: TempDir,
}

/// Takes jobs from a lane as a worker does.
pub struct StandIn {
    broker: Broker,
    consumer: jetstream::consumer::Consumer<pull::Config>,
}

/// A job in hand.
pub struct Taken {
    pub decoded: Decoded,
    pub message: jetstream::Message,
}

impl Fleet {
    /// `None` where there is no nats-server.
    pub fn start() -> Option<Self> {
        Self::start_with(&NatsConfig::default())
    }

    pub fn start_with(config: &NatsConfig) -> Option<Self> {
        let fleet = Self::bare(config)?;
        fleet.program.run(&["init"]).ended(0);
        Some(fleet)
    }

    /// A server on which there is nothing yet.
    pub fn bare(config: &NatsConfig) -> Option<Self> {
        let nats = Nats::start_with(config)?;
        let folder = tempfile::tempdir().unwrap();
        let program = maitred(folder.path()).set("nats.url", nats.url());
        Some(Self { program, nats, folder })
    }

    pub fn settings(&self) -> Settings {
        let url = ("MAITRED__NATS__URL".to_owned(), self.nats.url());
        Config::load(None, &[url], &[]).unwrap().settings
    }

    pub async fn broker(&self) -> Broker {
        Broker::connect(&self.settings().nats, "test").await.unwrap()
    }

    /// What any program has that knows nothing of maitred.
    pub async fn plain_client(&self) -> (async_nats::Client, jetstream::Context) {
        let client = self.nats.connect().await;
        (client.clone(), jetstream(client))
    }

    pub async fn stand_in(&self) -> StandIn {
        self.stand_in_of(Lane::Live).await
    }

    pub async fn stand_in_of(&self, lane: Lane) -> StandIn {
        let (_, context) = self.plain_client().await;
        let consumer = names::lane_consumer(lane);
        let consumer = context.get_consumer_from_stream(consumer, names::JOBS_STREAM).await.unwrap();
        StandIn { broker: self.broker().await, consumer }
    }

    /// Writes a file of restaurants with two reviews each; its path.
    pub fn restaurants(&self, ids: &[&str]) -> String {
        let lines = ids.iter().map(|id| {
            let reviews = serde_json::json!([
                {"id": "1", "text": format!("The soup at {id} was good.")},
                {"id": "2", "text": "We waited an hour."},
            ]);
            serde_json::json!({"restaurant_id": id, "reviews": reviews}).to_string() + "\n"
        });
        let path = self.folder.path().join("restaurants.jsonl");
        std::fs::write(&path, lines.collect::<String>()).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl StandIn {
    /// Waits for the next job.
    pub async fn take(&self) -> Taken {
        // One at a time: what is fetched and not taken would stay away for as long as a lease lasts.
        let message = loop {
            let expires = Duration::from_secs(5);
            let mut batch = self.consumer.batch().max_messages(1).expires(expires).messages().await.unwrap();
            if let Some(message) = batch.next().await {
                break message.unwrap();
            }
        };
        let content_type = message.headers.as_ref().and_then(|headers| headers.get(names::CONTENT_TYPE));
        let read = Message {
            subject: &message.subject,
            content_type: content_type.map(async_nats::HeaderValue::as_str),
            body: &message.payload,
        };
        Taken { decoded: decode_job(read, &Limits::default()).unwrap(), message }
    }

    /// Publishes a result and settles the job.
    pub async fn finish(&self, taken: &Taken) -> Submitted {
        let Decoded { job, encoding } = &taken.decoded;
        let parent = taken.message.headers.as_ref().and_then(|headers| headers.get(names::TRACEPARENT));
        let parent = parent.map(async_nats::HeaderValue::as_str);
        let trace = TraceContext::following(parent, &mut fastrand::Rng::new());
        let published = self.broker.publish_result(&answer(job), *encoding, trace, None).await.unwrap();
        taken.message.double_ack_with(AckKind::Ack).await.unwrap();
        published
    }

    pub async fn work(&self, jobs: usize) {
        for _ in 0..jobs {
            self.finish(&self.take().await).await;
        }
    }
}

/// A result without findings that no model has made.
pub fn answer(job: &Job) -> AnalysisResult {
    let outcomes = job.analyses.iter().map(|analysis| (*analysis, Outcome::NoData)).collect();
    AnalysisResult { outcome: Outcome::NoData, outcomes, worker: "stand-in".into(), ..cancelled(job) }
}
