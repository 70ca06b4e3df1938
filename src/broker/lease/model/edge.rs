//! The worker's edge: carries out what the machine asks for, and objects to what it must not ask for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::super::{
    Action, Delivery, End, LeaseId, LeaseMachine, LeaseSettings, Received, Settlement, SourceId,
};
use super::server::Server;

/// How long the server keeps a pull.
const PULL: Duration = Duration::from_secs(5);

/// What the edge does for a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    Decoding,
    Waiting,
    Running,
    Publishing,
    Over,
}

/// One life of a lease, as the edge sees it.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) work: Work,
    pub(super) stop: bool,
    settlement: Option<Settlement>,
    unconfirmed: bool,
    renewed: Duration,
}

/// A settlement under way: whether it reached the server.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) id: LeaseId,
    pub(super) arrived: bool,
}

/// The connection to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    Up,
    /// Nothing arrives, and it is not known to be down.
    Silent,
    Down,
}

#[derive(Debug)]
pub(super) struct Edge {
    settings: LeaseSettings,
    pub(super) machine: LeaseMachine,
    pub(super) server: Server,
    pub(super) now: Duration,
    pub(super) link: Link,
    /// Whether the next settlement gets lost on its way.
    pub(super) lossy: bool,
    drained: bool,
    /// When each job that is asked for and not delivered was asked for.
    pulls: Vec<Duration>,
    /// Delivered and not read.
    socket: VecDeque<(LeaseId, Delivery)>,
    pub(super) lives: BTreeMap<LeaseId, Life>,
    pub(super) sent: Vec<Sent>,
    /// Results that this process published.
    published: BTreeSet<String>,
}

impl Edge {
    pub(super) fn new(settings: LeaseSettings, server: Server) -> Self {
        Self {
            settings,
            machine: LeaseMachine::new(settings, Duration::ZERO),
            server,
            now: Duration::ZERO,
            link: Link::Up,
            lossy: false,
            drained: false,
            pulls: Vec::new(),
            socket: VecDeque::new(),
            lives: BTreeMap::new(),
            sent: Vec::new(),
            published: BTreeSet::new(),
        }
    }

    /// The process is killed and started again.
    pub(super) fn crash(&mut self) {
        self.machine = LeaseMachine::new(self.settings, self.now);
        self.machine.link(self.link != Link::Down, self.now);
        self.drained = false;
        self.pulls.clear();
        self.socket.clear();
        self.lives.clear();
        self.sent.clear();
        self.published.clear();
    }

    /// Time passes and nobody looks.
    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.server.expire(self.now);
        self.pulls.retain(|sent| self.now < *sent + PULL);
    }

    /// A change of the link ends a silence.
    pub(super) fn set_link(&mut self, up: bool) {
        self.link = if up { Link::Up } else { Link::Down };
        if !up {
            self.pulls.clear();
            self.socket.clear();
        }
        self.machine.link(up, self.now);
        self.act();
    }

    pub(super) fn pull(&mut self, backlog: bool) {
        let underway = self.pulls.len() + self.socket.len();
        let room = self.machine.room(backlog).saturating_sub(underway);
        if self.link != Link::Down {
            self.pulls.extend(std::iter::repeat_n(self.now, room));
        }
    }

    /// The server answers a pull with the n-th job that it may lend.
    pub(super) fn deliver(&mut self, n: usize) -> bool {
        let ready = self.server.ready(self.now);
        if ready.is_empty() || self.pulls.is_empty() || !self.hears() {
            return false;
        }
        let id = ready[n % ready.len()];
        let not_before = self.pulls.remove(0);
        let count = self.server.lend(id, true, self.now);
        self.socket.push_back((id, Delivery { count, not_before }));
        true
    }

    pub(super) fn receive(&mut self) -> bool {
        let Some((id, delivery)) = self.socket.pop_front() else { return false };
        match self.machine.received(id, delivery, self.now) {
            Received::Decode => {
                let life = Life {
                    work: Work::Decoding,
                    stop: false,
                    settlement: None,
                    unconfirmed: false,
                    renewed: delivery.not_before,
                };
                self.lives.insert(id, life);
            }
            Received::Merged => {
                let life = self.lives.get_mut(&id).unwrap();
                life.renewed = life.renewed.max(delivery.not_before);
            }
            Received::Again(settlement) => {
                assert!(!matches!(settlement, Settlement::Nak(_)));
                if self.hears() {
                    self.server.settle(id, settlement, self.now);
                }
            }
            Received::Refused => {
                assert!(self.drained);
                if self.hears() {
                    self.server.settle(id, Settlement::Nak(None), self.now);
                }
            }
            Received::Late => assert!(self.now.saturating_sub(delivery.not_before) >= self.settings.ack_wait),
        }
        self.act();
        true
    }

    pub(super) fn working(&self, work: Work) -> Vec<LeaseId> {
        self.lives.iter().filter(|(_, life)| life.work == work).map(|(id, _)| *id).collect()
    }

    pub(super) fn decode(&mut self, id: LeaseId) {
        match self.server.job(id).cloned() {
            Some(job) => {
                self.lives.get_mut(&id).unwrap().work = Work::Waiting;
                self.machine.decoded(id, job, self.now);
                self.act();
            }
            None => self.end(id, End::Dead),
        }
    }

    /// Work ends. What has to be written cannot be without a link: then it goes on.
    pub(super) fn end(&mut self, id: LeaseId, end: End) {
        match end {
            End::Done | End::Dead if !self.hears() => return,
            End::Done => {
                let result = self.server.job(id).unwrap().result_id.clone();
                self.published.insert(result.clone());
                self.server.results.insert(result);
            }
            End::Dead => {
                self.server.dead.insert(id);
            }
            End::Retry(_) | End::Interrupted => {}
        }
        self.lives.get_mut(&id).unwrap().work = Work::Over;
        self.machine.ended(id, end, self.now);
        self.act();
    }

    /// The n-th settlement under way is confirmed, if it arrived and the answer does too.
    pub(super) fn report(&mut self, n: usize, answered: bool) {
        if self.sent.is_empty() {
            return;
        }
        let Sent { id, arrived } = self.sent.remove(n % self.sent.len());
        let ok = arrived && answered;
        if let Some(life) = self.lives.get_mut(&id) {
            life.unconfirmed |= !ok;
        }
        self.machine.settled(id, ok, self.now);
        self.act();
    }

    pub(super) fn tick(&mut self, engine_well: bool) {
        let stood_still = self.settings.stall_timeout;
        let well = if engine_well { self.now } else { self.now.saturating_sub(stood_still) };
        self.machine.tick(well, self.now);
        self.act();
    }

    pub(super) fn leave(&mut self, abort: bool) {
        self.drained = true;
        if abort {
            self.machine.abort(self.now);
        } else {
            self.machine.drain(self.now);
        }
        self.act();
    }

    /// A drain that is over ends the process.
    pub(super) fn restart_if_drained(&mut self) {
        if self.drained && self.machine.is_empty() {
            self.crash();
        }
    }

    pub(super) fn cancel(&mut self, job_id: &str) {
        self.machine.cancel(job_id, self.now);
        self.act();
    }

    pub(super) fn idle_elsewhere(&mut self, source: u16, waiting: usize) {
        self.machine.idle_elsewhere(SourceId(source), waiting, self.now);
        self.act();
    }

    /// What must hold between any two events.
    pub(super) fn check(&self) {
        self.machine.check().unwrap();
        self.server.check();
        let held = self.machine.counts(self.now).held;
        let most = self.settings.capacity();
        assert!(held + self.socket.len() + self.pulls.len() <= most, "I5: {held} held of {most}");
    }

    fn act(&mut self) {
        for action in self.machine.take_actions() {
            match action {
                Action::Start(id) => self.start(id),
                Action::Stop(id) => {
                    let life = self.live(id);
                    assert!(!life.stop && !matches!(life.work, Work::Over | Work::Waiting), "{id}: {life:?}");
                    life.stop = true;
                }
                Action::Renew(id) => {
                    assert!(self.link != Link::Down, "renewed without a link");
                    let now = self.now;
                    let life = self.live(id);
                    assert_eq!(life.settlement, None, "I3: {id} is renewed after its last word");
                    if self.hears() {
                        self.live(id).renewed = now;
                        self.server.renew(id, now);
                        self.machine.renewed(id, now, now);
                    }
                }
                Action::Settle(id, settlement) => self.settle(id, settlement),
                Action::Stale(id) | Action::Cancelled(id) => {
                    let life = self.live(id);
                    assert!(life.settlement.is_none() && life.work != Work::Running, "{id}: {life:?}");
                    life.work = Work::Publishing;
                    life.stop = false;
                }
                Action::Forget(id) => {
                    let (now, link, ack_wait) = (self.now, self.link != Link::Down, self.settings.ack_wait);
                    let life = self.lives.remove(&id).unwrap();
                    let doubtful = now.saturating_sub(life.renewed) >= ack_wait;
                    assert!(doubtful || !link || life.unconfirmed, "I1: {id} is forgotten: {life:?}");
                    assert!(life.work != Work::Running, "{id} is forgotten and still runs");
                }
            }
        }
    }

    fn start(&mut self, id: LeaseId) {
        assert!(!self.drained, "{id} starts in a drain");
        let job = self.server.job(id).unwrap();
        assert!(!self.published.contains(&job.result_id), "I2: {id} starts and its result is out");
        let running = self.working(Work::Running);
        assert!(running.len() < self.settings.slots, "I4: {id} starts without a slot");
        for other in running {
            let other = self.server.job(other).unwrap();
            assert!(
                other.result_id != job.result_id && other.restaurant != job.restaurant,
                "I2: {id} runs twice"
            );
            assert!(!other.solo && !job.solo, "I4: a suspect does not run alone");
        }
        let life = self.live(id);
        assert!(life.work == Work::Waiting && life.settlement.is_none(), "{id}: {life:?}");
        life.work = Work::Running;
    }

    fn settle(&mut self, id: LeaseId, settlement: Settlement) {
        let life = self.live(id);
        assert!(!matches!(life.work, Work::Running | Work::Publishing), "{id} is settled while in work");
        if let Some(before) = life.settlement {
            assert_eq!(before, settlement, "I3: {id} is settled in two ways");
            assert!(life.unconfirmed && !matches!(before, Settlement::Nak(_)), "I3: {id} is settled twice");
        }
        life.settlement = Some(settlement);
        life.unconfirmed = false;
        life.work = Work::Over;
        let arrived = self.hears() && !std::mem::take(&mut self.lossy);
        if arrived {
            self.server.settle(id, settlement, self.now);
        }
        self.sent.push(Sent { id, arrived });
    }

    const fn hears(&self) -> bool {
        matches!(self.link, Link::Up)
    }

    fn live(&mut self, id: LeaseId) -> &mut Life {
        self.lives.get_mut(&id).unwrap_or_else(|| panic!("{id} is not held"))
    }
}
