//! What a worker's metrics are read from: its vitals, its engine, the lanes, its stores. What a run over a file has as
//! well (the process, the engine, the window, the rows) is read from there by the same functions.
//!
//! Read on the thread that collects, whenever somebody asks; nothing here waits.

use std::sync::Arc;

use super::backlog::SharedBacklog;
use super::goodput::GoodputClerk;
use super::vitals::{Jobs, SharedVitals, Vitals};
use crate::broker::nats::Backlog;
use crate::config::{EngineKind, Settings};
use crate::engine::{Engine, EngineStats};
use crate::gpu::GpuSample;
use crate::stats;
use crate::store::home::{FactHome, MetricHome};
use crate::store::metric_writer::MetricSink;
use crate::telemetry::names::{self, MetricInfo, label};
use crate::telemetry::{Reading, Telemetry, Window};

/// From the start: what the worker knows of itself.
pub(super) fn of_vitals(telemetry: &Telemetry, vitals: &SharedVitals, settings: &Settings) {
    let on = |metric: MetricInfo, read: fn(&Vitals) -> f64| {
        let vitals = vitals.clone();
        telemetry.observe(metric, move || Some(Reading::new(read(&vitals.read()))));
    };
    on(names::WORKER_READY, |vitals| flag(vitals.obstacles().is_empty()));
    on(names::WORKER_DRAINING, |vitals| flag(vitals.draining));
    on(names::NATS_CONNECTED, |vitals| flag(vitals.nats_connected));
    on(names::IDLE_CHECKS, |vitals| vitals.idle_checks.into());
    on(names::GPU_SAMPLE_FAILURES, |vitals| vitals.gpu_failures as f64);
    of_gpus(telemetry, vitals);
    let jobs = |metric: MetricInfo, read: fn(&Jobs) -> f64| {
        let vitals = vitals.clone();
        telemetry.observe(metric, move || Some(Reading::new(read(&vitals.read().jobs))));
    };
    jobs(names::JOBS_HELD, |jobs| jobs.held as f64);
    jobs(names::HEAP_DEPTH, |jobs| jobs.queued as f64);
    jobs(names::HEAP_OLDEST_AGE, |jobs| jobs.oldest_queued_ms as f64 / 1e3);
    jobs(names::SLOTS_IN_USE, |jobs| jobs.running as f64);
    jobs(names::RETRIES, |jobs| jobs.retried as f64);
    jobs(names::HANDED_BACK, |jobs| jobs.handed_back as f64);
    jobs(names::REDELIVERIES, |jobs| jobs.redelivered as f64);
    jobs(names::LEASE_RENEWALS, |jobs| jobs.renewals as f64);
    jobs(names::LEASE_RENEWAL_FAILURES, |jobs| jobs.renewals_failed as f64);
    jobs(names::OVERTAKEN, |jobs| jobs.stale as f64);
    let slots = settings.worker.slots as f64;
    telemetry.observe(names::SLOTS, move || Some(Reading::new(slots)));
    of_process(telemetry);
}

/// What the system knows of the process.
pub(crate) fn of_process(telemetry: &Telemetry) {
    telemetry.observe(names::RESIDENT_MEMORY, || {
        stats::resident_memory_bytes().map(|bytes| Reading::new(bytes as f64))
    });
}

/// What its GPUs are at, as they were sampled last; what a GPU does not tell has no series.
fn of_gpus(telemetry: &Telemetry, vitals: &SharedVitals) {
    let on = |metric: MetricInfo, read: fn(&GpuSample) -> Option<f64>| {
        let vitals = vitals.clone();
        telemetry.observe(metric, move || {
            let gpus = vitals.read().gpus.into_iter();
            let known = gpus.filter_map(|gpu| Some((gpu.device, read(&gpu)?)));
            known
                .map(|(device, value)| Reading::new(value).with(label::DEVICE, device.to_string()))
                .collect::<Vec<_>>()
        });
    };
    on(names::GPU_UTILIZATION, |gpu| gpu.utilization);
    on(names::GPU_MEMORY_USED, |gpu| gpu.memory_used_bytes.map(|bytes| bytes as f64));
    on(names::GPU_MEMORY_TOTAL, |gpu| gpu.memory_total_bytes.map(|bytes| bytes as f64));
    on(names::GPU_POWER, |gpu| gpu.power_watts);
    on(names::GPU_TEMPERATURE, |gpu| gpu.temperature_celsius);
}

/// Once the models are ready: what runs here, and how its engine is. The engine is looked at, not kept.
pub(crate) fn of_engine(telemetry: &Telemetry, engine: &Engine, model: &str, settings: &Settings) {
    let device = match settings.engine.backend {
        EngineKind::Sim => "simulated",
        EngineKind::Llama => engine.device().name(),
    };
    let info = Reading::new(1.0)
        .with(label::VERSION, env!("CARGO_PKG_VERSION"))
        .with(label::MODEL, model)
        .with(label::DEVICE, device);
    telemetry.observe(names::WORKER_INFO, move || Some(info.clone()));
    let on = |metric: MetricInfo, read: fn(&EngineStats) -> f64| {
        let view = engine.view();
        telemetry.observe(metric, move || view.stats().map(|stats| Reading::new(read(&stats))));
    };
    on(names::REQUESTS_WAITING, |stats| stats.waiting as f64);
    on(names::REQUESTS_RUNNING, |stats| stats.running as f64);
    on(names::SEQUENCES_IN_USE, |stats| stats.held.sequences.into());
    on(names::SEQUENCES_CAPACITY, |stats| stats.capacity.sequences.into());
    on(names::KV_CELLS_RESERVED, |stats| stats.held.cells.into());
    on(names::KV_CELLS_CAPACITY, |stats| stats.capacity.cells.into());
    on(names::PREFILL_TOKENS, |stats| stats.core.prefill_tokens as f64);
    on(names::DECODE_TOKENS, |stats| stats.core.decode_tokens as f64);
    on(names::FORCED_TOKENS, |stats| stats.core.forced_tokens as f64);
    on(names::PREFIX_REUSED_TOKENS, |stats| stats.core.reused_tokens as f64);
    on(names::EMBEDDED_TEXTS, |stats| stats.embedded_texts as f64);
    on(names::EMBEDDED_TOKENS, |stats| stats.embedded_tokens as f64);
    on(names::DECODE_TIME, |stats| stats.core.decode_time.as_secs_f64());
    on(names::EMBEDDING_TIME, |stats| stats.embedding_time.as_secs_f64());
    on(names::SAMPLING_TIME, |stats| stats.core.read_time.as_secs_f64());
}

/// What waits in the lanes and in backfills; without a word from the server, nothing.
pub(super) fn of_lanes(telemetry: &Telemetry, backlog: &SharedBacklog) {
    type OfLane = fn(&crate::broker::status::LaneStatus, time::OffsetDateTime) -> f64;
    let on = |metric: MetricInfo, read: OfLane| {
        let backlog = backlog.clone();
        telemetry.observe(metric, move || {
            let known = backlog.read();
            let of_each = known.into_iter().flat_map(|(backlog, told)| {
                let lanes = backlog.lanes.into_iter();
                lanes.map(move |lane| (lane.lane, read(&lane, told)))
            });
            of_each
                .map(|(lane, value)| Reading::new(value).with(label::LANE, lane.name()))
                .collect::<Vec<_>>()
        });
    };
    on(names::LANE_PENDING, |lane, _| lane.pending as f64);
    on(names::LANE_IN_FLIGHT, |lane, _| lane.in_flight as f64);
    on(names::LANE_OLDEST_AGE, |lane, told| {
        lane.oldest.map_or(0.0, |oldest| (told - oldest.since).as_seconds_f64().max(0.0))
    });
    let of_all = |metric: MetricInfo, read: fn(&Backlog) -> u64| {
        let backlog = backlog.clone();
        telemetry
            .observe(metric, move || backlog.read().map(|(backlog, _)| Reading::new(read(&backlog) as f64)));
    };
    of_all(names::REPLAY_PENDING, |backlog| backlog.replays.pending);
    of_all(names::REPLAY_IN_FLIGHT, |backlog| backlog.replays.in_flight);
    of_all(names::DEAD_LETTERS_WAITING, |backlog| backlog.dead_letters);
}

/// What the stores could not do. A store that is not one of the fleet's servers has no series.
pub(super) fn of_stores(
    telemetry: &Telemetry,
    facts: &Arc<FactHome>,
    metrics: Option<(&Arc<MetricHome>, MetricSink)>,
) {
    let (facts, home) = (Arc::clone(facts), metrics.as_ref().map(|(home, _)| Arc::clone(home)));
    telemetry.observe(names::STORE_ERRORS, move || {
        let redis = facts.server_errors().map(|count| ("redis", count));
        let postgres = home.as_ref().and_then(|home| home.server_errors()).map(|count| ("postgres", count));
        [redis, postgres]
            .into_iter()
            .flatten()
            .map(|(store, count)| Reading::new(count as f64).with(label::STORE, store))
            .collect::<Vec<_>>()
    });
    if let Some((_, sink)) = metrics {
        of_rows(telemetry, sink);
    }
}

/// Rows that were not taken.
pub(crate) fn of_rows(telemetry: &Telemetry, sink: MetricSink) {
    telemetry.observe(names::METRIC_ROWS_DROPPED, move || Some(Reading::new(sink.dropped() as f64)));
}

/// The last window of goodput; nothing before the first one.
pub(crate) fn of_window(telemetry: &Telemetry, clerk: &GoodputClerk) {
    let on = |metric: MetricInfo, read: fn(&Window) -> Option<f64>| {
        let clerk = clerk.clone();
        telemetry
            .observe(metric, move || clerk.last_window().and_then(|window| read(&window)).map(Reading::new));
    };
    on(names::THROUGHPUT, Window::throughput_tps);
    on(names::GOODPUT, Window::goodput_tps);
    on(names::SLA_COMPLIANCE, Window::compliance);
}

const fn flag(is: bool) -> f64 {
    if is { 1.0 } else { 0.0 }
}
