//! One lease: what is known of it and where it stands.

use std::time::Duration;

use super::{JobHead, Settlement};
use crate::scheduler::Key;

/// A lease of the table.
#[derive(Debug)]
pub(super) struct Lease {
    /// When it was received.
    pub(super) since: Duration,
    /// When the work that it is in now began.
    pub(super) begun: Duration,
    /// The last moment at which it is known to have been ours.
    pub(super) renewed: Duration,
    /// When its last renewal was asked for, heard or not.
    pub(super) asked: Duration,
    /// It may be somebody else's by now.
    pub(super) doubtful: bool,
    /// Settlements of earlier lives whose outcome the edge has not reported yet.
    pub(super) unreported: u32,
    /// Why the edge was asked to stop.
    pub(super) stop: Option<StopReason>,
    pub(super) state: State,
}

/// Where a lease stands.
#[derive(Debug)]
pub(super) enum State {
    /// The edge decodes it.
    Received,
    /// Its job is known.
    Held { job: JobHead, stage: Stage },
    /// Its last word is said. `due`: when to say it again; `None` while the edge tries.
    Settling { settlement: Settlement, tries: u32, due: Option<Duration> },
}

/// What a known job waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// A slot.
    Queued(Key),
    /// The end of another lease with the same result id.
    Twin,
    /// The end of its run.
    Running,
    /// A stale or cancelled result.
    Closing,
}

/// Why work is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StopReason {
    /// It took longer than `job_timeout`.
    Timeout,
    /// The job is not wanted any more.
    Cancel,
    /// The worker ends.
    Drain,
}

impl Lease {
    pub(super) const fn new(now: Duration, renewed: Duration, unreported: u32) -> Self {
        Self {
            since: now,
            begun: now,
            renewed,
            asked: renewed,
            doubtful: false,
            unreported,
            stop: None,
            state: State::Received,
        }
    }

    pub(super) const fn stage(&self) -> Option<Stage> {
        match self.state {
            State::Held { stage, .. } => Some(stage),
            State::Received | State::Settling { .. } => None,
        }
    }

    pub(super) const fn job(&self) -> Option<&JobHead> {
        match &self.state {
            State::Held { job, .. } => Some(job),
            State::Received | State::Settling { .. } => None,
        }
    }

    /// Its place among the queued ones, if it is one of them.
    pub(super) const fn key(&self) -> Option<Key> {
        match self.stage() {
            Some(Stage::Queued(key)) => Some(key),
            _ => None,
        }
    }

    /// Whether it waits here without being worked on.
    pub(super) const fn waits(&self) -> bool {
        matches!(self.stage(), Some(Stage::Queued(_) | Stage::Twin))
    }

    /// Whether it makes older epochs of its restaurant stale: it runs or will, and its result is wanted.
    pub(super) fn supersedes(&self) -> bool {
        matches!(self.stage(), Some(Stage::Queued(_) | Stage::Running))
            && self.stop != Some(StopReason::Cancel)
    }

    /// Whether the edge works on it and can be asked to stop.
    pub(super) const fn in_work(&self) -> bool {
        matches!(self.state, State::Received) || matches!(self.stage(), Some(Stage::Running | Stage::Closing))
    }

    /// Whether it is on its way back to the server.
    pub(super) const fn goes_back(&self) -> bool {
        matches!(self.state, State::Settling { settlement: Settlement::Nak(_), .. })
    }
}
