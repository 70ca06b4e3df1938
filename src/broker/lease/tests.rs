//! One rule each.

use std::time::Duration;

use super::*;
use crate::scheduler::{Arrival, Lane, Order, Policy, Seconds};

mod coalescing;
mod holding;
mod leaving;
mod settling;

const ACK_WAIT: Duration = Duration::from_secs(40);
const TICK: Duration = Duration::from_secs(10);

pub(super) const fn id(sequence: u64) -> LeaseId {
    LeaseId { source: SourceId(0), sequence, published: 0 }
}

pub(super) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A machine with its clock and its engine: the engine is well unless a test stops it.
struct Desk {
    machine: LeaseMachine,
    now: Duration,
    engine_well: Option<Duration>,
    /// Whether renewals are lost on their way.
    silent: bool,
}

impl Desk {
    fn new(slots: usize, look_ahead: usize) -> Self {
        let settings = LeaseSettings {
            ack_wait: ACK_WAIT,
            max_hold: secs(60),
            stall_timeout: secs(25),
            job_timeout: secs(300),
            grace: secs(30),
            slots,
            look_ahead,
            policy: Policy { order: Order::Fifo, hi_bonus: 0.0, live_bonus: 0.0, ..Policy::default() },
        };
        let machine = LeaseMachine::new(settings, Duration::ZERO);
        Self { machine, now: Duration::ZERO, engine_well: None, silent: false }
    }

    fn deliver(&mut self, sequence: u64) -> Received {
        self.deliver_as(id(sequence), 1)
    }

    fn deliver_as(&mut self, lease: LeaseId, count: u64) -> Received {
        self.machine.received(lease, Delivery { count, not_before: self.now }, self.now)
    }

    /// Delivers and decodes a job of its own restaurant.
    fn queue(&mut self, sequence: u64) {
        self.queue_job(sequence, head(sequence));
    }

    fn queue_job(&mut self, sequence: u64, job: JobHead) {
        assert_eq!(self.deliver(sequence), Received::Decode);
        self.machine.decoded(id(sequence), job, self.now);
    }

    fn end(&mut self, sequence: u64, end: End) {
        self.machine.ended(id(sequence), end, self.now);
    }

    fn settled(&mut self, sequence: u64, ok: bool) {
        self.machine.settled(id(sequence), ok, self.now);
    }

    fn actions(&mut self) -> Vec<Action> {
        self.machine.take_actions()
    }

    /// Lets time pass without a tick, as when the process is stopped.
    fn freeze(&mut self, time: Duration) {
        self.now += time;
    }

    fn tick(&mut self) -> Vec<Action> {
        self.machine.tick(self.engine_well.unwrap_or(self.now), self.now);
        let actions = self.actions();
        for action in &actions {
            if let Action::Renew(id) = action
                && !self.silent
            {
                self.machine.renewed(*id, self.now, self.now);
            }
        }
        actions
    }

    /// Lets time pass with regular ticks; what they brought about.
    fn pass(&mut self, time: Duration) -> Vec<Action> {
        let end = self.now + time;
        let mut actions = Vec::new();
        while self.now < end {
            self.now = (self.now + TICK).min(end);
            actions.extend(self.tick());
        }
        actions
    }
}

/// A job of a restaurant of its own.
fn head(sequence: u64) -> JobHead {
    job(&format!("job-{sequence}"), &format!("restaurant-{sequence}"), 1, sequence)
}

fn job(result_id: &str, restaurant: &str, epoch: u64, at: u64) -> JobHead {
    JobHead {
        result_id: result_id.to_owned(),
        job_id: result_id.to_owned(),
        restaurant: restaurant.to_owned(),
        epoch,
        arrival: Arrival { at: Seconds::new(at as f64), cost: Seconds::ZERO, lane: Lane::Live },
        solo: false,
    }
}

fn solo(sequence: u64) -> JobHead {
    JobHead { solo: true, ..head(sequence) }
}

fn renewed(actions: &[Action], sequence: u64) -> usize {
    actions.iter().filter(|action| **action == Action::Renew(id(sequence))).count()
}

fn ack(sequence: u64) -> Action {
    Action::Settle(id(sequence), Settlement::Ack)
}

fn nak(sequence: u64) -> Action {
    Action::Settle(id(sequence), Settlement::Nak(None))
}

fn nak_later(sequence: u64, seconds: u64) -> Action {
    Action::Settle(id(sequence), Settlement::Nak(Some(secs(seconds))))
}

fn start(sequence: u64) -> Action {
    Action::Start(id(sequence))
}
