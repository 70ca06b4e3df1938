//! The study as pictures.

use std::path::{Path, PathBuf};

use super::{Body, Policy, Row};
use crate::plots::{FleetOverDay, Heading, Moment, Series, compliance_against_cost, fleets_over_day};

/// Draws everything into a folder; returns what it drew.
pub fn plots(body: &Body, folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let paths = ["autoscale-day", "autoscale-cost"].map(|name| folder.join(format!("simulated-{name}.svg")));
    day(body, &paths[0])?;
    cost(body, &paths[1])?;
    Ok(paths.into())
}

fn day(body: &Body, path: &Path) -> anyhow::Result<()> {
    let fleets = body.shown.iter().map(|(policy, watched)| FleetOverDay {
        label: policy.name(body.options.rules),
        moments: watched
            .iter()
            .map(|watched| Moment {
                hour: watched.at / 3600.0,
                workers: f64::from(watched.workers),
                lag: watched.lag as f64,
            })
            .collect(),
    });
    let seed = body.options.seeds.first().copied().unwrap_or_default();
    let jobs = body.jobs.first().copied().unwrap_or_default();
    let note =
        format!("SIMULATED · {jobs} jobs · seed {seed} · a worker starts in {} s", body.options.model.start);
    let heading = Heading { title: "Workers and lag through a day", note: &note };
    fleets_over_day(heading, &fleets.collect::<Vec<_>>(), path)
}

fn cost(body: &Body, path: &Path) -> anyhow::Result<()> {
    let usual = body.options.rules;
    let of = |label: &str, belongs: &dyn Fn(&Row) -> bool| {
        let points = body.rows.iter().filter(|row| belongs(row));
        let mut points: Vec<(f64, f64)> =
            points.map(|row| (row.worker_hours, 100.0 * row.compliance)).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Series { label: label.into(), points }
    };
    let keda = |row: &Row| match row.policy {
        Policy::Keda(rules) => rules.min == usual.min && rules.cooldown.total_cmp(&usual.cooldown).is_eq(),
        Policy::Fixed(_) | Policy::Watchdog { .. } => false,
    };
    let series = [
        of("fixed, one worker and more", &|row| matches!(row.policy, Policy::Fixed(_))),
        of("KEDA, by jobs for each worker", &keda),
        of("watchdog, by idle checks", &|row| matches!(row.policy, Policy::Watchdog { .. })),
    ];
    let note = format!(
        "SIMULATED · medians over {} days · in time: first answer within {} s",
        body.jobs.len(),
        body.options.sla
    );
    let heading = Heading { title: "What a day costs, and how much of it is in time", note: &note };
    compliance_against_cost(heading, &series, path)
}
