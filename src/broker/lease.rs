//! Who holds which job, and what becomes of it. Pure: no clock, no I/O; `now` counts from the process's start.
//!
//! The server lends a job for `ack_wait` and lends it again if it hears nothing. It does not fence: a late word of
//! an old holder counts like one of the new holder. So all words about a job come from here, in one order, as
//! [`Action`]s that the worker's edge carries out in that order.
//!
//! Invariants, held by [`LeaseMachine::check`] and by the model test:
//!
//! - I1. No job is lost. A lease leaves the table only settled, or forgotten: then the server lends the job again.
//! - I2. At most one run at a time of a lease, of a result id and of a restaurant.
//! - I3. Once a lease is being settled it is never renewed. An ack or a term is repeated until it is confirmed; a
//!   hand-back is said once, because a second one could hit the next holder. A delivery that follows a hand-back
//!   begins a new life of the lease.
//! - I4. At most `slots` run, a suspect alone; no slot stays free while a queued job may start.
//! - I5. An edge that asks for at most [`LeaseMachine::room`] less what it has asked for already and may still get
//!   holds at most `slots + look_ahead` leases, whatever the server redelivers.
//!
//! A lease is *doubtful* when `ack_wait` has passed since it was last known to be ours. Somebody else may have the
//! job by then. What runs is finished, published and acked, which is harmless because results are idempotent; but a
//! doubtful lease is never handed back, because that would take the job from its new holder, and never renewed. What
//! cannot be handed back in time, for want of a link or because nobody confirmed it, is forgotten: `ack_wait` passes
//! and the job is lent again.
//!
//! What is absent: how results are published, failures counted and delays chosen ([`super::retry`]), and which lane
//! is asked ([`super::shares`]). The table is searched from end to end: it holds dozens of leases, not thousands.

use std::fmt;
use std::time::Duration;

use crate::scheduler::{Arrival, Policy};

mod check;
mod machine;
#[cfg(test)]
mod model;
mod order;
mod recent;
mod table;
#[cfg(test)]
mod tests;

pub use machine::LeaseMachine;

/// Renewals asked for in `ack_wait`.
const RENEWALS: u32 = 4;
// Two ticks in half of the wait: one renewal may get lost and the next still comes in good time.
const _: () = assert!(2 * 2 <= RENEWALS);

/// Least delay of a job that comes back after it was begun. Redeliveries are served before new jobs: one that comes
/// back at once would block its consumer.
pub const LEAST_DELAY: Duration = Duration::from_secs(1);

/// Which consumer delivered. A number stands for one consumer as long as the process lives and is never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub u16);

/// Identity of a delivery. A replay delivers the same sequence through another consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId {
    /// The consumer.
    pub source: SourceId,
    /// The sequence in the stream of jobs.
    pub sequence: u64,
    /// When the stream took it, in nanoseconds: a stream that was deleted and made anew counts from one again.
    pub published: i128,
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.source.0, self.sequence)
    }
}

/// Times and sizes.
#[derive(Debug, Clone, Copy)]
pub struct LeaseSettings {
    /// A lease that is not renewed for this long ends.
    pub ack_wait: Duration,
    /// A job that waits here for longer goes back.
    pub max_hold: Duration,
    /// Without progress of the engine for this long nothing that needs it is renewed, started or asked for.
    pub stall_timeout: Duration,
    /// Work on a job that takes longer is stopped.
    pub job_timeout: Duration,
    /// How long running jobs may go on in a drain.
    pub grace: Duration,
    /// Jobs that run at the same time; none counts as one.
    pub slots: usize,
    /// Jobs held beyond those while there is a backlog.
    pub look_ahead: usize,
    /// The order of queued jobs.
    pub policy: Policy,
}

impl LeaseSettings {
    /// How often [`LeaseMachine::tick`] is to be called, give or take a quarter: ticks of many workers should not
    /// fall together.
    pub fn tick(&self) -> Duration {
        self.ack_wait / RENEWALS
    }

    /// Most leases held at a time.
    pub fn capacity(&self) -> usize {
        self.slots.max(1).saturating_add(self.look_ahead)
    }
}

/// What came with a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// Its number: 1 for the first time that the server lends the job.
    pub count: u64,
    /// The server did not deliver before this moment: when the pull was sent that it answers. A lease counts from
    /// the delivery to the socket, and after a pause of the process the socket may hold what is long out of date.
    pub not_before: Duration,
}

/// What must be known of a decoded job.
#[derive(Debug, Clone, PartialEq)]
pub struct JobHead {
    /// Identity of its result: [`super::names::result_id`].
    pub result_id: String,
    /// Identity of the job.
    pub job_id: String,
    /// Whose reviews.
    pub restaurant: String,
    /// Which state of the reviews; greater is newer.
    pub epoch: u64,
    /// What its place among the queued ones depends on.
    pub arrival: Arrival,
    /// A suspect: runs alone, because the last worker that ran it did not survive.
    pub solo: bool,
}

/// What to do with a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "what was delivered must be decoded, swapped, settled or dropped"]
pub enum Received {
    /// Keep the acker and decode; [`LeaseMachine::decoded`] or [`LeaseMachine::ended`] follows.
    Decode,
    /// It is held already: keep the newer acker in place of the older one.
    Merged,
    /// It was finished before: settle it again with the new acker. It is not held.
    Again(Settlement),
    /// Draining: hand it back at once. It is not held.
    Refused,
    /// Its lease has ended on the way: drop it without a word. It is not held.
    Late,
}

/// How work on a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The result is in its stream.
    Done,
    /// The dead letter is in its stream.
    Dead,
    /// It failed for a passing reason: again after this delay.
    Retry(Duration),
    /// It was stopped: drain, timeout, cancel.
    Interrupted,
}

/// The last word on a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// Worked.
    Ack,
    /// Handed back: at once, or after a delay.
    Nak(Option<Duration>),
    /// Never to be delivered again.
    Term,
}

/// What the edge is to do, in the order given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Run the job; [`LeaseMachine::ended`] follows.
    Start(LeaseId),
    /// Stop what is under way for it, be it decoding, running or publishing; [`End::Interrupted`] follows, or another
    /// end that was faster.
    Stop(LeaseId),
    /// Tell the server that it is still worked on; [`LeaseMachine::renewed`] follows when it has confirmed that.
    Renew(LeaseId),
    /// Tell the server the last word; [`LeaseMachine::settled`] follows.
    Settle(LeaseId, Settlement),
    /// A newer epoch is held: publish a stale result; [`LeaseMachine::ended`] follows.
    Stale(LeaseId),
    /// It is not wanted any more: publish a cancelled result; [`LeaseMachine::ended`] follows.
    Cancelled(LeaseId),
    /// Drop it without a word: it may be somebody else's, or a word may come too late.
    Forget(LeaseId),
}

/// Figures for status and metrics. The first eight say what there is now, the others what happened so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LeaseCounts {
    /// Leases held: the sum of the next five.
    pub held: usize,
    /// Not decoded yet.
    pub decoding: usize,
    /// Waiting to run, or for another delivery of the same job.
    pub queued: usize,
    /// Running.
    pub running: usize,
    /// A stale or cancelled result is being published.
    pub closing: usize,
    /// The last word is said and not confirmed.
    pub settling: usize,
    /// Age of the oldest lease held.
    pub oldest: Duration,
    /// How long the one that has waited longest to run has waited.
    pub oldest_queued: Duration,
    /// Deliveries taken in.
    pub received: u64,
    /// Those of them that the server had lent before.
    pub redelivered: u64,
    /// Renewals that were asked for.
    pub renewals: u64,
    /// Redeliveries of what was held.
    pub merged: u64,
    /// Redeliveries of what was finished.
    pub again: u64,
    /// Deliveries whose job was worked under another lease.
    pub duplicates: u64,
    /// Jobs superseded by a newer epoch.
    pub stale: u64,
    /// Jobs handed back that were not begun.
    pub handed_back: u64,
    /// Leases that became doubtful.
    pub doubtful: u64,
    /// Leases dropped without a word.
    pub forgotten: u64,
}
