//! What a worker says of itself while it lives.
//!
//! The record is for people and for sharing a rate among live workers; nothing that must be right depends on it. It
//! grows: a program ignores fields that it does not know and takes what is missing for nothing, so that old and new
//! ones read each other.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::gpu::GpuSample;

/// One live worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    /// Its name, unique in the fleet; the key of the record.
    pub name: String,
    /// When it started (UTC).
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
    /// Version of its program.
    #[serde(default)]
    pub version: String,
    /// The machine it runs on.
    #[serde(default)]
    pub host: String,
    /// Its process.
    #[serde(default)]
    pub pid: u32,
    /// The language model that it reads with.
    #[serde(default)]
    pub model: String,
    /// Jobs in work at the same time, at most.
    #[serde(default)]
    pub slots: usize,
    /// Jobs held beyond those, at most.
    #[serde(default)]
    pub look_ahead: usize,
    /// Jobs that it has leases on.
    #[serde(default)]
    pub held: usize,
    /// Those of them that wait.
    #[serde(default)]
    pub queued: usize,
    /// Those of them that run.
    #[serde(default)]
    pub running: usize,
    /// It takes no more jobs and ends soon.
    #[serde(default)]
    pub draining: bool,
    /// Its GPUs.
    #[serde(default)]
    pub gpus: Vec<GpuSample>,
    /// Its stores.
    #[serde(default)]
    pub stores: Stores,
    /// How fast it works, over the last minute.
    #[serde(default)]
    pub pace: Pace,
    /// What it has done since it started.
    #[serde(default)]
    pub totals: Totals,
}

/// Where a worker keeps what outlives a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Stores {
    /// Of facts and vectors.
    pub redis: Home,
    /// Of metrics.
    pub postgres: Home,
}

/// How a store is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Home {
    /// None is configured: the worker's own.
    #[default]
    Embedded,
    /// It answers.
    Up,
    /// It does not, and the worker goes on without it.
    Down,
    /// A state of a newer program.
    #[serde(other)]
    Unknown,
}

impl Home {
    /// The name in records and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Up => "up",
            Self::Down => "down",
            Self::Unknown => "unknown",
        }
    }
}

/// How fast a worker works.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Pace {
    /// Jobs that ended, per minute.
    pub jobs_per_minute: f64,
    /// Tokens that the model computed, per second.
    pub tokens_per_second: f64,
}

/// What a worker has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// Results published.
    pub results: u64,
    /// Runs that failed.
    pub failures: u64,
    /// Dead letters written.
    pub dead_letters: u64,
    /// Leases renewed.
    pub renewals: u64,
    /// Jobs that came again while they were held or after they were done.
    pub redeliveries: u64,
}

impl Worker {
    /// A worker that has done nothing yet.
    pub fn new(name: impl Into<String>, started_at: OffsetDateTime) -> Self {
        Self {
            name: name.into(),
            started_at,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: String::new(),
            pid: std::process::id(),
            model: String::new(),
            slots: 0,
            look_ahead: 0,
            held: 0,
            queued: 0,
            running: 0,
            draining: false,
            gpus: Vec::new(),
            stores: Stores::default(),
            pace: Pace::default(),
            totals: Totals::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_record_of_an_older_or_newer_program_is_read() {
        let least: Worker =
            serde_json::from_value(json!({ "name": "w", "started_at": "2026-06-15T12:00:00Z" })).unwrap();
        assert_eq!((least.name.as_str(), least.totals), ("w", Totals::default()));
        let mut json = serde_json::to_value(&least).unwrap();
        json["mood"] = json!("a field of the future");
        json["gpus"] = json!([{ "device": 1, "utilization": 0.5, "a_field_of_the_future": 1 }]);
        json["totals"] = json!({ "results": 3, "a_field_of_the_future": 1 });
        json["stores"]["redis"] = json!("a_state_of_the_future");
        let newer: Worker = serde_json::from_value(json).unwrap();
        assert_eq!((newer.totals.results, newer.stores.redis), (3, Home::Unknown));
        let gpu = GpuSample { device: 1, utilization: Some(0.5), ..GpuSample::default() };
        assert_eq!((least.gpus, newer.gpus), (vec![], vec![gpu]));
    }
}
