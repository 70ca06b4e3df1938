//! Workers with a server of their own, the jobs that they get, and what became of those.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{AckPolicy, Info, pull};
use futures_util::{StreamExt, TryStreamExt};
use maitred::broker::dead_letter::Filter;
use maitred::broker::names;
use maitred::broker::nats::DeadLetters;
use maitred::broker::nats::attempts::Attempts;
use maitred::broker::wire::{DeadLetter, decode_result};
use maitred::result::AnalysisResult;
use maitred::scheduler::Lane;
use maitred_testkit::{LIMIT, Maitred, NatsConfig, Program, poll};
use serde_json::{Value, json};
use tempfile::TempDir;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::common::fleet::{Checker, maitred};
use crate::fleet::ground::Ground;

/// Short, so that what waits for the end of a lease does not wait long; not so short that a busy machine ends one by
/// itself: it is renewed four times in this.
pub const ACK_WAIT: Duration = Duration::from_secs(3);

/// A server, and a program that is set to it. Children are killed when their values are dropped.
pub struct Team {
    pub ground: Ground,
    /// Workers with two slots, room for two more jobs, and health on a free port.
    pub program: Maitred,
    pub folder: TempDir,
}

/// A worker.
pub struct Member {
    program: Program,
}

/// A result as it lies in its stream.
pub struct Published {
    pub result: AnalysisResult,
    pub headers: HeaderMap,
}

/// A worker's word on a job that it has worked.
#[derive(Debug)]
pub struct Settled {
    /// How often the server had delivered it.
    pub delivered: u64,
    /// When the worker was given it.
    pub received: OffsetDateTime,
}

impl Team {
    /// `None` where there is no nats-server.
    pub async fn new(change: impl FnOnce(Maitred) -> Maitred) -> Option<Self> {
        Self::with(&NatsConfig::default(), change).await
    }

    pub async fn with(config: &NatsConfig, change: impl FnOnce(Maitred) -> Maitred) -> Option<Self> {
        let ground = Ground::with(config, |settings| settings.nats.ack_wait = ACK_WAIT).await?;
        let folder = tempfile::tempdir().unwrap();
        let program = maitred(folder.path())
            .set("nats.url", ground.nats.url())
            .set("nats.ack_wait", format!("{}s", ACK_WAIT.as_secs()))
            .set("engine.backend", "sim")
            .set("sim.step", "5ms")
            .set("sim.token", "100ns")
            .set("store.cache", "none")
            .set("analysis.language", "en")
            .set("worker.slots", "2")
            .set("worker.look_ahead", "2")
            .set("health.listen", "127.0.0.1:0")
            .set("log.level", "info");
        Some(Self { ground, program: change(program), folder })
    }

    /// Starts a worker; it takes jobs when this returns.
    pub fn worker(&self, name: &str) -> Member {
        self.worker_with(name, |program| program)
    }

    /// Starts a worker and does not wait for it.
    pub fn start(&self, name: &str) -> Member {
        self.start_with(name, |program| program)
    }

    pub fn start_with(&self, name: &str, change: impl FnOnce(Maitred) -> Maitred) -> Member {
        Member { program: change(self.program.clone()).worker(name) }
    }

    pub fn worker_with(&self, name: &str, change: impl FnOnce(Maitred) -> Maitred) -> Member {
        let mut member = self.start_with(name, change);
        member.wait_ready();
        member
    }

    /// Publishes a job as JSON, with its id for the message's; its sequence.
    pub async fn publish(&self, lane: Lane, job: &Value) -> u64 {
        let mut headers = HeaderMap::new();
        headers.insert(names::CONTENT_TYPE, names::JSON);
        headers.insert(names::MESSAGE_ID, job["job_id"].as_str().unwrap());
        let subject = names::job_subject(lane, job["restaurant_id"].as_str().unwrap());
        self.publish_as(subject, headers, job.to_string()).await
    }

    pub async fn publish_as(&self, subject: String, headers: HeaderMap, body: impl Into<Vec<u8>>) -> u64 {
        let body: Vec<u8> = body.into();
        let stored = self.ground.context.publish_with_headers(subject, headers, body.into()).await.unwrap();
        stored.await.unwrap().sequence
    }

    /// Publishes jobs `j-0`, `j-1`, … of as many restaurants; their ids.
    pub async fn publish_some(&self, count: usize) -> Vec<String> {
        let mut ids = Vec::with_capacity(count);
        for n in 0..count {
            self.publish(Lane::Live, &job(n)).await;
            ids.push(format!("j-{n}"));
        }
        ids
    }

    pub async fn checker(&self, jobs: impl IntoIterator<Item = String>) -> Checker {
        Checker::new(&self.ground.nats.url(), jobs).await
    }

    pub async fn lane(&self, lane: Lane) -> Info {
        let mut consumer = self.ground.consumer(&names::lane_consumer(lane)).await;
        consumer.info().await.unwrap().clone()
    }

    /// All results, in the order of their publishing.
    pub async fn results(&self) -> Vec<Published> {
        let stream = self.ground.context.get_stream(names::RESULTS_STREAM).await.unwrap();
        let count = stream.get_info().await.unwrap().state.messages as usize;
        let config = pull::Config { ack_policy: AckPolicy::None, ..Default::default() };
        let consumer = stream.create_consumer(config).await.unwrap();
        let mut found = Vec::with_capacity(count);
        while found.len() < count {
            let mut batch = consumer.fetch().max_messages(500).messages().await.unwrap();
            while let Some(message) = batch.next().await {
                let message = message.unwrap();
                let headers = message.headers.clone().unwrap();
                let kind = headers.get(names::CONTENT_TYPE).map(async_nats::HeaderValue::as_str);
                if !message.payload.is_empty() {
                    let result = decode_result(kind, &message.payload).unwrap();
                    found.push(Published { result, headers });
                }
            }
        }
        found
    }

    /// The one result of a job.
    pub async fn result(&self, job: &str) -> Published {
        let mut found = self.results().await;
        found.retain(|published| published.result.job_id == job);
        assert_eq!(found.len(), 1, "results of {job}");
        found.remove(0)
    }

    pub async fn dead_letters(&self) -> Vec<DeadLetter> {
        let letters = DeadLetters::new(&self.ground.broker);
        let mut found = Vec::new();
        for listed in letters.list(&Filter::default(), usize::MAX).await.unwrap() {
            found.push(letters.get(listed.sequence).await.unwrap());
        }
        found
    }

    /// What is remembered of tries of jobs.
    pub async fn attempts(&self) -> Vec<Attempts> {
        let bucket = self.ground.context.get_key_value(names::ATTEMPTS_BUCKET).await.unwrap();
        let keys: Vec<String> = bucket.keys().await.unwrap().try_collect().await.unwrap();
        let mut found = Vec::new();
        for key in keys {
            // One that is taken away meanwhile is not there.
            if let Some(entry) = bucket.get(key).await.unwrap() {
                found.push(serde_json::from_slice(&entry).unwrap());
            }
        }
        found
    }
}

impl Member {
    /// Waits until it takes jobs.
    #[track_caller]
    pub fn wait_ready(&mut self) {
        self.program.wait_line("models are ready");
        self.wait_health("/readyz", 200);
    }

    /// What it answers: the code and the body. `None` where nobody answers.
    pub fn health(&self, path: &str) -> Option<(u16, String)> {
        let log = self.program.log_since_start();
        let line = log.lines().find(|line| line.contains("health is served"))?;
        let address = line.split("at=").nth(1)?.trim();
        let mut stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(LIMIT)).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    #[track_caller]
    pub fn wait_health(&mut self, path: &str, code: u16) {
        let mut last = None;
        let found = poll(LIMIT, || {
            last = self.health(path);
            last.as_ref().is_some_and(|(found, _)| *found == code).then_some(())
        });
        assert!(found.is_some(), "{path} is {last:?} and not {code}");
    }

    /// A number of `/status`, such as `held`.
    pub fn jobs(&self, field: &str) -> u64 {
        let (_, body) = self.health("/status").expect("a worker that answers");
        let status: Value = serde_json::from_str(&body).unwrap();
        status["jobs"][field].as_u64().unwrap()
    }

    /// Waits until that number is so.
    #[track_caller]
    pub fn wait_jobs(&self, field: &str, so: impl Fn(u64) -> bool) {
        maitred_testkit::wait_until(field, || so(self.jobs(field)));
    }

    /// What it says it has worked.
    pub fn settled(&self) -> Vec<Settled> {
        let log = self.program.log();
        log.lines().filter(|line| line.contains(" settled ")).filter_map(settled).collect()
    }
}

/// One line of a worker's log.
fn settled(line: &str) -> Option<Settled> {
    let field = |name: &str| {
        let value = line.split_once(&format!(" {name}="))?.1.split(' ').next()?;
        Some(value.trim_matches('"').to_owned())
    };
    let at = OffsetDateTime::parse(line.split(' ').next()?, &Rfc3339).ok()?;
    Some(Settled {
        delivered: field("delivered")?.parse().ok()?,
        received: at - Duration::from_secs_f64(field("total_ms")?.parse::<f64>().ok()? / 1e3),
    })
}

impl Deref for Member {
    type Target = Program;

    fn deref(&self) -> &Program {
        &self.program
    }
}

impl DerefMut for Member {
    fn deref_mut(&mut self) -> &mut Program {
        &mut self.program
    }
}

/// The `n`-th job, of a restaurant of its own with twenty reviews: eight steps of the engine, or more.
pub fn job(n: usize) -> Value {
    long_job(n, 20)
}

/// The same with so many reviews.
pub fn long_job(n: usize, reviews: usize) -> Value {
    let text =
        |k| format!("Guest {k} of place {n}: the soup was hot, but the waiter was rude. I waited an hour.");
    let mut job = job_of(&format!("j-{n}"), &format!("r-{n}"), "");
    job["reviews"] = (0..reviews).map(|k| json!({ "id": k.to_string(), "text": text(k) })).collect();
    job
}

/// A job with one review: two or three steps.
pub fn job_of(id: &str, restaurant: &str, text: &str) -> Value {
    json!({
        "v": 1, "job_id": id, "restaurant_id": restaurant, "analyses": ["sentiment", "summary", "strengths"],
        "language": "en", "reviews": [{ "id": "1", "text": text }],
    })
}
