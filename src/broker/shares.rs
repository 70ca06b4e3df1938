//! Which source is asked for jobs next, and how fast a backfill may go. Pure.
//!
//! Lanes share the worker by weight ([`LaneShares`]). Each lane has a tag: the virtual time at which it has had its
//! share. The one with the least tag is next, and jobs move the tag on by the inverse of the weight. Virtual time
//! itself is the least tag among those that had a turn; a lane that had no jobs for a while comes back with that, not
//! with its old tag: it is next, and has saved up nothing.
//!
//! Bounds, with at most `q` jobs in a turn:
//!
//! - Two lanes that always have jobs get `a` and `b` jobs in any stretch of turns with
//!   `|a/w(a) − b/w(b)| ≤ q/w(a) + q/w(b)`. With one job a turn, each round of as many turns as the weights add up to
//!   gives every lane exactly its weight.
//! - Between two turns of a lane of weight `w`, one of weight `v` gets at most `q·v/w + q` jobs: none starves.
//! - If anyone has jobs, somebody is next: nothing idles in favour of a lane without jobs.

use std::collections::BTreeMap;
use std::time::Duration;

use super::lease::SourceId;
use crate::config::LaneWeights;
use crate::scheduler::Lane;

/// Shares of the lanes, and within a lane equal shares of its sources: backfills share the weight of their lane.
#[derive(Debug)]
pub struct LaneShares {
    weights: LaneWeights,
    sources: BTreeMap<SourceId, Lane>,
    lanes: Tags<usize>,
    within: [Tags<SourceId>; Lane::ALL.len()],
}

impl LaneShares {
    /// Without a source.
    pub fn new(weights: LaneWeights) -> Self {
        Self { weights, sources: BTreeMap::new(), lanes: Tags::default(), within: Default::default() }
    }

    /// Adds a source. One that is there already only changes its lane.
    pub fn add(&mut self, source: SourceId, lane: Lane) {
        self.sources.insert(source, lane);
    }

    /// Removes a source: a backfill has ended.
    pub fn remove(&mut self, source: SourceId) {
        self.sources.remove(&source);
        for tags in &mut self.within {
            tags.at.remove(&source);
        }
    }

    /// Whose turn it is among the candidates: those that may have jobs. One that turns out to have none is not
    /// charged, and left out when this is asked again.
    pub fn next(&mut self, candidates: &[SourceId]) -> Option<SourceId> {
        let Self { sources, lanes, within, .. } = self;
        let lane_of = |source: &SourceId| sources.get(source).copied().map(index);
        let lane = lanes.turn(candidates.iter().filter_map(lane_of))?;
        within[lane].turn(candidates.iter().copied().filter(|source| lane_of(source) == Some(lane)))
    }

    /// The source gave so many jobs.
    pub fn charge(&mut self, source: SourceId, jobs: usize) {
        let Some(lane) = self.sources.get(&source).copied().map(index) else { return };
        let jobs = jobs as u128;
        // The inverse of the weight in whole numbers: the product of the other weights.
        let others = Lane::ALL.into_iter().filter(|other| index(*other) != lane);
        let inverse: u128 = others.map(|other| u128::from(self.weights.of(other).max(1))).product();
        self.lanes.charge(lane, jobs * inverse);
        self.within[lane].charge(source, jobs);
    }
}

const fn index(lane: Lane) -> usize {
    match lane {
        Lane::Hi => 0,
        Lane::Live => 1,
        Lane::Backfill => 2,
    }
}

/// Tags of those that share something, and the virtual time. Whole numbers: no error adds up over months.
#[derive(Debug)]
struct Tags<K> {
    at: BTreeMap<K, u128>,
    time: u128,
}

impl<K> Default for Tags<K> {
    fn default() -> Self {
        Self { at: BTreeMap::new(), time: 0 }
    }
}

impl<K: Ord + Copy> Tags<K> {
    fn turn(&mut self, candidates: impl Iterator<Item = K>) -> Option<K> {
        let (tag, next) = candidates.map(|key| (self.tag(key), key)).min()?;
        self.time = tag;
        Some(next)
    }

    fn charge(&mut self, key: K, cost: u128) {
        let tag = self.tag(key);
        self.at.insert(key, tag + cost);
    }

    /// Never behind the time: what was not used is not saved up.
    fn tag(&self, key: K) -> u128 {
        self.at.get(&key).copied().unwrap_or(0).max(self.time)
    }
}

/// A rate of jobs: never more than `burst + rate · t` in any stretch of time `t`.
///
/// Take before asking the server, so that jobs on their way count, and put back what did not come.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    rate: f64,
    burst: f64,
    tokens: f64,
    at: Duration,
}

impl TokenBucket {
    /// Full. `rate` is in jobs per second; what is negative or no number counts as 0.
    pub fn new(rate: f64, burst: usize, now: Duration) -> Self {
        let burst = burst.max(1) as f64;
        Self { rate: usable(rate), burst, tokens: burst, at: now }
    }

    /// From now on this rate: another worker came or went.
    pub fn set_rate(&mut self, rate: f64, now: Duration) {
        self.refill(now);
        self.rate = usable(rate);
    }

    /// Jobs that may be taken now.
    pub fn available(&self, now: Duration) -> usize {
        self.level(now) as usize
    }

    /// Takes up to `jobs`, and tells how many.
    #[must_use = "fewer may be granted than were asked for"]
    pub fn take(&mut self, jobs: usize, now: Duration) -> usize {
        self.refill(now);
        let taken = jobs.min(self.tokens as usize);
        self.tokens -= taken as f64;
        taken
    }

    /// Puts back what was taken and did not come.
    pub fn put_back(&mut self, jobs: usize, now: Duration) {
        self.refill(now);
        self.tokens = (self.tokens + jobs as f64).min(self.burst);
    }

    /// When the next job may be taken; `None`: never, at this rate.
    pub fn next_at(&self, now: Duration) -> Option<Duration> {
        let missing = 1.0 - self.level(now);
        if missing <= 0.0 {
            return Some(now);
        }
        let wait = Duration::try_from_secs_f64(missing / self.rate).ok()?;
        // A nanosecond more, lest rounding leave it just short.
        now.checked_add(wait + Duration::from_nanos(1))
    }

    fn refill(&mut self, now: Duration) {
        self.tokens = self.level(now);
        self.at = self.at.max(now);
    }

    fn level(&self, now: Duration) -> f64 {
        let gained = self.rate * now.saturating_sub(self.at).as_secs_f64();
        (self.tokens + gained).min(self.burst)
    }
}

fn usable(rate: f64) -> f64 {
    if rate > 0.0 { rate.min(1e9) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HI: SourceId = SourceId(0);
    const LIVE: SourceId = SourceId(1);
    const BACKFILL: SourceId = SourceId(2);
    const ALL: [SourceId; 3] = [HI, LIVE, BACKFILL];

    fn shares(hi: u32, live: u32, backfill: u32) -> LaneShares {
        let mut shares = LaneShares::new(LaneWeights { hi, live, backfill });
        for (source, lane) in ALL.into_iter().zip(Lane::ALL) {
            shares.add(source, lane);
        }
        shares
    }

    /// Jobs that each source gave in so many turns of one job.
    fn turns(shares: &mut LaneShares, candidates: &[SourceId], count: usize) -> BTreeMap<SourceId, usize> {
        let mut given = BTreeMap::new();
        for _ in 0..count {
            let source = shares.next(candidates).unwrap();
            shares.charge(source, 1);
            *given.entry(source).or_default() += 1;
        }
        given
    }

    #[test]
    fn a_round_gives_every_lane_its_weight() {
        let mut shares = shares(8, 4, 1);
        for _ in 0..100 {
            assert_eq!(turns(&mut shares, &ALL, 13), BTreeMap::from([(HI, 8), (LIVE, 4), (BACKFILL, 1)]));
        }
    }

    #[test]
    fn a_lane_without_jobs_leaves_its_share_to_the_others() {
        let mut shares = shares(8, 4, 1);
        assert_eq!(turns(&mut shares, &[LIVE, BACKFILL], 50), BTreeMap::from([(LIVE, 40), (BACKFILL, 10)]));
        assert_eq!(turns(&mut shares, &[BACKFILL], 50), BTreeMap::from([(BACKFILL, 50)]));
    }

    #[test]
    fn a_lane_that_comes_back_is_next_and_has_saved_up_nothing() {
        let mut shares = shares(1, 1, 1);
        turns(&mut shares, &[LIVE, BACKFILL], 1000);
        assert_eq!(shares.next(&ALL), Some(HI));
        // One turn ahead for coming back, no more.
        assert_eq!(turns(&mut shares, &ALL, 30), BTreeMap::from([(HI, 11), (LIVE, 10), (BACKFILL, 9)]));
    }

    #[test]
    fn a_backfill_that_had_idle_capacity_does_not_pay_for_it() {
        let mut shares = shares(8, 4, 1);
        turns(&mut shares, &[BACKFILL], 1000);
        // The turn it had last counts, the thousand before do not.
        assert_eq!(turns(&mut shares, &ALL, 13 * 4)[&BACKFILL], 3);
        assert_eq!(turns(&mut shares, &ALL, 13 * 4)[&BACKFILL], 4);
    }

    #[test]
    fn a_source_found_empty_pays_nothing() {
        let mut shares = shares(8, 4, 1);
        assert_eq!(shares.next(&ALL), Some(HI));
        shares.charge(HI, 0);
        assert_eq!(shares.next(&[LIVE, BACKFILL]), Some(LIVE));
        assert_eq!(shares.next(&ALL), Some(HI));
    }

    #[test]
    fn backfills_share_the_weight_of_their_lane() {
        let mut shares = shares(2, 2, 2);
        let (second, third) = (SourceId(3), SourceId(4));
        shares.add(second, Lane::Backfill);
        shares.add(third, Lane::Backfill);
        let all = [HI, LIVE, BACKFILL, second, third];
        let given = turns(&mut shares, &all, 90);
        assert_eq!(given, BTreeMap::from([(HI, 30), (LIVE, 30), (BACKFILL, 10), (second, 10), (third, 10)]));
        shares.remove(third);
        assert_eq!(turns(&mut shares, &all, 60)[&second], 10);
    }

    #[test]
    fn nobody_is_next_if_nobody_has_jobs() {
        assert_eq!(shares(8, 4, 1).next(&[]), None);
        assert_eq!(shares(8, 4, 1).next(&[SourceId(9)]), None, "not a source");
    }

    fn weights() -> impl Strategy<Value = [u32; 3]> {
        prop::array::uniform3(1_u32..=20)
    }

    proptest! {
        #[test]
        fn shares_hold_over_any_stretch_of_turns(
            weights in weights(), sizes in prop::collection::vec(1_usize..=6, 1..200), from in any::<prop::sample::Index>(),
        ) {
            let q = 6.0;
            let mut shares = shares(weights[0], weights[1], weights[2]);
            let from = from.index(sizes.len());
            let mut given = [0.0; 3];
            for (turn, jobs) in sizes.into_iter().enumerate() {
                let source = shares.next(&ALL).unwrap();
                shares.charge(source, jobs);
                if turn >= from {
                    given[usize::from(source.0)] += jobs as f64;
                }
                for (a, b) in [(0, 1), (0, 2), (1, 2)] {
                    let (wa, wb) = (f64::from(weights[a]), f64::from(weights[b]));
                    prop_assert!((given[a] / wa - given[b] / wb).abs() <= q / wa + q / wb + 1e-9);
                }
            }
        }

        #[test]
        fn every_round_is_exact_for_single_jobs(weights in weights(), rounds in 1_usize..5) {
            let mut shares = shares(weights[0], weights[1], weights[2]);
            let round = weights.iter().sum::<u32>() as usize;
            for _ in 0..rounds {
                let given = turns(&mut shares, &ALL, round);
                for (source, weight) in ALL.into_iter().zip(weights) {
                    prop_assert_eq!(given[&source], weight as usize);
                }
            }
        }

        #[test]
        fn somebody_with_jobs_is_always_next_and_none_starves(
            weights in weights(),
            turns in prop::collection::vec((prop::array::uniform3(any::<bool>()), 0_usize..=5), 1..200),
        ) {
            let q = 5.0;
            let mut shares = shares(weights[0], weights[1], weights[2]);
            // What the others got while a source that had jobs all the time waited.
            let mut passed: [Option<[f64; 3]>; 3] = [None; 3];
            for (has_jobs, jobs) in turns {
                let candidates: Vec<_> = ALL.into_iter().filter(|source| has_jobs[usize::from(source.0)]).collect();
                let Some(next) = shares.next(&candidates) else {
                    prop_assert!(candidates.is_empty());
                    passed = [None; 3];
                    continue;
                };
                prop_assert!(candidates.contains(&next));
                shares.charge(next, jobs);
                for waiting in 0..3 {
                    passed[waiting] = match (has_jobs[waiting], usize::from(next.0) == waiting) {
                        (false, _) => None,
                        (true, true) => Some([0.0; 3]),
                        (true, false) => passed[waiting].map(|mut got| {
                            got[usize::from(next.0)] += jobs as f64;
                            got
                        }),
                    };
                    for (other, got) in passed[waiting].iter().flatten().enumerate() {
                        let bound = q * f64::from(weights[other]) / f64::from(weights[waiting]) + q;
                        prop_assert!(*got <= bound + 1e-9, "{other} got {got} before {waiting}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_bucket_starts_full_and_fills_at_its_rate() {
        let at = Duration::from_secs;
        let mut bucket = TokenBucket::new(0.5, 4, at(10));
        assert_eq!((bucket.take(9, at(10)), bucket.available(at(10))), (4, 0));
        assert_eq!((bucket.available(at(11)), bucket.available(at(12)), bucket.available(at(99))), (0, 1, 4));
        let next = bucket.next_at(at(10)).unwrap();
        assert!(next >= at(12) && bucket.available(next) == 1);
        bucket.set_rate(0.0, at(11));
        assert_eq!((bucket.available(at(99)), bucket.next_at(at(99))), (0, None));
        bucket.set_rate(1.0, at(99));
        assert_eq!(bucket.available(at(100)), 1, "half of one was there already");
    }

    #[test]
    fn what_did_not_come_can_be_taken_again_but_never_beyond_the_burst() {
        let mut bucket = TokenBucket::new(0.0, 4, Duration::ZERO);
        assert_eq!(bucket.take(3, Duration::ZERO), 3);
        bucket.put_back(2, Duration::ZERO);
        assert_eq!(bucket.available(Duration::ZERO), 3);
        bucket.put_back(100, Duration::ZERO);
        assert_eq!(bucket.available(Duration::ZERO), 4);
    }

    #[derive(Debug, Clone)]
    enum Event {
        Take(usize),
        Return(usize),
        Rate(f64),
    }

    fn events() -> impl Strategy<Value = Vec<(u64, Event)>> {
        let rate = prop_oneof![Just(f64::NAN), Just(-1.0), Just(0.0), 0.01..50.0_f64];
        let event = prop_oneof![
            6 => (0_usize..40).prop_map(Event::Take),
            2 => (0_usize..10).prop_map(Event::Return),
            1 => rate.prop_map(Event::Rate),
        ];
        prop::collection::vec((0_u64..3000, event), 1..80)
    }

    proptest! {
        #[test]
        fn no_stretch_of_time_gives_more_than_burst_and_rate(
            events in events(), rate in 0.01..50.0_f64, burst in 1_usize..20,
        ) {
            let mut bucket = TokenBucket::new(rate, burst, Duration::ZERO);
            let (mut now, mut rate) = (Duration::ZERO, rate);
            // For each earlier event: what was taken since, net, less what the rate gave since.
            let mut stretches: Vec<f64> = Vec::new();
            for (pause, event) in events {
                let pause = Duration::from_millis(pause);
                now += pause;
                for excess in &mut stretches {
                    *excess -= rate * pause.as_secs_f64();
                }
                stretches.push(0.0);
                let net = match event {
                    Event::Take(jobs) => bucket.take(jobs, now) as f64,
                    Event::Return(jobs) => {
                        let jobs = jobs.min(burst - bucket.available(now));
                        bucket.put_back(jobs, now);
                        -(jobs as f64)
                    }
                    Event::Rate(new) => {
                        bucket.set_rate(new, now);
                        rate = if new > 0.0 { new } else { 0.0 };
                        0.0
                    }
                };
                for excess in &mut stretches {
                    *excess += net;
                    prop_assert!(*excess <= burst as f64 + 1e-6);
                }
            }
        }
    }
}
