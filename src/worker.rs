//! A worker of the fleet: takes jobs from NATS, works them as `analyze` does, publishes results.
//!
//! ```text
//! pulls ─► received ─► decoded, priced ─► heap ─► run ─► result ─► settled
//!    (lease begins)      (intake)      (lease machine) (runs)        (ack)
//! ```
//!
//! Two runtimes. On one, `io`, live the connection and the [`dispatcher`], which renews leases; on the other, `work`,
//! everything that computes. So however busy the analyses are, a lease is renewed in time. The engine has its own
//! thread beside both.
//!
//! The order in which the servers start does not matter: a worker without NATS is live and not ready; without Redis or
//! Postgres it works all the same.

mod account;
mod backfills;
pub mod backlog;
pub mod board;
mod dispatcher;
mod failpoint;
pub(crate) mod gauges;
pub mod goodput;
mod gpu;
mod health;
mod intake;
mod ledger;
mod presence;
mod run;
mod startup;
mod undertaker;
pub mod vitals;
mod watchdog;

use std::sync::Arc;
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use self::board::Board;
use self::dispatcher::Ending;
use self::goodput::GoodputClerk;
use self::vitals::{SharedVitals, Vitals};
use self::watchdog::{Guard, Guarded};
use crate::broker::lease::LeaseSettings;
use crate::broker::nats::{Broker, BrokerError};
use crate::config::Settings;
use crate::runtime::StartError;
use crate::scheduler::Policy;
use crate::store::StoreError;
use crate::telemetry::{Sla, Telemetry, TelemetryError};

/// How long the last words to a server may take.
const FAREWELL: Duration = Duration::from_secs(5);

/// Why a worker cannot work.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// Models or prompts.
    #[error(transparent)]
    Start(#[from] StartError),
    /// NATS, in a way that waiting does not mend.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// A store, in a way that waiting does not mend.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The health address.
    #[error("cannot serve health on {listen}: {cause}; correct `health.listen`, or set it to \"none\"")]
    Health {
        /// Where.
        listen: std::net::SocketAddr,
        /// What the system says.
        cause: std::io::Error,
    },
    /// Metrics and traces, by their settings.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// A task of ours broke off.
    #[error("a part of the worker broke off: {0}")]
    Broken(#[from] tokio::task::JoinError),
    /// The engine is stuck.
    #[error("the engine is stuck in a step; start the worker again, its jobs go to others meanwhile")]
    Stuck,
    /// An idle worker cannot end its machine.
    #[error(
        "idle and drained, but the stop hook failed {tries} times, the last time because {cause}; the machine still runs: \
         end it, or correct section `watchdog`"
    )]
    StopHook {
        /// How often it was tried.
        tries: u32,
        /// What went wrong the last time.
        cause: String,
    },
}

/// How a worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to stop, and has finished or handed back all it had.
    Drained,
    /// It was asked twice, and has handed back all it had at once.
    Aborted,
    /// It was idle for long, and has ended its machine as the settings say.
    Idle,
}

/// Requests to stop.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// Take no more, finish what runs.
    pub drain: CancellationToken,
    /// Hand everything back now.
    pub abort: CancellationToken,
}

/// Runs a worker until it is asked to stop. To be called on the runtime for the connection; `work` is the other one.
pub async fn run(
    settings: Arc<Settings>,
    work: tokio::runtime::Handle,
    stop: Stop,
) -> Result<Ended, WorkerError> {
    let started = Instant::now();
    let name = settings.worker.name.clone().unwrap_or_else(startup::made_up_name);
    let vitals = SharedVitals::new(Vitals::new(name.clone()));
    let telemetry = Telemetry::start(&settings, &name)?;
    gauges::of_vitals(&telemetry, &vitals, &settings);
    let goodput = GoodputClerk::new(Sla { ttft: settings.goodput.ttft }, Duration::ZERO);
    gauges::of_window(&telemetry, &goodput);
    let board = Board::new(&name, &settings, OffsetDateTime::now_utc());
    board.goodput(goodput.clone());
    if let Some(listen) = settings.health.listen {
        let at = health::serve(listen, vitals.clone(), telemetry.clone(), board.clone()).await;
        let at = at.map_err(|cause| WorkerError::Health { listen, cause })?;
        tracing::info!(%at, "health is served");
    }
    tracing::info!(worker = name, version = env!("CARGO_PKG_VERSION"), "starting");
    let broker = Broker::connect_patiently(&settings.nats, &name).await?;
    let begun = tokio::select! {
        begun = startup::begin(&settings, &name, &broker, &vitals, (&telemetry, &goodput, &board), &work) => begun?,
        () = stop.drain.cancelled() => return Ok(Ended::Drained),
        () = stop.abort.cancelled() => return Ok(Ended::Aborted),
    };
    // Its own, so that the first signal to a worker that drains by itself does not count as the second.
    let drain = stop.drain.child_token();
    let guarded = Guarded {
        settings: Arc::clone(&settings),
        name: name.clone(),
        broker: broker.clone(),
        vitals: vitals.clone(),
        gpus: begun.gpus,
        backfills: begun.backfills,
    };
    let guard = Guard::new(guarded, started);
    let guard = tokio::spawn(guard.watch(drain.clone(), begun.background.clone()));
    let ending = begun.dispatcher.run(begun.reports, begun.cancels, drain, stop.abort.clone()).await;
    begun.background.cancel();
    begun.ledger.end(ending.name());
    let rows = async {
        if let Some(writer) = begun.metrics {
            let report = writer.close_within(FAREWELL).await;
            if report.dropped + report.failed > 0 {
                tracing::warn!(dropped = report.dropped, failed = report.failed, "metrics rows lost");
            }
        }
    };
    // Beside the rows: a database that does not answer must not keep the fleet from hearing that this worker goes.
    let farewell = async {
        if let Err(error) = begun.presence.remove(&name).await {
            tracing::debug!(%error, "left without signing off");
        }
        broker.flush().await;
    };
    let spans = telemetry.shutdown(FAREWELL);
    let (told, (), ()) = tokio::join!(tokio::time::timeout(FAREWELL, farewell), rows, spans);
    if told.is_err() {
        tracing::warn!("left without a word to nats: it did not listen");
    }
    let jobs = vitals.read().jobs;
    tracing::info!(
        results = jobs.results,
        dead_letters = jobs.dead_letters,
        handed_back = jobs.handed_back,
        "ended"
    );
    match ending {
        Ending::Drained if !stop.drain.is_cancelled() => guard.await?.finish(&stop).await,
        Ending::Drained => Ok(Ended::Drained),
        Ending::Aborted => Ok(Ended::Aborted),
        Ending::Stuck => Err(WorkerError::Stuck),
    }
}

fn lease_settings(settings: &Settings) -> LeaseSettings {
    let worker = &settings.worker;
    LeaseSettings {
        ack_wait: settings.nats.ack_wait,
        max_hold: worker.max_hold,
        stall_timeout: worker.stall_timeout,
        job_timeout: worker.job_timeout,
        grace: worker.grace,
        slots: worker.slots,
        look_ahead: worker.look_ahead,
        policy: Policy {
            order: settings.scheduler.order,
            lambda: settings.scheduler.lambda,
            ..Policy::default()
        },
    }
}
