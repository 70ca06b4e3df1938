//! The invariants, as a check.

use std::collections::{BTreeSet, HashSet};

use super::LeaseId;
use super::machine::{LeaseMachine, Mode};
use super::table::{Lease, Stage};

impl LeaseMachine {
    /// Whether the invariants hold that one moment can show. Which orders of actions are right, and that no job is
    /// lost, takes a view over time: the model test has it.
    pub fn check(&self) -> Result<(), String> {
        self.check_queue()?;
        self.check_runs()?;
        self.check_results()?;
        self.check_epochs()
    }

    fn check_queue(&self) -> Result<(), String> {
        let queued = self.ids(|lease| lease.key().is_some());
        if self.ready.len() != queued.len() {
            return Err(format!(
                "{} leases are queued and {} are in the heap",
                queued.len(),
                self.ready.len()
            ));
        }
        let idle = self.ids(|lease| lease.waits() || lease.goes_back());
        if let Some(id) = idle.iter().find(|id| self.table.get(id).is_some_and(|lease| lease.doubtful)) {
            return Err(format!("{id} is doubtful and still waits"));
        }
        let waiting = self.ids(Lease::waits);
        if self.mode != Mode::Working && !waiting.is_empty() {
            return Err(format!("{} leases wait in a drain", waiting.len()));
        }
        Ok(())
    }

    fn check_runs(&self) -> Result<(), String> {
        let running: BTreeSet<LeaseId> =
            self.ids(|lease| lease.stage() == Some(Stage::Running)).into_iter().collect();
        let busy: BTreeSet<LeaseId> = self.busy.values().copied().collect();
        if running != busy || busy.len() != self.busy.len() {
            return Err(format!("running are {running:?}, slots are taken by {busy:?}"));
        }
        if running.len() > self.settings.slots {
            return Err(format!("{} run in {} slots", running.len(), self.settings.slots));
        }
        for (restaurant, id) in &self.busy {
            if self.table.get(id).and_then(Lease::job).is_none_or(|job| job.restaurant != *restaurant) {
                return Err(format!("{id} holds the place of a restaurant that is not its own"));
            }
        }
        if self.suspect_runs() && running.len() > 1 {
            return Err("a suspect does not run alone".to_owned());
        }
        let may_start = self.mode == Mode::Working && self.engine_is_well();
        if may_start && running.len() < self.settings.slots && !self.suspect_runs() {
            let next = self.next_to_start().and_then(|id| Some((id, self.table.get(&id)?.job()?)));
            if let Some((id, _)) = next.filter(|(_, job)| running.is_empty() || !job.solo) {
                return Err(format!("{id} waits beside a free slot"));
            }
        }
        Ok(())
    }

    /// One lease decides on a result; its doubles wait for it.
    fn check_results(&self) -> Result<(), String> {
        let mut decided = HashSet::new();
        for (id, lease) in &self.table {
            if let (Some(job), Some(Stage::Queued(_) | Stage::Running | Stage::Closing)) =
                (lease.job(), lease.stage())
                && !decided.insert(&job.result_id)
            {
                return Err(format!("{id} is a second lease that decides on one result"));
            }
        }
        for (id, lease) in &self.table {
            if lease.stage() == Some(Stage::Twin)
                && lease.job().is_some_and(|job| !decided.contains(&job.result_id))
            {
                return Err(format!("{id} waits for a lease that is not held"));
            }
        }
        Ok(())
    }

    fn check_epochs(&self) -> Result<(), String> {
        for (id, lease) in self.table.iter().filter(|(_, lease)| lease.key().is_some()) {
            let Some(job) = lease.job() else { continue };
            let newer = |other: &Lease| {
                other.supersedes()
                    && other
                        .job()
                        .is_some_and(|other| other.restaurant == job.restaurant && other.epoch > job.epoch)
            };
            if self.table.values().any(newer) {
                return Err(format!("{id} is queued though a newer epoch of its restaurant is held"));
            }
        }
        Ok(())
    }
}
