//! One run: the engine's own core, with its heap, its admission and its batches, on a virtual clock.
//!
//! A plain loop and no threads: jobs enter when the clock has reached their arrival, the core makes a step, answers
//! are collected. Nothing of the order is modelled here but what a worker does before the core: it takes jobs from
//! the queue as they came, holds some, and starts those it holds by key.
//!
//! Left out, and said with the figures: embedding, claims, stores and the broker; two jobs of one restaurant
//! never wait for one another.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use maitred::engine::backend::{ContextShape, Token};
use maitred::engine::clock::{Clock, VirtualClock};
use maitred::engine::core::Core;
use maitred::engine::request::{Answer, Branch, Labels, PrefixId, Request, RequestError};
use maitred::engine::sim::{SimBackend, SimCosts};
use maitred::scheduler::{Arrival, Lane, Policy, Ready, Seconds};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot::{self, error::TryRecvError};

use super::bound::Stay;
use super::trace::Work;
use crate::sample::Sample;

/// Tokens of the pinned head. It is computed before the trace begins; its length costs nothing afterwards.
const PREFIX_TOKENS: usize = 4;

/// The modelled device.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Device {
    /// Seconds per decode call.
    pub step: f64,
    /// Seconds per token in it.
    pub token: f64,
    /// Sequences of the context.
    pub sequences: u16,
    /// Of those, set aside for pinned heads.
    pub pinned: u16,
    /// KV cells.
    pub cells: u32,
    /// Tokens of one decode call at most.
    pub batch_tokens: u32,
}

impl Default for Device {
    /// Two CPU cores with gemma-3-270m, and the engine's default settings.
    fn default() -> Self {
        Self { step: 0.02, token: 0.0025, sequences: 16, pinned: 2, cells: 4096, batch_tokens: 512 }
    }
}

/// What a worker holds of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Jobs in work at a time: their requests are in the core's heap. Absent: all.
    pub slots: Option<usize>,
    /// Jobs held beyond those, of which the one with the least key starts next.
    pub look_ahead: usize,
}

impl Hold {
    /// Every job that has arrived is in the heap.
    pub const ALL: Self = Self { slots: None, look_ahead: 0 };

    /// The first `jobs` of the queue are in the heap.
    pub const fn window(jobs: usize) -> Self {
        Self { slots: Some(jobs), look_ahead: 0 }
    }

    fn slots(self) -> usize {
        self.slots.map_or(usize::MAX, |slots| slots.max(1))
    }

    fn held(self) -> usize {
        self.slots().saturating_add(self.look_ahead)
    }
}

/// How much there was to do at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    /// When, in seconds.
    pub at: f64,
    /// Jobs that have arrived and got nothing of the model yet.
    pub jobs_waiting: usize,
    /// Sequences in the decode call that ended then; 0 where there was nothing to do until then.
    pub sequences: u32,
}

/// What came of a trace.
#[derive(Debug, Clone)]
pub struct Run {
    /// One for each job, in order of arrival.
    pub samples: Vec<Sample>,
    /// When each answered request entered the heap and left it.
    pub stays: Vec<Stay>,
    /// After each step.
    pub moments: Vec<Moment>,
    /// Decode calls.
    pub steps: u64,
}

/// Runs the jobs, which arrive at `times` (in order, in seconds), to their end.
pub fn run(work: &[Work], times: &[f64], policy: Policy, hold: Hold, device: &Device) -> anyhow::Result<Run> {
    let mut scene = Scene::new(work, times, policy, hold, device)?;
    while !scene.is_over() {
        scene.take_in();
        if scene.core.is_idle() {
            scene.collect();
            scene.skip_to_next_arrival()?;
            continue;
        }
        let step = scene.core.step();
        scene.collect();
        match step {
            Some(step) => scene.note(step.sequences),
            None if scene.core.is_idle() => {}
            None => bail!("the core has work and no step to make: a defect of the core or of the simulation"),
        }
    }
    Ok(scene.into_run())
}

type Outcome = Result<Answer, RequestError>;

/// A job in the core.
struct Active {
    job: usize,
    entered: f64,
    /// In the order in which they were submitted, which is also that in which they end.
    answers: VecDeque<oneshot::Receiver<Outcome>>,
}

struct Scene<'w> {
    work: &'w [Work],
    arrivals: Vec<Duration>,
    hold: Hold,
    clock: VirtualClock,
    /// When the trace begins on the clock.
    begin: Duration,
    core: Core<SimBackend>,
    prefix: PrefixId,
    labels: Arc<Labels>,
    next: usize,
    queue: VecDeque<usize>,
    held: Ready<usize>,
    active: Vec<Active>,
    samples: Vec<Sample>,
    ended: usize,
    stays: Vec<Stay>,
    moments: Vec<Moment>,
}

impl<'w> Scene<'w> {
    fn new(
        work: &'w [Work],
        times: &[f64],
        policy: Policy,
        hold: Hold,
        device: &Device,
    ) -> anyhow::Result<Self> {
        if work.len() != times.len() {
            bail!("{} jobs and {} arrival times", work.len(), times.len());
        }
        let shape = ContextShape {
            sequences: device.sequences,
            cells: device.cells,
            cells_per_sequence: device.cells,
            batch_tokens: device.batch_tokens,
            unified: true,
        };
        let seconds = |value: f64| {
            Duration::try_from_secs_f64(value).with_context(|| format!("{value} is not a time of the model"))
        };
        let costs = SimCosts { step: seconds(device.step)?, token: seconds(device.token)? };
        let clock = VirtualClock::default();
        let backend = SimBackend::new(shape, costs, clock.clone());
        let mut core = Core::new(backend, Arc::new(clock.clone()), policy, device.pinned.max(1));
        let prefix = core.register_prefix(vec![Token(1); PREFIX_TOKENS]).context("the pinned head")?;
        let labels = Labels::new(vec![vec![Token(97)], vec![Token(98)]]).context("labels")?;
        let arrived: Vec<Duration> = times.iter().map(|&at| seconds(at)).collect::<Result<_, _>>()?;
        if !arrived.is_sorted() {
            bail!("arrival times are not in order");
        }
        let sample = |(job, work): (usize, &Work)| Sample {
            job,
            size: work.size,
            cost: work.cost,
            arrived: arrived[job].as_secs_f64(),
            admitted: None,
            first_output: None,
            finished: 0.0,
            tokens: 0,
            ok: true,
        };
        let mut scene = Self {
            work,
            hold,
            begin: Duration::ZERO,
            core,
            prefix,
            labels: Arc::new(labels),
            next: 0,
            queue: VecDeque::new(),
            held: Ready::new(policy),
            active: Vec::new(),
            samples: work.iter().enumerate().map(sample).collect(),
            ended: 0,
            stays: Vec::new(),
            moments: Vec::new(),
            arrivals: arrived,
            clock,
        };
        scene.warm_up();
        Ok(scene)
    }

    /// Computes the pinned head, so that the trace begins with an engine that is ready.
    fn warm_up(&mut self) {
        let arrival = Arrival { at: Seconds::ZERO, cost: Seconds::ZERO, lane: Lane::Live };
        let (reply, answer) = oneshot::channel();
        let request = self.probe(1, arrival);
        self.core.submit(request, reply);
        while !self.core.is_idle() && self.core.step().is_some() {}
        drop(answer);
        self.begin = self.clock.now();
    }

    fn now(&self) -> Duration {
        self.clock.now().saturating_sub(self.begin)
    }

    fn is_over(&self) -> bool {
        self.ended == self.work.len()
    }

    /// The job's place. Keys count from the trace's beginning, as its samples do.
    fn arrival(&self, job: usize) -> Arrival {
        let at = Seconds::from(self.arrivals[job]);
        Arrival { at, cost: Seconds::new(self.work[job].cost), lane: Lane::Live }
    }

    fn probe(&self, tokens: u32, arrival: Arrival) -> Request {
        let question = vec![Token(65); tokens.max(1) as usize];
        let branches = vec![Branch::Probe { question, labels: Arc::clone(&self.labels) }];
        Request { arrival, prefix: Some(self.prefix), body: Vec::new(), branches, deadline: None }
    }

    /// Takes what has arrived into the queue, what may be held from the queue, and starts what may start.
    fn take_in(&mut self) {
        let now = self.now();
        while self.arrivals.get(self.next).is_some_and(|&at| at <= now) {
            self.queue.push_back(self.next);
            self.next += 1;
        }
        while self.active.len() + self.held.len() < self.hold.held() {
            let Some(job) = self.queue.pop_front() else { break };
            let arrival = self.arrival(job);
            self.held.push(job, arrival);
        }
        while self.active.len() < self.hold.slots() {
            let Some((_, job)) = self.held.pop() else { break };
            self.start(job);
        }
    }

    fn start(&mut self, job: usize) {
        let arrival = self.arrival(job);
        let mut answers = VecDeque::with_capacity(self.work[job].probes.len());
        for &tokens in &self.work[job].probes {
            let (reply, answer) = oneshot::channel();
            let request = self.probe(tokens, arrival);
            self.core.submit(request, reply);
            answers.push_back(answer);
        }
        let entered = self.now().as_secs_f64();
        self.samples[job].finished = entered;
        self.active.push(Active { job, entered, answers });
    }

    /// Takes the answers that are there. Jobs with all of them are over.
    fn collect(&mut self) {
        let now = self.now();
        for active in &mut self.active {
            let sample = &mut self.samples[active.job];
            while let Some(answer) = active.answers.front_mut() {
                match answer.try_recv() {
                    Err(TryRecvError::Empty) => break,
                    Ok(Ok(answer)) => {
                        let stay = absorb(sample, &answer, self.begin, active.entered);
                        self.stays.push(stay);
                    }
                    Ok(Err(_)) | Err(TryRecvError::Closed) => {
                        sample.ok = false;
                        sample.finished = sample.finished.max(now.as_secs_f64());
                    }
                }
                active.answers.pop_front();
            }
        }
        let before = self.active.len();
        self.active.retain(|active| !active.answers.is_empty());
        self.ended += before - self.active.len();
    }

    fn skip_to_next_arrival(&mut self) -> anyhow::Result<()> {
        if self.is_over() || !self.queue.is_empty() || !self.held.is_empty() {
            return Ok(());
        }
        let Some(&next) = self.arrivals.get(self.next) else {
            bail!("nothing is left to arrive and jobs have not ended: this is a defect of the simulation");
        };
        self.clock.advance(next.saturating_sub(self.now()));
        self.note(0);
        Ok(())
    }

    fn note(&mut self, sequences: u32) {
        let arrived = self.queue.len() + self.held.len();
        let begun = |active: &&Active| self.samples[active.job].admitted.is_none();
        let jobs_waiting = arrived + self.active.iter().filter(begun).count();
        let at = self.now().as_secs_f64();
        self.moments.push(Moment { at, jobs_waiting, sequences });
    }

    fn into_run(self) -> Run {
        let steps = self.core.counters().steps;
        Run { samples: self.samples, stays: self.stays, moments: self.moments, steps }
    }
}

/// Adds an answer to its job's sample.
fn absorb(sample: &mut Sample, answer: &Answer, begin: Duration, entered: f64) -> Stay {
    let since = |at: Duration| at.saturating_sub(begin).as_secs_f64();
    let (admitted, first) = (since(answer.timing.admitted), since(answer.timing.first_output));
    let earlier = |known: Option<f64>, new: f64| Some(known.map_or(new, |known| known.min(new)));
    sample.admitted = earlier(sample.admitted, admitted);
    sample.first_output = earlier(sample.first_output, first);
    sample.finished = sample.finished.max(since(answer.timing.finished));
    sample.tokens += u64::from(answer.usage.prompt);
    Stay { job: sample.job, entered, admitted }
}
