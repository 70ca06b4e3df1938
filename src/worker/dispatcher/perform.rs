//! Doing what the lease machine says.

use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::{Dispatcher, Event, report};
use crate::broker::lease::{Action, End, LeaseId, Settlement};
use crate::broker::nats::source::Acker;
use crate::telemetry::Operation;

impl Dispatcher {
    /// Performs all that is due.
    pub(super) fn perform_all(&mut self) {
        for action in self.machine.take_actions() {
            match action {
                Action::Start(lease) => self.start(lease),
                Action::Stop(lease) => {
                    if let Some(held) = self.held.get(&lease) {
                        held.stop.cancel();
                    }
                }
                Action::Renew(lease) => self.renew(lease),
                Action::Settle(lease, settlement) => self.settle(lease, settlement),
                Action::Stale(lease) => self.end_without_work(lease, Verdict::Stale),
                Action::Cancelled(lease) => self.end_without_work(lease, Verdict::Cancelled),
                Action::Forget(lease) => {
                    tracing::warn!(%lease, "lease lost while out of touch; the job is left to the queue");
                    self.let_go(lease);
                }
            }
        }
    }

    fn start(&mut self, lease: LeaseId) {
        let Some(held) = self.held.get_mut(&lease) else { return };
        // The machine starts only what was decoded.
        let Some(taken) = held.job.clone() else { return };
        held.running = true;
        let (runs, stop, events) = (Arc::clone(&self.parts.runs), held.stop.clone(), self.events.clone());
        let run = self.parts.work.spawn(async move { runs.work(&taken, &stop).await });
        tokio::spawn(async move {
            let end = run.await.unwrap_or_else(|error| {
                // A panic in the analysis is a bug of ours; the job is as innocent as any that crashes a process.
                tracing::error!(%lease, %error, "a run broke off");
                End::Retry(super::super::run::AFTER_PANIC)
            });
            report(&events, Event::Ended(lease, end)).await;
        });
    }

    /// Publishes a result that needs no work.
    fn end_without_work(&mut self, lease: LeaseId, verdict: Verdict) {
        let Some(held) = self.held.get_mut(&lease) else { return };
        // Only a decoded job can be stale or cancelled.
        let Some(taken) = held.job.clone() else { return };
        // A run that was stopped has used its token up.
        held.stop = CancellationToken::new();
        let (runs, events, stop) = (Arc::clone(&self.parts.runs), self.events.clone(), held.stop.clone());
        self.parts.work.spawn(async move {
            let end = match verdict {
                Verdict::Stale => runs.stale(&taken, &stop).await,
                Verdict::Cancelled => runs.cancelled(&taken, &stop).await,
            };
            report(&events, Event::Ended(lease, end)).await;
        });
    }

    /// Asks for a renewal. One that is not confirmed is not repeated: the next tick asks again.
    fn renew(&self, lease: LeaseId) {
        let Some(held) = self.held.get(&lease) else { return };
        let (acker, events, asked) = (Arc::clone(&held.acker), self.events.clone(), self.now());
        let vitals = self.parts.vitals.clone();
        tokio::spawn(async move {
            match acker.renew().await {
                Ok(()) => report(&events, Event::Renewed(lease, asked)).await,
                Err(error) => {
                    tracing::debug!(%lease, %error, "lease not renewed");
                    vitals.update(|vitals| vitals.jobs.renewals_failed += 1);
                }
            }
        });
    }

    fn settle(&self, lease: LeaseId, settlement: Settlement) {
        let Some(held) = self.held.get(&lease) else { return };
        let (acker, events) = (Arc::clone(&held.acker), self.events.clone());
        let (instruments, lane) = (self.parts.instruments.clone(), self.pulls.origin(lease.source).lane);
        tokio::spawn(async move {
            let asked = Instant::now();
            let settled = acker.settle(settlement).await;
            match &settled {
                Ok(()) => instruments.operation(operation(settlement), lane.name(), asked.elapsed()),
                Err(error) => tracing::debug!(%lease, %error, "settlement not confirmed; trying again"),
            }
            report(&events, Event::Settled(lease, settled.is_ok())).await;
        });
    }
}

/// Settles a delivery that is not held: of a job that is finished, or while draining. One try: if it is lost, the server
/// delivers once more.
pub(super) fn settle_stray(acker: Acker, settlement: Settlement) {
    tokio::spawn(async move {
        if let Err(error) = acker.settle(settlement).await {
            tracing::debug!(%error, "settlement of a repeated delivery not confirmed");
        }
    });
}

const fn operation(settlement: Settlement) -> Operation {
    match settlement {
        Settlement::Ack => Operation::Ack,
        Settlement::Nak(_) => Operation::Nak,
        Settlement::Term => Operation::Term,
    }
}

enum Verdict {
    Stale,
    Cancelled,
}
