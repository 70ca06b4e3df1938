//! From settings to a dispatcher that can begin: models, stores and streams, in whatever order they come up.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::backlog::{self, SharedBacklog};
use super::board::Board;
use super::dispatcher::{Dispatcher, Event, Parts, Pulls};
use super::failpoint::Failpoint;
use super::goodput::GoodputClerk;
use super::gpu::Gpus;
use super::intake::{Intake, Origin};
use super::ledger::{self, Ledger};
use super::run::Runs;
use super::undertaker::{Undertaker, until_done};
use super::vitals::SharedVitals;
use super::{WorkerError, backfills, gauges, presence};
use crate::analyst::Analyst;
use crate::broker::backfill::Backfill;
use crate::broker::dead_letter;
use crate::broker::names;
use crate::broker::nats::{
    Backfills, Broker, BrokerError, CancelWish, DeadLetters, Presence, Sweeper, Written,
};
use crate::broker::retry::GivenUp;
use crate::broker::shares::LaneShares;
use crate::broker::topology::Topology;
use crate::broker::wire::{self, DeadLetter};
use crate::config::Settings;
use crate::job::Language;
use crate::runtime;
use crate::scheduler::Lane;
use crate::store::home::{FactHome, MetricHome};
use crate::store::metric_writer::{MetricWriter, WriterSettings};
use crate::telemetry::{Account, Instruments, Telemetry};

/// How often streams that are not right are looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How often streams that were right are looked at, while pulls work.
const LOOK_ANYWAY: u32 = 15;

/// A worker that can begin.
pub(super) struct Begun {
    pub dispatcher: Dispatcher,
    pub reports: mpsc::Receiver<Event>,
    pub cancels: mpsc::Receiver<CancelWish>,
    pub metrics: Option<MetricWriter>,
    pub ledger: Ledger,
    pub presence: Arc<Presence>,
    pub backfills: watch::Receiver<Vec<Backfill>>,
    /// Samples as long as it lives.
    pub gpus: Gpus,
    /// Ends the tasks beside the dispatcher.
    pub background: CancellationToken,
}

/// What is computed with, made on the runtime for work: their connections live there.
struct Workshop {
    analyst: Arc<Analyst<FactHome>>,
    facts: Arc<FactHome>,
    metrics: Option<MetricWriter>,
    home: Option<Arc<MetricHome>>,
    ledger: Ledger,
}

/// A name nobody else has: names tell workers apart in results, metrics and marks.
pub(super) fn made_up_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host: String =
        host.trim().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(40).collect();
    let host = if host.is_empty() { "worker".to_owned() } else { host };
    format!("{host}-{:06x}", fastrand::u32(0..1 << 24))
}

/// Waits for everything a worker needs.
pub(super) async fn begin(
    settings: &Arc<Settings>,
    name: &str,
    broker: &Broker,
    vitals: &SharedVitals,
    (telemetry, goodput, board): (&Telemetry, &GoodputClerk, &Board),
    work: &tokio::runtime::Handle,
) -> Result<Begun, WorkerError> {
    // Models load while the servers come up.
    let seen = (telemetry.clone(), goodput.clone());
    let workshop = work.spawn(open_workshop(Arc::clone(settings), name.to_owned(), vitals.clone(), seen));
    verified(settings, broker, vitals).await?;
    let workshop = workshop.await??;
    let background = CancellationToken::new();
    let attempts = until_done("opening the bucket of attempts", || broker.attempts()).await;
    let instruments = telemetry.instruments();
    instruments.expect_dead_letters(dead_letter_codes());
    let undertaker = || Undertaker {
        letters: DeadLetters::new(broker),
        worker: name.to_owned(),
        vitals: vitals.clone(),
        instruments: instruments.clone(),
        ledger: workshop.ledger.clone(),
        board: board.clone(),
    };
    board.engine(workshop.analyst.reader().engine().clone());
    let intake = Intake {
        settings: Arc::clone(settings),
        analyst: Arc::clone(&workshop.analyst),
        broker: broker.clone(),
        attempts: attempts.clone(),
        undertaker: undertaker(),
    };
    let runs = Runs {
        settings: Arc::clone(settings),
        worker: name.to_owned(),
        analyst: Arc::clone(&workshop.analyst),
        facts: workshop.facts,
        broker: broker.clone(),
        attempts,
        undertaker: undertaker(),
        ledger: workshop.ledger.clone(),
        vitals: vitals.clone(),
        account: Account::of(telemetry),
        board: board.clone(),
        failpoint: Failpoint::new(settings.sim.crash_at),
    };
    let presence = Arc::new(Presence::new(broker));
    let mut pulls = Pulls::new(LaneShares::new(settings.worker.weights));
    for lane in Lane::ALL {
        let source = until_done("looking up a lane's consumer", || broker.lane(lane)).await;
        pulls.add(source, Origin::lane(lane), None);
    }
    let running = Backfills::watch(broker, background.clone());
    let parts = Parts {
        broker: broker.clone(),
        settings: Arc::clone(settings),
        engine: workshop.analyst.reader().engine().clone(),
        intake: Arc::new(intake),
        runs: Arc::new(runs),
        vitals: vitals.clone(),
        instruments: instruments.clone(),
        work: work.clone(),
        backfills: running.clone(),
    };
    let backfills = running.clone();
    let gpus = Gpus::sample(settings, name, vitals, workshop.metrics.as_ref().map(MetricWriter::sink));
    let listen = || broker.cancel_requests(background.clone());
    let cancels = until_done("listening for cancels", listen).await;
    tokio::spawn(presence::tell(
        Arc::clone(&presence),
        parts.engine.clone(),
        vitals.clone(),
        board.clone(),
        Arc::clone(settings),
        background.clone(),
    ));
    let ledger = workshop.ledger.clone();
    let sweeper = Sweeper::new(broker, name, settings.limits.clone())
        .telling(move |letter, written| note_given_up(letter, written, &instruments, &ledger));
    let waiting = SharedBacklog::default();
    gauges::of_lanes(telemetry, &waiting);
    board.waiting(waiting.clone());
    tokio::spawn(backlog::ask(broker.clone(), running.clone(), waiting, background.clone()));
    let ended = background.clone();
    tokio::spawn(async move { sweeper.run(ended).await });
    let ledger = workshop.ledger;
    work.spawn(ledger.clone().keep(background.clone()));
    if let (Some(home), Some(keep)) = (workshop.home, settings.postgres.retention) {
        work.spawn(ledger::let_go(home, keep, background.clone()));
    }
    tokio::spawn(keep_verifying(Arc::clone(settings), broker.clone(), vitals.clone(), background.clone()));
    let (dispatcher, reports) = Dispatcher::new(parts, pulls);
    let tended = (Backfills::new(broker), running.clone(), background.clone());
    tokio::spawn(async move { tended.0.tend(tended.1, tended.2).await });
    let counting = Arc::clone(&presence);
    tokio::spawn(backfills::share_rates(counting, running, dispatcher.events(), background.clone()));
    let metrics = workshop.metrics;
    Ok(Begun { dispatcher, reports, cancels, metrics, ledger, presence, backfills, gpus, background })
}

async fn open_workshop(
    settings: Arc<Settings>,
    name: String,
    vitals: SharedVitals,
    (telemetry, goodput): (Telemetry, GoodputClerk),
) -> Result<Workshop, WorkerError> {
    let facts = Arc::new(FactHome::open(&settings).await?);
    let home = MetricHome::open(&settings).await?.map(Arc::new);
    let metrics = home.clone().map(|home| MetricWriter::spawn(home, WriterSettings::default()));
    gauges::of_stores(&telemetry, &facts, home.as_ref().zip(metrics.as_ref().map(MetricWriter::sink)));
    let watcher = telemetry.instruments().step_watcher();
    let reader = runtime::start_watched(&settings, runtime::read_settings(&settings), watcher).await?;
    gauges::of_engine(&telemetry, reader.engine(), &reader.model().name, &settings);
    prepare_languages(&reader, &settings).await;
    let sink = metrics.as_ref().map(MetricWriter::sink);
    let ledger = Ledger::begin(&settings, &name, &reader.model().name, reader.engine(), sink, goodput);
    vitals.update(|vitals| vitals.models_ready = true);
    tracing::info!(model = reader.model().name, "models are ready");
    let analyst = Analyst::new(Arc::new(reader), Arc::clone(&facts), settings.analysis.clone(), name);
    Ok(Workshop { analyst: Arc::new(analyst), facts, metrics, home, ledger })
}

/// Every code that a dead letter may have.
fn dead_letter_codes() -> impl Iterator<Item = &'static str> {
    let ours = [GivenUp::Failures.code(), GivenUp::Poison.code(), dead_letter::MAX_DELIVERIES];
    wire::codes::ALL.into_iter().chain(ours)
}

/// The server gave a job up, and this is its letter.
fn note_given_up(letter: &DeadLetter, written: Written, instruments: &Instruments, ledger: &Ledger) {
    ledger.buried(letter);
    if written == Written::Stored {
        instruments.sent(names::DEAD_LETTERS_STREAM);
        instruments.dead_letter(&letter.reason.code);
    }
}

/// Reads the prompts before the first job comes, so that it does not pay for them.
async fn prepare_languages(reader: &crate::analysis::reader::Reader, settings: &Settings) {
    let wanted =
        settings.analysis.language.map_or(vec![Language::En, Language::Ko], |language| vec![language]);
    for language in wanted {
        if let Err(error) = reader.language(language).await {
            tracing::info!(language = language.code(), %error, "language not available");
        }
    }
}

/// Waits until streams and consumers are there and as they should be. They are not made here: two owners of one
/// configuration would undo each other's changes.
async fn verified(settings: &Settings, broker: &Broker, vitals: &SharedVitals) -> Result<(), BrokerError> {
    let mut looks = tokio::time::interval(LOOK_AGAIN);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let desired = Topology::desired(&settings.nats);
    let mut told = None;
    loop {
        looks.tick().await;
        let connected = broker.link().borrow().connected;
        vitals.update(|vitals| vitals.nats_connected = connected);
        if !connected {
            continue;
        }
        let fault = match broker.verify(&desired).await {
            Ok(()) => None,
            Err(error @ BrokerError::Version { .. }) => return Err(error),
            Err(error) => Some(error.to_string()),
        };
        vitals.update(|vitals| vitals.topology_fault.clone_from(&fault));
        let Some(fault) = fault else { return Ok(()) };
        if told.as_ref() != Some(&fault) {
            tracing::error!(fault, "not ready; looking again until it is mended");
            told = Some(fault);
        }
    }
}

/// Streams and consumers can be changed or deleted under a running worker. It then takes no more jobs, says what is
/// wrong, and goes on when it is mended.
async fn keep_verifying(
    settings: Arc<Settings>,
    broker: Broker,
    vitals: SharedVitals,
    ended: CancellationToken,
) {
    let mut looks = tokio::time::interval(LOOK_AGAIN);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let desired = Topology::desired(&settings.nats);
    for look in 0_u32.. {
        tokio::select! {
            () = ended.cancelled() => return,
            _ = looks.tick() => {}
        }
        let before = vitals.read();
        let is_suspect = before.pull_fault.is_some() || before.topology_fault.is_some();
        if !before.nats_connected || !(is_suspect || look % LOOK_ANYWAY == 0) {
            continue;
        }
        let fault = match broker.verify(&desired).await {
            Ok(()) => None,
            // Not asked is not wrong.
            Err(BrokerError::Request { .. }) => continue,
            Err(error) => Some(error.to_string()),
        };
        match (&before.topology_fault, &fault) {
            (None, Some(fault)) => tracing::error!(fault, "no more jobs are taken until this is mended"),
            (Some(_), None) => tracing::info!("streams and consumers are right again"),
            _ => {}
        }
        vitals.update(|vitals| vitals.topology_fault = fault);
    }
}
