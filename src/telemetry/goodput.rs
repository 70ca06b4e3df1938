//! Goodput: the part of the throughput that was of use, because its job met the service level.
//!
//! A job meets the level if it ended well and its time to first label or token, queue wait included, is below the
//! limit. Tokens are divided by wall time; summing the times of concurrent jobs would hide exactly the concurrency
//! that is to be measured.
//!
//! Invariants: a job that did not need the model (it ended well and has no first token) is counted nowhere; a failed
//! job is counted and never meets the level; memory is bounded by [`KEPT_SAMPLES`]. Pure: instants are durations
//! since an origin of the caller's choice on a monotonic clock.

use std::collections::VecDeque;
use std::time::Duration;

/// Samples kept for windows and quantiles. Counts since the start need none and are exact for ever.
pub const KEPT_SAMPLES: usize = 10_000;

/// The service level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sla {
    /// Time from a job's arrival to its first label or token must be below this.
    pub ttft: Duration,
}

impl Default for Sla {
    fn default() -> Self {
        Self { ttft: Duration::from_secs(2) }
    }
}

impl Sla {
    /// Whether the job met the level; absent for one that did not need the model, of which it says nothing.
    pub fn verdict(self, job: &JobSample) -> Option<bool> {
        job.needed_the_model().then(|| self.met_by(job))
    }

    fn met_by(self, job: &JobSample) -> bool {
        job.ok && job.ttft.is_some_and(|ttft| ttft < self.ttft)
    }
}

/// How one job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobSample {
    /// When it ended, since the origin.
    pub finished_at: Duration,
    /// From its arrival to its first label or token, queue wait included; absent when there was none.
    pub ttft: Option<Duration>,
    /// Tokens the model computed for it: prompt, forced and generated, reused ones left out.
    pub tokens: u64,
    /// Whether it ended well: with findings, new or repeated, or because there is nothing to find.
    pub ok: bool,
}

impl JobSample {
    /// A restaurant that is unchanged or without text, or whose reviews were all known, says nothing of the service
    /// level.
    const fn needed_the_model(&self) -> bool {
        !self.ok || self.ttft.is_some()
    }
}

/// Times to first token of a window's jobs. Nearest-rank: each is a time that was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TtftQuantiles {
    /// Half of the jobs were as fast.
    pub p50: Duration,
    /// 95 in 100 jobs were as fast.
    pub p95: Duration,
    /// The slowest.
    pub max: Duration,
}

impl TtftQuantiles {
    /// `None` without times.
    fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort_unstable();
        let max = *times.last()?;
        // Nearest rank: the smallest time that at least `percent` in 100 do not exceed.
        let rank = |percent: usize| (times.len() * percent).div_ceil(100).max(1);
        Some(Self { p50: times[rank(50) - 1], p95: times[rank(95) - 1], max })
    }
}

/// What was done in a stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Start, since the origin; a job that ended exactly then belongs to the window before.
    pub from: Duration,
    /// End, since the origin; a job that ended exactly then belongs to this window.
    pub to: Duration,
    /// Jobs that needed the model.
    pub jobs: u64,
    /// Of those, the ones that met the level.
    pub jobs_met: u64,
    /// Tokens of `jobs`.
    pub tokens: u64,
    /// Tokens of `jobs_met`.
    pub tokens_met: u64,
    /// Over the jobs that have a first token; `None` if none has.
    pub ttft: Option<TtftQuantiles>,
}

impl Window {
    /// Its length.
    pub const fn wall(&self) -> Duration {
        self.to.saturating_sub(self.from)
    }

    /// Tokens per second of wall time; `None` if no time passed.
    pub fn throughput_tps(&self) -> Option<f64> {
        self.per_second(self.tokens)
    }

    /// Tokens of jobs that met the level, per second of wall time; `None` if no time passed.
    pub fn goodput_tps(&self) -> Option<f64> {
        self.per_second(self.tokens_met)
    }

    /// Share of the jobs that met the level, 0 to 1; `None` without jobs, which is neither.
    pub fn compliance(&self) -> Option<f64> {
        (self.jobs > 0).then(|| self.jobs_met as f64 / self.jobs as f64)
    }

    fn per_second(&self, tokens: u64) -> Option<f64> {
        let wall = self.wall();
        (!wall.is_zero()).then(|| tokens as f64 / wall.as_secs_f64())
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    jobs: u64,
    jobs_met: u64,
    tokens: u64,
    tokens_met: u64,
}

impl Counts {
    fn add(&mut self, job: &JobSample, sla: Sla) {
        self.jobs += 1;
        self.tokens = self.tokens.saturating_add(job.tokens);
        if sla.met_by(job) {
            self.jobs_met += 1;
            self.tokens_met = self.tokens_met.saturating_add(job.tokens);
        }
    }

    const fn window(self, from: Duration, to: Duration, ttft: Option<TtftQuantiles>) -> Window {
        let Self { jobs, jobs_met, tokens, tokens_met } = self;
        Window { from, to, jobs, jobs_met, tokens, tokens_met, ttft }
    }
}

/// Keeps count of jobs against the service level. See the module.
#[derive(Debug)]
pub struct Goodput {
    sla: Sla,
    started_at: Duration,
    total: Counts,
    /// The latest samples, in the order of recording, which need not be that of ending.
    kept: VecDeque<JobSample>,
    /// No sample that ended later than this was ever forgotten.
    complete_after: Duration,
}

impl Goodput {
    /// Counts from `started_at`, since the origin.
    pub fn new(sla: Sla, started_at: Duration) -> Self {
        Self { sla, started_at, total: Counts::default(), kept: VecDeque::new(), complete_after: started_at }
    }

    /// The service level counted against.
    pub const fn sla(&self) -> Sla {
        self.sla
    }

    /// Counts a job.
    pub fn record(&mut self, job: JobSample) {
        if !job.needed_the_model() {
            return;
        }
        self.total.add(&job, self.sla);
        if self.kept.len() == KEPT_SAMPLES
            && let Some(forgotten) = self.kept.pop_front()
        {
            self.complete_after = self.complete_after.max(forgotten.finished_at);
        }
        self.kept.push_back(job);
    }

    /// Everything since the start. Counts are exact; quantiles are exact over the last [`KEPT_SAMPLES`] jobs.
    pub fn summary(&self, now: Duration) -> Window {
        let ttft = TtftQuantiles::of(self.kept.iter().filter_map(|job| job.ttft).collect());
        self.total.window(self.started_at, now, ttft)
    }

    /// The jobs that ended after `from` and not after `to`. Where samples of that time were forgotten already, the
    /// window starts later than asked, and says so in its `from`: a rate over time without samples would be too low.
    pub fn window(&self, from: Duration, to: Duration) -> Window {
        let from = from.max(self.complete_after).min(to);
        let mut counts = Counts::default();
        let mut times = Vec::new();
        for job in self.kept.iter().filter(|job| from < job.finished_at && job.finished_at <= to) {
            counts.add(job, self.sla);
            times.extend(job.ttft);
        }
        counts.window(from, to, TtftQuantiles::of(times))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    const fn job(finished_at: u64, ttft: Option<u64>, tokens: u64, ok: bool) -> JobSample {
        let ttft = match ttft {
            Some(millis) => Some(ms(millis)),
            None => None,
        };
        JobSample { finished_at: ms(finished_at), ttft, tokens, ok }
    }

    fn goodput(jobs: impl IntoIterator<Item = JobSample>) -> Goodput {
        let mut goodput = Goodput::new(Sla::default(), Duration::ZERO);
        jobs.into_iter().for_each(|job| goodput.record(job));
        goodput
    }

    #[test]
    fn concurrent_jobs_share_the_wall_clock() {
        // Two jobs of two seconds each, side by side: 400 tokens in 2 s are 200 a second, not 100.
        let summary =
            goodput([job(2000, Some(500), 200, true), job(2000, Some(900), 200, true)]).summary(ms(2000));
        assert_eq!(summary.throughput_tps(), Some(200.0));
        assert_eq!(summary.goodput_tps(), Some(200.0));
    }

    #[test]
    fn the_limit_itself_is_too_late() {
        let summary = goodput([job(5, Some(1999), 1, true), job(6, Some(2000), 1, true)]).summary(ms(10));
        assert_eq!((summary.jobs, summary.jobs_met), (2, 1));
    }

    #[test]
    fn a_failed_job_counts_and_never_meets_the_level() {
        let summary = goodput([job(1, Some(1), 30, false), job(2, None, 0, false)]).summary(ms(1000));
        assert_eq!((summary.jobs, summary.jobs_met, summary.tokens, summary.tokens_met), (2, 0, 30, 0));
        assert_eq!(summary.compliance(), Some(0.0));
    }

    #[test]
    fn a_job_that_did_not_need_the_model_counts_in_neither_direction() {
        let summary = goodput([job(1, None, 0, true)]).summary(ms(1000));
        assert_eq!((summary.jobs, summary.ttft), (0, None));
        assert_eq!(summary.compliance(), None, "no job is not the same as no job in time");
    }

    #[test]
    fn no_time_has_no_rate() {
        let summary = goodput([job(0, Some(1), 30, true)]).summary(Duration::ZERO);
        assert_eq!((summary.throughput_tps(), summary.goodput_tps()), (None, None));
    }

    #[test]
    fn quantiles_are_times_that_were_measured() {
        let jobs = (1..=20).map(|index| job(index, Some(index * 10), 1, true));
        let ttft = goodput(jobs).summary(ms(100)).ttft.unwrap();
        assert_eq!((ttft.p50, ttft.p95, ttft.max), (ms(100), ms(190), ms(200)));
        let one = goodput([job(1, Some(7), 1, true)]).summary(ms(1)).ttft.unwrap();
        assert_eq!((one.p50, one.p95, one.max), (ms(7), ms(7), ms(7)));
    }

    #[test]
    fn a_window_reaching_behind_memory_starts_where_memory_does() {
        let extra = 5;
        let jobs = (1..=KEPT_SAMPLES as u64 + extra).map(|index| job(index, Some(1), 1, true));
        let goodput = goodput(jobs);
        let window = goodput.window(Duration::ZERO, ms(20_000));
        assert_eq!((window.from, window.jobs), (ms(extra), KEPT_SAMPLES as u64));
        assert_eq!(goodput.summary(ms(20_000)).jobs, KEPT_SAMPLES as u64 + extra, "counts forget nothing");
    }

    fn any_job() -> impl Strategy<Value = JobSample> {
        (1_u64..5000, prop::option::of(0_u64..4000), 0_u64..1000, any::<bool>())
            .prop_map(|(finished_at, ttft, tokens, ok)| job(finished_at, ttft, tokens, ok))
    }

    proptest! {
        #[test]
        fn what_met_the_level_is_part_of_what_was_done(jobs in prop::collection::vec(any_job(), 0..60)) {
            let summary = goodput(jobs).summary(ms(5000));
            prop_assert!(summary.jobs_met <= summary.jobs && summary.tokens_met <= summary.tokens);
            prop_assert!(summary.goodput_tps() <= summary.throughput_tps());
            prop_assert!(summary.compliance().is_none_or(|share| (0.0..=1.0).contains(&share)));
            if let Some(TtftQuantiles { p50, p95, max }) = summary.ttft {
                prop_assert!(p50 <= p95 && p95 <= max);
            }
        }

        #[test]
        fn adjacent_windows_add_up_to_the_whole(jobs in prop::collection::vec(any_job(), 0..60), cut in 0_u64..5000) {
            let goodput = goodput(jobs);
            let (whole, before, after) =
                (goodput.summary(ms(5000)), goodput.window(ms(0), ms(cut)), goodput.window(ms(cut), ms(5000)));
            prop_assert_eq!(whole.jobs, before.jobs + after.jobs);
            prop_assert_eq!(whole.jobs_met, before.jobs_met + after.jobs_met);
            prop_assert_eq!(whole.tokens, before.tokens + after.tokens);
            prop_assert_eq!(whole.tokens_met, before.tokens_met + after.tokens_met);
        }

        #[test]
        fn the_order_of_recording_does_not_matter(jobs in prop::collection::vec(any_job(), 0..60)) {
            let backwards = goodput(jobs.iter().rev().copied());
            prop_assert_eq!(goodput(jobs).summary(ms(5000)), backwards.summary(ms(5000)));
        }

        #[test]
        fn a_quantile_leaves_no_more_above_it_than_it_says(times in prop::collection::vec(0_u64..9999, 1..300)) {
            let ttft = TtftQuantiles::of(times.iter().copied().map(ms).collect()).unwrap();
            for (quantile, percent) in [(ttft.p50, 50), (ttft.p95, 95)] {
                let below = times.iter().filter(|time| ms(**time) < quantile).count();
                let up_to = times.iter().filter(|time| ms(**time) <= quantile).count();
                prop_assert!(up_to * 100 >= percent * times.len(), "too many above");
                prop_assert!(below * 100 < percent * times.len(), "a smaller time would do");
            }
        }
    }
}
