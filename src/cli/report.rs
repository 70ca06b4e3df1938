//! `maitred report`: what happened in a period, from the metrics in Postgres or in an embedded run's file.

mod page;
mod text;
mod words;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use time::OffsetDateTime;

use super::text::Style;
use super::{Exit, Overrides};
use crate::config::{Cache, Settings};
use crate::report::Period;
use crate::report::tally::Tally;
use crate::store::postgres;
use crate::store::sqlite::SqliteStore;

/// Tell what a period was like: jobs, service, goodput, tokens, GPUs, workers, cost.
///
/// Reads Postgres (`postgres.url`), else the file in `store.cache`. What was not measured is said to be missing.
#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    /// How far back.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = humantime)]
    pub since: Duration,
    /// Write one HTML page, with plots, to this file instead.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long, conflicts_with = "html")]
    pub json: bool,
    /// Read the metrics of an embedded run in this file, such as results.maitred.db.
    #[arg(long, value_name = "FILE")]
    pub db: Option<PathBuf>,
    /// What an hour of a worker costs.
    #[arg(long, value_name = "PRICE")]
    pub cost_per_hour: Option<f64>,
}

impl ReportArgs {
    /// The settings that flags give.
    pub fn overrides(&self) -> Overrides {
        Overrides::default().set("report.cost_per_hour", "--cost-per-hour", self.cost_per_hour)
    }
}

fn humantime(text: &str) -> Result<Duration, String> {
    let parsed = humantime_serde::re::humantime::parse_duration(text).ok();
    // A century: what lies further back is no date.
    let limit = Duration::from_hours(24 * 36_525);
    parsed
        .filter(|since| !since.is_zero() && *since <= limit)
        .ok_or_else(|| "use a duration above zero such as \"24h\" or \"7d\"".to_owned())
}

/// Runs the command.
pub async fn run(args: &ReportArgs, settings: &Settings, to: &mut impl Write) -> anyhow::Result<Exit> {
    let now = OffsetDateTime::now_utc();
    let period = Period { from: now - args.since, to: now };
    let tally = read(args, settings, period).await?;
    let report = tally.finish(period, settings.report.cost_per_hour);
    if let Some(path) = &args.html {
        std::fs::write(path, page::page(&report))
            .with_context(|| format!("cannot write {}", path.display()))?;
    } else if args.json {
        serde_json::to_writer(&mut *to, &report).map_err(io::Error::from)?;
        writeln!(to)?;
    } else {
        to.write_all(text::table(&report, Style::of_stdout()).as_bytes())?;
    }
    Ok(Exit::Ok)
}

async fn read(args: &ReportArgs, settings: &Settings, period: Period) -> anyhow::Result<Tally> {
    if let Some(file) = &args.db {
        return read_file(file, period).await;
    }
    match (&settings.postgres.url, &settings.store.cache) {
        (Some(url), _) => Ok(postgres::report(&url.read("postgres.url_file")?, period).await?),
        (None, Cache::At(file)) => read_file(file, period).await,
        (None, Cache::Auto | Cache::None) => bail!(
            "there are no metrics to read: set postgres.url, or name the file of an embedded run with --db \
             (results.maitred.db beside results.jsonl)"
        ),
    }
}

async fn read_file(file: &Path, period: Period) -> anyhow::Result<Tally> {
    // Opening makes a file that is not there; here that is a mistake in the name.
    if !file.is_file() {
        bail!("{} is not there; name the file beside the results, which ends in .maitred.db", file.display());
    }
    let store = SqliteStore::open(file).await?;
    Ok(store.report(period).await?)
}
