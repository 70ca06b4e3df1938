//! When a worker has been idle for long enough to end: a pure state machine, observations in, actions out.
//!
//! ```text
//! watching ── idle for the limit ──► draining ── nothing held ──► stopping ── hook done ──► over
//!    ▲  │                                                          │    ▲
//!    └──┘ work, or something that cannot be read                   └────┘ hook failed: again, later; then given up
//! ```
//!
//! - **Idle** is: nothing held, nothing taken since the last check, no job of this worker's lanes and backfills waiting
//!   or in flight anywhere, and no GPU busier than allowed. All of it, at each of so many checks in a row.
//! - **What cannot be read is not idle.** NATS is away, a GPU does not answer: the count begins anew, and the check is
//!   counted as unreadable. A watchdog that takes silence for idleness stops workers in mid-job.
//! - **Nothing is broken off.** The machine asks for a drain and for nothing else while anything is held; a job that
//!   comes meanwhile is finished or handed back by the drain, as with SIGTERM. There is no way back: a worker that has
//!   drained holds nothing, and what starts it again is its supervisor.
//! - **Nothing is silent.** A worker that cannot be judged is complained of, and a hook that fails to its last try ends
//!   the worker as failed.
//!
//! No clock and no I/O: `now` is the time since the worker's process began.

mod break_even;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use self::break_even::break_even;

/// Idle times that are remembered.
const REMEMBERED: usize = 64;
/// Checks that an adaptive limit takes at least: one alone may fall between two jobs.
const LEAST_CHECKS: u32 = 2;
/// Before the second try of a hook; it doubles with every further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The pause grows no further.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// When a worker is to end.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// Time between checks.
    pub check_interval: Duration,
    /// Idle checks in a row after which it ends.
    pub idle_limit: u32,
    /// Checks before this time after the start do not count.
    pub min_runtime: Duration,
    /// A GPU is idle below this share, 0 to 1; `None`: GPUs are not asked.
    pub gpu_idle: Option<f64>,
    /// Instead of `idle_limit`, as long as a start is worth: what it costs in idle time.
    pub start_cost: Option<Duration>,
    /// How often a failing hook is tried; `None`: there is no hook, ending is all.
    pub hook_tries: Option<u32>,
}

/// The GPUs, since the last check.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Gpu {
    /// There is none, or none that can tell how busy it is.
    Absent,
    /// The busiest was so busy, 0 to 1.
    Load(f64),
    /// It could tell, and was not to be read.
    Unreadable,
}

/// What a check sees.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observation {
    /// Jobs in hand, in whatever state.
    pub held: usize,
    /// Jobs taken in since the start; grows with each.
    pub received: u64,
    /// Jobs waiting or in flight at this worker's lanes and backfills; `None`: not to be read.
    pub lag: Option<u64>,
    /// The GPUs.
    pub gpu: Gpu,
}

/// What happens to the machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Event {
    /// It is time for a check.
    Check(Observation),
    /// The drain is over: nothing is held.
    Drained,
    /// The hook did what it is for.
    HookDone,
    /// The hook failed.
    HookFailed,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Say that nobody could judge this worker for so many checks.
    Complain {
        /// In a row.
        checks: u32,
    },
    /// Take no more jobs, hand back what waits, finish what runs.
    Drain,
    /// Run the hook, after a pause.
    RunHook {
        /// The pause.
        after: Duration,
    },
    /// End, well.
    End,
    /// End as failed: the hook does not work.
    GiveUp,
}

/// What a check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// There was work, or a GPU was busy.
    Busy,
    /// Something could not be read.
    Unreadable,
    /// Idle.
    Idle,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Watching,
    Draining,
    Stopping { failures: u32 },
    Over,
}

/// The machine.
#[derive(Debug, Clone)]
pub struct Watchdog {
    rules: Rules,
    /// From the start of the process until it took jobs.
    start: Duration,
    state: State,
    idle: u32,
    unreadable_in_a_row: u32,
    unreadable: u64,
    received: u64,
    /// Since when there has been no work; `None`: there is, or nobody knows.
    idle_since: Option<Duration>,
    /// The last check that found work.
    last_work: Option<Duration>,
    /// How long the pauses between work were.
    gaps: Vec<Duration>,
}

impl Watchdog {
    /// Begins to watch a worker that took `start` from the start of its process until it took jobs.
    pub fn new(rules: Rules, start: Duration) -> Self {
        Self {
            rules,
            start,
            state: State::Watching,
            idle: 0,
            unreadable_in_a_row: 0,
            unreadable: 0,
            received: 0,
            idle_since: None,
            last_work: Some(start),
            gaps: Vec::with_capacity(REMEMBERED),
        }
    }

    /// With pauses between jobs that were known before, the oldest first.
    #[must_use]
    pub fn with_gaps(mut self, gaps: impl IntoIterator<Item = Duration>) -> Self {
        gaps.into_iter().for_each(|gap| self.remember(gap));
        self
    }

    /// Takes in what happens; what is to be done about it. An event that does not belong to the state changes nothing.
    pub fn hear(&mut self, event: Event, now: Duration) -> Option<Action> {
        match (self.state, event) {
            (State::Watching, Event::Check(seen)) => self.check(seen, now),
            (State::Draining, Event::Drained) => Some(self.drained()),
            (State::Stopping { .. }, Event::HookDone) => {
                self.state = State::Over;
                Some(Action::End)
            }
            (State::Stopping { failures }, Event::HookFailed) => Some(self.hook_failed(failures + 1)),
            _ => None,
        }
    }

    /// Idle checks in a row that count.
    pub const fn idle_checks(&self) -> u32 {
        self.idle
    }

    /// Checks so far at which something could not be read.
    pub const fn unreadable_checks(&self) -> u64 {
        self.unreadable
    }

    /// Since when it has been idle, as far as checks can tell.
    pub const fn idle_since(&self) -> Option<Duration> {
        self.idle_since
    }

    /// Idle checks in a row after which it drains.
    pub fn limit(&self) -> u32 {
        let Some(cost) = self.rules.start_cost else { return self.rules.idle_limit.max(1) };
        let time = break_even(self.start.saturating_add(cost), &self.gaps);
        let checks = (time.as_secs_f64() / self.rules.check_interval.as_secs_f64().max(1e-9)).ceil();
        // A float that is too large becomes the largest number.
        (checks as u32).max(LEAST_CHECKS)
    }

    /// What an observation means, beside the previous one.
    fn verdict(&self, seen: &Observation) -> Verdict {
        let gpu_idle = self.rules.gpu_idle;
        let busy_gpu = matches!((seen.gpu, gpu_idle), (Gpu::Load(load), Some(idle)) if load >= idle);
        let taken = seen.received != self.received;
        if seen.held > 0 || taken || seen.lag.is_some_and(|lag| lag > 0) || busy_gpu {
            return Verdict::Busy;
        }
        let blind_gpu = seen.gpu == Gpu::Unreadable && gpu_idle.is_some();
        if seen.lag.is_none() || blind_gpu { Verdict::Unreadable } else { Verdict::Idle }
    }

    fn check(&mut self, seen: Observation, now: Duration) -> Option<Action> {
        let verdict = self.verdict(&seen);
        self.received = seen.received;
        if verdict != Verdict::Unreadable {
            self.unreadable_in_a_row = 0;
        }
        match verdict {
            Verdict::Busy => {
                // Known only if nothing hid its beginning.
                if let (Some(since), Some(_)) = (self.idle_since, self.last_work) {
                    self.remember(now.saturating_sub(since));
                }
                (self.idle, self.idle_since, self.last_work) = (0, None, Some(now));
                None
            }
            Verdict::Unreadable => {
                // Work may have come and gone: how long this pause was will never be known.
                (self.idle, self.idle_since, self.last_work) = (0, None, None);
                self.unreadable += 1;
                self.unreadable_in_a_row += 1;
                let checks = self.unreadable_in_a_row;
                checks.is_multiple_of(self.limit()).then_some(Action::Complain { checks })
            }
            Verdict::Idle => {
                self.idle_since.get_or_insert(self.last_work.unwrap_or(now));
                if now < self.rules.min_runtime {
                    return None;
                }
                self.idle += 1;
                (self.idle >= self.limit()).then(|| {
                    self.state = State::Draining;
                    Action::Drain
                })
            }
        }
    }

    fn remember(&mut self, gap: Duration) {
        if self.gaps.len() == REMEMBERED {
            self.gaps.remove(0);
        }
        self.gaps.push(gap);
    }

    fn drained(&mut self) -> Action {
        if self.rules.hook_tries.is_none() {
            self.state = State::Over;
            return Action::End;
        }
        self.state = State::Stopping { failures: 0 };
        Action::RunHook { after: Duration::ZERO }
    }

    fn hook_failed(&mut self, failures: u32) -> Action {
        if failures >= self.rules.hook_tries.unwrap_or(0) {
            self.state = State::Over;
            return Action::GiveUp;
        }
        self.state = State::Stopping { failures };
        let after = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(failures - 1)).min(LONGEST_PAUSE);
        Action::RunHook { after }
    }
}
