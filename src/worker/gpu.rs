//! The worker's GPUs: sampled as long as it works, told in its vitals, and asked by the watchdog.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::vitals::SharedVitals;
use crate::config::Settings;
use crate::gpu::{Peak, Sampler, SamplerSettings, Told};
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
    pub(super) fn sample(settings: &Settings, vitals: &SharedVitals) -> Self {
        let interval = settings.gpu.interval;
        let peak = Arc::new(Mutex::new(Peak::new(interval.saturating_mul(PATIENCE))));
        let begun = Instant::now();
        let sampling = SamplerSettings {
            library: settings.gpu.library.clone(),
            interval,
            devices: settings.engine.devices.clone(),
            visible: std::env::var("CUDA_VISIBLE_DEVICES").ok(),
        };
        let (shared, vitals) = (Arc::clone(&peak), vitals.clone());
        let tell = move |told: Told| {
            lock(&shared).note(&told, begun.elapsed());
            if let Told::Reading(reading) = told {
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

fn lock(peak: &Mutex<Peak>) -> std::sync::MutexGuard<'_, Peak> {
    // A plain value, sound at every moment: a panic elsewhere does not spoil it.
    peak.lock().unwrap_or_else(PoisonError::into_inner)
}
