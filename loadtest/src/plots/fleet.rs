//! Pictures of fleets through a day.

use std::path::Path;

use anyhow::{Context, bail};

use super::canvas::{Panel, Words};
use super::{Heading, LEFT, RIGHT, Series, begin, check_numbers, check_series, labels, range};
use maitred::report::scale::Scale;

/// A fleet at a moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    /// Hours of the day.
    pub hour: f64,
    /// Workers that are paid for.
    pub workers: f64,
    /// Jobs waiting and in hand.
    pub lag: f64,
}

/// A fleet through a day.
#[derive(Debug, Clone, PartialEq)]
pub struct FleetOverDay {
    /// As in the legend.
    pub label: String,
    /// In order of time.
    pub moments: Vec<Moment>,
}

/// Workers above, lag below.
pub fn fleets_over_day(heading: Heading, fleets: &[FleetOverDay], path: &Path) -> anyhow::Result<()> {
    if fleets.is_empty() {
        bail!("nothing to plot for `{}`: no fleets", heading.title);
    }
    if let Some(fleet) = fleets.iter().find(|fleet| fleet.moments.len() < 2) {
        bail!("nothing to plot for `{}`: `{}` has fewer than two moments", heading.title, fleet.label);
    }
    let all = || fleets.iter().flat_map(|fleet| &fleet.moments);
    check_numbers(heading, all().flat_map(|moment| [moment.hour, moment.workers, moment.lag]))?;
    let (_, end) = range(all().map(|moment| moment.hour)).context("no moments")?;
    let (_, most) = range(all().map(|moment| moment.workers)).context("no moments")?;
    let (_, deepest) = range(all().map(|moment| moment.lag)).context("no moments")?;
    let (page, top) = begin(heading, &labels(fleets.iter().map(|fleet| &fleet.label)), path, 560)?;
    let x = Scale::from_zero(end);
    let above = Panel { bounds: (LEFT, top + 22, RIGHT, 290), x, y: Scale::from_zero(most) };
    let below = Panel { bounds: (LEFT, 346, RIGHT, 500), x, y: Scale::from_zero(deepest) };
    page.frame(&above, Words { title: "Workers, starting ones too", x: "", y: "workers", named: true })?;
    let words = Words { title: "Lag", x: "hour of the day", y: "jobs waiting, in hand", named: true };
    page.frame(&below, words)?;
    for (n, fleet) in fleets.iter().enumerate() {
        page.line(&above, &steps(fleet.moments.iter().map(|moment| (moment.hour, moment.workers))), n)?;
        let lags: Vec<(f64, f64)> = fleet.moments.iter().map(|moment| (moment.hour, moment.lag)).collect();
        page.line(&below, &lags, n)?;
    }
    page.finish()
}

/// Share of the jobs in time against hours of workers: up and to the left is better.
pub fn compliance_against_cost(heading: Heading, series: &[Series], path: &Path) -> anyhow::Result<()> {
    check_series(heading, series)?;
    let points = || series.iter().flat_map(|series| &series.points);
    let (_, dearest) = range(points().map(|point| point.0)).context("no points")?;
    let (page, top) = begin(heading, &labels(series.iter().map(|series| &series.label)), path, 520)?;
    let panel = Panel {
        bounds: (LEFT, top + 12, RIGHT, 460),
        x: Scale::from_zero(dearest),
        y: Scale::Linear { low: 0.0, high: 100.0 },
    };
    let words = Words { x: "worker hours a day", y: "jobs in time, %", named: true, ..Words::default() };
    page.frame(&panel, words)?;
    for (n, series) in series.iter().enumerate() {
        page.dotted_line(&panel, &series.points, n)?;
    }
    page.finish()
}

/// A value holds until the next one.
fn steps(points: impl Iterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let mut stairs: Vec<(f64, f64)> = Vec::new();
    for (x, y) in points {
        if let Some(&(_, before)) = stairs.last() {
            stairs.push((x, before));
        }
        stairs.push((x, y));
    }
    stairs
}
