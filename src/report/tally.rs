//! From rows to figures. Pure: rows go in one by one, in any order.

mod sums;

use std::collections::BTreeMap;

use self::sums::{GpuTally, Served, Shift, Step};
use super::rows::{GpuSeen, JobSeen, LetterSeen, RequestsSeen, WindowSeen, WorkerSeen};
use super::{
    Cost, Count, Flow, FlowPoint, Hour, Jobs, Period, Report, Requests, Service, Spread, Tokens, Worker,
};
use crate::analyst::metrics::WORKER;
use crate::telemetry::SizeClass;

/// Steps of the time axis at most.
const MOST_STEPS: i64 = 96;
/// Lengths that a step can have, in seconds: from the length of a window to a week.
const STEPS: [i64; 12] = [60, 120, 300, 600, 900, 1800, 3600, 10_800, 21_600, 43_200, 86_400, 604_800];
/// Reasons and codes that are named.
const MOST_NAMED: usize = 10;
/// What `all` lanes and sizes are called.
const ALL: &str = "all";
/// What has no lane came from a file.
const FILE: &str = "file";

/// The time for which there are rows, in Unix seconds, in steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Axis {
    /// Start of the first step.
    pub from: i64,
    /// Length of a step.
    pub step: i64,
    /// Steps.
    pub steps: usize,
}

impl Axis {
    /// Steps from `from` to `to`: as fine as makes sense, and as many as a screen can show.
    pub fn over(from: i64, to: i64) -> Self {
        let span = (to - from).max(1);
        let last = STEPS[STEPS.len() - 1];
        let step = STEPS.into_iter().find(|step| div_up(span, *step) < MOST_STEPS).unwrap_or(last);
        let from = from.div_euclid(step) * step;
        let steps = div_up((to - from).max(1), step).clamp(1, 10_000);
        Self { from, step, steps: steps as usize }
    }

    /// Start of a step.
    pub const fn second(&self, step: usize) -> i64 {
        self.from + step as i64 * self.step
    }

    fn step_of(&self, second: i64) -> Option<usize> {
        let step = (second - self.from).div_euclid(self.step);
        usize::try_from(step).ok().filter(|step| *step < self.steps)
    }
}

/// Counts as rows come.
#[derive(Debug)]
pub struct Tally {
    axis: Axis,
    jobs: Jobs,
    service: BTreeMap<(String, SizeClass), Served>,
    tokens: Tokens,
    computed_for_baseline: u64,
    hours: Vec<Served>,
    flow: Vec<Step>,
    requests: Vec<RequestsSeen>,
    tpots: Vec<f32>,
    gpus: BTreeMap<(String, i64), GpuTally>,
    windows: BTreeMap<String, Shift>,
    starts: BTreeMap<String, (u64, WorkerSeen)>,
    errors: BTreeMap<String, u64>,
    letters: BTreeMap<String, u64>,
}

impl Tally {
    /// Nothing seen yet.
    pub fn new(axis: Axis) -> Self {
        Self {
            axis,
            jobs: Jobs::default(),
            service: BTreeMap::new(),
            tokens: Tokens::default(),
            computed_for_baseline: 0,
            hours: vec![Served::default(); 24],
            flow: vec![Step::default(); axis.steps],
            requests: Vec::new(),
            tpots: Vec::new(),
            gpus: BTreeMap::new(),
            windows: BTreeMap::new(),
            starts: BTreeMap::new(),
            errors: BTreeMap::new(),
            letters: BTreeMap::new(),
        }
    }

    /// Counts a result.
    pub fn job(&mut self, job: &JobSeen) {
        let lane = job.lane.as_deref().unwrap_or(FILE);
        self.jobs.total += 1;
        let outcomes = self.jobs.lanes.entry(lane.to_owned()).or_default();
        *outcomes.entry(job.outcome.clone()).or_default() += 1;
        if let Some(code) = &job.error_code {
            *self.errors.entry(code.clone()).or_default() += 1;
        }
        self.service.entry((lane.to_owned(), SizeClass::of(count(job.reviews)))).or_default().add(job);
        let hour = job.second.rem_euclid(86_400) / 3600;
        self.hours[hour as usize].add(job);
        self.spend(job);
    }

    fn spend(&mut self, job: &JobSeen) {
        let tokens = &mut self.tokens;
        tokens.prompt += count(job.prompt_tokens);
        tokens.forced += count(job.forced_tokens);
        tokens.generated += count(job.generated_tokens);
        tokens.reused += count(job.cached_tokens);
        tokens.reviews += count(job.reviews);
        tokens.reviews_read += count(job.reviews_read);
        tokens.reviews_known += count(job.cache_hits);
        tokens.claims_written += count(job.claims_written);
        tokens.claims_kept += count(job.claims_kept);
        // A failure is cheap, but saves nothing.
        if has_findings(&job.outcome) {
            tokens.baseline += count(job.baseline_tokens);
            self.computed_for_baseline += count(job.computed_tokens());
        }
    }

    /// Counts a window: its tokens go to the steps that it lies in, by their shares of it.
    pub fn window(&mut self, window: &WindowSeen) {
        let shift = self.windows.entry(window.worker.clone()).or_default();
        shift.seconds += window.wall_seconds;
        shift.jobs += count(window.jobs);
        shift.tokens += count(window.tokens);
        if let Some(busy) = window.busy_seconds {
            let (sum, of) = shift.busy.unwrap_or_default();
            shift.busy = Some((sum + busy, of + window.wall_seconds));
        }
        let length = window.to_second - window.from_second;
        if length <= 0.0 {
            return;
        }
        let first = self.axis.step_of(window.from_second.floor() as i64).unwrap_or(0);
        for step in first..self.axis.steps {
            let start = self.axis.second(step) as f64;
            let (from, to) =
                (window.from_second.max(start), window.to_second.min(start + self.axis.step as f64));
            if start >= window.to_second {
                break;
            }
            if to > from {
                let share = (to - from) / length;
                let place = |second: f64| ((second - start) / self.axis.step as f64 * 64.0).round() as u32;
                let step = &mut self.flow[step];
                step.tokens += window.tokens as f64 * share;
                step.tokens_met += window.tokens_met as f64 * share;
                step.covered |= bits(place(from), place(to));
                *step.workers.entry(window.worker.clone()).or_default() += to - from;
            }
        }
    }

    /// Counts requests of one kind.
    pub fn requests(&mut self, requests: RequestsSeen) {
        self.requests.push(requests);
    }

    /// Counts a generation's time per token, in milliseconds.
    pub fn tpot(&mut self, millis: f64) {
        self.tpots.push(millis as f32);
    }

    /// Counts a look at a GPU.
    pub fn gpu(&mut self, seen: &GpuSeen) {
        let step = self.axis.step_of(seen.second);
        let gpu = self.gpus.entry((seen.worker.clone(), seen.device)).or_default();
        gpu.name.clone_from(&seen.name);
        if let Some(share) = seen.utilization {
            gpu.utilization.add(share);
            if let Some(step) = step {
                gpu.steps.entry(step).or_default().add(share);
            }
        }
        if let Some(watts) = seen.power_watts {
            gpu.power.add(watts);
        }
        gpu.memory_used = gpu.memory_used.max(seen.memory_used_bytes);
        gpu.memory_total = gpu.memory_total.max(seen.memory_total_bytes);
        gpu.temperature = match (gpu.temperature, seen.temperature_celsius) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        };
    }

    /// Counts a start of a worker within the period.
    pub fn worker(&mut self, worker: WorkerSeen) {
        let start = self.starts.entry(worker.worker.clone()).or_insert_with(|| (0, worker.clone()));
        start.0 += 1;
        if worker.started_second >= start.1.started_second {
            start.1 = worker;
        }
    }

    /// Takes note of a worker that started before the period and may have worked in it.
    pub fn earlier_worker(&mut self, worker: WorkerSeen) {
        self.starts.entry(worker.worker.clone()).or_insert((0, worker));
    }

    /// Counts a dead letter.
    pub fn letter(&mut self, letter: &LetterSeen) {
        *self.letters.entry(letter.reason.clone()).or_default() += 1;
    }

    /// The figures. `cost_per_hour`: of a worker, if it is known.
    pub fn finish(self, period: Period, cost_per_hour: Option<f64>) -> Report {
        let has_jobs = self.jobs.total > 0;
        let has_windows = !self.windows.is_empty();
        let cost = cost_per_hour.filter(|_| has_windows).map(|price| self.cost(price));
        // A run over a file has no queue, and so no dead letters.
        let has_queue = self.windows.keys().any(|worker| worker != WORKER)
            || self.jobs.lanes.keys().any(|lane| lane != FILE);
        let letters_are_known = !self.letters.is_empty() || has_queue;
        Report {
            period,
            flow: has_windows.then(|| flow(self.axis, &self.flow)),
            cost,
            requests: requests(self.requests, self.tpots),
            gpus: self.gpus.into_iter().map(|(whose, gpu)| gpu.finish(whose, self.axis.steps)).collect(),
            workers: workers(self.windows, &self.starts),
            service: service(self.service),
            tokens: has_jobs.then(|| saved(self.tokens, self.computed_for_baseline)),
            hours: if has_jobs { hours(self.hours) } else { Vec::new() },
            errors: has_jobs.then(|| named(self.errors)),
            dead_letters: letters_are_known.then(|| named(self.letters)),
            // Nothing was done while workers were there: that is known. Nothing is known without either.
            jobs: (has_jobs || has_windows).then_some(self.jobs),
        }
    }

    fn cost(&self, per_hour: f64) -> Cost {
        let worker_hours = self.windows.values().map(|shift| shift.seconds).sum::<f64>() / 3600.0;
        // Of all or of none: a part would look like the whole.
        let all_measured = self.windows.values().all(Shift::is_measured);
        let busy =
            self.windows.values().filter_map(|shift| shift.busy).map(|(busy, _)| busy).sum::<f64>() / 3600.0;
        let busy_hours = all_measured.then_some(busy);
        let outcomes = self.jobs.lanes.values().flatten();
        let restaurants = outcomes.filter(|(outcome, _)| has_findings(outcome)).map(|(_, count)| count).sum();
        let per_1000 = |hours: f64| (restaurants > 0).then(|| per_hour * hours / restaurants as f64 * 1000.0);
        Cost {
            per_hour,
            worker_hours,
            busy_hours,
            restaurants,
            per_1000_restaurants: per_1000(worker_hours),
            per_1000_restaurants_busy: busy_hours.and_then(per_1000),
        }
    }
}

/// Of what is not below zero.
const fn div_up(number: i64, by: i64) -> i64 {
    (number + by - 1) / by
}

fn has_findings(outcome: &str) -> bool {
    matches!(outcome, "ok" | "partial" | "unchanged")
}

/// Databases count with signs; no count is below zero.
fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// Bits `from..to`, at least one.
fn bits(from: u32, to: u32) -> u64 {
    let from = from.min(63);
    let length = to.saturating_sub(from).clamp(1, 64 - from);
    (u64::MAX >> (64 - length)) << from
}

fn flow(axis: Axis, steps: &[Step]) -> Flow {
    let covered: f64 = steps.iter().map(|step| step.seconds(axis.step)).sum();
    // With a window some time is covered.
    let rate = |tokens: f64| if covered > 0.0 { tokens / covered } else { 0.0 };
    let points = steps.iter().enumerate().map(|(place, step)| {
        let there = step.seconds(axis.step);
        let rate = |tokens: f64| (there > 0.0).then(|| tokens / there);
        FlowPoint {
            second: axis.second(place),
            throughput_tps: rate(step.tokens),
            goodput_tps: rate(step.tokens_met),
        }
    });
    Flow {
        step_seconds: axis.step,
        points: points.collect(),
        throughput_tps: rate(steps.iter().map(|step| step.tokens).sum()),
        goodput_tps: rate(steps.iter().map(|step| step.tokens_met).sum()),
    }
}

fn saved(tokens: Tokens, computed: u64) -> Tokens {
    let saved_share = (tokens.baseline > 0).then(|| 1.0 - computed as f64 / tokens.baseline as f64);
    Tokens { saved_share, ..tokens }
}

fn service(by_kind: BTreeMap<(String, SizeClass), Served>) -> Vec<Service> {
    let mut all = Served::default();
    let mut lines: Vec<Service> = Vec::new();
    let mut kinds: Vec<_> = by_kind.into_iter().collect();
    // The most urgent lane first.
    let rank = |lane: &str| ["hi", "live", "backfill", FILE].iter().position(|known| *known == lane);
    kinds.sort_by_key(|((lane, size), _)| (rank(lane).unwrap_or(usize::MAX), *size));
    for ((lane, size), served) in kinds {
        all.join(&served);
        lines.push(served.finish(lane, size.name()));
    }
    if lines.len() > 1 {
        lines.push(all.finish(ALL.to_owned(), ALL));
    }
    lines
}

fn hours(hours: Vec<Served>) -> Vec<Hour> {
    let line = |(hour, served): (u8, Served)| {
        let Service { jobs, judged, met, ttft_ms, .. } = served.finish(String::new(), ALL);
        let compliance = (judged > 0).then(|| met as f64 / judged as f64);
        Hour { hour, jobs, ttft_p95_ms: ttft_ms.map(|spread| spread.p95), compliance }
    };
    (0..).zip(hours).map(line).collect()
}

fn requests(seen: Vec<RequestsSeen>, mut tpots: Vec<f32>) -> Vec<Requests> {
    let tpot = Spread::of(&mut tpots);
    let line = |seen: RequestsSeen| Requests {
        tpot_ms: tpot.filter(|_| seen.kind == "generation"),
        requests: count(seen.requests),
        unanswered: count(seen.requests - seen.answered),
        queue_ms: seen.queue_ms,
        prefill_ms: seen.prefill_ms,
        decode_ms: seen.decode_ms,
        kind: seen.kind,
    };
    seen.into_iter().map(line).collect()
}

fn workers(mut shifts: BTreeMap<String, Shift>, starts: &BTreeMap<String, (u64, WorkerSeen)>) -> Vec<Worker> {
    // One that started before the period and left no window in it was not there.
    for (name, (here, _)) in starts {
        if *here > 0 {
            shifts.entry(name.clone()).or_default();
        }
    }
    let line = |(worker, shift): (String, Shift)| {
        let start = starts.get(&worker).map(|(_, start)| start);
        Worker {
            starts: starts.get(&worker).map_or(0, |(here, _)| *here),
            model: start.map(|start| start.model.clone()),
            device: start.and_then(|start| start.device.clone()),
            slots: start.and_then(|start| start.slots).map(count),
            seconds: shift.seconds,
            busy_share: shift.busy.filter(|(_, of)| *of > 0.0).map(|(busy, of)| (busy / of).min(1.0)),
            jobs: shift.jobs,
            tokens: shift.tokens,
            worker,
        }
    };
    shifts.into_iter().map(line).collect()
}

fn named(counts: BTreeMap<String, u64>) -> Vec<Count> {
    let mut counts: Vec<Count> = counts.into_iter().map(|(name, count)| Count { name, count }).collect();
    counts.sort_by_key(|counted| std::cmp::Reverse(counted.count));
    counts.truncate(MOST_NAMED);
    counts
}
