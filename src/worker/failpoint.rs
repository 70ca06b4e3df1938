//! Dying at a chosen moment, for tests of what a crash leaves behind. Only with the simulated engine: the settings
//! refuse it elsewhere.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::config::CrashPoint;

/// Where the process is to die, if anywhere.
pub(super) struct Failpoint {
    at: Option<CrashPoint>,
    armed: AtomicBool,
}

impl Failpoint {
    /// Dies at `at`.
    pub(super) fn new(at: Option<CrashPoint>) -> Self {
        Self { at, armed: AtomicBool::new(false) }
    }

    /// A job has come so far.
    pub(super) fn reached(&self, point: CrashPoint) {
        let armed = self.at == Some(CrashPoint::Draining) && self.armed.load(Ordering::Relaxed);
        if self.at == Some(point) || armed {
            die(point);
        }
    }

    /// From now on the next step of a job is the last.
    pub(super) fn arm(&self, point: CrashPoint) {
        if self.at == Some(point) {
            self.armed.store(true, Ordering::Relaxed);
        }
    }
}

fn die(point: CrashPoint) -> ! {
    tracing::error!(?point, "sim.crash_at: dying");
    std::process::abort();
}
