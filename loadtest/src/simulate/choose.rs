//! Which λ. A rule over the figures, so that other figures give another answer.

use serde::{Deserialize, Serialize};

use super::Discipline;
use super::figures::{Cell, median};

/// When a λ will do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Criterion {
    /// Loads that count: near saturation, where order matters, and not beyond, where nothing helps for long.
    pub loads: (f64, f64),
    /// Small jobs wait at most this many times as long as under shortest first, at the median and at p95.
    pub small: f64,
    /// Large jobs take at most this many times as long, from arrival to end at p99, as first come first served.
    pub large: f64,
}

impl Default for Criterion {
    fn default() -> Self {
        Self { loads: (0.9, 0.95), small: 1.1, large: 3.0 }
    }
}

/// A λ beside the two extremes: medians, over files, seeds and loads, of ratios within one trace.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// λ.
    pub lambda: f64,
    /// Small jobs' median time to first token, to that of shortest first.
    pub small_p50: f64,
    /// The same at p95.
    pub small_p95: f64,
    /// Small jobs' median time to first token, to that of first come first served.
    pub small_p50_to_fifo: f64,
    /// Large jobs' time to first token at p99, to that of first come first served.
    pub large_p99: f64,
    /// Large jobs' time from arrival to end at p99, to that of first come first served.
    pub large_end_p99: f64,
    /// Throughput, to that of first come first served.
    pub throughput: f64,
}

/// The λ, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// The smallest λ that meets the criterion; if none does, the smallest that meets it for small jobs; if none
    /// does that either, the one whose small jobs wait least at p95.
    pub lambda: f64,
    /// Whether it meets the criterion.
    pub met: bool,
    /// The criterion.
    pub criterion: Criterion,
    /// Runs of each λ that counted.
    pub runs: usize,
    /// All, by λ.
    pub candidates: Vec<Candidate>,
}

/// The smallest λ that serves small jobs about as well as shortest first, and large ones not much worse than first
/// come first served. The smallest, because the bound on passing grows with λ.
pub fn choose(cells: &[Cell], criterion: Criterion) -> Choice {
    let (least, most) = criterion.loads;
    let counts: Vec<&Cell> = cells.iter().filter(|cell| cell.load >= least && cell.load <= most).collect();
    let mut lambdas: Vec<f64> = Vec::new();
    for cell in &counts {
        if let Discipline::Weighted(lambda) = cell.discipline {
            lambdas.push(lambda);
        }
    }
    lambdas.sort_by(f64::total_cmp);
    lambdas.dedup();
    let candidates: Vec<Candidate> = lambdas.iter().map(|&lambda| candidate(&counts, lambda)).collect();
    let serves_small =
        |candidate: &&Candidate| candidate.small_p50.max(candidate.small_p95) <= criterion.small;
    let mut serving = candidates.iter().filter(serves_small);
    let smallest = serving.clone().next();
    let found = serving.find(|candidate| candidate.large_end_p99 <= criterion.large);
    let nearest = || candidates.iter().min_by(|a, b| a.small_p95.total_cmp(&b.small_p95));
    Choice {
        lambda: found.or(smallest).or_else(nearest).map_or(1.0, |candidate| candidate.lambda),
        met: found.is_some(),
        runs: counts.iter().filter(|cell| cell.discipline == Discipline::Fifo).count(),
        criterion,
        candidates,
    }
}

fn candidate(cells: &[&Cell], lambda: f64) -> Candidate {
    let of = |discipline| cells.iter().filter(move |cell| cell.discipline == discipline);
    let ratio = |to: Discipline, value: &dyn Fn(&Cell) -> Option<f64>| {
        median(of(Discipline::Weighted(lambda)).filter_map(|ours| {
            let same = |cell: &&&Cell| {
                cell.file == ours.file && cell.seed == ours.seed && cell.load.total_cmp(&ours.load).is_eq()
            };
            let base = of(to).find(same).and_then(|cell| value(cell)).filter(|base| *base > 0.0)?;
            Some(value(ours)? / base)
        }))
    };
    let small_p50 = |cell: &Cell| cell.figures.small.map(|ttft| ttft.p50);
    Candidate {
        lambda,
        small_p50: ratio(Discipline::Shortest, &small_p50),
        small_p95: ratio(Discipline::Shortest, &|cell| cell.figures.small.map(|ttft| ttft.p95)),
        small_p50_to_fifo: ratio(Discipline::Fifo, &small_p50),
        large_p99: ratio(Discipline::Fifo, &|cell| cell.figures.large.map(|ttft| ttft.p99)),
        large_end_p99: ratio(Discipline::Fifo, &|cell| cell.large_end_p99),
        throughput: ratio(Discipline::Fifo, &|cell| Some(cell.figures.throughput)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{Figures, TtftFigures};

    /// A run whose small jobs took `small` and whose large ones `large`.
    fn cell(seed: u64, discipline: Discipline, small: f64, large: f64) -> Cell {
        let ttft = |seconds| TtftFigures { jobs: 9, p50: seconds, p95: seconds, p99: seconds, max: seconds };
        Cell {
            file: "reviews".into(),
            seed,
            load: 0.9,
            discipline,
            figures: Figures {
                jobs: 10,
                ok: 10,
                makespan: 1.0,
                offered: 1.0,
                throughput: 1.0,
                goodput: 1.0,
                compliance: 1.0,
                sla: 2.0,
                tokens_per_second: 1.0,
                small: Some(ttft(small)),
                medium: None,
                large: Some(ttft(large)),
            },
            large_end_p99: Some(large),
            steps: 1,
        }
    }

    fn trace(seed: u64, scale: f64) -> Vec<Cell> {
        let weighted = [(1.0, 9.0, 1.1), (5.0, 1.05, 1.3), (20.0, 1.0, 1.4), (100.0, 1.0, 1.9)];
        let ours = weighted.map(|(lambda, small, large)| {
            cell(seed, Discipline::Weighted(lambda), small * scale, large * 50.0 * scale)
        });
        let mut cells = vec![
            cell(seed, Discipline::Fifo, 40.0 * scale, 50.0 * scale),
            cell(seed, Discipline::Shortest, scale, 150.0 * scale),
        ];
        cells.extend(ours);
        cells
    }

    #[test]
    fn the_smallest_weight_that_meets_the_criterion_is_chosen() {
        let cells: Vec<Cell> = [trace(1, 1.0), trace(2, 7.0), trace(3, 0.3)].concat();
        let choice = choose(&cells, Criterion { large: 1.5, ..Criterion::default() });
        assert_eq!((choice.lambda.to_bits(), choice.met, choice.runs), (5.0_f64.to_bits(), true, 3));
        assert_eq!(choice.candidates.len(), 4);
        assert!((choice.candidates[0].small_p50 - 9.0).abs() < 1e-9, "ratios are within a trace");
        assert!((choice.candidates[3].large_end_p99 - 1.9).abs() < 1e-9);
    }

    #[test]
    fn without_one_that_meets_it_the_nearest_is_named_as_not_meeting_it() {
        let chosen = |small, large| {
            let choice = choose(&trace(1, 1.0), Criterion { small, large, ..Criterion::default() });
            assert!(!choice.met);
            choice.lambda
        };
        assert_eq!(chosen(1.1, 1.01).to_bits(), 5.0_f64.to_bits(), "serves small jobs, at too high a price");
        assert_eq!(chosen(0.5, 3.0).to_bits(), 20.0_f64.to_bits(), "serves them best, and not well enough");
    }

    #[test]
    fn runs_at_other_loads_do_not_count() {
        let choice = choose(&trace(1, 1.0), Criterion { loads: (0.2, 0.3), ..Criterion::default() });
        assert_eq!((choice.runs, choice.met, choice.candidates.len()), (0, false, 0));
    }
}
