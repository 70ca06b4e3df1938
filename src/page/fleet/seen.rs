//! What was last seen of the fleet, and how its figures went: pure, written by the watcher, read by whoever looks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use serde::Serialize;
use time::OffsetDateTime;

use super::backlog::{Backlog, STALE, Unknown};
use crate::broker::dead_letter::Summary;
use crate::broker::status::{Load, Running, Status};
use crate::page::STATE_VERSION;
use crate::page::series::Series;

/// The fleet as its page shows it: the whole of `/api/state`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FleetState {
    /// [`STATE_VERSION`].
    pub v: u16,
    /// When this was asked for (UTC); `status.at` is when it was so.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// How often the fleet is looked at, in seconds.
    pub every_seconds: f64,
    /// The last look that succeeded; absent before the first. The same as `maitred status --json`.
    pub status: Option<Status>,
    /// What each alarm in `status` is, and what to do about it.
    pub alarms: Vec<String>,
    /// Why the last look failed; absent if it did not.
    pub fault: Option<String>,
    /// How the figures went, one point for each look, the oldest first.
    pub history: History,
    /// The newest dead letters, the newest first.
    pub dead_letters: Vec<Summary>,
    /// Whether dead letters can be replayed and dropped here, by who has the token.
    pub actions: bool,
}

/// How figures went.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct History {
    /// Jobs of a lane that no worker has, by its name.
    pub pending: BTreeMap<&'static str, Series>,
    /// Jobs of running backfills that no worker has.
    pub replays: Series,
    /// Results of all workers, per minute; a gap where none told.
    pub jobs_per_minute: Series,
    /// Tokens of all workers, per second; a gap where none told.
    pub tokens_per_second: Series,
    /// Tokens of a worker, per second, by its name. Those that are gone are forgotten.
    pub workers: BTreeMap<String, Series>,
}

/// What tells one state of the stream of dead letters from another.
pub(super) type Letters = (u64, u64, u64);

/// What was last seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    status: Option<Status>,
    /// When `status` came, by a clock that does not jump.
    looked: Option<Instant>,
    fault: Option<String>,
    history: History,
    letters: Vec<Summary>,
    letters_of: Option<Letters>,
    /// Letters that are gone, as long as a list may still come that was begun before.
    gone: BTreeSet<u64>,
}

impl Seen {
    /// A look succeeded, at `now`.
    pub(super) fn note(&mut self, status: Status, now: Instant) {
        let history = &mut self.history;
        for lane in &status.lanes {
            history.pending.entry(lane.lane.name()).or_default().push(Some(lane.pending as f64));
        }
        let replays: Load = status.backfills.iter().map(Running::load).sum();
        history.replays.push(Some(replays.pending as f64));
        let workers = &status.workers;
        let sum = |of: fn(&crate::broker::presence::Worker) -> f64| {
            (!workers.is_empty()).then(|| workers.iter().map(of).sum())
        };
        history.jobs_per_minute.push(sum(|worker| worker.pace.jobs_per_minute));
        history.tokens_per_second.push(sum(|worker| worker.pace.tokens_per_second));
        history.workers.retain(|name, _| workers.iter().any(|worker| worker.name == *name));
        for worker in workers {
            let pace = Some(worker.pace.tokens_per_second);
            history.workers.entry(worker.name.clone()).or_default().push(pace);
        }
        (self.status, self.looked, self.fault) = (Some(status), Some(now), None);
    }

    /// A look failed: what was seen before stays, with its time, and its figures have a gap.
    pub(super) fn note_fault(&mut self, fault: String) {
        let history = &mut self.history;
        let all = history.pending.values_mut().chain(history.workers.values_mut());
        let others = [&mut history.replays, &mut history.jobs_per_minute, &mut history.tokens_per_second];
        for series in all.chain(others) {
            series.push(None);
        }
        self.fault = Some(fault);
    }

    /// Whether the dead letters have to be listed again for this status.
    pub(super) fn wants_letters(&self, status: &Status) -> Option<Letters> {
        letters_of(status).filter(|letters| self.letters_of != Some(*letters))
    }

    /// The newest dead letters, the oldest of them first, as they are when the stream is like this.
    pub(super) fn note_letters(&mut self, of: Letters, mut letters: Vec<Summary>) {
        self.gone.retain(|gone| letters.iter().any(|letter| letter.sequence == *gone));
        letters.retain(|letter| !self.gone.contains(&letter.sequence));
        (self.letters_of, self.letters) = (Some(of), letters);
    }

    /// A letter is gone: nobody should have to wait for the next look to see that.
    pub(super) fn forget_letter(&mut self, sequence: u64) {
        self.letters.retain(|letter| letter.sequence != sequence);
        self.letters_of = None;
        self.gone.insert(sequence);
    }

    /// What there is to do, unless too long ago was the last time that anybody knew.
    pub(super) fn backlog(&self, now: Instant) -> Result<Backlog, Unknown> {
        let (Some(status), Some(looked)) = (&self.status, self.looked) else {
            return Err(self.fault.clone().map_or(Unknown::NotYet, Unknown::Never));
        };
        let age = now.saturating_duration_since(looked);
        if age < STALE {
            return Ok(Backlog::of(status));
        }
        // Without a fault the look is still under way.
        let cause = self.fault.clone().unwrap_or_else(|| "nats does not answer".to_owned());
        Err(Unknown::Stale { age, cause })
    }

    /// As the page shows it.
    pub(super) fn state(&self, now: OffsetDateTime, every_seconds: f64, actions: bool) -> FleetState {
        let alarms = self.status.iter().flat_map(|status| &status.alarms);
        FleetState {
            v: STATE_VERSION,
            at: now,
            every_seconds,
            alarms: alarms.map(crate::broker::status::Alarm::text).collect(),
            status: self.status.clone(),
            fault: self.fault.clone(),
            history: self.history.clone(),
            dead_letters: self.letters.iter().rev().cloned().collect(),
            actions,
        }
    }
}

fn letters_of(status: &Status) -> Option<Letters> {
    let stream =
        status.streams.iter().find(|stream| stream.name == crate::broker::names::DEAD_LETTERS_STREAM)?;
    Some((stream.messages, stream.first_sequence, stream.last_sequence))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::presence::Worker;
    use crate::broker::status::{LaneStatus, Server, Stream};
    use crate::scheduler::Lane;
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-06-15 12:00 UTC);

    fn status(pending: u64, workers: &[(&str, f64)], letters: u64) -> Status {
        let lane = |lane| LaneStatus {
            lane,
            pending,
            in_flight: 0,
            redelivered: 0,
            waiting: 0,
            ack_floor: 0,
            oldest: None,
        };
        let worker = |(name, pace): &(&str, f64)| {
            let mut worker = Worker::new(*name, NOW);
            worker.pace.tokens_per_second = *pace;
            worker
        };
        let stream = Stream {
            name: crate::broker::names::DEAD_LETTERS_STREAM.into(),
            messages: letters,
            bytes: 0,
            max_bytes: None,
            max_age_seconds: 0,
            first_sequence: 1,
            last_sequence: letters,
            oldest: None,
        };
        Status {
            at: NOW,
            server: Server { version: "2.14.0".into(), name: "n".into(), address: "127.0.0.1:4222".into() },
            streams: vec![stream],
            lanes: Lane::ALL.map(lane).into(),
            workers: workers.iter().map(worker).collect(),
            backfills: Vec::new(),
            dead_letters: letters,
            alarms: Vec::new(),
        }
    }

    fn letter(sequence: u64) -> Summary {
        Summary {
            sequence,
            at: NOW,
            lane: None,
            restaurant_id: None,
            job_id: None,
            reason: "malformed".into(),
            origin: String::new(),
        }
    }

    #[test]
    fn a_look_that_fails_leaves_what_was_seen_and_a_gap() {
        let mut seen = Seen::default();
        assert_eq!(seen.state(NOW, 2.0, false).status, None);
        seen.note(status(3, &[("a", 10.0), ("b", 5.0)], 0), Instant::now());
        seen.note_fault("no connection".into());
        let state = seen.state(NOW, 2.0, false);
        assert_eq!(state.fault.as_deref(), Some("no connection"));
        assert_eq!(state.status.unwrap().lanes[0].pending, 3);
        let json = |series: &Series| serde_json::to_string(series).unwrap();
        assert_eq!(json(&state.history.pending["hi"]), "[3.0,null]");
        assert_eq!(json(&state.history.replays), "[0.0,null]");
        assert_eq!(json(&state.history.tokens_per_second), "[15.0,null]");
        seen.note(status(2, &[], 0), Instant::now());
        assert_eq!(seen.state(NOW, 2.0, false).fault, None);
    }

    #[test]
    fn what_waits_is_told_until_it_is_stale_and_then_it_is_an_error_and_no_zero() {
        let (mut seen, now) = (Seen::default(), Instant::now());
        assert_eq!(seen.backlog(now), Err(Unknown::NotYet));
        seen.note_fault("no connection".into());
        assert_eq!(seen.backlog(now), Err(Unknown::Never("no connection".into())));
        seen.note(status(3, &[], 0), now);
        assert_eq!(seen.backlog(now).unwrap().total.jobs, 9, "three in each lane");
        seen.note_fault("no connection".into());
        assert!(
            seen.backlog(now + STALE / 2).is_ok(),
            "a restart of the server is no reason to start workers"
        );
        let stale = Unknown::Stale { age: STALE, cause: "no connection".into() };
        assert_eq!(seen.backlog(now + STALE), Err(stale));
        // A look that hangs tells no fault.
        seen.note(status(3, &[], 0), now);
        let error = seen.backlog(now + STALE).unwrap_err().to_string();
        assert_eq!(error, "what waits has not been known for 10 s: nats does not answer");
    }

    #[test]
    fn without_workers_the_pace_is_not_zero_but_unknown_and_who_is_gone_is_forgotten() {
        let mut seen = Seen::default();
        seen.note(status(0, &[("a", 10.0)], 0), Instant::now());
        seen.note(status(0, &[], 0), Instant::now());
        let history = seen.state(NOW, 2.0, false).history;
        assert_eq!(history.tokens_per_second.last(), None);
        assert!(history.workers.is_empty());
    }

    #[test]
    fn dead_letters_are_listed_again_only_when_their_stream_has_changed() {
        let mut seen = Seen::default();
        let of = seen.wants_letters(&status(0, &[], 2)).unwrap();
        seen.note_letters(of, vec![letter(1), letter(2)]);
        assert_eq!(seen.wants_letters(&status(9, &[("a", 1.0)], 2)), None);
        assert!(seen.wants_letters(&status(0, &[], 3)).is_some());
        let newest_first: Vec<u64> =
            seen.state(NOW, 2.0, true).dead_letters.iter().map(|letter| letter.sequence).collect();
        assert_eq!(newest_first, [2, 1]);
        seen.forget_letter(2);
        assert_eq!(seen.state(NOW, 2.0, true).dead_letters.len(), 1);
        assert!(seen.wants_letters(&status(0, &[], 2)).is_some());
    }

    #[test]
    fn a_letter_that_is_gone_does_not_come_back_with_a_list_that_was_begun_before() {
        let mut seen = Seen::default();
        let of = seen.wants_letters(&status(0, &[], 2)).unwrap();
        seen.forget_letter(2);
        seen.note_letters(of, vec![letter(1), letter(2)]);
        let shown = |seen: &Seen| {
            let letters = seen.state(NOW, 2.0, true).dead_letters;
            letters.iter().map(|letter| letter.sequence).collect::<Vec<_>>()
        };
        assert_eq!(shown(&seen), [1]);
        // A stream that was made anew counts from the beginning.
        seen.note_letters((0, 1, 0), Vec::new());
        seen.note_letters(of, vec![letter(1), letter(2)]);
        assert_eq!(shown(&seen), [2, 1]);
    }
}
