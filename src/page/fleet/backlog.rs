//! What there is to do, in numbers alone: what a fleet is scaled by.
//!
//! Pure. A scaler has to be told also when there is no worker, which is why this page tells it: `maitred ui` holds no GPU
//! and runs always. Whoever reads this reads counts and the names of backfills, never what guests wrote, so it takes no
//! token: a scaler that had it could read quotes and replay dead letters.
//!
//! Invariant: what is not known is an error and never a zero, because a fleet is taken down on zeros.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use time::OffsetDateTime;

use crate::broker::status::{LaneStatus, Load, Running, Status};
use crate::page::STATE_VERSION;

/// A look that is older says nothing of now. Some looks may fail: a scaler that is told of an error may start workers at
/// once (KEDA does), and a server that restarts is no reason for that.
pub(super) const STALE: Duration = Duration::from_secs(10);

/// What there is to do: the whole of `/api/backlog`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Backlog {
    /// [`STATE_VERSION`].
    pub v: u16,
    /// When it was so (UTC).
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// The lanes, by name.
    pub lanes: BTreeMap<&'static str, Work>,
    /// The backfills that run, by id. Their jobs are in no lane's count.
    pub backfills: BTreeMap<String, Work>,
    /// These backfills together; zeros where none runs.
    pub replays: Work,
    /// All lanes and all these backfills.
    pub total: Work,
}

/// Jobs that are not settled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Work {
    /// Jobs that no worker has.
    pub pending: u64,
    /// Jobs that workers hold.
    pub in_flight: u64,
    /// Both: what to scale by. Were only waiting jobs counted, a fleet that has just taken the last ones would be taken
    /// down while it works.
    pub jobs: u64,
}

/// Why nobody can say what there is to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// The fleet was not looked at yet.
    #[error("what waits is not known yet; ask again in a moment")]
    NotYet,
    /// It could not be looked at yet.
    #[error("what waits is not known: {0}")]
    Never(String),
    /// It cannot be looked at any more.
    #[error("what waits has not been known for {} s: {cause}", age.as_secs())]
    Stale {
        /// Since the last look that succeeded.
        age: Duration,
        /// Why later ones did not.
        cause: String,
    },
}

impl From<Load> for Work {
    fn from(load: Load) -> Self {
        Self { pending: load.pending, in_flight: load.in_flight, jobs: load.jobs() }
    }
}

impl Backlog {
    /// What a look at the fleet says of it.
    pub fn of(status: &Status) -> Self {
        let lanes = status.lanes.iter().map(LaneStatus::load);
        let replays = status.backfills.iter().map(Running::load);
        Self {
            v: STATE_VERSION,
            at: status.at,
            lanes: status.lanes.iter().map(|lane| (lane.lane.name(), lane.load().into())).collect(),
            backfills: status
                .backfills
                .iter()
                .map(|running| (running.backfill.id.clone(), running.load().into()))
                .collect(),
            replays: replays.clone().sum::<Load>().into(),
            total: lanes.chain(replays).sum::<Load>().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::backfill::{Backfill, Position};
    use crate::broker::status::Server;
    use crate::scheduler::Lane;
    use serde_json::json;
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-06-15 12:00 UTC);

    fn status(backfills: Vec<Running>) -> Status {
        let lane = |lane: Lane| LaneStatus {
            lane,
            pending: 10 * (lane as u64 + 1),
            in_flight: lane as u64,
            redelivered: 0,
            waiting: 0,
            ack_floor: 0,
            oldest: None,
        };
        Status {
            at: NOW,
            server: Server { version: "2.14.0".into(), name: "n".into(), address: "127.0.0.1:4222".into() },
            streams: Vec::new(),
            lanes: Lane::ALL.map(lane).into(),
            workers: Vec::new(),
            backfills,
            dead_letters: 0,
            alarms: Vec::new(),
        }
    }

    fn running(id: &str, at: Option<Position>) -> Running {
        let backfill = Backfill::new(id.into(), 1, 100, NOW);
        Running { progress: backfill.progress(at, NOW), lost: at.is_none(), backfill }
    }

    #[test]
    fn lanes_and_backfills_are_counted_apart_and_together() {
        let half = Position { delivered: 60, ack_floor: 50, pending: 999, in_flight: 10 };
        let told = Backlog::of(&status(vec![running("a", Some(half)), running("lost", None)]));
        let lanes: u64 = told.lanes.values().map(|work| work.jobs).sum();
        assert_eq!(told.lanes.keys().copied().collect::<Vec<_>>(), ["backfill", "hi", "live"]);
        assert_eq!(told.backfills["a"], Work { pending: 40, in_flight: 10, jobs: 50 });
        assert_eq!(told.backfills["lost"], Work::default(), "its consumer gives nothing to any worker");
        assert_eq!(told.replays, told.backfills["a"]);
        assert_eq!(told.total.jobs, lanes + 50);
        assert_eq!(told.total.pending + told.total.in_flight, told.total.jobs);
    }

    #[test]
    fn where_no_backfill_runs_there_is_a_zero_to_be_read() {
        let told = serde_json::to_value(Backlog::of(&status(Vec::new()))).unwrap();
        assert_eq!(told["replays"], json!({ "pending": 0, "in_flight": 0, "jobs": 0 }));
        assert_eq!(told["backfills"], json!({}));
    }
}
