//! The worker's GPUs: sampled as long as it works, told in its vitals and rows, and asked by the watchdog.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use time::OffsetDateTime;

use super::vitals::SharedVitals;
use crate::config::Settings;
use crate::gpu::{GpuSample, Peak, Sampler, SamplerSettings, Told};
use crate::store::metric_writer::MetricSink;
use crate::store::metrics::{GpuSampleRow, MetricRow};
use crate::watchdog::Gpu;

/// A look that is older than so many intervals says nothing of now.
const PATIENCE: u32 = 3;

/// GPUs that are sampled; no more when this is dropped.
pub(super) struct Gpus {
    peak: Arc<Mutex<Peak>>,
    begun: Instant,
    _sampler: Option<Sampler>,
}

impl Gpus {
    /// Begins to sample.
    pub(super) fn sample(
        settings: &Settings,
        name: &str,
        vitals: &SharedVitals,
        metrics: Option<MetricSink>,
    ) -> Self {
        let interval = settings.gpu.interval;
        let peak = Arc::new(Mutex::new(Peak::new(interval.saturating_mul(PATIENCE))));
        let begun = Instant::now();
        let sampling = SamplerSettings {
            library: settings.gpu.library.clone(),
            interval,
            devices: settings.engine.devices.clone(),
            visible: std::env::var("CUDA_VISIBLE_DEVICES").ok(),
        };
        let (shared, vitals, worker) = (Arc::clone(&peak), vitals.clone(), name.to_owned());
        let tell = move |told: Told| {
            lock(&shared).note(&told, begun.elapsed());
            if let Told::Reading(reading) = told {
                if let Some(sink) = &metrics {
                    rows(&reading.gpus, &worker, OffsetDateTime::now_utc()).for_each(|row| sink.offer(row));
                }
                vitals.update(|vitals| {
                    vitals.gpus = reading.gpus;
                    vitals.gpu_failures = reading.failures;
                });
            }
        };
        let sampler = Sampler::start(sampling, tell)
            .inspect_err(|error| tracing::warn!(%error, "no thread to sample gpus with"));
        Self { peak, begun, _sampler: sampler.ok() }
    }

    /// How busy they were since the last question.
    pub(super) fn load(&self) -> Gpu {
        lock(&self.peak).take(self.begun.elapsed())
    }
}

/// The rows of one look, each GPU's.
fn rows(gpus: &[GpuSample], worker: &str, at: OffsetDateTime) -> impl Iterator<Item = MetricRow> {
    gpus.iter().map(move |gpu| {
        MetricRow::Gpu(GpuSampleRow {
            worker: worker.to_owned(),
            device: gpu.device,
            name: gpu.name.clone(),
            utilization: gpu.utilization,
            memory_used_bytes: gpu.memory_used_bytes,
            memory_total_bytes: gpu.memory_total_bytes,
            power_watts: gpu.power_watts,
            temperature_celsius: gpu.temperature_celsius,
            sampled_at: at,
        })
    })
}

fn lock(peak: &Mutex<Peak>) -> std::sync::MutexGuard<'_, Peak> {
    // A plain value, sound at every moment: a panic elsewhere does not spoil it.
    peak.lock().unwrap_or_else(PoisonError::into_inner)
}
