//! When to leave a store alone that does not answer. Pure: `now` is a value.
//!
//! ```text
//! closed ── failures in a row ──► open ── rest is over ──► half-open ── the probe is answered ──► closed
//!                                   ▲                          │
//!                                   └────── the probe fails ───┘
//! ```
//!
//! Invariants: while it is open nothing is admitted; while it is half-open one call is, the probe, and another one only
//! if the probe did not report within a further rest (its caller may have been cancelled); a call that was admitted
//! before the latest change has no say in the next one.

use std::time::{Duration, Instant};

/// How soon a breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Failures in a row that open it.
    pub failures: u32,
    /// How long nothing is tried then.
    pub rest: Duration,
}

/// See the module.
#[derive(Debug)]
pub struct Breaker {
    settings: BreakerSettings,
    state: State,
    /// Counts the changes of state, so that late reports are known as such.
    generation: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant },
    HalfOpen { probing_until: Instant },
}

/// Leave to make one call; its outcome is to be reported with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permit {
    generation: u64,
}

/// What a report changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing is tried from now on.
    Opened,
    /// It is used again.
    Closed,
}

impl Breaker {
    /// A closed one.
    pub const fn new(settings: BreakerSettings) -> Self {
        Self { settings, state: State::Closed { failures: 0 }, generation: 0 }
    }

    /// Whether a call may be made; if not, how long until one may.
    pub fn admit(&mut self, now: Instant) -> Result<Permit, Duration> {
        match self.state {
            State::Closed { .. } => {}
            State::Open { until } if now < until => return Err(until - now),
            State::HalfOpen { probing_until } if now < probing_until => return Err(probing_until - now),
            State::Open { .. } | State::HalfOpen { .. } => {
                self.enter(State::HalfOpen { probing_until: now + self.settings.rest });
            }
        }
        Ok(Permit { generation: self.generation })
    }

    /// The call was answered, be it with a refusal.
    pub fn answered(&mut self, permit: Permit) -> Option<Change> {
        if permit.generation != self.generation {
            return None;
        }
        match self.state {
            State::Closed { .. } => {
                self.state = State::Closed { failures: 0 };
                None
            }
            State::HalfOpen { .. } => {
                self.enter(State::Closed { failures: 0 });
                Some(Change::Closed)
            }
            // No permit is of the generation of an open breaker.
            State::Open { .. } => None,
        }
    }

    /// The call was not answered. A probe that fails opens it again, which is no news.
    pub fn failed(&mut self, permit: Permit, now: Instant) -> Option<Change> {
        if permit.generation != self.generation {
            return None;
        }
        let open = State::Open { until: now + self.settings.rest };
        match self.state {
            State::Closed { failures } if failures + 1 < self.settings.failures => {
                self.state = State::Closed { failures: failures + 1 };
                None
            }
            State::Closed { .. } => {
                self.enter(open);
                Some(Change::Opened)
            }
            State::HalfOpen { .. } => {
                self.enter(open);
                None
            }
            State::Open { .. } => None,
        }
    }

    /// Whether nothing is admitted before a rest.
    pub const fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.generation += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REST: Duration = Duration::from_secs(5);
    const SETTINGS: BreakerSettings = BreakerSettings { failures: 3, rest: REST };

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::new(SETTINGS);
        for _ in 0..SETTINGS.failures {
            let permit = breaker.admit(now).unwrap();
            breaker.failed(permit, now);
        }
        breaker
    }

    #[test]
    fn it_opens_at_the_failure_that_completes_the_row() {
        let now = Instant::now();
        let mut breaker = Breaker::new(SETTINGS);
        let changes: Vec<_> = (0..3)
            .map(|_| {
                let permit = breaker.admit(now).unwrap();
                breaker.failed(permit, now)
            })
            .collect();
        assert_eq!(changes, [None, None, Some(Change::Opened)]);
        assert_eq!(breaker.admit(now), Err(REST));
    }

    #[test]
    fn an_answer_ends_the_row() {
        let now = Instant::now();
        let mut breaker = Breaker::new(SETTINGS);
        for failed in [true, true, false, true, true] {
            let permit = breaker.admit(now).unwrap();
            let change = if failed { breaker.failed(permit, now) } else { breaker.answered(permit) };
            assert_eq!(change, None);
        }
        assert!(breaker.admit(now).is_ok());
    }

    #[test]
    fn after_the_rest_one_call_is_tried_and_its_answer_closes_it() {
        let now = Instant::now();
        let mut breaker = opened(now);
        assert!(breaker.admit(now + REST / 2).is_err());
        let probe = breaker.admit(now + REST).unwrap();
        assert!(breaker.admit(now + REST).is_err(), "one is enough to know");
        assert_eq!(breaker.answered(probe), Some(Change::Closed));
        assert!(breaker.admit(now + REST).is_ok());
    }

    #[test]
    fn a_probe_that_fails_starts_another_rest_and_is_no_news() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let probe = breaker.admit(now + REST).unwrap();
        assert_eq!(breaker.failed(probe, now + REST), None);
        assert_eq!(breaker.admit(now + REST), Err(REST));
    }

    #[test]
    fn a_probe_whose_caller_went_away_does_not_keep_it_half_open_for_ever() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let lost = breaker.admit(now + REST).unwrap();
        let second = breaker.admit(now + 2 * REST).unwrap();
        assert_eq!(breaker.answered(lost), None, "the first one's time is over");
        assert_eq!(breaker.answered(second), Some(Change::Closed));
    }

    #[test]
    fn calls_from_before_a_change_have_no_say_after_it() {
        let now = Instant::now();
        let mut breaker = Breaker::new(SETTINGS);
        let early = breaker.admit(now).unwrap();
        for _ in 0..SETTINGS.failures {
            breaker.failed(early, now);
        }
        assert_eq!(breaker.answered(early), None);
        let probe = breaker.admit(now + REST).unwrap();
        assert_eq!(breaker.failed(early, now + REST), None);
        assert_eq!(breaker.answered(probe), Some(Change::Closed));
    }

    proptest! {
        /// However calls end, a store that never answers is called at most `failures` times, then once per rest.
        #[test]
        fn a_dead_store_costs_a_row_of_failures_and_then_one_call_per_rest(steps in prop::collection::vec(0_u64..3000, 1..200)) {
            let start = Instant::now();
            let (mut breaker, mut now, mut calls) = (Breaker::new(SETTINGS), start, 0_u64);
            for step in steps {
                now += Duration::from_millis(step);
                if let Ok(permit) = breaker.admit(now) {
                    calls += 1;
                    breaker.failed(permit, now);
                }
            }
            let rests = (now - start).as_millis() / REST.as_millis();
            prop_assert!(u128::from(calls) <= u128::from(SETTINGS.failures) + rests, "{calls} calls in {rests} rests");
        }
    }
}
