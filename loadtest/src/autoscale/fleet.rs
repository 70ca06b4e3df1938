//! A fleet through a day, event by event, in virtual time. Pure: the same jobs and rules give the same day.
//!
//! A worker has one engine, which serves the job with the smallest key (`arrival + λ · cost`, as the product's scheduler
//! does); a smaller one passes a larger one in mid-work, as it does there between two requests. Jobs wait in the lanes
//! until a slot is free, and go to the worker with the fewest in hand.
//!
//! Invariants: every job ends once; none is with a worker that has gone; a worker costs from the wish for it until it has
//! gone.

use std::collections::VecDeque;

use super::figures::Watched;
use super::policy::{Idle, Policy};
use super::scaler::Scaler;
use super::{Model, Options};
use crate::sample::{Sample, Size};

/// Times closer than this are one.
const INSTANT: f64 = 1e-9;

/// A job of the day.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Job {
    /// When it comes.
    pub arrived: f64,
    /// How large it is.
    pub size: Size,
    /// Its time alone on a worker.
    pub seconds: f64,
}

/// What became of a day.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// The jobs, in their order.
    pub samples: Vec<Sample>,
    /// From the wish for a worker until it had gone, or until the end of the run.
    pub lives: Vec<(f64, f64)>,
    /// Spans in which there was more lag for each ready worker than the rules want.
    pub behind: Vec<(f64, f64)>,
    /// Jobs that were cut by the end of a drain and began again.
    pub cut: usize,
    /// When the day was over and its last job had ended.
    pub end: f64,
    /// The fleet over time.
    pub watched: Vec<Watched>,
}

/// Works a day's jobs, in order of arrival. `day`: its length.
pub fn run(jobs: &[Job], day: f64, policy: Policy, options: &Options) -> Run {
    let mut fleet = Fleet::new(jobs, day, policy, options);
    while let Some(next) = fleet.next() {
        fleet.advance(next);
        fleet.milestones();
        fleet.arrivals();
        fleet.drains();
        fleet.looks();
        fleet.checks();
        fleet.hand_out();
        fleet.watch();
    }
    fleet.finish()
}

struct InWork {
    job: usize,
    key: f64,
    done: f64,
}

struct Worker {
    since: f64,
    ready: f64,
    /// Until when it may finish what runs.
    draining: Option<f64>,
    gone: Option<f64>,
    jobs: Vec<InWork>,
    /// The watchdog's: the next check, idle ones in a row, whether there was work since the last one.
    check: f64,
    idle: u32,
    worked: bool,
}

impl Worker {
    fn new(since: f64, ready: f64, idle: Option<Idle>) -> Self {
        let check = idle.map_or(f64::INFINITY, |idle| ready + idle.interval);
        Self { since, ready, draining: None, gone: None, jobs: Vec::new(), check, idle: 0, worked: false }
    }

    const fn is_counted(&self) -> bool {
        self.gone.is_none() && self.draining.is_none()
    }

    fn takes_jobs(&self, now: f64) -> bool {
        self.is_counted() && self.ready <= now + INSTANT
    }

    /// The job that the engine serves.
    fn served(&mut self) -> Option<&mut InWork> {
        self.jobs.iter_mut().min_by(|a, b| a.key.total_cmp(&b.key))
    }
}

struct Fleet<'o> {
    jobs: &'o [Job],
    samples: Vec<Sample>,
    model: Model,
    policy: Policy,
    scaler: Option<Scaler>,
    polling: f64,
    sync: f64,
    /// Lag for each ready worker above which the fleet is behind.
    tolerable: f64,
    now: f64,
    day: f64,
    arrived: usize,
    ended: usize,
    waiting: VecDeque<usize>,
    workers: Vec<Worker>,
    next_poll: f64,
    next_sync: f64,
    behind_since: Option<f64>,
    behind: Vec<(f64, f64)>,
    cut: usize,
    next_watch: f64,
    watched: Vec<Watched>,
}

impl<'o> Fleet<'o> {
    fn new(jobs: &'o [Job], day: f64, policy: Policy, options: &Options) -> Self {
        let rules = match policy {
            Policy::Fixed(_) => None,
            Policy::Keda(rules) | Policy::Watchdog { up: rules, .. } => Some(rules),
        };
        let sample = |(n, job): (usize, &Job)| Sample {
            job: n,
            size: job.size,
            cost: job.seconds,
            arrived: job.arrived,
            admitted: None,
            first_output: None,
            finished: f64::NAN,
            tokens: 0,
            ok: true,
        };
        let at_first = (0..policy.at_first()).map(|_| Worker::new(0.0, 0.0, idle_of(policy)));
        Self {
            jobs,
            samples: jobs.iter().enumerate().map(sample).collect(),
            model: options.model,
            policy,
            scaler: rules.map(Scaler::new),
            polling: rules.map_or(f64::INFINITY, |rules| rules.polling),
            sync: rules.map_or(f64::INFINITY, |rules| rules.sync),
            tolerable: 1.1 * options.rules.lag_per_worker,
            now: 0.0,
            day,
            arrived: 0,
            ended: 0,
            waiting: VecDeque::new(),
            workers: at_first.collect(),
            next_poll: if rules.is_some() { 0.0 } else { f64::INFINITY },
            // The HPA's beat is another one than KEDA's.
            next_sync: rules.map_or(f64::INFINITY, |rules| rules.sync / 2.0),
            behind_since: None,
            behind: Vec::new(),
            cut: 0,
            next_watch: 0.0,
            watched: Vec::new(),
        }
    }

    fn alive(&self) -> impl Iterator<Item = &Worker> {
        self.workers.iter().filter(|worker| worker.gone.is_none())
    }

    /// Jobs that wait and jobs in hand.
    fn lag(&self) -> u64 {
        (self.waiting.len() + self.alive().map(|worker| worker.jobs.len()).sum::<usize>()) as u64
    }

    fn counted(&self) -> u32 {
        self.workers.iter().filter(|worker| worker.is_counted()).count() as u32
    }

    /// When something happens next; `None` at the end of it all.
    fn next(&mut self) -> Option<f64> {
        let over = self.ended == self.jobs.len();
        if over && self.now >= self.day {
            return None;
        }
        let (now, model, jobs) = (self.now, self.model, self.jobs);
        let mut next = self.next_poll.min(self.next_sync).min(self.next_watch);
        if over {
            next = next.min(self.day);
        }
        if let Some(job) = jobs.get(self.arrived) {
            next = next.min(job.arrived);
        }
        for worker in self.workers.iter_mut().filter(|worker| worker.gone.is_none()) {
            next = next.min(worker.check).min(worker.draining.unwrap_or(f64::INFINITY));
            if worker.ready > now + INSTANT {
                next = next.min(worker.ready);
            }
            if let Some(served) = worker.served() {
                let job = jobs[served.job];
                let first = model.first.min(job.seconds);
                let until = if served.done + INSTANT < first { first } else { job.seconds };
                next = next.min(now + (until - served.done).max(0.0));
            }
        }
        Some(next.max(now))
    }

    fn advance(&mut self, to: f64) {
        let passed = to - self.now;
        for worker in self.workers.iter_mut().filter(|worker| worker.gone.is_none()) {
            if let Some(served) = worker.served() {
                served.done += passed;
            }
        }
        self.now = to;
    }

    /// First answers and ends.
    fn milestones(&mut self) {
        let (now, first) = (self.now, self.model.first);
        for worker in self.workers.iter_mut().filter(|worker| worker.gone.is_none()) {
            while let Some(served) = worker.served() {
                let (n, done) = (served.job, served.done + INSTANT);
                let (job, sample) = (self.jobs[n], &mut self.samples[n]);
                if done >= first.min(job.seconds) {
                    // One that began again has answered already.
                    sample.first_output.get_or_insert(now);
                }
                if done < job.seconds {
                    break;
                }
                sample.finished = now;
                self.ended += 1;
                worker.jobs.retain(|in_work| in_work.job != n);
            }
        }
    }

    fn arrivals(&mut self) {
        while self.jobs.get(self.arrived).is_some_and(|job| job.arrived <= self.now + INSTANT) {
            self.waiting.push_back(self.arrived);
            self.arrived += 1;
        }
    }

    /// Workers that may go, go; what outlasts the grace begins again elsewhere, before what came later.
    fn drains(&mut self) {
        let now = self.now;
        for worker in self.workers.iter_mut().filter(|worker| worker.gone.is_none()) {
            let Some(deadline) = worker.draining else { continue };
            if worker.jobs.is_empty() {
                worker.gone = Some(now);
            } else if deadline <= now + INSTANT {
                worker.gone = Some(now);
                self.cut += worker.jobs.len();
                let mut back: Vec<usize> = worker.jobs.drain(..).map(|in_work| in_work.job).collect();
                back.sort_unstable();
                for job in back.into_iter().rev() {
                    self.waiting.push_front(job);
                }
            }
        }
    }

    /// The scaler's looks that are due.
    fn looks(&mut self) {
        let now = self.now;
        if self.next_poll <= now + INSTANT {
            self.next_poll += self.polling;
            self.look(Scaler::poll);
        }
        if self.next_sync <= now + INSTANT {
            self.next_sync += self.sync;
            self.look(Scaler::sync);
        }
    }

    fn look(&mut self, decide: impl FnOnce(&mut Scaler, f64, u64, u32) -> u32) {
        let (now, lag, counted) = (self.now, self.lag(), self.counted());
        let Some(scaler) = &mut self.scaler else { return };
        let wished = decide(scaler, now, lag, counted);
        for _ in counted..wished {
            let worker = Worker::new(now, now + self.model.start, idle_of(self.policy));
            self.workers.push(worker);
        }
        if matches!(self.policy, Policy::Keda(_)) {
            for _ in wished..counted {
                self.take_one_away();
            }
        }
    }

    /// As Kubernetes does: one that is not ready before one that is, the youngest first.
    fn take_one_away(&mut self) {
        let (now, grace) = (self.now, self.model.grace);
        let rank = |worker: &&mut Worker| (worker.ready > now + INSTANT, worker.since);
        let candidates = self.workers.iter_mut().filter(|worker| worker.is_counted());
        let least = candidates.max_by(|a, b| {
            let (a, b) = (rank(a), rank(b));
            a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
        });
        if let Some(worker) = least {
            if worker.jobs.is_empty() {
                worker.gone = Some(now);
            } else {
                worker.draining = Some(now + grace);
            }
        }
    }

    /// The watchdog's checks that are due.
    fn checks(&mut self) {
        let Some(idle) = idle_of(self.policy) else { return };
        let (now, waiting) = (self.now, !self.waiting.is_empty());
        for worker in self.workers.iter_mut().filter(|worker| worker.takes_jobs(now)) {
            if worker.check > now + INSTANT {
                continue;
            }
            worker.check += idle.interval;
            let busy = waiting || worker.worked || !worker.jobs.is_empty();
            worker.worked = false;
            let young = now - worker.ready < idle.min_runtime;
            worker.idle = if busy || young { 0 } else { worker.idle + 1 };
            if worker.idle >= idle.checks {
                worker.gone = Some(now);
            }
        }
    }

    /// Waiting jobs to free slots, to the worker with the fewest in hand.
    fn hand_out(&mut self) {
        let (now, slots, lambda) = (self.now, self.model.slots, self.model.lambda);
        while let Some(&n) = self.waiting.front() {
            let free = self.workers.iter_mut().filter(|w| w.takes_jobs(now) && w.jobs.len() < slots);
            let Some(worker) = free.min_by_key(|worker| worker.jobs.len()) else { return };
            self.waiting.pop_front();
            let job = self.jobs[n];
            self.samples[n].admitted.get_or_insert(now);
            worker.jobs.push(InWork { job: n, key: job.arrived + lambda * job.seconds, done: 0.0 });
            worker.worked = true;
        }
    }

    fn watch(&mut self) {
        let ready = self.workers.iter().filter(|worker| worker.takes_jobs(self.now)).count();
        let lag = self.lag();
        let behind = lag as f64 > self.tolerable * ready as f64;
        match (self.behind_since, behind) {
            (None, true) => self.behind_since = Some(self.now),
            (Some(since), false) => {
                self.behind.push((since, self.now));
                self.behind_since = None;
            }
            _ => {}
        }
        if self.next_watch <= self.now + INSTANT {
            const EVERY: f64 = 60.0;
            self.next_watch += EVERY;
            let workers = self.alive().count();
            self.watched.push(Watched { at: self.now, lag, workers: workers as u32, ready: ready as u32 });
        }
    }

    fn finish(mut self) -> Run {
        if let Some(since) = self.behind_since {
            self.behind.push((since, self.now));
        }
        let end = self.now;
        let lives = self.workers.iter().map(|worker| (worker.since, worker.gone.unwrap_or(end))).collect();
        Run { samples: self.samples, lives, behind: self.behind, cut: self.cut, end, watched: self.watched }
    }
}

const fn idle_of(policy: Policy) -> Option<Idle> {
    match policy {
        Policy::Watchdog { idle, .. } => Some(idle),
        Policy::Fixed(_) | Policy::Keda(_) => None,
    }
}
