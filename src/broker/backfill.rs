//! Backfills: old jobs worked again, beside the live ones.
//!
//! Pure: the record that stands in the bucket, and what follows from it. A backfill is a range of the stream of jobs, a
//! durable consumer that starts at its beginning, and this record, which tells workers that the consumer is there.
//! Invariants: the range is fixed when it starts, so it ends; a backfill that has ended never runs again; an id is used
//! once, because results are known by it and the server drops those that it takes for repeats.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::names;
use crate::job::{Analysis, Job, parse_time};

/// Bytes of an id at most.
const MAX_ID: usize = 64;

/// One replay of stored jobs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Backfill {
    /// Its name: the key of this record, and part of its consumer's name and of its results' ids.
    pub id: String,
    /// Sequence of the first job.
    pub from: u64,
    /// Sequence of the last job.
    pub to: u64,
    /// Jobs per second that all workers together may start; `None`: as fast as the lane's share allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// What is asked instead of what each job asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analyses: Option<Vec<Analysis>>,
    /// Whether it runs.
    pub state: State,
    /// When it was started (UTC).
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it ended (UTC).
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<OffsetDateTime>,
    /// Sequences that were behind it when it ended; its consumer, which knew them, is gone.
    #[serde(default)]
    pub done: u64,
}

/// How far a backfill's life is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Workers pull its jobs.
    Running,
    /// Somebody stopped it.
    Stopped,
    /// All its jobs were worked.
    Done,
}

impl State {
    /// The name in records and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Done => "done",
        }
    }
}

/// Where the consumer of a backfill stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Position {
    /// Sequence of the last job that was delivered.
    pub delivered: u64,
    /// Sequence up to which all jobs are settled.
    pub ack_floor: u64,
    /// Jobs in the stream that were not delivered yet, those behind the range too.
    pub pending: u64,
    /// Jobs that workers hold.
    pub in_flight: u64,
}

/// How far a backfill is, and how it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Progress {
    /// Sequences that are behind it.
    pub done: u64,
    /// Sequences of the range.
    pub total: u64,
    /// Jobs of the range that no worker has, at most: see [`Backfill::pending`].
    pub pending: u64,
    /// Jobs that workers hold.
    pub in_flight: u64,
    /// Sequences per second since the start.
    pub per_second: f64,
    /// Seconds to the end at that pace; absent before the first job is done, and after the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<f64>,
}

/// One end of a range, as a person names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// A sequence of the stream of jobs.
    Sequence(u64),
    /// When the job was published.
    Time(OffsetDateTime),
}

/// What a person asked for that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackfillError {
    /// Neither a sequence nor a time.
    #[error(
        "`{0}` is neither a sequence nor a time; write a number, a date such as 2026-05-31, RFC 3339, or how long \
         ago such as 14d"
    )]
    Bound(String),
    /// Not a rate.
    #[error("`{0}` is not a rate above zero; write jobs per time such as 5/s, 30/min or 1000/h")]
    Rate(String),
    /// Not an id.
    #[error("`{0}` cannot be an id; use 1 to 64 letters, digits, `-` and `_`")]
    Id(String),
}

impl Backfill {
    /// A backfill that begins now.
    pub fn new(id: String, from: u64, to: u64, now: OffsetDateTime) -> Self {
        let state = State::Running;
        Self { id, from, to, rate: None, analyses: None, state, created_at: now, ended_at: None, done: 0 }
    }

    /// Name of its durable consumer.
    pub fn consumer(&self) -> String {
        names::backfill_consumer(&self.id)
    }

    /// Whether workers pull its jobs.
    pub fn is_running(&self) -> bool {
        self.state == State::Running
    }

    /// Whether a job is in the range. The consumer also delivers what was published later: that is acked without work.
    pub fn covers(&self, sequence: u64) -> bool {
        (self.from..=self.to).contains(&sequence)
    }

    /// Whether nothing of the range is left to work.
    ///
    /// The ack floor alone would not do: the last jobs of the range may have been deleted, and then it never gets
    /// there. So it is also over when nobody holds a job and the consumer is past the range or has nothing more.
    pub fn is_finished(&self, at: Position) -> bool {
        at.ack_floor >= self.to || at.in_flight == 0 && (at.delivered >= self.to || at.pending == 0)
    }

    /// Jobs of the range that no worker has, at most.
    ///
    /// The consumer counts what was published behind the range too, and of the range the sequences of deleted jobs are
    /// left, so neither count alone would do. Zero, and nothing held: then it is finished; and finished, it is zero. So
    /// who scales by it ends neither too early nor never.
    pub fn pending(&self, at: Position) -> u64 {
        let behind = at.delivered.max(self.from.saturating_sub(1));
        at.pending.min(self.to.saturating_sub(behind))
    }

    /// The record once it has ended where its consumer stood; one that ended before keeps its end.
    #[must_use]
    pub fn ended(mut self, state: State, at: Option<Position>, now: OffsetDateTime) -> Self {
        if self.is_running() {
            (self.state, self.ended_at) = (state, Some(now));
            self.done = if state == State::Done { self.total() } else { at.map_or(0, |at| self.passed(at)) };
        }
        self
    }

    /// Puts the backfill's analyses in the place of the job's own. The job's id stays: `names::result_id` tells the
    /// result from the first one.
    pub fn adapt(&self, job: &mut Job) {
        if let Some(analyses) = &self.analyses {
            job.analyses.clone_from(analyses);
        }
    }

    /// One worker's part of the rate, in jobs per second, while `workers` are alive.
    pub fn rate_for_one_of(&self, workers: usize) -> Option<f64> {
        self.rate.map(|rate| rate / workers.max(1) as f64)
    }

    /// How far it is; `at` is where its consumer stands, if there still is one.
    pub fn progress(&self, at: Option<Position>, now: OffsetDateTime) -> Progress {
        let at = at.filter(|_| self.is_running());
        let (total, done) = (self.total(), at.map_or(self.done, |at| self.passed(at)));
        let seconds = (self.ended_at.unwrap_or(now) - self.created_at).as_seconds_f64();
        let per_second = if seconds > 0.0 { done as f64 / seconds } else { 0.0 };
        let left = (self.is_running() && per_second > 0.0).then(|| (total - done) as f64 / per_second);
        let pending = at.map_or(0, |at| self.pending(at));
        let in_flight = at.map_or(0, |at| at.in_flight);
        Progress { done, total, pending, in_flight, per_second, seconds_left: left }
    }

    /// Sequences of the range.
    fn total(&self) -> u64 {
        self.to.saturating_add(1).saturating_sub(self.from)
    }

    /// Sequences of the range that are delivered and not held any more.
    fn passed(&self, at: Position) -> u64 {
        let delivered = at.delivered.min(self.to).saturating_add(1).saturating_sub(self.from);
        if self.is_finished(at) { self.total() } else { delivered.saturating_sub(at.in_flight) }
    }
}

impl Bound {
    /// Reads a sequence, a time or a duration before `now`.
    pub fn parse(text: &str, now: OffsetDateTime) -> Result<Self, BackfillError> {
        let text = text.trim();
        let wrong = || BackfillError::Bound(text.escape_debug().to_string());
        if let Ok(sequence) = text.parse() {
            return Ok(Self::Sequence(sequence));
        }
        if let Some(at) = parse_time(text) {
            return Ok(Self::Time(at));
        }
        let ago = humantime_serde::re::humantime::parse_duration(text).map_err(|_| wrong())?;
        let ago = time::Duration::try_from(ago).map_err(|_| wrong())?;
        now.checked_sub(ago).map(Self::Time).ok_or_else(wrong)
    }
}

/// Reads jobs per time, as jobs per second.
pub fn parse_rate(text: &str) -> Result<f64, BackfillError> {
    let wrong = || BackfillError::Rate(text.escape_debug().to_string());
    let (jobs, unit) = text.trim().split_once('/').unwrap_or((text.trim(), "s"));
    let per = match unit.trim() {
        "s" => Duration::from_secs(1),
        "m" | "min" => Duration::from_mins(1),
        "h" => Duration::from_hours(1),
        _ => return Err(wrong()),
    };
    let jobs: f64 = jobs.trim().parse().map_err(|_| wrong())?;
    let rate = jobs / per.as_secs_f64();
    if rate.is_finite() && rate > 0.0 { Ok(rate) } else { Err(wrong()) }
}

/// Checks an id: it becomes part of a consumer's name, a key and the ids of results.
pub fn check_id(id: &str) -> Result<(), BackfillError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if !id.is_empty() && id.len() <= MAX_ID && id.chars().all(allowed) {
        return Ok(());
    }
    Err(BackfillError::Id(id.chars().take(40).flat_map(char::escape_debug).collect()))
}

/// An id for a backfill that was given none: its time, which sorts and does not repeat.
pub fn default_id(now: OffsetDateTime) -> String {
    let utc = now.to_offset(time::UtcOffset::UTC);
    let (date, clock) = (utc.date(), utc.time());
    format!(
        "{:04}{:02}{:02}-{:02}{:02}{:02}-{:03}",
        date.year(),
        u8::from(date.month()),
        date.day(),
        clock.hour(),
        clock.minute(),
        clock.second(),
        clock.millisecond()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-06-15 12:00 UTC);

    fn backfill(from: u64, to: u64) -> Backfill {
        Backfill::new("b".into(), from, to, NOW)
    }

    fn at(delivered: u64, ack_floor: u64, pending: u64, in_flight: u64) -> Position {
        Position { delivered, ack_floor, pending, in_flight }
    }

    #[test]
    fn a_bound_is_a_sequence_a_time_or_how_long_ago() {
        assert_eq!(Bound::parse("1200", NOW), Ok(Bound::Sequence(1200)));
        assert_eq!(Bound::parse("14d", NOW), Ok(Bound::Time(datetime!(2026-06-01 12:00 UTC))));
        assert_eq!(Bound::parse("1h 30min", NOW), Ok(Bound::Time(datetime!(2026-06-15 10:30 UTC))));
        assert_eq!(Bound::parse("2026-06-01", NOW), Ok(Bound::Time(datetime!(2026-06-01 0:00 UTC))));
        let with_offset = Bound::parse("2026-06-01T09:00:00+09:00", NOW);
        assert_eq!(with_offset, Ok(Bound::Time(datetime!(2026-06-01 0:00 UTC))));
        for wrong in ["", "-5", "yesterday", "14 d d"] {
            assert!(matches!(Bound::parse(wrong, NOW), Err(BackfillError::Bound(_))), "{wrong}");
        }
    }

    #[test]
    fn a_duration_beyond_the_calendar_is_refused_not_wrapped() {
        assert!(Bound::parse("18446744073709551615s", NOW).is_err());
        assert!(Bound::parse("99999years", NOW).is_err());
    }

    #[test]
    fn a_rate_is_jobs_per_time() {
        assert_eq!(parse_rate("5/s"), Ok(5.0));
        assert_eq!(parse_rate("2.5"), Ok(2.5));
        assert_eq!(parse_rate("30/min"), Ok(0.5));
        assert_eq!(parse_rate("3600/h"), Ok(1.0));
        for wrong in ["", "0/s", "-1/s", "inf/s", "nan", "5/d", "x/s", "5/s/s"] {
            assert!(parse_rate(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_rate_is_shared_by_the_workers_that_live() {
        let limited = Backfill { rate: Some(6.0), ..backfill(1, 9) };
        assert_eq!(limited.rate_for_one_of(3), Some(2.0));
        assert_eq!(limited.rate_for_one_of(0), Some(6.0));
        assert_eq!(backfill(1, 9).rate_for_one_of(3), None);
    }

    #[test]
    fn ids_that_would_break_a_name_are_refused() {
        for bad in ["", "a.b", "a b", "a*", "가게", &"x".repeat(65)] {
            assert!(check_id(bad).is_err(), "{bad}");
        }
        assert_eq!(check_id(&default_id(NOW)), Ok(()));
        assert_eq!(default_id(NOW), "20260615-120000-000");
    }

    #[test]
    fn it_is_over_when_the_last_job_is_settled_and_not_while_one_is_held() {
        let range = backfill(5, 10);
        assert!(!range.is_finished(at(10, 8, 0, 2)));
        assert!(range.is_finished(at(10, 10, 3, 0)));
        assert!(range.is_finished(at(12, 10, 3, 2)), "what is held lies behind the range");
    }

    #[test]
    fn it_ends_although_its_last_jobs_were_deleted() {
        assert!(backfill(5, 10).is_finished(at(8, 8, 0, 0)), "the stream has nothing more");
        assert!(!backfill(5, 10).is_finished(at(8, 8, 1, 0)));
    }

    #[test]
    fn what_was_published_behind_the_range_does_not_wait_for_it() {
        assert_eq!(backfill(5, 10).pending(at(0, 0, 900, 0)), 6, "the consumer begins at the range");
        assert_eq!(backfill(5, 10).pending(at(8, 6, 900, 2)), 2);
        assert_eq!(backfill(5, 10).pending(at(12, 8, 900, 2)), 0);
        assert_eq!(backfill(5, 10).pending(at(6, 6, 1, 0)), 1, "three of the last four were deleted");
    }

    #[test]
    fn an_end_is_final() {
        let done = backfill(1, 2).ended(State::Done, None, NOW);
        let stopped_later = done.clone().ended(State::Stopped, None, NOW + time::Duration::HOUR);
        assert_eq!(stopped_later, done);
        assert!(!done.is_running());
    }

    #[test]
    fn its_analyses_stand_in_for_the_jobs_own_and_the_id_stays() {
        let mut job: Job = serde_json::from_value(serde_json::json!({
            "v": 1, "job_id": "j", "restaurant_id": "r", "analyses": ["sentiment"],
        }))
        .unwrap();
        backfill(1, 2).adapt(&mut job);
        assert_eq!(job.analyses, [Analysis::Sentiment]);
        Backfill { analyses: Some(vec![Analysis::Summary]), ..backfill(1, 2) }.adapt(&mut job);
        assert_eq!((job.job_id.as_str(), job.analyses), ("j", vec![Analysis::Summary]));
    }

    #[test]
    fn progress_counts_what_is_held_as_not_done() {
        let later = NOW + time::Duration::seconds(10);
        let half = backfill(11, 30).progress(Some(at(25, 20, 40, 5)), later);
        assert_eq!((half.done, half.total, half.pending, half.in_flight), (10, 20, 5, 5));
        assert_eq!((half.per_second, half.seconds_left), (1.0, Some(10.0)));
        let fresh = backfill(11, 30).progress(Some(at(10, 10, 60, 0)), NOW);
        assert_eq!((fresh.done, fresh.seconds_left), (0, None));
    }

    #[test]
    fn how_far_it_came_outlives_its_consumer() {
        let later = NOW + time::Duration::seconds(10);
        let stopped = backfill(11, 30).ended(State::Stopped, Some(at(25, 20, 40, 5)), later);
        assert_eq!(
            (stopped.progress(None, later).done, stopped.progress(None, later).seconds_left),
            (10, None)
        );
        let done = backfill(11, 30).ended(State::Done, None, later);
        assert_eq!((done.progress(None, later).done, done.progress(None, later).pending), (20, 0));
    }

    #[test]
    fn the_record_is_read_by_older_and_newer_programs() {
        let record = Backfill { rate: Some(2.0), ..backfill(1, 2) }.ended(State::Stopped, None, NOW);
        let mut json = serde_json::to_value(&record).unwrap();
        json["a_field_of_the_future"] = 1.into();
        assert_eq!(serde_json::from_value::<Backfill>(json).unwrap(), record);
        let least = serde_json::json!({
            "id": "b", "from": 1, "to": 2, "state": "running", "created_at": "2026-06-15T12:00:00Z",
        });
        assert_eq!(serde_json::from_value::<Backfill>(least).unwrap(), backfill(1, 2));
    }

    proptest! {
        /// Whatever the consumer says, the figures fit together.
        #[test]
        fn progress_stays_within_the_range(
            from in 1u64..50, length in 0u64..50, delivered in 0u64..200, behind in 0u64..30, pending in 0u64..9,
        ) {
            let range = backfill(from, from + length);
            let in_flight = behind.min(delivered);
            let at = at(delivered, delivered - in_flight, pending, in_flight);
            let progress = range.progress(Some(at), NOW + time::Duration::SECOND);
            prop_assert!(progress.done <= progress.total);
            prop_assert_eq!(progress.total, length + 1);
            if range.is_finished(at) {
                prop_assert_eq!(progress.done, progress.total);
                prop_assert_eq!(progress.pending, 0);
            }
            if progress.pending + progress.in_flight == 0 {
                prop_assert!(range.is_finished(at));
            }
        }
    }
}
