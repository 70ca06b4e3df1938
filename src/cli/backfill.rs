//! `maitred backfill`: work old jobs again.

use std::io::{self, Write};

use clap::{Args, Subcommand};
use serde::Serialize;
use time::OffsetDateTime;

use super::columns::{Align, list, span};
use super::text::{Style, percent, thousands};
use crate::broker::backfill::{Backfill, BackfillError, Bound, Progress, parse_rate};
use crate::broker::nats::{Backfills, Broker, Order};
use crate::config::Settings;
use crate::job::Analysis;

/// What to do with backfills.
#[derive(Debug, Clone, Subcommand)]
pub enum BackfillCommand {
    /// Start one: the stored jobs of a range are worked again, beside the live ones
    Start(StartArgs),
    /// Show how far they are
    Status {
        /// Only this one
        id: Option<String>,
        /// Print them as a JSON array
        #[arg(long)]
        json: bool,
    },
    /// End one before its time; jobs that run are finished
    Stop {
        /// Which one
        id: String,
    },
}

/// Which jobs, and how.
#[derive(Debug, Clone, Args)]
pub struct StartArgs {
    /// First job: its number, or when it was published: a date, RFC 3339, or how long ago such as 14d
    #[arg(long, value_name = "TIME|SEQ", value_parser = bound)]
    from: Bound,
    /// Last job; the last there is now, if not given
    #[arg(long, value_name = "TIME|SEQ", value_parser = bound)]
    to: Option<Bound>,
    /// At most so many jobs per time, of all workers together: 5/s, 30/min, 1000/h
    #[arg(long, value_name = "N/s", value_parser = parse_rate)]
    rate: Option<f64>,
    /// Ask for these instead of what each job asked for: sentiment, summary, strengths
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    analyses: Vec<Analysis>,
    /// Its name; made from the time, if not given
    #[arg(long, value_name = "NAME")]
    id: Option<String>,
}

/// One backfill and how far it is.
#[derive(Debug, Serialize)]
struct Row {
    backfill: Backfill,
    progress: Progress,
    /// It should run, and its consumer is gone.
    lost: bool,
}

/// Runs the command.
pub async fn run(command: &BackfillCommand, settings: &Settings, to: &mut impl Write) -> anyhow::Result<()> {
    let broker = Broker::connect(&settings.nats, "maitred backfill").await?;
    let (backfills, now) = (Backfills::new(&broker), OffsetDateTime::now_utc());
    match command {
        BackfillCommand::Start(args) => {
            let Backfill { id, from, to: last, .. } =
                backfills.start(order(args), &settings.nats, now).await?;
            writeln!(to, "backfill {id} works the jobs {from} to {last} again")?;
            writeln!(to, "`maitred backfill status {id}` shows how far it is")?;
        }
        BackfillCommand::Status { id, json } => {
            let wanted = match id {
                Some(id) => vec![backfills.get(id).await?],
                None => backfills.list().await?,
            };
            let mut rows = Vec::new();
            for backfill in wanted {
                let at = if backfill.is_running() { backfills.position(&backfill).await? } else { None };
                let lost = backfill.is_running() && at.is_none();
                rows.push(Row { progress: backfill.progress(at, now), backfill, lost });
            }
            if *json {
                serde_json::to_writer_pretty(&mut *to, &rows).map_err(io::Error::from)?;
                writeln!(to)?;
            } else {
                to.write_all(table(&rows, now, Style::of_stdout()).as_bytes())?;
            }
        }
        BackfillCommand::Stop { id } => {
            let ended = backfills.stop(id, now).await?;
            let Progress { done, total, .. } = ended.progress(None, now);
            let (done, total) = (thousands(done), thousands(total));
            writeln!(
                to,
                "backfill {id} is {}: {done} of {total} done; jobs that run are finished",
                ended.state.name()
            )?;
        }
    }
    Ok(())
}

fn order(args: &StartArgs) -> Order {
    let mut analyses = args.analyses.clone();
    analyses.sort_unstable();
    analyses.dedup();
    Order {
        id: args.id.clone(),
        from: args.from,
        to: args.to,
        rate: args.rate,
        analyses: Some(analyses).filter(|analyses| !analyses.is_empty()),
    }
}

fn table(rows: &[Row], now: OffsetDateTime, style: Style) -> String {
    if rows.is_empty() {
        return "no backfills\n".to_owned();
    }
    let heads = [
        ("backfill", Align::Left),
        ("state", Align::Left),
        ("from", Align::Right),
        ("to", Align::Right),
        ("done", Align::Right),
        ("held", Align::Right),
        ("jobs/s", Align::Right),
        ("left", Align::Right),
        ("age", Align::Right),
    ];
    let rows: Vec<Vec<String>> = rows.iter().map(|row| cells(row, now)).collect();
    list(&heads, &rows, style)
}

fn cells(Row { backfill, progress, lost }: &Row, now: OffsetDateTime) -> Vec<String> {
    vec![
        backfill.id.clone(),
        if *lost { "lost" } else { backfill.state.name() }.to_owned(),
        backfill.from.to_string(),
        backfill.to.to_string(),
        percent(progress.done as f64 / progress.total.max(1) as f64),
        progress.in_flight.to_string(),
        format!("{:.1}", progress.per_second),
        progress.seconds_left.map_or_else(|| "-".to_owned(), span),
        span((now - backfill.created_at).as_seconds_f64()),
    ]
}

fn bound(text: &str) -> Result<Bound, BackfillError> {
    Bound::parse(text, OffsetDateTime::now_utc())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::backfill::{Position, State};
    use time::macros::datetime;

    #[test]
    fn progress_is_a_line_each() {
        let start = datetime!(2026-06-15 12:00 UTC);
        let now = start + time::Duration::seconds(100);
        let running = Backfill::new("20260615-120000-000".into(), 1001, 2000, start);
        let at = Position { delivered: 1210, ack_floor: 1200, pending: 900, in_flight: 10 };
        let stopped = Backfill::new("b".into(), 1, 10, start).ended(State::Stopped, None, now);
        let row =
            |backfill: Backfill, at| Row { progress: backfill.progress(at, now), backfill, lost: false };
        let expected = "\
backfill             state    from    to  done  held  jobs/s    left     age
20260615-120000-000  running  1001  2000  20 %    10     2.0  6m 40s  1m 40s
b                    stopped     1    10   0 %     0     0.0       -  1m 40s
";
        let style = Style { width: 80, color: false, unicode: true };
        assert_eq!(table(&[row(running, Some(at)), row(stopped, None)], now, style), expected);
    }
}
