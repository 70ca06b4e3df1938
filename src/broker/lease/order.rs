//! What a job waits for, what starts next, and what follows when a job leaves.

use std::mem;

use super::machine::{LeaseMachine, Mode};
use super::table::{Lease, Stage, State};
use super::{Action, JobHead, LeaseId, Settlement};

/// What the order says of the queued job whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Start,
    /// Its restaurant is running: others pass.
    Pass,
    /// A suspect: it starts when nothing runs, and until then nothing else does.
    Hold,
}

impl LeaseMachine {
    /// Gives a decoded job its place: behind its double, beside a newer epoch, or in the queue.
    pub(super) fn admit(&mut self, id: LeaseId, job: JobHead) {
        if self.results.get(job.result_id.as_str()).is_some() {
            self.totals.duplicates += 1;
            return self.settle(id, Settlement::Ack);
        }
        if self.mode != Mode::Working || self.table.get(&id).is_some_and(|lease| lease.doubtful) {
            return self.hand_back(id);
        }
        if self.holder(&job.result_id).is_some() {
            return self.place(id, job, Stage::Twin);
        }
        if self.newest(&job.restaurant).is_some_and(|newest| newest > job.epoch) {
            self.place(id, job, Stage::Closing);
            self.totals.stale += 1;
            self.actions.push(Action::Stale(id));
            return;
        }
        for older in self.queued_before(&job.restaurant, job.epoch) {
            self.totals.stale += 1;
            self.close(older, Action::Stale(older));
        }
        let key = self.ready.push(id, job.arrival);
        self.place(id, job, Stage::Queued(key));
    }

    /// Starts what may start.
    pub(super) fn dispatch(&mut self) {
        if self.mode != Mode::Working || !self.engine_is_well() {
            return;
        }
        let mut passed = Vec::new();
        while self.busy.len() < self.settings.slots && !self.suspect_runs() {
            let Some(id) = self.ready.peek().copied() else { break };
            let turn = self.turn(id);
            if turn == Turn::Hold {
                break;
            }
            self.ready.pop();
            match turn {
                Turn::Start => self.start(id),
                Turn::Pass | Turn::Hold => passed.push(id),
            }
        }
        // Back to their places: keys come from arrival and cost, which have not changed. Only among equal keys do they
        // stand last now.
        for id in passed {
            if let Some(Lease { state: State::Held { job, stage }, .. }) = self.table.get_mut(&id) {
                *stage = Stage::Queued(self.ready.push(id, job.arrival));
            }
        }
    }

    /// The queued job that starts when a slot is free for it.
    pub(super) fn next_to_start(&self) -> Option<LeaseId> {
        self.table
            .iter()
            .filter(|(_, lease)| {
                lease.job().is_some_and(|job| job.solo || !self.busy.contains_key(&job.restaurant))
            })
            .filter_map(|(id, lease)| Some((lease.key()?, *id)))
            .min()
            .map(|(_, id)| id)
    }

    /// Gives a job back that was not begun, at once.
    pub(super) fn hand_back(&mut self, id: LeaseId) {
        self.settle(id, Settlement::Nak(None));
        if self.table.get(&id).is_some_and(Lease::goes_back) {
            self.totals.handed_back += 1;
        }
    }

    /// Says the last word on a lease. A doubtful one is not handed back but forgotten, and so is one without a link:
    /// the client would keep the word until there is a link, and by then somebody else may have the job.
    pub(super) fn settle(&mut self, id: LeaseId, settlement: Settlement) {
        let Some(lease) = self.table.get_mut(&id) else { return };
        if matches!(lease.state, State::Settling { .. }) {
            return;
        }
        if matches!(settlement, Settlement::Nak(_)) && (lease.doubtful || !self.link_up) {
            return self.forget(id);
        }
        let state = mem::replace(&mut lease.state, State::Settling { settlement, tries: 0, due: None });
        self.actions.push(Action::Settle(id, settlement));
        self.leave(id, state, settlement == Settlement::Ack);
    }

    /// Drops a lease without a word: the server lends its job again.
    pub(super) fn forget(&mut self, id: LeaseId) {
        let Some(lease) = self.table.remove(&id) else { return };
        self.totals.forgotten += 1;
        self.actions.push(Action::Forget(id));
        self.leave(id, lease.state, false);
    }

    /// Has a result published that says why the job was not worked. Of a job that is not known there can be none.
    pub(super) fn close(&mut self, id: LeaseId, how: Action) {
        let Some(lease) = self.table.get_mut(&id) else { return };
        let State::Held { job, stage } = &mut lease.state else { return };
        let before = mem::replace(stage, Stage::Closing);
        lease.begun = self.now;
        lease.stop = None;
        let restaurant = job.restaurant.clone();
        self.vacate(id, before, &restaurant);
        self.actions.push(how);
    }

    /// Gives back what a job held. If its result is out, its doubles are worked too; else the first of them takes its
    /// place.
    fn leave(&mut self, id: LeaseId, state: State, done: bool) {
        let State::Held { job, stage } = state else { return };
        self.vacate(id, stage, &job.restaurant);
        if stage == Stage::Twin {
            return;
        }
        let twins = self.ids(|lease| {
            lease.stage() == Some(Stage::Twin)
                && lease.job().is_some_and(|twin| twin.result_id == job.result_id)
        });
        if done {
            self.results.put(job.result_id, ());
            self.totals.duplicates += twins.len() as u64;
            for twin in twins {
                self.settle(twin, Settlement::Ack);
            }
        } else if let Some(heir) = twins.into_iter().next() {
            self.promote(heir);
        }
    }

    fn promote(&mut self, heir: LeaseId) {
        let Some(lease) = self.table.get_mut(&heir) else { return };
        if let State::Held { job, .. } = mem::replace(&mut lease.state, State::Received) {
            self.admit(heir, job);
        }
    }

    fn vacate(&mut self, id: LeaseId, stage: Stage, restaurant: &str) {
        match stage {
            Stage::Queued(_) => {
                self.ready.retain(|other| *other != id);
            }
            Stage::Running => {
                self.busy.remove(restaurant);
            }
            Stage::Twin | Stage::Closing => {}
        }
    }

    fn place(&mut self, id: LeaseId, job: JobHead, stage: Stage) {
        if let Some(lease) = self.table.get_mut(&id) {
            lease.state = State::Held { job, stage };
            lease.begun = self.now;
            lease.stop = None;
        }
    }

    fn turn(&self, id: LeaseId) -> Turn {
        match self.table.get(&id).and_then(Lease::job) {
            Some(job) if job.solo && !self.busy.is_empty() => Turn::Hold,
            Some(job) if self.busy.contains_key(&job.restaurant) => Turn::Pass,
            _ => Turn::Start,
        }
    }

    fn start(&mut self, id: LeaseId) {
        let Some(lease) = self.table.get_mut(&id) else { return };
        let State::Held { job, stage } = &mut lease.state else { return };
        *stage = Stage::Running;
        lease.begun = self.now;
        self.busy.insert(job.restaurant.clone(), id);
        self.actions.push(Action::Start(id));
    }

    pub(super) fn suspect_runs(&self) -> bool {
        self.busy.values().any(|id| self.table.get(id).and_then(Lease::job).is_some_and(|job| job.solo))
    }

    /// The lease whose end decides on this result.
    fn holder(&self, result_id: &str) -> Option<LeaseId> {
        let decides = |lease: &Lease| {
            lease.stage().is_some_and(|stage| stage != Stage::Twin)
                && lease.job().is_some_and(|job| job.result_id == result_id)
        };
        self.table.iter().find(|(_, lease)| decides(lease)).map(|(id, _)| *id)
    }

    /// The newest epoch of a restaurant of which a result is to be expected.
    fn newest(&self, restaurant: &str) -> Option<u64> {
        self.table
            .values()
            .filter(|lease| lease.supersedes())
            .filter_map(Lease::job)
            .filter(|job| job.restaurant == restaurant)
            .map(|job| job.epoch)
            .max()
    }

    fn queued_before(&self, restaurant: &str, epoch: u64) -> Vec<LeaseId> {
        self.ids(|lease| {
            lease.key().is_some()
                && lease.job().is_some_and(|job| job.restaurant == restaurant && job.epoch < epoch)
        })
    }
}
