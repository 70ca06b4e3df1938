//! The study as pictures.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::figures::median;
use super::{Body, Discipline, Moment, Row, Run};
use crate::plots::{
    Distribution, Heading, Occupancy, Series, Timeline, goodput_against_load, queue_over_time,
    ttft_against_lambda, ttft_distribution,
};
use crate::sample::{Sample, Size};

/// Moments kept of a run.
const KEPT: usize = 1500;

/// A run as the plots need it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shown {
    /// Whose turn it was.
    pub discipline: Discipline,
    /// Times to first token by size, in seconds.
    pub ttfts: Vec<(Size, Vec<f64>)>,
    /// Queue and sequences over time, thinned out.
    pub moments: Vec<Moment>,
}

impl Shown {
    /// Of a run.
    pub fn new(discipline: Discipline, run: &Run) -> Self {
        let of = |size| {
            let samples = run.samples.iter().filter(|sample| sample.size == size);
            (size, samples.filter_map(Sample::ttft).collect())
        };
        let every = run.moments.len().div_ceil(KEPT).max(1);
        let moments = run.moments.iter().copied().step_by(every).collect();
        Self { discipline, ttfts: Size::ALL.map(of).into(), moments }
    }
}

/// Draws everything into a folder; returns what it drew.
pub fn plots(body: &Body, folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let paths = ["ttft-by-size", "queue-and-slots", "goodput-against-load", "ttft-against-lambda"]
        .map(|name| folder.join(format!("simulated-{name}.svg")));
    let first = body.traces.first();
    let of_one = first.map_or(String::new(), |trace| {
        format!(
            "SIMULATED · {} · load {} · {} jobs · seed {}",
            trace.file, body.shown_load, body.jobs, trace.seed
        )
    });
    let of_all = format!("SIMULATED · medians over {} traces of {} jobs", body.traces.len(), body.jobs);
    distribution(body, &of_one, &paths[0])?;
    queue(body, &of_one, &paths[1])?;
    goodput(body, &format!("{of_all} · service level: first token within {} s", body.sla), &paths[2])?;
    weights(body, &of_all, &paths[3])?;
    Ok(paths.into())
}

fn distribution(body: &Body, note: &str, path: &Path) -> anyhow::Result<()> {
    let runs = body.shown.iter();
    let runs: Vec<Distribution> = runs
        .map(|shown| Distribution { label: shown.discipline.name(), ttfts: shown.ttfts.clone() })
        .collect();
    ttft_distribution(
        Heading { title: "Time to first token by size of the job", note },
        &runs,
        body.sla,
        path,
    )
}

fn queue(body: &Body, note: &str, path: &Path) -> anyhow::Result<()> {
    let moment = |moment: &Moment| Occupancy {
        at: moment.at,
        waiting: moment.jobs_waiting as f64,
        busy: f64::from(moment.sequences),
    };
    let runs = body.shown.iter().map(|shown| Timeline {
        label: shown.discipline.name(),
        moments: shown.moments.iter().map(moment).collect(),
    });
    let slots = f64::from(body.device.sequences - body.device.pinned.min(body.device.sequences));
    let heading = Heading { title: "Queue depth and slots over time", note };
    queue_over_time(heading, &runs.collect::<Vec<_>>(), slots, path)
}

fn goodput(body: &Body, note: &str, path: &Path) -> anyhow::Result<()> {
    let loads = distinct(body.rows.iter().map(|row| row.load));
    let series = [Discipline::Fifo, Discipline::Weighted(body.choice.lambda), Discipline::Shortest];
    let series = series.map(|discipline| Series {
        label: discipline.name(),
        points: loads.iter().map(|&load| (load, over(body, load, discipline, |row| row.goodput))).collect(),
    });
    goodput_against_load(Heading { title: "Goodput against offered load", note }, &series, path)
}

/// A figure of a row.
type Figure = fn(&Row) -> f64;

fn weights(body: &Body, note: &str, path: &Path) -> anyhow::Result<()> {
    let load = body.shown_load;
    let figures: [(&str, Figure); 4] = [
        ("small, p50", |row| row.small_p50),
        ("small, p95", |row| row.small_p95),
        ("medium, p95", |row| row.medium_p95),
        ("large, p99", |row| row.large_p99),
    ];
    let lambdas: Vec<f64> = body.choice.candidates.iter().map(|candidate| candidate.lambda).collect();
    let series = figures.map(|(label, value)| Series {
        label: label.into(),
        points: lambdas
            .iter()
            .map(|&lambda| (lambda, over(body, load, Discipline::Weighted(lambda), value)))
            .collect(),
    });
    let levels = [
        (
            "first come first served: small, p50".to_owned(),
            over(body, load, Discipline::Fifo, |row| row.small_p50),
        ),
        (
            "shortest first: small, p95".to_owned(),
            over(body, load, Discipline::Shortest, |row| row.small_p95),
        ),
    ];
    let note = format!("{note} · load {load}");
    ttft_against_lambda(
        Heading { title: "Time to first token against λ", note: &note },
        &series,
        &levels,
        path,
    )
}

/// Over the files.
fn over(body: &Body, load: f64, discipline: Discipline, value: impl Fn(&Row) -> f64) -> f64 {
    let like = |row: &&Row| row.load.total_cmp(&load).is_eq() && row.discipline == discipline;
    median(body.rows.iter().filter(like).map(value))
}

pub(super) fn distinct(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.dedup();
    values
}
