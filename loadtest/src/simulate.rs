//! What order does to waiting, over many loads and weights: the engine's own core in virtual time.
//!
//! The order, the heap, the admission and the batches are those of the product; the model's times, and only those,
//! are modelled ([`Device`]). So every figure of this study is **simulated**, and says so where it is shown. What is
//! left out is named in [`drive`].
//!
//! One trace per file and seed. Its capacity is measured, by draining it in order of arrival, and loads are
//! shares of that. All loads and orders of a trace see the same jobs, arriving under the same luck.

pub mod bound;
mod choose;
mod drive;
mod figures;
mod plots;
mod table;
mod trace;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, bail};
use fastrand::Rng;
use maitred::scheduler::{Order, Policy};
use serde::{Deserialize, Serialize};

pub use self::choose::{Candidate, Choice, Criterion, choose};
pub use self::drive::{Device, Hold, Moment, Run, run};
pub use self::figures::{Cell, HoldCell, HoldRow, Row, hold_rows, rows};
pub use self::plots::{Shown, plots};
pub use self::trace::{Class, CountTokens, Mix, Pool, Work, estimated_tokens};
use crate::arrivals::Arrivals;
use crate::sample;

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Discipline {
    /// First come, first served.
    Fifo,
    /// The smallest first, whatever waits.
    Shortest,
    /// By arrival and λ times the cost.
    Weighted(f64),
}

impl Discipline {
    /// The scheduler's setting. All jobs of the study are of one lane.
    pub fn policy(self) -> Policy {
        let with = |order, lambda| Policy { order, lambda, ..Policy::default() };
        match self {
            Self::Fifo => with(Order::Fifo, 0.0),
            Self::Shortest => with(Order::PrefillCost, 1e6),
            Self::Weighted(lambda) => with(Order::PrefillCost, lambda),
        }
    }

    /// As in tables and plots.
    pub fn name(self) -> String {
        match self {
            Self::Fifo => "fifo".into(),
            Self::Shortest => "shortest first".into(),
            Self::Weighted(lambda) => format!("λ = {lambda}"),
        }
    }
}

/// What is studied.
#[derive(Clone)]
pub struct Options {
    /// Review files, as `maitred analyze` takes them; each is a study of its own, the choice is made over all.
    pub files: Vec<PathBuf>,
    /// One trace each.
    pub seeds: Vec<u64>,
    /// Jobs of a trace.
    pub jobs: usize,
    /// Offered load, as shares of the capacity.
    pub loads: Vec<f64>,
    /// λ to try, beside first come first served and shortest first.
    pub lambdas: Vec<f64>,
    /// What a worker may hold, to try with the chosen λ.
    pub holds: Vec<Hold>,
    /// The loads at which it is tried.
    pub hold_loads: Vec<f64>,
    /// The load of the plots; one of `loads`.
    pub shown_load: f64,
    /// Which jobs.
    pub mix: Mix,
    /// On what.
    pub device: Device,
    /// Longest time to first token that counts as good service, in seconds.
    pub sla: f64,
    /// When a λ will do.
    pub criterion: Criterion,
    /// The model's tokenizer; absent: [`estimated_tokens`], and the study says so.
    pub count: Option<Arc<CountTokens>>,
    /// Threads to run traces on.
    pub threads: usize,
}

impl Default for Options {
    fn default() -> Self {
        let windows = [2, 4, 8, 16, 32, 64].map(Hold::window);
        let with_slots = |slots| [0, 2, 8, 32].map(|look_ahead| Hold { slots: Some(slots), look_ahead });
        let holds = windows.into_iter().chain([2, 4, 8].into_iter().flat_map(with_slots)).chain([Hold::ALL]);
        let mut distinct: Vec<Hold> = Vec::new();
        for hold in holds {
            if !distinct.contains(&hold) {
                distinct.push(hold);
            }
        }
        Self {
            files: Vec::new(),
            seeds: vec![1, 2, 3, 4, 5],
            jobs: 600,
            loads: vec![0.5, 0.7, 0.8, 0.9, 0.95, 1.05, 1.2],
            lambdas: vec![0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0],
            holds: distinct,
            hold_loads: vec![0.9, 1.05],
            shown_load: 0.9,
            mix: Mix::default(),
            device: Device::default(),
            sla: 2.0,
            criterion: Criterion::default(),
            count: None,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

impl Options {
    fn disciplines(&self) -> Vec<Discipline> {
        let weighted = self.lambdas.iter().map(|&lambda| Discipline::Weighted(lambda));
        [Discipline::Fifo].into_iter().chain(weighted).chain([Discipline::Shortest]).collect()
    }

    fn check(&self) -> anyhow::Result<()> {
        if self.files.is_empty() {
            bail!("no review files: name at least one");
        }
        if self.seeds.is_empty() || self.jobs == 0 || self.loads.is_empty() || self.lambdas.is_empty() {
            bail!("a study needs seeds, jobs, loads and weights");
        }
        let positive = |values: &[f64]| values.iter().all(|value| value.is_finite() && *value > 0.0);
        if !positive(&self.loads)
            || !positive(&self.lambdas)
            || !positive(&self.hold_loads)
            || !positive(&[self.shown_load, self.sla])
        {
            bail!("loads, weights and the service level are numbers above 0");
        }
        Ok(())
    }
}

/// A trace, and what the device makes of it at most.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Drained {
    /// The file.
    pub file: String,
    /// What the trace was drawn with.
    pub seed: u64,
    /// Tokens of all jobs.
    pub tokens: u64,
    /// Mean cost of a small, a medium and a large job, in seconds.
    pub mean_costs: [f64; 3],
    /// Seconds to work it all when everything is there from the beginning, by discipline: first come first served,
    /// the chosen λ, shortest first.
    pub makespans: [f64; 3],
    /// Jobs per second in the first of these: load 1.
    pub capacity: f64,
}

/// What the check of the bound saw over all runs with a weight.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct BoundFigures {
    /// Runs checked.
    pub runs: usize,
    /// Pairs of jobs of which one passed the other.
    pub passes: usize,
    /// Pairs beyond the bound.
    pub violations: usize,
}

/// The study's outcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Body {
    /// Times are modelled: always true.
    pub simulated: bool,
    /// Whether tokens were estimated and not counted by the model's tokenizer.
    pub tokens_estimated: bool,
    /// On what.
    pub device: Device,
    /// Which jobs.
    pub mix: Mix,
    /// Jobs of a trace.
    pub jobs: usize,
    /// Seeds.
    pub seeds: Vec<u64>,
    /// The service level, in seconds.
    pub sla: f64,
    /// Traces and their capacities.
    pub traces: Vec<Drained>,
    /// Every run.
    pub cells: Vec<Cell>,
    /// The runs of all seeds together.
    pub rows: Vec<Row>,
    /// λ.
    pub choice: Choice,
    /// The starvation bound.
    pub bound: BoundFigures,
    /// What a worker may hold.
    pub holds: Vec<HoldRow>,
    /// The load of the plots.
    pub shown_load: f64,
    /// Runs of the first trace at that load.
    pub shown: Vec<Shown>,
}

impl Body {
    /// The figures to read.
    pub fn table(&self) -> String {
        table::all(self)
    }
}

/// Runs the study.
pub fn study(options: &Options) -> anyhow::Result<Body> {
    options.check()?;
    let mut pools = Vec::with_capacity(options.files.len());
    for file in &options.files {
        pools.push(Pool::read(file, options.count.as_deref())?);
    }
    let mut traces = Vec::new();
    for pool in &pools {
        for &seed in &options.seeds {
            traces.push(Trace::new(pool, seed, options)?);
        }
    }
    let loads =
        options.loads.iter().flat_map(|&load| options.disciplines().into_iter().map(move |d| (load, d)));
    let plan: Vec<(&Trace, f64, Discipline)> = loads
        .flat_map(|(load, discipline)| traces.iter().map(move |trace| (trace, load, discipline)))
        .collect();
    let results = in_parallel(&plan, options.threads, |&(trace, load, discipline)| {
        let run = trace.run(load, discipline, Hold::ALL, options)?;
        let checked = bound::check(&run.samples, &discipline.policy(), 0.0);
        Ok((Cell::new(trace.key(), load, discipline, &run, options.sla)?, checked))
    })?;
    let mut bound = BoundFigures::default();
    for (_, checked) in &results {
        bound.runs += 1;
        bound.passes += checked.passes;
        bound.violations += checked.violations.len();
    }
    let cells: Vec<Cell> = results.into_iter().map(|(cell, _)| cell).collect();
    let choice = choose(&cells, options.criterion.clone());
    let chosen = Discipline::Weighted(choice.lambda);
    let holds = hold_cells(&traces, chosen, options)?;
    let first = traces.first().context("no traces")?;
    Ok(Body {
        simulated: true,
        tokens_estimated: options.count.is_none(),
        device: options.device,
        mix: options.mix,
        jobs: options.jobs,
        seeds: options.seeds.clone(),
        sla: options.sla,
        traces: in_parallel(&traces.iter().collect::<Vec<_>>(), options.threads, |trace| {
            trace.drained(chosen, options)
        })?,
        rows: rows(&cells),
        cells,
        choice,
        bound,
        holds: hold_rows(&holds),
        shown_load: options.shown_load,
        shown: [Discipline::Fifo, chosen, Discipline::Shortest]
            .into_iter()
            .map(|discipline| {
                let run = first.run(options.shown_load, discipline, Hold::ALL, options)?;
                Ok(Shown::new(discipline, &run))
            })
            .collect::<anyhow::Result<_>>()?,
    })
}

fn hold_cells(traces: &[Trace], chosen: Discipline, options: &Options) -> anyhow::Result<Vec<HoldCell>> {
    let mut plan: Vec<(&Trace, f64, Hold)> = Vec::new();
    for &load in &options.hold_loads {
        for &hold in &options.holds {
            plan.extend(traces.iter().map(|trace| (trace, load, hold)));
        }
    }
    in_parallel(&plan, options.threads, |&(trace, load, hold)| {
        let run = trace.run(load, chosen, hold, options)?;
        HoldCell::new(load, hold, &run, options.sla)
    })
}

/// The jobs of one file and seed.
struct Trace {
    file: String,
    seed: u64,
    work: Vec<Work>,
    /// Jobs per second when there is always something to do.
    capacity: f64,
    first_come_makespan: f64,
}

impl Trace {
    fn new(pool: &Pool, seed: u64, options: &Options) -> anyhow::Result<Self> {
        let mut rng = Rng::with_seed(seed);
        let work = pool.jobs(&options.mix, options.jobs, &options.device, &mut rng)?;
        let mut trace = Self { file: pool.name.clone(), seed, work, capacity: 0.0, first_come_makespan: 0.0 };
        trace.first_come_makespan = trace.makespan(Discipline::Fifo, options)?;
        if trace.first_come_makespan <= 0.0 {
            bail!("the modelled device takes no time: set the time of a step or a token");
        }
        trace.capacity = trace.work.len() as f64 / trace.first_come_makespan;
        Ok(trace)
    }

    fn key(&self) -> (&str, u64) {
        (&self.file, self.seed)
    }

    fn run(&self, load: f64, discipline: Discipline, hold: Hold, options: &Options) -> anyhow::Result<Run> {
        let schedule = Arrivals::Poisson { rate: load * self.capacity };
        // Another stream than that of the jobs, the same for all loads.
        let times = schedule.times(self.work.len(), &mut Rng::with_seed(self.seed ^ 0x5eed));
        run(&self.work, &times, discipline.policy(), hold, &options.device)
    }

    fn makespan(&self, discipline: Discipline, options: &Options) -> anyhow::Result<f64> {
        let times = Arrivals::Drain.times(self.work.len(), &mut Rng::with_seed(self.seed));
        let run = run(&self.work, &times, discipline.policy(), Hold::ALL, &options.device)?;
        let figures = sample::figures(&run.samples, options.sla).context("a trace without jobs")?;
        Ok(figures.makespan)
    }

    fn drained(&self, chosen: Discipline, options: &Options) -> anyhow::Result<Drained> {
        let mean_cost = |size| {
            let costs: Vec<f64> =
                self.work.iter().filter(|work| work.size == size).map(|work| work.cost).collect();
            if costs.is_empty() { 0.0 } else { costs.iter().sum::<f64>() / costs.len() as f64 }
        };
        let probes = self.work.iter().flat_map(|work| &work.probes);
        Ok(Drained {
            file: self.file.clone(),
            seed: self.seed,
            tokens: probes.map(|&tokens| u64::from(tokens)).sum(),
            mean_costs: sample::Size::ALL.map(mean_cost),
            makespans: [
                self.first_come_makespan,
                self.makespan(chosen, options)?,
                self.makespan(Discipline::Shortest, options)?,
            ],
            capacity: self.capacity,
        })
    }
}

/// Does `one` for each item on some threads; results in the items' order, so that threads change nothing.
fn in_parallel<T: Sync, R: Send>(
    items: &[T],
    threads: usize,
    one: impl Fn(&T) -> anyhow::Result<R> + Sync,
) -> anyhow::Result<Vec<R>> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            // Only a number is handed out: no other memory hangs on it.
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { return done };
            done.push((index, one(item)));
        }
    };
    let mut results: Vec<(usize, anyhow::Result<R>)> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.max(1)).map(|_| scope.spawn(work)).collect();
        let mut done = work();
        for other in others {
            match other.join() {
                Ok(more) => done.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    });
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}
