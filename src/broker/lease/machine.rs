//! The machine: events in, actions out.
//!
//! Every event first looks at the clock (`observe`: which leases are doubtful by now), then does its own part, then
//! lets start what may start (`dispatch`, in `order`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::recent::Recent;
use super::table::{Lease, Stage, State, StopReason};
use super::{
    Action, Delivery, End, JobHead, LEAST_DELAY, LeaseCounts, LeaseId, LeaseSettings, Received, Settlement,
    SourceId,
};
use crate::scheduler::Ready;

/// Finished leases and results that are remembered.
const REMEMBERED: usize = 10_000;
/// Pause after a settlement that did not get through; doubles up to `LONGEST_PAUSE`.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How far the worker is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Working,
    Draining { until: Duration },
    Aborting,
}

/// See the [module](super).
#[derive(Debug)]
pub struct LeaseMachine {
    pub(super) settings: LeaseSettings,
    pub(super) table: BTreeMap<LeaseId, Lease>,
    /// Exactly the leases in [`Stage::Queued`].
    pub(super) ready: Ready<LeaseId>,
    /// The running lease of each restaurant that has one.
    pub(super) busy: HashMap<String, LeaseId>,
    /// Leases that were acked or terminated.
    finished: Recent<LeaseId, Settlement>,
    /// Results that are in their stream.
    pub(super) results: Recent<String, ()>,
    pub(super) now: Duration,
    engine_well: Duration,
    pub(super) link_up: bool,
    pub(super) mode: Mode,
    pub(super) actions: Vec<Action>,
    pub(super) totals: LeaseCounts,
}

impl LeaseMachine {
    /// Holding nothing, with the link up and the engine well.
    pub fn new(settings: LeaseSettings, now: Duration) -> Self {
        Self {
            settings: LeaseSettings { slots: settings.slots.max(1), ..settings },
            table: BTreeMap::new(),
            ready: Ready::new(settings.policy),
            busy: HashMap::new(),
            finished: Recent::new(REMEMBERED),
            results: Recent::new(REMEMBERED),
            now,
            engine_well: now,
            link_up: true,
            mode: Mode::Working,
            actions: Vec::new(),
            totals: LeaseCounts::default(),
        }
    }

    /// What is to be done, in this order. To be asked for after every event.
    #[must_use = "actions are given out once"]
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// A delivery came, not decoded yet. From now on it is held and renewed, if the answer is [`Received::Decode`].
    pub fn received(&mut self, id: LeaseId, delivery: Delivery, now: Duration) -> Received {
        self.now = self.now.max(now);
        // Before the look at the clock: a lease that is lent anew must not be forgotten for its past.
        let received = self.take_in(id, delivery);
        self.observe(now);
        self.conclude();
        received
    }

    /// A received job is decoded.
    pub fn decoded(&mut self, id: LeaseId, job: JobHead, now: Duration) {
        self.observe(now);
        if self.table.get(&id).is_some_and(|lease| matches!(lease.state, State::Received)) {
            self.admit(id, job);
        }
        self.conclude();
    }

    /// Work on a lease ended: decoding (it cannot be decoded), the run, or the publishing of a stale or cancelled
    /// result.
    pub fn ended(&mut self, id: LeaseId, end: End, now: Duration) {
        self.observe(now);
        match (end, self.table.get(&id).and_then(|lease| lease.stop)) {
            (End::Done, _) => self.settle(id, Settlement::Ack),
            (End::Dead, _) => self.settle(id, Settlement::Term),
            (End::Retry(delay), _) => self.settle(id, Settlement::Nak(Some(delay.max(LEAST_DELAY)))),
            (End::Interrupted, Some(StopReason::Cancel)) => self.close(id, Action::Cancelled(id)),
            (End::Interrupted, _) => self.settle(id, Settlement::Nak(Some(LEAST_DELAY))),
        }
        self.conclude();
    }

    /// A settlement got through, or it is not known to: an ack or a term is then asked for again later. A hand-back is
    /// not: said twice, the second could take the job from its next holder.
    pub fn settled(&mut self, id: LeaseId, ok: bool, now: Duration) {
        self.observe(now);
        self.note_outcome(id, ok);
        self.conclude();
    }

    /// The server has confirmed a renewal that was asked for at this moment. Only that counts: a connection may be
    /// silent for long before it is known to be. A doubtful lease stays so, because a renewal that arrives late renews
    /// whoever has the job.
    pub fn renewed(&mut self, id: LeaseId, asked: Duration, now: Duration) {
        self.observe(now);
        if let Some(lease) = self.table.get_mut(&id).filter(|lease| !lease.doubtful) {
            lease.renewed = lease.renewed.max(asked.min(self.now));
        }
        self.conclude();
    }

    /// The server can be reached, or not. While it cannot nothing is renewed.
    pub fn link(&mut self, up: bool, now: Duration) {
        self.observe(now);
        self.link_up = up;
        if up {
            for lease in self.table.values_mut() {
                // What was asked for meanwhile was not heard.
                lease.asked = lease.renewed;
                if let State::Settling { due: Some(due), .. } = &mut lease.state {
                    *due = now.min(*due);
                }
            }
        }
        self.conclude();
    }

    /// What time alone brings about: to be called about every [`LeaseSettings::tick`], and at [`Self::next_due`].
    /// `engine_well` is the last moment at which the engine made progress or had nothing to do.
    pub fn tick(&mut self, engine_well: Duration, now: Duration) {
        self.observe(now);
        self.engine_well = engine_well.min(self.now);
        self.stop_overdue();
        self.hand_back_overdue();
        self.repeat_settlements();
        self.renew();
        self.conclude();
    }

    /// The job is not wanted any more: queued, a cancelled result is published; running, it is stopped first. Tells
    /// how many leases that concerns. A job that is still being decoded is not known yet, and not concerned.
    pub fn cancel(&mut self, job_id: &str, now: Duration) -> usize {
        self.observe(now);
        let stages: Vec<_> = self
            .table
            .iter()
            .filter(|(_, lease)| lease.job().is_some_and(|job| job.job_id == job_id))
            .filter_map(|(id, lease)| Some((*id, lease.stage()?)))
            .collect();
        let mut concerned = 0;
        for (id, stage) in stages {
            match stage {
                Stage::Queued(_) => self.close(id, Action::Cancelled(id)),
                Stage::Running => self.stop(id, StopReason::Cancel),
                // A twin ends with the one that it waits for; what is closing is on its way already.
                Stage::Twin | Stage::Closing => continue,
            }
            concerned += 1;
        }
        self.conclude();
        concerned
    }

    /// The worker is to end: queued jobs go back at once, running ones may finish within the grace.
    pub fn drain(&mut self, now: Duration) {
        self.observe(now);
        if self.mode == Mode::Working {
            self.mode = Mode::Draining { until: self.now.saturating_add(self.settings.grace) };
            self.hand_back_waiting();
        }
        self.conclude();
    }

    /// The worker is to end now: what runs is stopped and goes back.
    pub fn abort(&mut self, now: Duration) {
        self.observe(now);
        self.mode = Mode::Aborting;
        self.hand_back_waiting();
        for id in self.ids(Lease::in_work) {
            self.stop(id, StopReason::Drain);
        }
        self.conclude();
    }

    /// Another worker waits for up to `waiting` jobs of this source and there are none: hands back as many queued
    /// ones, the last in order first. The one that starts next stays if there is a slot for it.
    pub fn idle_elsewhere(&mut self, source: SourceId, waiting: usize, now: Duration) {
        self.observe(now);
        let next = if self.busy.len() < self.settings.slots { self.next_to_start() } else { None };
        let mut queued: Vec<_> = self
            .table
            .iter()
            .filter(|(id, _)| id.source == source && Some(**id) != next)
            .filter_map(|(id, lease)| Some((lease.key()?, *id)))
            .collect();
        queued.sort_unstable_by(|a, b| b.cmp(a));
        for (_, id) in queued.into_iter().take(waiting) {
            self.hand_back(id);
        }
        self.conclude();
    }

    /// The sources of queued jobs: where others may wait for what is held here.
    pub fn queued_sources(&self) -> BTreeSet<SourceId> {
        self.table.iter().filter(|(_, lease)| lease.key().is_some()).map(|(id, _)| id.source).collect()
    }

    /// How many jobs may be asked for now. Beyond the slots only with a backlog: without one, a job that waits here
    /// could run elsewhere. None while draining, and none while the engine stands still: they would only expire.
    pub fn room(&self, backlog: bool) -> usize {
        if self.mode != Mode::Working || !self.engine_is_well() {
            return 0;
        }
        let most = if backlog { self.settings.capacity() } else { self.settings.slots };
        most.saturating_sub(self.table.len())
    }

    /// Whether the lease is held, in whatever life: a delivery that follows a hand-back may have come before the word
    /// that the hand-back got through.
    pub fn holds(&self, id: LeaseId) -> bool {
        self.table.contains_key(&id)
    }

    /// How many leases are held.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether nothing is held: the drain is over.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The next moment at which [`Self::tick`] has something to do beside renewals and `max_hold`, which the regular
    /// ticks see to.
    pub fn next_due(&self) -> Option<Duration> {
        let settings = &self.settings;
        let due = |lease: &Lease| {
            let settle = match lease.state {
                State::Settling { due, .. } => due,
                _ => None,
            };
            let may_stop = lease.in_work() && lease.stop.is_none();
            let timeout = may_stop.then(|| lease.begun.saturating_add(settings.job_timeout));
            let grace = match self.mode {
                Mode::Draining { until } if may_stop => Some(until),
                _ => None,
            };
            let expiry = (!lease.doubtful).then(|| lease.renewed + settings.ack_wait);
            [settle, timeout, grace, expiry].into_iter().flatten().min()
        };
        self.table.values().filter_map(due).min()
    }

    /// Figures.
    pub fn counts(&self, now: Duration) -> LeaseCounts {
        let mut counts = LeaseCounts { held: self.table.len(), ..self.totals };
        for lease in self.table.values() {
            let age = now.saturating_sub(lease.since);
            counts.oldest = counts.oldest.max(age);
            let place = match lease.state {
                State::Received => &mut counts.decoding,
                State::Held { stage: Stage::Queued(_) | Stage::Twin, .. } => {
                    counts.oldest_queued = counts.oldest_queued.max(age);
                    &mut counts.queued
                }
                State::Held { stage: Stage::Running, .. } => &mut counts.running,
                State::Held { stage: Stage::Closing, .. } => &mut counts.closing,
                State::Settling { .. } => &mut counts.settling,
            };
            *place += 1;
        }
        counts
    }

    /// Finds the leases that have become doubtful, and forgets those that nobody works on.
    fn observe(&mut self, now: Duration) {
        self.now = self.now.max(now);
        let mut expired = Vec::new();
        for (id, lease) in &mut self.table {
            if !lease.doubtful && self.now.saturating_sub(lease.renewed) >= self.settings.ack_wait {
                lease.doubtful = true;
                expired.push(*id);
            }
        }
        self.totals.doubtful += expired.len() as u64;
        for id in expired {
            if self.table.get(&id).is_some_and(|lease| lease.waits() || lease.goes_back()) {
                self.forget(id);
            }
        }
    }

    /// The last step of every event.
    fn conclude(&mut self) {
        self.dispatch();
        debug_assert_eq!(self.check(), Ok(()));
    }

    fn take_in(&mut self, id: LeaseId, delivery: Delivery) -> Received {
        let renewed = delivery.not_before.min(self.now);
        let late = self.now.saturating_sub(renewed) >= self.settings.ack_wait;
        let mut unreported = 0;
        match self.table.get_mut(&id) {
            Some(lease) if !lease.goes_back() => {
                lease.renewed = lease.renewed.max(renewed);
                lease.asked = lease.asked.max(renewed);
                lease.doubtful &= late;
                self.totals.merged += 1;
                return Received::Merged;
            }
            // The server took it back and lends it again before the edge could say so: a new life.
            Some(lease) => unreported = lease.unreported + 1,
            None => {}
        }
        if let Some(settlement) = self.finished.get(&id) {
            self.totals.again += 1;
            return Received::Again(settlement);
        }
        if late {
            return Received::Late;
        }
        if self.mode != Mode::Working {
            return Received::Refused;
        }
        self.totals.received += 1;
        self.totals.redelivered += u64::from(delivery.count > 1);
        self.table.insert(id, Lease::new(self.now, renewed, unreported));
        Received::Decode
    }

    fn note_outcome(&mut self, id: LeaseId, ok: bool) {
        let Some(lease) = self.table.get_mut(&id) else { return };
        if lease.unreported > 0 {
            lease.unreported -= 1;
            return;
        }
        let State::Settling { settlement, tries, due } = &mut lease.state else { return };
        let handed_back = matches!(settlement, Settlement::Nak(_));
        if !ok && handed_back {
            // It may have got through all the same, and the job be somebody else's.
            return self.forget(id);
        }
        if !ok {
            let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(*tries)).min(LONGEST_PAUSE);
            *tries += 1;
            *due = Some(self.now + pause);
            return;
        }
        let settlement = *settlement;
        self.table.remove(&id);
        // What was handed back comes again.
        if !handed_back {
            self.finished.put(id, settlement);
        }
    }

    fn stop_overdue(&mut self) {
        let (now, timeout) = (self.now, self.settings.job_timeout);
        for id in self.ids(|lease| lease.in_work() && now.saturating_sub(lease.begun) >= timeout) {
            self.stop(id, StopReason::Timeout);
        }
        if matches!(self.mode, Mode::Draining { until } if now >= until) {
            for id in self.ids(Lease::in_work) {
                self.stop(id, StopReason::Drain);
            }
        }
    }

    /// Twins stay: handed over, they would be run elsewhere while their double runs here.
    fn hand_back_overdue(&mut self) {
        let (now, max_hold) = (self.now, self.settings.max_hold);
        let overdue = self.ids(|lease| lease.key().is_some() && now.saturating_sub(lease.since) > max_hold);
        if overdue.is_empty() {
            return;
        }
        let next = self.next_to_start();
        for id in overdue.into_iter().filter(|id| Some(*id) != next) {
            self.hand_back(id);
        }
    }

    fn hand_back_waiting(&mut self) {
        for id in self.ids(Lease::waits) {
            // One that waited for another may have gone back with it.
            if self.table.get(&id).is_some_and(Lease::waits) {
                self.hand_back(id);
            }
        }
    }

    fn repeat_settlements(&mut self) {
        for (id, lease) in &mut self.table {
            if let State::Settling { settlement, due, .. } = &mut lease.state
                && due.is_some_and(|due| due <= self.now)
            {
                *due = None;
                self.actions.push(Action::Settle(*id, *settlement));
            }
        }
    }

    /// Asks for renewals of what is older than half a tick, so that ticks which come a little early do not leave half to
    /// the next.
    fn renew(&mut self) {
        if !self.link_up {
            return;
        }
        let (young, well) = (self.settings.tick() / 2, self.engine_is_well());
        for (id, lease) in &mut self.table {
            let allowed = match lease.state {
                State::Settling { .. } => false,
                State::Received | State::Held { stage: Stage::Closing, .. } => true,
                State::Held { .. } => well,
            };
            let timed_out = lease.stop == Some(StopReason::Timeout);
            if allowed && !timed_out && !lease.doubtful && self.now.saturating_sub(lease.asked) >= young {
                lease.asked = self.now;
                self.totals.renewals += 1;
                self.actions.push(Action::Renew(*id));
            }
        }
    }

    /// Asks the edge to stop, once. A later reason replaces an earlier one only if the worker ends now.
    fn stop(&mut self, id: LeaseId, reason: StopReason) {
        let aborting = self.mode == Mode::Aborting;
        let Some(lease) = self.table.get_mut(&id) else { return };
        match lease.stop {
            None => self.actions.push(Action::Stop(id)),
            Some(_) if aborting => {}
            Some(_) => return,
        }
        lease.stop = Some(reason);
    }

    pub(super) fn engine_is_well(&self) -> bool {
        self.now.saturating_sub(self.engine_well) < self.settings.stall_timeout
    }

    pub(super) fn ids(&self, test: impl Fn(&Lease) -> bool) -> Vec<LeaseId> {
        self.table.iter().filter(|(_, lease)| test(lease)).map(|(id, _)| *id).collect()
    }
}
