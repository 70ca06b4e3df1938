//! What is added up while rows come, and what becomes of it at the end.

use std::collections::BTreeMap;

use super::count;
use crate::report::rows::JobSeen;
use crate::report::{Gpu, Service, Spread};

/// Jobs of one kind.
#[derive(Debug, Clone, Default)]
pub(super) struct Served {
    pub jobs: u64,
    pub judged: u64,
    pub met: u64,
    pub ttfts: Vec<f32>,
    pub totals: Vec<f32>,
}

impl Served {
    pub(super) fn add(&mut self, job: &JobSeen) {
        self.jobs += 1;
        self.judged += u64::from(job.within_sla.is_some());
        self.met += u64::from(job.within_sla == Some(true));
        self.ttfts.extend(job.ttft_ms.map(|millis| millis as f32));
        self.totals.push(job.total_ms as f32);
    }

    pub(super) fn join(&mut self, other: &Self) {
        self.jobs += other.jobs;
        self.judged += other.judged;
        self.met += other.met;
        self.ttfts.extend(&other.ttfts);
        self.totals.extend(&other.totals);
    }

    pub(super) fn finish(mut self, lane: String, size: &'static str) -> Service {
        Service {
            lane,
            size,
            jobs: self.jobs,
            judged: self.judged,
            met: self.met,
            ttft_ms: Spread::of(&mut self.ttfts),
            total_ms: Spread::of(&mut self.totals),
        }
    }
}

/// A step of the time axis.
#[derive(Debug, Clone, Default)]
pub(super) struct Step {
    pub tokens: f64,
    pub tokens_met: f64,
    /// A bit for each sixty-fourth of the step in which there was a worker.
    pub covered: u64,
    /// Seconds in which each was there: exact, where one was there alone.
    pub workers: BTreeMap<String, f64>,
}

impl Step {
    /// Seconds of the step in which some worker was there.
    pub(super) fn seconds(&self, length: i64) -> f64 {
        let longest = self.workers.values().copied().fold(0.0, f64::max);
        if self.workers.len() < 2 {
            return longest;
        }
        (f64::from(self.covered.count_ones()) / 64.0 * length as f64).max(longest)
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Shift {
    pub seconds: f64,
    /// Busy seconds, and the seconds in which they were measured.
    pub busy: Option<(f64, f64)>,
    pub jobs: u64,
    pub tokens: u64,
}

impl Shift {
    pub(super) fn is_measured(&self) -> bool {
        self.busy.is_some_and(|(_, of)| (of - self.seconds).abs() < 1e-6 * self.seconds.max(1.0))
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct GpuTally {
    pub name: String,
    pub steps: BTreeMap<usize, Mean>,
    pub utilization: Mean,
    pub memory_used: Option<i64>,
    pub memory_total: Option<i64>,
    pub power: Mean,
    pub temperature: Option<f64>,
}

impl GpuTally {
    pub(super) fn finish(self, (worker, device): (String, i64), steps: usize) -> Gpu {
        let mean = |step| self.steps.get(&step).and_then(|mean: &Mean| mean.value());
        Gpu {
            worker,
            device: count(device),
            utilization: self.utilization.value(),
            over_time: (0..steps).map(mean).collect(),
            memory_used_bytes: self.memory_used.map(count),
            memory_total_bytes: self.memory_total.map(count),
            power_watts: self.power.value(),
            temperature_celsius: self.temperature,
            name: self.name,
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mean {
    pub sum: f64,
    pub count: u64,
}

impl Mean {
    pub(super) fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }

    pub(super) fn value(self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

impl Spread {
    /// Absent without values.
    pub(super) fn of(values: &mut [f32]) -> Option<Self> {
        values.sort_unstable_by(f32::total_cmp);
        // Nearest rank: the smallest value that at least `percent` in 100 do not exceed.
        let rank =
            |percent: usize| values.get((values.len() * percent).div_ceil(100).checked_sub(1)?).copied();
        Some(Self { count: values.len() as u64, p50: rank(50)?.into(), p95: rank(95)?.into() })
    }
}
