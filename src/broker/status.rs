//! How the fleet is, as one value, and when that is a reason to worry.
//!
//! Pure: what the server says is put in from outside, `now` too.

use std::iter::Sum;
use std::time::Duration;

use serde::Serialize;
use time::OffsetDateTime;

use super::backfill::{Backfill, Progress};
use super::presence::Worker;
use crate::scheduler::Lane;

/// The share of the way to being deleted at which a waiting job is in danger.
const NEAR: f64 = 0.8;

/// The fleet at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// When it was so (UTC).
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// The server that told.
    pub server: Server,
    /// The streams, that of jobs first.
    pub streams: Vec<Stream>,
    /// The lanes, the most urgent first.
    pub lanes: Vec<LaneStatus>,
    /// The workers that live, by name.
    pub workers: Vec<Worker>,
    /// The backfills that run, by id.
    pub backfills: Vec<Running>,
    /// Dead letters that wait for somebody to look at them.
    pub dead_letters: u64,
    /// What should not stay as it is.
    pub alarms: Vec<Alarm>,
}

/// A NATS server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Server {
    /// Its version.
    pub version: String,
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub address: String,
}

/// A stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stream {
    /// Its name.
    pub name: String,
    /// Messages in it.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that it may hold; `None`: as many as the server has.
    pub max_bytes: Option<u64>,
    /// Seconds after which a message is deleted, zero for never.
    pub max_age_seconds: u64,
    /// Sequence of the oldest message.
    pub first_sequence: u64,
    /// Sequence of the newest message.
    pub last_sequence: u64,
    /// When the oldest message was published (UTC).
    #[serde(with = "time::serde::rfc3339::option")]
    pub oldest: Option<OffsetDateTime>,
}

/// Jobs that are not settled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Load {
    /// Jobs that no worker has.
    pub pending: u64,
    /// Jobs that workers hold.
    pub in_flight: u64,
}

/// A lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LaneStatus {
    /// Which one.
    pub lane: Lane,
    /// Jobs that no worker has.
    pub pending: u64,
    /// Jobs that workers hold.
    pub in_flight: u64,
    /// Those of them that were delivered before.
    pub redelivered: u64,
    /// Requests of workers that wait for a job.
    pub waiting: u64,
    /// Sequence up to which all its jobs are settled.
    pub ack_floor: u64,
    /// Its oldest job that is not settled.
    pub oldest: Option<Waiting>,
}

/// A job that is not settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// Its sequence.
    pub sequence: u64,
    /// When it was published (UTC).
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
}

/// A backfill that runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Running {
    /// Its record.
    pub backfill: Backfill,
    /// How far it is.
    pub progress: Progress,
    /// Its consumer is gone: it does nothing.
    pub lost: bool,
}

/// What should not stay as it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "alarm", rename_all = "snake_case")]
pub enum Alarm {
    /// A job waits for so long that its stream will delete it before it is worked.
    Ageing {
        /// Its lane.
        lane: Lane,
        /// Its sequence.
        sequence: u64,
        /// How much of its life in the stream is over, from 0 to 1.
        share: f64,
    },
    /// The stream is nearly full, and a job that waits is among the first to be deleted for newer ones.
    Crowded {
        /// Its lane.
        lane: Lane,
        /// Its sequence.
        sequence: u64,
        /// How full the stream is, from 0 to 1.
        share: f64,
    },
    /// Jobs wait, and there is no worker.
    Unattended {
        /// How many wait.
        pending: u64,
    },
    /// The consumer of a running backfill is gone.
    Lost {
        /// The backfill.
        backfill: String,
    },
}

impl Load {
    /// Both: what there is to do before nothing is left, and so what a fleet is scaled by.
    pub const fn jobs(self) -> u64 {
        self.pending.saturating_add(self.in_flight)
    }
}

impl Sum for Load {
    fn sum<I: Iterator<Item = Self>>(loads: I) -> Self {
        loads.fold(Self::default(), |all, load| Self {
            pending: all.pending.saturating_add(load.pending),
            in_flight: all.in_flight.saturating_add(load.in_flight),
        })
    }
}

impl LaneStatus {
    /// Its jobs that are not settled.
    pub const fn load(&self) -> Load {
        Load { pending: self.pending, in_flight: self.in_flight }
    }
}

impl Running {
    /// Its jobs that are not settled; none if it is lost.
    pub const fn load(&self) -> Load {
        Load { pending: self.progress.pending, in_flight: self.progress.in_flight }
    }
}

impl Alarm {
    /// What it is, and what to do.
    pub fn text(&self) -> String {
        let percent = |share: &f64| format!("{:.0} %", share * 100.0);
        match self {
            Self::Ageing { lane, sequence, share } => format!(
                "job {sequence} in lane {lane} has waited for {} of the time that jobs are kept, and will be deleted \
                 unworked: add workers, or raise `nats.jobs_max_age` and run `maitred init`",
                percent(share)
            ),
            Self::Crowded { lane, sequence, share } => format!(
                "the stream of jobs is {} full and job {sequence} in lane {lane}, which waits, is among the next to be \
                 deleted: add workers, or raise `nats.jobs_max_bytes` and run `maitred init`",
                percent(share)
            ),
            Self::Unattended { pending } => {
                format!("jobs wait ({pending}) and no worker is alive: start `maitred worker`")
            }
            Self::Lost { backfill } => format!(
                "backfill {backfill} has lost its consumer, for want of workers: stop it and start another one"
            ),
        }
    }
}

/// What should not stay as it is.
pub fn alarms(
    jobs: &Stream,
    lanes: &[LaneStatus],
    workers: &[Worker],
    backfills: &[Running],
    now: OffsetDateTime,
) -> Vec<Alarm> {
    let load: Load = lanes.iter().map(LaneStatus::load).chain(backfills.iter().map(Running::load)).sum();
    let pending = load.jobs();
    let unattended = (pending > 0 && workers.is_empty()).then_some(Alarm::Unattended { pending });
    let endangered = lanes.iter().filter_map(|lane| danger(jobs, lane, now));
    let lost = backfills.iter().filter(|running| running.lost);
    let lost = lost.map(|running| Alarm::Lost { backfill: running.backfill.id.clone() });
    endangered.chain(unattended).chain(lost).collect()
}

/// Whether the stream will delete the lane's oldest job before it is worked.
///
/// The distance of the ack floor from the stream's first sequence would not tell: the floor of a lane that has had
/// nothing to do for weeks lies behind, and nothing is wrong with that. What counts is the oldest job that waits.
fn danger(jobs: &Stream, lane: &LaneStatus, now: OffsetDateTime) -> Option<Alarm> {
    let Waiting { sequence, since } = lane.oldest?;
    let lane = lane.lane;
    let waited = Duration::try_from(now - since).unwrap_or_default();
    if jobs.max_age_seconds > 0 {
        let share = waited.as_secs_f64() / jobs.max_age_seconds as f64;
        if share >= NEAR {
            return Some(Alarm::Ageing { lane, sequence, share });
        }
    }
    let share = jobs.bytes as f64 / jobs.max_bytes? as f64;
    let behind = sequence.saturating_sub(jobs.first_sequence) as f64;
    let length = jobs.last_sequence.saturating_sub(jobs.first_sequence) as f64;
    (share >= NEAR && behind <= length * (1.0 - NEAR)).then_some(Alarm::Crowded { lane, sequence, share })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::backfill::Position;
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-06-15 12:00 UTC);

    fn jobs() -> Stream {
        Stream {
            name: "REVIEW_JOBS".into(),
            messages: 1000,
            bytes: 10,
            max_bytes: Some(100),
            max_age_seconds: 10 * 86_400,
            first_sequence: 1,
            last_sequence: 1001,
            oldest: Some(NOW - time::Duration::days(9)),
        }
    }

    fn lane(oldest: Option<(u64, i64)>) -> LaneStatus {
        let oldest =
            oldest.map(|(sequence, hours)| Waiting { sequence, since: NOW - time::Duration::hours(hours) });
        LaneStatus {
            lane: Lane::Live,
            pending: u64::from(oldest.is_some()),
            in_flight: 0,
            redelivered: 0,
            waiting: 0,
            ack_floor: 0,
            oldest,
        }
    }

    fn worker() -> Worker {
        Worker::new("w", NOW)
    }

    #[test]
    fn a_job_that_has_waited_for_most_of_its_life_in_the_stream_is_in_danger() {
        let alarm = |hours| alarms(&jobs(), &[lane(Some((500, hours)))], &[worker()], &[], NOW);
        assert!(matches!(alarm(8 * 24)[..], [Alarm::Ageing { lane: Lane::Live, sequence: 500, .. }]));
        assert_eq!(alarm(7 * 24), []);
        let for_ever = Stream { max_age_seconds: 0, ..jobs() };
        assert_eq!(alarms(&for_ever, &[lane(Some((500, 9999)))], &[worker()], &[], NOW), []);
    }

    #[test]
    fn in_a_full_stream_the_first_jobs_are_in_danger_and_the_last_are_not() {
        let alarm = |bytes, sequence| {
            alarms(&Stream { bytes, ..jobs() }, &[lane(Some((sequence, 1)))], &[worker()], &[], NOW)
        };
        assert!(matches!(alarm(90, 100)[..], [Alarm::Crowded { sequence: 100, .. }]));
        assert_eq!(alarm(90, 900), []);
        assert_eq!(alarm(50, 100), []);
    }

    #[test]
    fn an_idle_lane_is_in_no_danger_however_far_its_floor_lies_behind() {
        let full = Stream { bytes: 100, ..jobs() };
        assert_eq!(alarms(&full, &[lane(None)], &[], &[], NOW), []);
    }

    fn running(at: Option<Position>) -> Running {
        let backfill = Backfill::new("b".into(), 1, 9, NOW);
        Running { progress: backfill.progress(at, NOW), lost: at.is_none(), backfill }
    }

    #[test]
    fn a_backfill_without_workers_is_told_although_its_lane_is_empty() {
        let at = Position { delivered: 4, ack_floor: 2, pending: 100, in_flight: 2 };
        let alarm = |workers: &[Worker]| alarms(&jobs(), &[lane(None)], workers, &[running(Some(at))], NOW);
        assert_eq!(alarm(&[]), [Alarm::Unattended { pending: 7 }]);
        assert_eq!(alarm(&[worker()]), []);
    }

    #[test]
    fn jobs_without_workers_and_a_backfill_without_its_consumer_are_told() {
        let alarms = alarms(&jobs(), &[lane(Some((500, 1)))], &[], &[running(None)], NOW);
        assert_eq!(alarms, [Alarm::Unattended { pending: 1 }, Alarm::Lost { backfill: "b".into() }]);
        assert!(alarms.iter().all(|alarm| alarm.text().contains("start")));
    }
}
