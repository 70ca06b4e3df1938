//! Figures of runs, and of the runs of all seeds together.

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::{Discipline, Hold, Run};
use crate::sample::{self, Figures, Sample, Size, quantile};

/// One run: a file, a seed, a load, a discipline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// The file.
    pub file: String,
    /// The seed.
    pub seed: u64,
    /// Offered load, as a share of the capacity.
    pub load: f64,
    /// Whose turn it was.
    pub discipline: Discipline,
    /// The figures.
    pub figures: Figures,
    /// From arrival to end, 99 in 100 large jobs, in seconds.
    pub large_end_p99: Option<f64>,
    /// Decode calls.
    pub steps: u64,
}

impl Cell {
    /// Of a run. `trace`: its file and seed.
    pub fn new(
        trace: (&str, u64),
        load: f64,
        discipline: Discipline,
        run: &Run,
        sla: f64,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            file: trace.0.to_owned(),
            seed: trace.1,
            load,
            discipline,
            figures: sample::figures(&run.samples, sla).context("a run without jobs")?,
            large_end_p99: end_p99(&run.samples, Size::Large),
            steps: run.steps,
        })
    }
}

/// From arrival to end, 99 in 100 of the size.
fn end_p99(samples: &[Sample], size: Size) -> Option<f64> {
    let of_size = samples.iter().filter(|sample| sample.size == size);
    quantile(&of_size.map(|sample| sample.finished - sample.arrived).collect::<Vec<_>>(), 0.99)
}

/// Medians over the seeds of one file, load and discipline. Times in seconds; 0 where there are no such jobs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The file.
    pub file: String,
    /// Offered load.
    pub load: f64,
    /// Whose turn it was.
    pub discipline: Discipline,
    /// Time to first token of small jobs, median.
    pub small_p50: f64,
    /// The same, 95 in 100.
    pub small_p95: f64,
    /// Of medium jobs, median.
    pub medium_p50: f64,
    /// The same, 95 in 100.
    pub medium_p95: f64,
    /// Of large jobs, median.
    pub large_p50: f64,
    /// The same, 99 in 100.
    pub large_p99: f64,
    /// From arrival to end of large jobs, 99 in 100.
    pub large_end_p99: f64,
    /// Share of all jobs within the service level.
    pub compliance: f64,
    /// Jobs ended per second.
    pub throughput: f64,
    /// Of those, within the service level.
    pub goodput: f64,
}

/// One row for each file, load and discipline, in the order of the cells.
pub fn rows(cells: &[Cell]) -> Vec<Row> {
    let mut groups: Vec<Vec<&Cell>> = Vec::new();
    for cell in cells {
        let like = |group: &&mut Vec<&Cell>| {
            group.first().is_some_and(|first| {
                first.file == cell.file
                    && first.load.total_cmp(&cell.load).is_eq()
                    && first.discipline == cell.discipline
            })
        };
        match groups.iter_mut().find(like) {
            Some(group) => group.push(cell),
            None => groups.push(vec![cell]),
        }
    }
    groups.iter().filter_map(|group| row(group)).collect()
}

fn row(group: &[&Cell]) -> Option<Row> {
    let first = group.first()?;
    let over = |value: &dyn Fn(&Cell) -> Option<f64>| median(group.iter().filter_map(|cell| value(cell)));
    Some(Row {
        file: first.file.clone(),
        load: first.load,
        discipline: first.discipline,
        small_p50: over(&|cell| cell.figures.small.map(|ttft| ttft.p50)),
        small_p95: over(&|cell| cell.figures.small.map(|ttft| ttft.p95)),
        medium_p50: over(&|cell| cell.figures.medium.map(|ttft| ttft.p50)),
        medium_p95: over(&|cell| cell.figures.medium.map(|ttft| ttft.p95)),
        large_p50: over(&|cell| cell.figures.large.map(|ttft| ttft.p50)),
        large_p99: over(&|cell| cell.figures.large.map(|ttft| ttft.p99)),
        large_end_p99: over(&|cell| cell.large_end_p99),
        compliance: over(&|cell| Some(cell.figures.compliance)),
        throughput: over(&|cell| Some(cell.figures.throughput)),
        goodput: over(&|cell| Some(cell.figures.goodput)),
    })
}

/// The middle one, the mean of the middle two, or 0 of none.
pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.as_slice() {
        [] => 0.0,
        sorted if sorted.len().is_multiple_of(2) => f64::midpoint(sorted[middle - 1], sorted[middle]),
        sorted => sorted[middle],
    }
}

/// One run with a limit on what the worker holds.
#[derive(Debug, Clone, PartialEq)]
pub struct HoldCell {
    load: f64,
    hold: Hold,
    figures: Figures,
    large_end_p99: Option<f64>,
}

impl HoldCell {
    /// Of a run.
    pub fn new(load: f64, hold: Hold, run: &Run, sla: f64) -> anyhow::Result<Self> {
        let figures = sample::figures(&run.samples, sla).context("a run without jobs")?;
        Ok(Self { load, hold, figures, large_end_p99: end_p99(&run.samples, Size::Large) })
    }
}

/// Medians over files and seeds. Times in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct HoldRow {
    /// Offered load.
    pub load: f64,
    /// What the worker holds.
    pub hold: Hold,
    /// Time to first token of small jobs, median.
    pub small_p50: f64,
    /// The same, 95 in 100.
    pub small_p95: f64,
    /// From arrival to end of large jobs, 99 in 100.
    pub large_end_p99: f64,
    /// Share of all jobs within the service level.
    pub compliance: f64,
    /// Jobs ended per second.
    pub throughput: f64,
}

/// One row for each load and hold, in order.
pub fn hold_rows(cells: &[HoldCell]) -> Vec<HoldRow> {
    let like =
        |cell: &HoldCell, (load, hold): (f64, Hold)| cell.load.total_cmp(&load).is_eq() && cell.hold == hold;
    let mut groups: Vec<(f64, Hold)> = Vec::new();
    for cell in cells {
        if !groups.iter().any(|&group| like(cell, group)) {
            groups.push((cell.load, cell.hold));
        }
    }
    let row = |(load, hold): (f64, Hold)| {
        let over = |value: &dyn Fn(&HoldCell) -> Option<f64>| {
            median(cells.iter().filter(|cell| like(cell, (load, hold))).filter_map(value))
        };
        HoldRow {
            load,
            hold,
            small_p50: over(&|cell| cell.figures.small.map(|ttft| ttft.p50)),
            small_p95: over(&|cell| cell.figures.small.map(|ttft| ttft.p95)),
            large_end_p99: over(&|cell| cell.large_end_p99),
            compliance: over(&|cell| Some(cell.figures.compliance)),
            throughput: over(&|cell| Some(cell.figures.throughput)),
        }
    };
    groups.into_iter().map(row).collect()
}
