//! Settings of the fleet: servers, worker, health, and the engine without a model.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::reader::{Reader, parse_duration};
use super::secret::{Secret, SecretUrl};
use super::unless;
use crate::scheduler::Lane;

/// `[nats]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsSettings {
    /// Servers, separated by commas.
    pub url: Secret,
    /// Credentials (JWT and seed).
    pub creds_file: Option<PathBuf>,
    /// An nkey seed.
    pub nkey_file: Option<PathBuf>,
    /// Certificate authority of the servers; with it TLS is required.
    pub tls_ca: Option<PathBuf>,
    /// This client's certificate and key.
    pub tls_identity: Option<(PathBuf, PathBuf)>,
    /// How often an idle connection is checked.
    pub ping_interval: Duration,
    /// Copies of each stream.
    pub replicas: usize,
    /// How long jobs stay in their stream.
    pub jobs_max_age: Duration,
    /// Bytes of the stream of jobs.
    pub jobs_max_bytes: u64,
    /// How long results and dead letters stay.
    pub results_max_age: Duration,
    /// A lease that is not renewed for this long ends.
    pub ack_wait: Duration,
    /// Deliveries after which the server gives a job up.
    pub max_deliver: u32,
    /// Jobs of a lane that all workers may hold together.
    pub max_ack_pending: u32,
}

/// `[redis]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisSettings {
    /// The server; `None`: facts are kept in this process.
    pub url: Option<Secret>,
    /// A command that takes longer has failed.
    pub timeout: Duration,
    /// How long the store is left alone after repeated failures.
    pub rest: Duration,
    /// How long facts that nobody asks for are kept.
    pub facts_max_age: Duration,
}

/// `[postgres]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresSettings {
    /// The server; `None`: metrics are kept in this process.
    pub url: Option<Secret>,
    /// How long rows are kept; `None`: for ever.
    pub retention: Option<Duration>,
}

/// `[worker]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerSettings {
    /// Name in results and metrics; `None`: made from the host's.
    pub name: Option<String>,
    /// Jobs in work at the same time.
    pub slots: usize,
    /// Jobs held beyond those while there is a backlog.
    pub look_ahead: usize,
    /// A job that waits here for longer goes back.
    pub max_hold: Duration,
    /// Without an engine step for this long leases are not renewed.
    pub stall_timeout: Duration,
    /// A job that runs for longer is handed back.
    pub job_timeout: Duration,
    /// Tries of a job that fails for a passing reason.
    pub max_failures: u32,
    /// Runs of a job, alone, that the worker does not survive.
    pub max_crashes: u32,
    /// Time for running jobs to finish after SIGTERM.
    pub grace: Duration,
    /// Shares of the lanes while all have jobs.
    pub weights: LaneWeights,
}

/// Shares of the lanes while all have jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneWeights {
    /// Of the lane `hi`.
    pub hi: u32,
    /// Of the lane `live`.
    pub live: u32,
    /// Of the lane `backfill`.
    pub backfill: u32,
}

impl LaneWeights {
    /// The lane's share.
    pub const fn of(self, lane: Lane) -> u32 {
        match lane {
            Lane::Hi => self.hi,
            Lane::Live => self.live,
            Lane::Backfill => self.backfill,
        }
    }
}

/// `[health]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthSettings {
    /// Where to listen; `None`: nowhere.
    pub listen: Option<SocketAddr>,
}

/// A stage of a job at which the process is to be killed, by a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashPoint {
    /// The job is held and not decoded yet.
    Received,
    /// The job is running.
    Started,
    /// The result is in its stream, the metrics and the ack are not.
    Published,
    /// The metrics are written, the ack is not sent.
    Recorded,
    /// The worker was asked to stop and has a job running.
    Draining,
}

/// `[sim]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SimSettings {
    /// Modelled time of a decode call.
    pub step: Duration,
    /// Modelled time of a token.
    pub token: Duration,
    /// A text with this byte aborts the process.
    pub abort_byte: Option<u8>,
    /// A text with this byte hangs the engine.
    pub hang_byte: Option<u8>,
    /// Where to kill the process.
    pub crash_at: Option<CrashPoint>,
}

impl NatsSettings {
    pub(super) fn read(read: &mut Reader<'_>) -> Self {
        let settings = Self {
            url: secret(read, "nats.url", "nats.url_file").unwrap_or_else(|| {
                read.problem("nats.url", "use a URL such as \"nats://127.0.0.1:4222\"".to_owned());
                Secret::Value(SecretUrl::new(""))
            }),
            creds_file: path(read, "nats.creds_file"),
            nkey_file: path(read, "nats.nkey_file"),
            tls_ca: path(read, "nats.tls_ca"),
            tls_identity: identity(read),
            ping_interval: read.duration("nats.ping_interval"),
            replicas: read.number("nats.replicas", 1..=5),
            jobs_max_age: read.duration("nats.jobs_max_age"),
            jobs_max_bytes: read.bytes("nats.jobs_max_bytes") as u64,
            results_max_age: read.duration("nats.results_max_age"),
            ack_wait: read.duration("nats.ack_wait"),
            max_deliver: read.number("nats.max_deliver", 2..=1_000_000),
            max_ack_pending: read.number("nats.max_ack_pending", 1..=1_000_000),
        };
        if settings.creds_file.is_some() && settings.nkey_file.is_some() {
            read.problem("nats.nkey_file", "use either this or `nats.creds_file`".to_owned());
        }
        if settings.ack_wait < Duration::from_secs(1) {
            read.problem(
                "nats.ack_wait",
                "use at least \"1s\": leases are renewed four times in it".to_owned(),
            );
        }
        settings
    }
}

impl RedisSettings {
    pub(super) fn read(read: &mut Reader<'_>) -> Self {
        Self {
            url: secret(read, "redis.url", "redis.url_file"),
            timeout: read.duration("redis.timeout"),
            rest: read.duration("redis.rest"),
            facts_max_age: read.duration("redis.facts_max_age"),
        }
    }
}

impl PostgresSettings {
    pub(super) fn read(read: &mut Reader<'_>) -> Self {
        let allowed = "a duration of a day or more such as \"90d\", or \"none\"";
        let retention = read.value("postgres.retention", allowed, |text| match text {
            "none" => Some(None),
            text => parse_duration(text).filter(|keep| *keep >= Duration::from_hours(24)).map(Some),
        });
        Self { url: secret(read, "postgres.url", "postgres.url_file"), retention }
    }
}

impl WorkerSettings {
    pub(super) fn read(read: &mut Reader<'_>) -> Self {
        Self {
            name: unless(
                read.value("worker.name", "\"auto\" or letters, digits, `-` and `_`", worker_name),
                "auto",
            ),
            slots: read.number("worker.slots", 1..=1024),
            look_ahead: read.number("worker.look_ahead", 0..=1024),
            max_hold: read.duration("worker.max_hold"),
            stall_timeout: read.duration("worker.stall_timeout"),
            job_timeout: read.duration("worker.job_timeout"),
            max_failures: read.number("worker.max_failures", 1..=1000),
            max_crashes: read.number("worker.max_crashes", 1..=1000),
            grace: read.duration("worker.grace"),
            weights: LaneWeights {
                hi: read.number("worker.weight_hi", 1..=1000),
                live: read.number("worker.weight_live", 1..=1000),
                backfill: read.number("worker.weight_backfill", 1..=1000),
            },
        }
    }
}

impl HealthSettings {
    pub(super) fn read(read: &mut Reader<'_>) -> Self {
        let listen =
            read.value("health.listen", "an address such as \"127.0.0.1:8080\", or \"none\"", |text| {
                if text == "none" { Some(None) } else { text.parse().ok().map(Some) }
            });
        Self { listen }
    }
}

impl SimSettings {
    pub(super) fn read(read: &mut Reader<'_>) -> Self {
        let byte = |number: u8| (number > 0).then_some(number);
        Self {
            step: read.duration("sim.step"),
            token: read.duration("sim.token"),
            abort_byte: byte(read.number("sim.abort_byte", 0..=255)),
            hang_byte: byte(read.number("sim.hang_byte", 0..=255)),
            crash_at: read.word(
                "sim.crash_at",
                &[
                    ("none", None),
                    ("received", Some(CrashPoint::Received)),
                    ("started", Some(CrashPoint::Started)),
                    ("published", Some(CrashPoint::Published)),
                    ("recorded", Some(CrashPoint::Recorded)),
                    ("draining", Some(CrashPoint::Draining)),
                ],
            ),
        }
    }
}

/// A URL in the settings or in a file; the file wins, because somebody mounted it on purpose.
pub(super) fn secret(read: &mut Reader<'_>, value: &'static str, file: &'static str) -> Option<Secret> {
    let url = unless(read.text(value), "none").map(|url| Secret::Value(SecretUrl::new(url)));
    path(read, file).map(Secret::File).or(url)
}

pub(super) fn path(read: &mut Reader<'_>, key: &'static str) -> Option<PathBuf> {
    unless(read.text(key), "none").map(PathBuf::from)
}

fn identity(read: &mut Reader<'_>) -> Option<(PathBuf, PathBuf)> {
    match (path(read, "nats.tls_cert"), path(read, "nats.tls_key")) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        (Some(_), None) => {
            read.problem("nats.tls_key", "give the key that belongs to `nats.tls_cert`".to_owned());
            None
        }
        (None, Some(_)) => {
            read.problem("nats.tls_cert", "give the certificate that belongs to `nats.tls_key`".to_owned());
            None
        }
    }
}

/// Names become keys of a bucket.
fn worker_name(text: &str) -> Option<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    (!text.is_empty() && text.len() <= 64 && text.chars().all(allowed)).then(|| text.to_owned())
}
