//! The server, as far as a lease can tell: it lends, waits, and lends again; it does not fence.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::{JobHead, LeaseId, Settlement};

/// Who has a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Nobody; to be lent from this moment.
    Ready(Duration),
    /// This worker.
    Ours(Duration),
    /// Another worker. Both end at this moment unless renewed.
    Theirs(Duration),
    /// Acked or terminated.
    Over,
}

#[derive(Debug)]
pub(super) struct Message {
    pub(super) place: Place,
    pub(super) count: u64,
    /// `None`: it cannot be decoded.
    pub(super) job: Option<JobHead>,
}

#[derive(Debug)]
pub(super) struct Server {
    pub(super) messages: BTreeMap<LeaseId, Message>,
    /// Results, by id: a second one is dropped.
    pub(super) results: BTreeSet<String>,
    /// Dead letters, by the delivery they stand for.
    pub(super) dead: BTreeSet<LeaseId>,
    pub(super) ack_wait: Duration,
}

impl Server {
    pub(super) fn new(jobs: BTreeMap<LeaseId, Option<JobHead>>, ack_wait: Duration) -> Self {
        let message = |job| Message { place: Place::Ready(Duration::ZERO), count: 0, job };
        let messages = jobs.into_iter().map(|(id, job)| (id, message(job))).collect();
        Self { messages, results: BTreeSet::new(), dead: BTreeSet::new(), ack_wait }
    }

    pub(super) fn expire(&mut self, now: Duration) {
        for message in self.messages.values_mut() {
            if let Place::Ours(end) | Place::Theirs(end) = message.place
                && end <= now
            {
                message.place = Place::Ready(end);
            }
        }
    }

    pub(super) fn ready(&self, now: Duration) -> Vec<LeaseId> {
        let ready = |message: &Message| matches!(message.place, Place::Ready(from) if from <= now);
        self.messages.iter().filter(|(_, message)| ready(message)).map(|(id, _)| *id).collect()
    }

    pub(super) fn theirs(&self) -> Vec<LeaseId> {
        let theirs = |message: &Message| matches!(message.place, Place::Theirs(_));
        self.messages.iter().filter(|(_, message)| theirs(message)).map(|(id, _)| *id).collect()
    }

    /// Lends a job and tells the number of the delivery.
    pub(super) fn lend(&mut self, id: LeaseId, ours: bool, now: Duration) -> u64 {
        let end = now + self.ack_wait;
        let message = self.get(id);
        message.place = if ours { Place::Ours(end) } else { Place::Theirs(end) };
        message.count += 1;
        message.count
    }

    /// It would renew whoever has the job; the machine must only renew what is its own.
    pub(super) fn renew(&mut self, id: LeaseId, now: Duration) {
        let end = now + self.ack_wait;
        let message = self.get(id);
        assert!(matches!(message.place, Place::Ours(_)), "{id} is renewed and is {:?}", message.place);
        message.place = Place::Ours(end);
    }

    /// An ack counts whoever says it. So would a nak: the machine must only hand back what is its own.
    pub(super) fn settle(&mut self, id: LeaseId, settlement: Settlement, now: Duration) {
        let message = self.get(id);
        match settlement {
            Settlement::Ack | Settlement::Term => message.place = Place::Over,
            Settlement::Nak(delay) => {
                assert!(
                    matches!(message.place, Place::Ours(_)),
                    "{id} is handed back and is {:?}",
                    message.place
                );
                message.place = Place::Ready(now + delay.unwrap_or_default());
            }
        }
    }

    /// What is over was worked: its result or its dead letter is there.
    pub(super) fn check(&self) {
        for (id, message) in &self.messages {
            let result = message.job.as_ref().is_some_and(|job| self.results.contains(&job.result_id));
            let worked = result || self.dead.contains(id);
            assert!(worked || message.place != Place::Over, "{id} is lost");
        }
    }

    pub(super) fn job(&self, id: LeaseId) -> Option<&JobHead> {
        self.messages[&id].job.as_ref()
    }

    pub(super) fn get(&mut self, id: LeaseId) -> &mut Message {
        self.messages.get_mut(&id).unwrap()
    }
}
