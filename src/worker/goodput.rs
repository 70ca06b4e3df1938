//! The books of goodput: each settled job is told to the clerk, who closes a window every minute.
//!
//! A window without jobs is kept and written like any other: that nothing was done in that minute, though a worker was
//! there and is paid for, is a measured zero. A minute without a window is one without a worker.
//!
//! Invariants: windows follow one another without gap or overlap; each job is in exactly one, that in which it was
//! told; what was told and what a window holds agree whoever asks, because there is one owner.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::engine::EngineStats;
use crate::telemetry::{Goodput, JobSample, Sla, Window};

/// Length of a window.
pub const WINDOW: Duration = Duration::from_mins(1);

/// Windows kept to be looked at.
const KEPT_WINDOWS: usize = 60;

/// Keeps the books. Cheap to clone; clones share them.
#[derive(Debug, Clone)]
pub struct GoodputClerk(Arc<Mutex<Books>>);

/// A window that was closed, and the engine's time in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed {
    /// What was counted.
    pub window: Window,
    /// Time in which the engine was at work.
    pub busy: Duration,
}

#[derive(Debug)]
struct Books {
    goodput: Goodput,
    /// Where the window that is open began.
    open_since: Duration,
    /// The engine's working time up to there.
    busy_before: Duration,
    closed: VecDeque<Window>,
}

impl GoodputClerk {
    /// Opens the books at `now`, on the engine's clock, which all instants are on.
    pub fn new(sla: Sla, now: Duration) -> Self {
        Self(Arc::new(Mutex::new(Books::new(sla, now, Duration::ZERO))))
    }

    /// Opens them anew: what came before a worker was ready is no part of its service.
    pub fn begin(&self, now: Duration, busy: Duration) {
        let mut books = self.books();
        *books = Books::new(books.goodput.sla(), now, busy);
    }

    /// A job has ended. One that is told after its window was closed counts in the next.
    pub fn settled(&self, mut job: JobSample) {
        let mut books = self.books();
        // A job that ended exactly where a window begins belongs to the window before.
        job.finished_at = job.finished_at.max(books.open_since + Duration::from_nanos(1));
        books.goodput.record(job);
    }

    /// Closes the open window at `now` and opens the next; `busy`: the engine's working time since its start. Absent
    /// if no time has passed.
    pub fn close(&self, now: Duration, busy: Duration) -> Option<Closed> {
        let mut books = self.books();
        if now <= books.open_since {
            return None;
        }
        let window = books.goodput.window(books.open_since, now);
        let busy_now = busy.max(books.busy_before);
        let closed = Closed { window, busy: busy_now - books.busy_before };
        (books.open_since, books.busy_before) = (now, busy_now);
        if books.closed.len() == KEPT_WINDOWS {
            books.closed.pop_front();
        }
        books.closed.push_back(window);
        Some(closed)
    }

    /// The window that was closed last; absent before the first.
    pub fn last_window(&self) -> Option<Window> {
        self.books().closed.back().copied()
    }

    /// The windows that were closed, the newest last, an hour of them at most.
    pub fn history(&self) -> Vec<Window> {
        self.books().closed.iter().copied().collect()
    }

    /// Everything since the books were opened.
    pub fn summary(&self, now: Duration) -> Window {
        self.books().goodput.summary(now)
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // Sound after each change: a panic elsewhere does not spoil them.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn new(sla: Sla, now: Duration, busy: Duration) -> Self {
        let goodput = Goodput::new(sla, now);
        Self { goodput, open_since: now, busy_before: busy, closed: VecDeque::with_capacity(KEPT_WINDOWS) }
    }
}

/// Time that the engine has been at work since its start: both models take turns on one thread.
pub fn busy(stats: &EngineStats) -> Duration {
    stats.core.busy_time + stats.embedding_time
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    const fn job(finished_at: Duration, tokens: u64) -> JobSample {
        JobSample { finished_at, ttft: Some(Duration::from_millis(100)), tokens, ok: true }
    }

    fn clerk() -> GoodputClerk {
        GoodputClerk::new(Sla::default(), Duration::ZERO)
    }

    #[test]
    fn a_minute_without_jobs_is_a_window_with_none_and_no_compliance() {
        let clerk = clerk();
        assert_eq!((clerk.last_window(), clerk.history()), (None, vec![]), "nothing was measured yet");
        let closed = clerk.close(ms(60_000), ms(30)).unwrap();
        assert_eq!((closed.window.jobs, closed.window.tokens, closed.busy), (0, 0, ms(30)));
        assert_eq!((closed.window.throughput_tps(), closed.window.compliance()), (Some(0.0), None));
        assert_eq!(clerk.last_window(), Some(closed.window));
    }

    #[test]
    fn a_job_told_after_its_window_was_closed_is_in_the_next_one() {
        let clerk = clerk();
        clerk.settled(job(ms(10), 3));
        assert_eq!(clerk.close(ms(100), ms(0)).unwrap().window.tokens, 3);
        clerk.settled(job(ms(90), 4));
        let next = clerk.close(ms(200), ms(0)).unwrap().window;
        assert_eq!((next.from, next.tokens), (ms(100), 4));
    }

    #[test]
    fn the_time_before_a_worker_was_ready_is_no_part_of_its_windows() {
        let clerk = clerk();
        clerk.begin(ms(5000), ms(4000));
        let closed = clerk.close(ms(65_000), ms(4500)).unwrap();
        assert_eq!((closed.window.from, closed.window.wall(), closed.busy), (ms(5000), ms(60_000), ms(500)));
    }

    #[test]
    fn no_time_is_no_window_and_an_hour_of_them_is_kept() {
        let clerk = clerk();
        assert_eq!(clerk.close(Duration::ZERO, Duration::ZERO), None);
        for minute in 1..=100 {
            clerk.close(WINDOW * minute, Duration::ZERO).unwrap();
        }
        let history = clerk.history();
        assert_eq!((history.len(), history[59].to, history[0].from), (60, WINDOW * 100, WINDOW * 40));
    }

    proptest! {
        #[test]
        fn every_job_is_in_exactly_one_window_and_windows_have_no_gaps(
            events in prop::collection::vec((0_u64..500, 0_u64..2000, prop::bool::ANY), 1..80)
        ) {
            let clerk = clerk();
            let (mut now, mut told, mut counted) = (Duration::ZERO, 0, 0);
            let mut ends = vec![Duration::ZERO];
            for (passed, late, closes) in events {
                now += ms(passed);
                if closes {
                    if let Some(closed) = clerk.close(now, now) {
                        prop_assert_eq!(closed.window.from, *ends.last().unwrap());
                        prop_assert_eq!(closed.busy, closed.window.wall(), "busy all the time");
                        ends.push(closed.window.to);
                        counted += closed.window.jobs;
                    }
                } else {
                    clerk.settled(job(now.saturating_sub(ms(late)), 1));
                    told += 1;
                }
            }
            counted += clerk.close(now + ms(1), now).map_or(0, |closed| closed.window.jobs);
            prop_assert_eq!(counted, told);
            prop_assert_eq!(clerk.summary(now + ms(1)).jobs, told);
        }
    }
}
