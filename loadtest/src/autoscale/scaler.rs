//! How KEDA and the HPA decide: a pure machine, asked at its own intervals, that says how many workers there should be.
//!
//! KEDA looks every `polling` seconds and decides between none and some; while there are some, Kubernetes' HPA looks every
//! `sync` seconds and decides how many, from one to `max`. Both see *lag*: jobs that wait and jobs in hand together.
//!
//! Invariants, for any sequence of lags and times that do not go back:
//!
//! - the wish is 0, or within `max(1, min)` and `max`; 0 only with `min` = 0;
//! - never 0 while there is lag, nor within `cooldown` after there was;
//! - one look adds no more than the larger of `up_workers` and as many again;
//! - fewer than before only if each wish of the last `stabilization` seconds was for fewer, and at most `down_workers` in
//!   `down_period`.

use std::collections::VecDeque;

use anyhow::bail;
use serde::{Deserialize, Serialize};

/// Differences up to this share are left alone by the HPA.
const TOLERANCE: f64 = 0.1;

/// The rules of a scaler. Times in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rules {
    /// Between KEDA's looks (`pollingInterval`).
    pub polling: f64,
    /// Between the HPA's looks.
    pub sync: f64,
    /// Jobs for each worker, waiting and in hand (`target`).
    pub lag_per_worker: f64,
    /// Without any lag for this long: none (`cooldownPeriod`).
    pub cooldown: f64,
    /// The largest wish of this time counts before workers are taken away (`stabilizationWindowSeconds`).
    pub stabilization: f64,
    /// Workers at least; 0 lets the fleet go (`minReplicaCount`).
    pub min: u32,
    /// Workers at most (`maxReplicaCount`).
    pub max: u32,
    /// Workers that one look may add, or as many again as there are.
    pub up_workers: u32,
    /// Workers that may be taken away ...
    pub down_workers: u32,
    /// ... within this time.
    pub down_period: f64,
}

impl Default for Rules {
    /// As deploy/k8s/scaledobject.yaml has them; a test holds both together.
    fn default() -> Self {
        Self {
            polling: 15.0,
            sync: 15.0,
            lag_per_worker: 8.0,
            cooldown: 300.0,
            stabilization: 300.0,
            min: 0,
            max: 10,
            up_workers: 4,
            down_workers: 1,
            down_period: 60.0,
        }
    }
}

impl Rules {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let positive = |value: f64| value.is_finite() && value > 0.0;
        if ![self.polling, self.sync, self.lag_per_worker, self.down_period].into_iter().all(positive) {
            bail!("intervals of a scaler and its jobs for each worker are numbers above 0");
        }
        if !(self.cooldown >= 0.0 && self.stabilization >= 0.0) {
            bail!("cooldown and stabilization are not negative");
        }
        if self.max == 0 || self.min > self.max || self.up_workers == 0 || self.down_workers == 0 {
            bail!(
                "a scaler has at least one worker at most, no more at least than at most, and may add and take one"
            );
        }
        Ok(())
    }

    /// Workers at least while there are any.
    fn least(&self) -> u32 {
        self.min.max(1)
    }

    /// What this lag asks for, whatever was before.
    pub fn wish(&self, lag: u64, workers: u32) -> u32 {
        let ratio = lag as f64 / (self.lag_per_worker * f64::from(workers));
        let wish = if (ratio - 1.0).abs() <= TOLERANCE {
            workers
        } else {
            // Saturates.
            (lag as f64 / self.lag_per_worker).ceil() as u32
        };
        wish.clamp(self.least(), self.max)
    }
}

/// A scaler at work.
#[derive(Debug, Clone)]
pub struct Scaler {
    rules: Rules,
    /// When there was lag at last.
    active: f64,
    /// Wishes of the last `stabilization` seconds.
    wishes: VecDeque<(f64, u32)>,
    /// When workers were taken away, and how many, in the last `down_period`.
    taken: VecDeque<(f64, u32)>,
}

impl Scaler {
    /// One that has seen nothing yet.
    pub fn new(rules: Rules) -> Self {
        Self { rules, active: f64::NEG_INFINITY, wishes: VecDeque::new(), taken: VecDeque::new() }
    }

    /// KEDA's look: some or none. How many workers there should be.
    pub fn poll(&mut self, now: f64, lag: u64, workers: u32) -> u32 {
        let rules = &self.rules;
        if lag > 0 {
            self.active = now;
        }
        if workers == 0 {
            return if lag > 0 { rules.least().min(rules.max) } else { rules.min };
        }
        let over = lag == 0 && now - self.active >= rules.cooldown;
        if over && rules.min == 0 { 0 } else { workers }
    }

    /// The HPA's look: how many. It does not look at a fleet of none.
    pub fn sync(&mut self, now: f64, lag: u64, workers: u32) -> u32 {
        if workers == 0 {
            return 0;
        }
        let rules = self.rules;
        let wish = rules.wish(lag, workers);
        self.wishes.push_back((now, wish));
        self.wishes.retain(|(at, _)| now - at <= rules.stabilization);
        if wish > workers {
            return wish.min(workers.saturating_add(rules.up_workers.max(workers)));
        }
        let largest = self.wishes.iter().map(|(_, wish)| *wish).max().unwrap_or(wish);
        self.taken.retain(|(at, _)| now - at < rules.down_period);
        let taken: u32 = self.taken.iter().map(|(_, count)| count).sum();
        let less = workers.saturating_sub(largest).min(rules.down_workers.saturating_sub(taken));
        if less > 0 {
            self.taken.push_back((now, less));
        }
        workers - less
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_rules() -> impl Strategy<Value = Rules> {
        (0_u32..4, 1_u32..30, 1.0..20.0_f64, 0.0..600.0_f64, 0.0..600.0_f64, 1_u32..6, 1_u32..4).prop_map(
            |(min, more, lag_per_worker, cooldown, stabilization, up_workers, down_workers)| Rules {
                min,
                max: min + more,
                lag_per_worker,
                cooldown,
                stabilization,
                up_workers,
                down_workers,
                ..Rules::default()
            },
        )
    }

    /// Lags as they are seen, look by look.
    fn any_lags() -> impl Strategy<Value = Vec<u64>> {
        prop::collection::vec(prop_oneof![2 => Just(0), 2 => 0_u64..40, 1 => 0_u64..2000], 1..150)
    }

    proptest! {
        #[test]
        fn wishes_keep_within_their_bounds_and_none_waits_for_its_cooldown(rules in any_rules(), lags in any_lags()) {
            let mut scaler = Scaler::new(rules);
            let (mut workers, mut active) = (rules.min, f64::NEG_INFINITY);
            for (n, lag) in lags.into_iter().enumerate() {
                let now = n as f64 * rules.polling;
                if lag > 0 {
                    active = now;
                }
                let polled = scaler.poll(now, lag, workers);
                prop_assert!(polled <= rules.max && polled >= rules.min);
                if polled == 0 && workers > 0 {
                    prop_assert!(lag == 0 && now - active >= rules.cooldown);
                }
                let synced = scaler.sync(now, lag, polled);
                prop_assert_eq!(synced == 0, polled == 0);
                prop_assert!(synced <= rules.max && (synced == 0 || synced >= rules.least().min(polled)));
                prop_assert!(synced <= polled + rules.up_workers.max(polled));
                prop_assert!(polled - synced.min(polled) <= rules.down_workers);
                workers = synced;
            }
        }

        #[test]
        fn workers_are_taken_away_only_where_all_of_the_window_wished_for_fewer(
            rules in any_rules(), lags in any_lags(),
        ) {
            let mut scaler = Scaler::new(rules);
            let mut workers = rules.max;
            let mut wishes: Vec<(f64, u32)> = Vec::new();
            let mut taken: Vec<(f64, u32)> = Vec::new();
            for (n, lag) in lags.into_iter().enumerate() {
                let now = n as f64 * rules.sync;
                wishes.push((now, rules.wish(lag, workers)));
                let after = scaler.sync(now, lag, workers);
                if after < workers {
                    let window = wishes.iter().filter(|(at, _)| now - at <= rules.stabilization);
                    prop_assert!(window.clone().all(|(_, wish)| *wish <= after), "{after} of {workers}: {wishes:?}");
                    taken.push((now, workers - after));
                    let lately = taken.iter().filter(|(at, _)| now - at < rules.down_period);
                    prop_assert!(lately.map(|(_, count)| count).sum::<u32>() <= rules.down_workers);
                }
                workers = after;
            }
        }

        #[test]
        fn a_lag_that_stays_gets_the_workers_that_it_asks_for(rules in any_rules(), lag in 1_u64..400) {
            let mut scaler = Scaler::new(rules);
            let mut workers = 0;
            for n in 0..400 {
                let now = f64::from(n) * rules.sync;
                workers = scaler.poll(now, lag, workers);
                workers = scaler.sync(now, lag, workers);
            }
            // What they are asked for is within the tolerance of what there is.
            prop_assert_eq!(rules.wish(lag, workers), workers);
            let exact = (lag as f64 / rules.lag_per_worker).ceil() as u32;
            if exact >= rules.max {
                let most = f64::from(rules.max) * rules.lag_per_worker;
                prop_assert!(f64::from(workers) * rules.lag_per_worker * (1.0 + TOLERANCE) >= most.min(lag as f64) - 1e-6);
            }
        }

        #[test]
        fn more_lag_never_asks_for_fewer(rules in any_rules(), workers in 1_u32..30, lag in 0_u64..500, more in 0_u64..500) {
            prop_assert!(rules.wish(lag + more, workers) >= rules.wish(lag, workers));
        }
    }

    #[test]
    fn a_first_job_gets_a_worker_at_the_next_look_and_the_last_one_leaves_after_the_cooldown() {
        let mut scaler = Scaler::new(Rules::default());
        assert_eq!(scaler.poll(0.0, 0, 0), 0);
        assert_eq!(scaler.poll(15.0, 1, 0), 1);
        assert_eq!(scaler.poll(30.0, 0, 1), 1);
        assert_eq!(scaler.poll(300.0, 0, 1), 1);
        assert_eq!(scaler.poll(315.0, 0, 1), 0);
    }

    #[test]
    fn a_crowd_doubles_the_fleet_at_each_look_or_adds_four() {
        let mut scaler = Scaler::new(Rules { max: 100, ..Rules::default() });
        assert_eq!(scaler.sync(0.0, 10_000, 1), 5);
        assert_eq!(scaler.sync(15.0, 10_000, 5), 10);
        assert_eq!(scaler.sync(30.0, 10_000, 10), 20);
    }

    #[test]
    fn a_lull_takes_no_worker_and_an_end_takes_one_a_minute() {
        let mut scaler = Scaler::new(Rules::default());
        assert_eq!(scaler.sync(0.0, 32, 4), 4);
        assert_eq!(scaler.sync(15.0, 0, 4), 4);
        assert_eq!(scaler.sync(300.0, 0, 4), 4);
        assert_eq!(scaler.sync(315.0, 0, 4), 3);
        assert_eq!(scaler.sync(330.0, 0, 3), 3);
        assert_eq!(scaler.sync(375.0, 0, 3), 2);
    }

    #[test]
    fn small_differences_are_left_alone() {
        let rules = Rules::default();
        assert_eq!(rules.wish(35, 4), 4);
        assert_eq!(rules.wish(36, 4), 5);
        assert_eq!(rules.wish(29, 4), 4);
        assert_eq!(rules.wish(24, 4), 3);
    }
}
