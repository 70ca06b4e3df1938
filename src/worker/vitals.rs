//! How the worker is, as it tells others: pure, written by one owner each, read by whoever asks.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::broker::lease::LeaseCounts;
use crate::gpu::GpuSample;

/// How the worker is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each told under its own name")]
pub struct Vitals {
    /// Its name.
    pub worker: String,
    /// Whether the models are loaded and the prompts read.
    pub models_ready: bool,
    /// Whether there is a connection to NATS.
    pub nats_connected: bool,
    /// What is wrong with streams and consumers; absent once they have been found right.
    pub topology_fault: Option<String>,
    /// Why jobs cannot be pulled just now.
    pub pull_fault: Option<String>,
    /// Whether the engine gets on with its work.
    pub engine_fresh: bool,
    /// Whether the engine will never get on: the process should be restarted.
    pub engine_stuck: bool,
    /// Whether it takes no more jobs.
    pub draining: bool,
    /// Jobs in hand.
    pub jobs: Jobs,
    /// GPUs, as they were looked at last; none where there is none.
    pub gpus: Vec<GpuSample>,
    /// Calls to the GPUs' library that failed since the start.
    pub gpu_failures: u64,
    /// Checks of the watchdog in a row that found nothing to do.
    pub idle_checks: u32,
    /// Checks of the watchdog since the start at which something could not be read.
    pub unreadable_checks: u64,
}

/// Jobs in hand, and what became of those that were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Jobs {
    /// In hand.
    pub held: usize,
    /// Of those, waiting.
    pub queued: usize,
    /// Of those, running.
    pub running: usize,
    /// Milliseconds that the job which has waited longest has waited; 0 when none waits.
    pub oldest_queued_ms: u64,
    /// Taken in since the start.
    pub received: u64,
    /// Results published.
    pub results: u64,
    /// Dead letters written.
    pub dead_letters: u64,
    /// Failed for a passing reason and given back.
    pub retried: u64,
    /// Given back unworked.
    pub handed_back: u64,
    /// Deliveries of jobs that were in hand already.
    pub merged: u64,
    /// Older jobs of a restaurant, ended by a newer one.
    pub stale: u64,
    /// Deliveries of jobs that the server had lent before.
    pub redelivered: u64,
    /// Renewals of leases that were asked for.
    pub renewals: u64,
    /// Those of them that the server did not confirm.
    pub renewals_failed: u64,
}

impl Vitals {
    /// Before anything is ready.
    pub fn new(worker: String) -> Self {
        Self {
            worker,
            models_ready: false,
            nats_connected: false,
            topology_fault: Some("not looked at yet".into()),
            pull_fault: None,
            engine_fresh: true,
            engine_stuck: false,
            draining: false,
            jobs: Jobs::default(),
            gpus: Vec::new(),
            gpu_failures: 0,
            idle_checks: 0,
            unreadable_checks: 0,
        }
    }

    /// Whether the process is of any use; else it should be restarted.
    pub const fn is_alive(&self) -> bool {
        !self.engine_stuck
    }

    /// Why it takes no jobs; empty when it does.
    pub fn obstacles(&self) -> Vec<String> {
        let mut obstacles = Vec::new();
        let mut note = |is: bool, what: &str| {
            if is {
                obstacles.push(what.to_owned());
            }
        };
        note(!self.models_ready, "models are loading");
        note(!self.nats_connected, "no connection to nats");
        note(!self.engine_fresh, "the engine does not get on");
        note(self.draining, "draining");
        obstacles.extend(self.topology_fault.iter().map(|fault| format!("streams: {fault}")));
        obstacles.extend(self.pull_fault.iter().map(|fault| format!("pulling: {fault}")));
        obstacles
    }
}

impl Jobs {
    /// Takes over what the lease machine counts.
    pub fn note(&mut self, counts: &LeaseCounts) {
        (self.held, self.queued, self.running) = (counts.held, counts.queued, counts.running);
        self.oldest_queued_ms = u64::try_from(counts.oldest_queued.as_millis()).unwrap_or(u64::MAX);
        (self.handed_back, self.merged, self.renewals) =
            (counts.handed_back, counts.merged + counts.again, counts.renewals);
        self.redelivered = counts.redelivered + self.merged;
        self.received = counts.received;
    }
}

/// Shared by those who write it and those who tell it. Written field by field; no lock is held for longer.
#[derive(Clone)]
pub struct SharedVitals(Arc<Mutex<Vitals>>);

impl SharedVitals {
    /// Starts with `vitals`.
    pub fn new(vitals: Vitals) -> Self {
        Self(Arc::new(Mutex::new(vitals)))
    }

    /// Changes something.
    pub fn update(&self, change: impl FnOnce(&mut Vitals)) {
        // Plain values, sound at every moment: a panic elsewhere does not spoil them.
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Whether streams and consumers were found right. Asked for after every event, so without copying the rest.
    pub fn is_topology_right(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).topology_fault.is_none()
    }

    /// As it is now.
    pub fn read(&self) -> Vitals {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn well() -> Vitals {
        Vitals { models_ready: true, nats_connected: true, topology_fault: None, ..Vitals::new("w".into()) }
    }

    #[test]
    fn a_worker_that_has_all_it_needs_is_ready() {
        assert_eq!(well().obstacles(), Vec::<String>::new());
        assert!(well().is_alive());
    }

    #[test]
    fn every_obstacle_is_told_and_none_but_a_stuck_engine_asks_for_a_restart() {
        let vitals =
            Vitals { draining: true, pull_fault: Some("no stream".into()), ..Vitals::new("w".into()) };
        assert_eq!(vitals.obstacles().len(), 5, "{:?}", vitals.obstacles());
        assert!(vitals.is_alive());
        assert!(!Vitals { engine_stuck: true, ..well() }.is_alive());
    }
}
