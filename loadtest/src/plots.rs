//! Plots as SVG: plain data in, a file out.
//!
//! Light paper, colours that the colour-blind can tell apart, a unit on every axis. Nothing to plot is an error that
//! says what is missing, not an empty picture.

mod canvas;
mod fleet;

use std::path::Path;

use anyhow::{Context, bail};
use maitred::report::scale::Scale;

use self::canvas::{Page, Panel, Words};
pub use self::fleet::{FleetOverDay, Moment, compliance_against_cost, fleets_over_day};
use crate::sample::Size;

const WIDTH: u32 = 900;
const LEFT: i32 = 80;
const RIGHT: i32 = 876;
/// Points of a line over time: what a screen can show.
const BUCKETS: usize = 400;

/// Title, and a line that says what was run: load, seed, whether it is simulated.
#[derive(Debug, Clone, Copy)]
pub struct Heading<'t> {
    /// What the plot shows.
    pub title: &'t str,
    /// Under which conditions.
    pub note: &'t str,
}

/// A named line.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// As in the legend.
    pub label: String,
    /// Its points, by x.
    pub points: Vec<(f64, f64)>,
}

/// Times to first token of one run, by size.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution {
    /// As in the legend.
    pub label: String,
    /// The times in seconds.
    pub ttfts: Vec<(Size, Vec<f64>)>,
}

/// Until a moment, since the one before: how much waited, and how much ran.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Occupancy {
    /// The moment, in seconds.
    pub at: f64,
    /// Jobs that wait.
    pub waiting: f64,
    /// Sequences (slots) at work.
    pub busy: f64,
}

/// A run over time.
#[derive(Debug, Clone, PartialEq)]
pub struct Timeline {
    /// As in the legend.
    pub label: String,
    /// In order of time.
    pub moments: Vec<Occupancy>,
}

/// Which share of the jobs had its first token after how long: a panel for each size, a line for each run.
pub fn ttft_distribution(
    heading: Heading,
    runs: &[Distribution],
    sla: f64,
    path: &Path,
) -> anyhow::Result<()> {
    let times = |size: Size| runs.iter().flat_map(move |run| of_size(run, size));
    let sizes: Vec<Size> = Size::ALL.into_iter().filter(|&size| times(size).next().is_some()).collect();
    if sizes.is_empty() {
        bail!("nothing to plot for `{}`: no run has a time to first token", heading.title);
    }
    for run in runs {
        if Size::ALL.iter().all(|&size| of_size(run, size).next().is_none()) {
            bail!("nothing to plot for `{}`: `{}` has no time to first token", heading.title, run.label);
        }
    }
    check_numbers(heading, sizes.iter().flat_map(|&size| times(size)))?;
    let note = format!("{} · broken line: {sla} s, the service level", heading.note);
    let heading = Heading { note: &note, ..heading };
    let (page, top) = begin(heading, &labels(runs.iter().map(|run| &run.label)), path, 420)?;
    let wide = (RIGHT - LEFT + 24) / sizes.len() as i32;
    for (n, &size) in sizes.iter().enumerate() {
        let left = LEFT + n as i32 * wide;
        let of = |run| {
            let mut sorted: Vec<f64> = of_size(run, size).collect();
            sorted.sort_by(f64::total_cmp);
            sorted
        };
        let (least, most) = range(times(size).chain([sla])).context("no times")?;
        let panel = Panel {
            bounds: (left, top + 22, left + wide - 24, 358),
            x: Scale::log(least.max(0.01), most.max(0.02)),
            y: Scale::Linear { low: 0.0, high: 100.0 },
        };
        let title = format!("{} jobs", size.name());
        let words = Words {
            title: &title,
            x: "time to first token, s (log scale)",
            y: if n == 0 { "jobs answered by then, %" } else { "" },
            named: n == 0,
        };
        page.frame(&panel, words)?;
        page.mark(&panel, sla, "")?;
        for (n, run) in runs.iter().enumerate() {
            page.line(&panel, &cumulative(&of(run)), n)?;
        }
    }
    page.finish()
}

/// Jobs that wait and sequences at work, over time. `slots`: sequences there are.
pub fn queue_over_time(heading: Heading, runs: &[Timeline], slots: f64, path: &Path) -> anyhow::Result<()> {
    if runs.is_empty() {
        bail!("nothing to plot for `{}`: no runs", heading.title);
    }
    for run in runs {
        if run.moments.len() < 2 {
            bail!("nothing to plot for `{}`: `{}` has fewer than two moments", heading.title, run.label);
        }
    }
    let all = || runs.iter().flat_map(|run| &run.moments);
    check_numbers(heading, all().flat_map(|moment| [moment.at, moment.waiting, moment.busy]))?;
    let (_, end) = range(all().map(|moment| moment.at)).context("no moments")?;
    let (_, deepest) = range(all().map(|moment| moment.waiting)).context("no moments")?;
    let (page, top) = begin(heading, &labels(runs.iter().map(|run| &run.label)), path, 560)?;
    let x = Scale::from_zero(end);
    let above = Panel { bounds: (LEFT, top + 22, RIGHT, 318), x, y: Scale::from_zero(deepest) };
    let below = Panel { bounds: (LEFT, 374, RIGHT, 500), x, y: Scale::from_zero(slots) };
    page.frame(&above, Words { title: "Queue depth", x: "", y: "jobs waiting", named: true })?;
    let words = Words { title: "Slots in use", x: "time, s", y: "sequences", named: true };
    page.frame(&below, words)?;
    page.level(&below, slots, "all")?;
    for (n, run) in runs.iter().enumerate() {
        page.line(&above, &over_time(&run.moments, end, |moment| moment.waiting), n)?;
        page.line(&below, &over_time(&run.moments, end, |moment| moment.busy), n)?;
    }
    page.finish()
}

/// Jobs per second within the service level, against jobs per second that come.
pub fn goodput_against_load(heading: Heading, series: &[Series], path: &Path) -> anyhow::Result<()> {
    check_series(heading, series)?;
    let points = || series.iter().flat_map(|series| &series.points);
    let (least, most) = range(points().map(|point| point.0)).context("no points")?;
    let (_, best) = range(points().map(|point| point.1)).context("no points")?;
    let (page, top) = begin(heading, &labels(series.iter().map(|series| &series.label)), path, 520)?;
    let panel = Panel {
        bounds: (LEFT, top + 12, RIGHT, 460),
        x: Scale::around(least, most),
        y: Scale::from_zero(best),
    };
    let words = Words {
        x: "offered load, share of the capacity",
        y: "goodput, jobs/s within the service level",
        named: true,
        ..Words::default()
    };
    page.frame(&panel, words)?;
    page.mark(&panel, 1.0, "capacity")?;
    for (n, series) in series.iter().enumerate() {
        page.dotted_line(&panel, &series.points, n)?;
    }
    page.finish()
}

/// Times to first token against λ, with the extremes as levels: (name, seconds).
pub fn ttft_against_lambda(
    heading: Heading,
    series: &[Series],
    levels: &[(String, f64)],
    path: &Path,
) -> anyhow::Result<()> {
    check_series(heading, series)?;
    let points = || series.iter().flat_map(|series| &series.points);
    if points().any(|&(x, y)| x <= 0.0 || y <= 0.0) {
        bail!("cannot plot `{}` on log scales: weights and times must be above 0", heading.title);
    }
    let (least, most) = range(points().map(|point| point.0)).context("no points")?;
    let times = points().map(|point| point.1).chain(levels.iter().map(|level| level.1));
    let (fastest, slowest) = range(times).context("no points")?;
    let (page, top) = begin(heading, &labels(series.iter().map(|series| &series.label)), path, 520)?;
    let panel = Panel {
        bounds: (LEFT, top + 12, RIGHT, 460),
        x: Scale::log(least, most),
        y: Scale::log(fastest.max(1e-3), slowest.max(2e-3)),
    };
    let words = Words {
        x: "λ: seconds of waiting that a second of cost weighs (log scale)",
        y: "time to first token, s (log scale)",
        named: true,
        ..Words::default()
    };
    page.frame(&panel, words)?;
    for (name, value) in levels {
        page.level(&panel, *value, name)?;
    }
    for (n, series) in series.iter().enumerate() {
        page.dotted_line(&panel, &series.points, n)?;
    }
    page.finish()
}

/// Opens a page with heading and legend; returns where the panels may begin.
fn begin<'p>(
    heading: Heading,
    labels: &[&str],
    path: &'p Path,
    height: u32,
) -> anyhow::Result<(Page<'p>, i32)> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let page = Page::new(path, WIDTH, height)?;
    page.title(heading.title, heading.note)?;
    let top = page.legend(labels, 62)?;
    Ok((page, top))
}

fn labels<'l>(labels: impl Iterator<Item = &'l String>) -> Vec<&'l str> {
    labels.map(String::as_str).collect()
}

fn of_size(run: &Distribution, size: Size) -> impl Iterator<Item = f64> {
    run.ttfts.iter().filter(move |(other, _)| *other == size).flat_map(|(_, times)| times.iter().copied())
}

fn check_series(heading: Heading, series: &[Series]) -> anyhow::Result<()> {
    if series.is_empty() {
        bail!("nothing to plot for `{}`: no series", heading.title);
    }
    if let Some(empty) = series.iter().find(|series| series.points.is_empty()) {
        bail!("nothing to plot for `{}`: `{}` has no points", heading.title, empty.label);
    }
    check_numbers(heading, series.iter().flat_map(|series| &series.points).flat_map(|&(x, y)| [x, y]))
}

fn check_numbers(heading: Heading, mut values: impl Iterator<Item = f64>) -> anyhow::Result<()> {
    match values.find(|value| !value.is_finite()) {
        Some(odd) => bail!("cannot plot `{}`: {odd} is not a number with a place", heading.title),
        None => Ok(()),
    }
}

fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.fold(None, |range: Option<(f64, f64)>, value| {
        let (least, most) = range.unwrap_or((value, value));
        Some((least.min(value), most.max(value)))
    })
}

/// Percent of the values that are no larger, as a staircase.
fn cumulative(sorted: &[f64]) -> Vec<(f64, f64)> {
    let percent = |count: usize| 100.0 * count as f64 / sorted.len() as f64;
    let stair = |(n, &value): (usize, &f64)| [(value, percent(n)), (value, percent(n + 1))];
    sorted.iter().enumerate().flat_map(stair).collect()
}

/// Means over equal spans of time, each moment's value counted over the time since the one before.
fn over_time(moments: &[Occupancy], end: f64, value: impl Fn(&Occupancy) -> f64) -> Vec<(f64, f64)> {
    let span = if end > 0.0 { end / BUCKETS as f64 } else { 1.0 };
    let mut sums = vec![0.0; BUCKETS];
    let mut before = 0.0_f64;
    for moment in moments {
        let (mut from, to) = (before.max(0.0), moment.at.min(end));
        while from < to {
            let bucket = ((from / span) as usize).min(BUCKETS - 1);
            // The last bucket takes what rounding leaves over.
            let until = if bucket + 1 == BUCKETS { to } else { to.min((bucket + 1) as f64 * span).max(from) };
            // Where rounding leaves no way forward, the next bucket begins.
            let until = if until > from { until } else { to.min(from + span) };
            sums[bucket] += value(moment) * (until - from);
            from = until;
        }
        before = before.max(moment.at);
    }
    let last = moments.last().map_or(0.0, |moment| moment.at);
    let whole = sums.into_iter().enumerate().map(|(n, sum)| ((n as f64 + 0.5) * span, sum / span));
    whole.take_while(|(at, _)| *at <= last).collect()
}

#[cfg(test)]
mod tests;
