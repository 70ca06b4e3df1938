//! Server, workers and pages for a test.

use std::path::Path;

use maitred::broker::nats::Broker;
use maitred::broker::wire::Encoding;
use maitred::config::{Secret, SecretUrl, Settings};
use maitred::result::AnalysisResult;
use maitred::telemetry::TraceContext;
use maitred_testkit::{Maitred, Nats, Port, Program, jetstream, wait_until};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::fleet::{Workload, maitred};

/// What the token is where there is one.
pub const TOKEN: &str = "0123456789abcdef-of-the-test";

/// A server with streams.
pub struct Rig {
    // Before the folder and the server, so that children end first.
    pub maitred: Maitred,
    pub nats: Nats,
    folder: TempDir,
}

/// A page that is served, by a process that ends with this.
pub struct Page {
    pub program: Program,
    pub url: String,
}

impl Rig {
    /// `None` where there is no server to start.
    pub fn new() -> Option<Self> {
        let rig = Self::without_streams()?;
        rig.maitred.run(&["init"]).ended(0);
        Some(rig)
    }

    /// Before `maitred init`.
    pub fn without_streams() -> Option<Self> {
        let nats = Nats::start()?;
        let folder = tempfile::tempdir().unwrap();
        let maitred = maitred(folder.path())
            .set("nats.url", nats.url())
            // Less than the default, for machines with little room.
            .set("nats.jobs_max_bytes", "64 MiB")
            .set("engine.backend", "sim")
            .set("log.level", "info");
        Some(Self { maitred, nats, folder })
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A worker that takes jobs, and its page.
    pub fn worker(&self, name: &str) -> Page {
        self.worker_with(name, |program| program)
    }

    pub fn worker_with(&self, name: &str, change: impl FnOnce(Maitred) -> Maitred) -> Page {
        let program = change(self.maitred.clone().set("health.listen", "127.0.0.1:0"));
        let mut program = program.worker(name);
        let line = program.wait_line("health is served");
        let address = line.rsplit_once("at=").unwrap().1.trim().to_owned();
        wait_until("the worker is ready", || get(&address, "/readyz").0 == 200);
        Page { program, url: format!("http://{address}/") }
    }

    /// The page of the fleet, with a token or without.
    pub fn ui(&self, token: Option<&str>) -> Page {
        let mut program = self.maitred.clone();
        if let Some(token) = token {
            let file = self.folder().join("token");
            std::fs::write(&file, format!("{token}\n")).unwrap();
            program = program.set("ui.token_file", file.display());
        }
        let name = format!("ui-{}", Port::free().number());
        let mut program = program.start(&name, &["ui", "--listen", "127.0.0.1:0"]);
        let url = program.wait_printed("http://");
        Page { program, url }
    }

    /// Hands in a file of restaurants.
    pub fn submit(&self, file: &Path) {
        self.maitred.run(&["submit", file.to_str().unwrap()]).ended(0);
    }

    pub fn submit_some(&self, seed: u64, restaurants: usize) {
        let file = self.folder().join(format!("jobs-{seed}.jsonl"));
        Workload::new(seed, restaurants).write(&file);
        self.submit(&file);
    }

    /// A connection of the test's own.
    pub async fn broker(&self) -> Broker {
        let mut settings = Settings::default();
        settings.nats.url = Secret::Value(SecretUrl::new(self.nats.url()));
        Broker::connect(&settings.nats, "test").await.unwrap()
    }

    /// Publishes a result, as a worker does.
    pub async fn publish(&self, result: Value) {
        let result: AnalysisResult = serde_json::from_value(result).unwrap();
        let broker = self.broker().await;
        broker
            .publish_result(&result, Encoding::Msgpack, TraceContext::root(&mut fastrand::Rng::new()), None)
            .await
            .unwrap();
    }

    /// Publishes bodies that are no jobs, and waits for a worker to give each up.
    pub async fn publish_bad_jobs(&self, restaurants: &[&str]) {
        let context = jetstream(self.nats.connect().await);
        for restaurant in restaurants {
            let subject = format!("jobs.analysis.live.{restaurant}");
            context.publish(subject, "{\"not\": \"a job\"}".into()).await.unwrap().await.unwrap();
        }
        let letters = maitred::broker::nats::DeadLetters::new(&self.broker().await);
        let wanted = restaurants.len() as u64;
        crate::page::browser::until("the dead letters", async || {
            (letters.count().await.ok()? >= wanted).then_some(())
        })
        .await;
    }
}

/// What is answered at that path: status and all of the answer.
pub fn get(address: &str, path: &str) -> (u16, String) {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}"))
}

/// What is answered to these lines.
pub fn ask(address: &str, lines: &str) -> (u16, String) {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "{lines}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

impl Page {
    /// `127.0.0.1:port`.
    pub fn address(&self) -> &str {
        self.url.trim_start_matches("http://").trim_end_matches('/')
    }
}

/// A result of a restaurant with one aspect, one strength, and a quote for each.
pub fn result(restaurant: &str, name: &str, claim: &str, quote: &str) -> Value {
    let evidence = json!([{ "review_id": "review-1", "quote": quote }]);
    let claim = json!({ "text": claim, "origin": "generated" });
    json!({
        "v": 1, "job_id": format!("job-of-{restaurant}"), "restaurant_id": restaurant, "restaurant_name": name,
        "epoch": 1, "review_set_digest": "d", "worker": "w", "language": "en",
        "model": {
            "name": "m", "digest": "d", "embedding_name": "e", "embedding_digest": "d", "prompt_version": "p",
        },
        "outcome": { "status": "ok" },
        "outcomes": {
            "sentiment": { "status": "ok" }, "summary": { "status": "ok" }, "strengths": { "status": "ok" },
        },
        "sentiment": {
            "scope": "all", "positive": 7, "negative": 2, "neutral": 1, "total": 10, "unread": 0,
            "positive_share": 0.7, "negative_share": 0.2, "neutral_share": 0.1, "confidence": 0.8,
            "trend": [
                { "month": "2026-01", "positive": 3, "negative": 1, "neutral": 0 },
                { "month": "2026-02", "positive": 4, "negative": 1, "neutral": 1 },
            ],
            "reviews": [{ "review_id": "review-1", "label": "positive", "p_positive": 0.9 }],
        },
        "summary": {
            "overall": { "text": "Guests praise the soup.", "origin": "composed" },
            "aspects": [{
                "aspect": "food", "polarity": "positive", "support": 6, "positive_share": 0.83,
                "negative_share": 0.17, "claim": claim, "evidence": evidence,
            }],
        },
        "strengths": {
            "items": [{
                "aspect": "food", "kind": "distinct", "claim": claim, "support": 6, "support_ratio": 0.6,
                "consistency": 0.7, "recency": 0.9, "lift": 2.5, "score": 1.2, "evidence": evidence,
            }],
            "candidates": 3, "compared_with": 40,
        },
        "usage": {
            "reviews": 10, "reviews_read": 10, "reviews_cached": 0, "requests": 3, "prompt_tokens": 10,
            "reused_tokens": 0, "forced_tokens": 0, "generated_tokens": 5, "baseline_tokens": 30,
            "embedded_texts": 10, "claims_written": 2, "claims_kept": 2,
        },
        "timings": { "queue_ms": 1.0, "ttft_ms": 12.0, "total_ms": 40.0 },
    })
}
