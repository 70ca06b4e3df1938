//! A fleet for tests of faults: servers, the program as its workers run, and the jobs they get. Used here and by
//! [`super::server_faults`].
//!
//! Every test ends with the checker: each job exactly one result or one dead letter, nothing pending. The workers have
//! the simulated engine, which crashes or hangs on demand.

mod handover;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use async_nats::jetstream::{self, consumer::pull};
use maitred::broker::names;
use maitred::scheduler::Lane;
use maitred_testkit::{Maitred, Nats, Program, jetstream};
use tempfile::TempDir;

use super::ground::until;
use crate::common::fleet::{Checker, Report, Workload, maitred};

/// Short, so that a lease that is not renewed ends soon.
pub(super) const ACK_WAIT: Duration = Duration::from_secs(3);
/// How long a fleet may take to be done after a fault; generous, the machine may be busy.
pub(super) const PATIENCE: Duration = Duration::from_mins(3);

/// Servers, and workers to be started on them.
pub(super) struct Fleet {
    pub(super) nats: Nats,
    /// The program as its workers run; tests change it before they start one.
    pub(super) maitred: Maitred,
    folder: TempDir,
}

impl Fleet {
    /// With streams and without workers; `None` where there is no server to start.
    pub(super) fn new() -> Option<Self> {
        Self::with_ack_wait(ACK_WAIT)
    }

    /// The same, where a lease that is not renewed ends after this time.
    pub(super) fn with_ack_wait(ack_wait: Duration) -> Option<Self> {
        let fleet = Self::on(Nats::start()?, ack_wait);
        fleet.maitred.run(&["init"]).ended(0);
        Some(fleet)
    }

    /// The same on a server where nothing has been made, or that is not there.
    pub(super) fn on(nats: Nats, ack_wait: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let maitred = maitred(folder.path())
            .set("nats.url", nats.url())
            .set("nats.ack_wait", format!("{}s", ack_wait.as_secs()))
            .set("nats.max_deliver", 1000)
            .set("nats.ping_interval", "1s")
            .set("engine.backend", "sim")
            .set("sim.step", "10ms")
            .set("sim.token", "1us")
            .set("analysis.language", "en")
            .set("health.listen", "127.0.0.1:0")
            .set("log.level", "info");
        Self { nats, maitred, folder }
    }

    /// Hands in a restaurant's reviews for each of the workload.
    pub(super) fn submit(&self, workload: &Workload) {
        let file = self.folder.path().join("jobs.jsonl");
        workload.write(&file);
        self.maitred.run(&["submit", file.to_str().unwrap()]).ended(0);
    }

    pub(super) fn worker(&self, name: &str) -> Program {
        self.maitred.worker(name)
    }

    /// Jobs that were delivered and are not settled.
    pub(super) async fn held(&self) -> usize {
        let context = jetstream(self.nats.connect().await);
        let lane = names::lane_consumer(Lane::Live);
        let mut consumer: jetstream::consumer::Consumer<pull::Config> =
            context.get_consumer_from_stream(lane, names::JOBS_STREAM).await.unwrap();
        consumer.info().await.unwrap().num_ack_pending
    }

    pub(super) async fn until_held(&self) {
        until("a worker holds jobs", async || (self.held().await > 0).then_some(())).await;
    }

    /// Waits until every job that was handed in has ended once.
    pub(super) async fn all_end(&self) -> Report {
        Checker::of_all_jobs(&self.nats.url()).await.wait(PATIENCE).await
    }
}

/// What a worker answers on its health address: status and body.
pub(super) fn health(worker: &mut Program, path: &str) -> (u16, String) {
    let line = worker.wait_line("health is served");
    let address = line.rsplit_once("at=").unwrap().1.trim().to_owned();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: w\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

/// Waits until the worker is ready, or not any more.
#[track_caller]
pub(super) fn until_ready(worker: &mut Program, ready: bool) {
    let wanted = if ready { 200 } else { 503 };
    maitred_testkit::wait_until("readiness", || health(worker, "/readyz").0 == wanted);
}

/// How many jobs a worker has settled with a result.
pub(super) fn settled(worker: &Program) -> usize {
    worker.log().lines().filter(|line| line.contains("settled job=")).count()
}
