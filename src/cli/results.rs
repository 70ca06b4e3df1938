//! `maitred results`: the latest result of each restaurant, and those to come.

use std::io::{self, Write};

use clap::{Args, ValueEnum};

use super::interrupt::stop_on_interrupt;
use super::text::Style;
use super::{Exit, table};
use crate::broker::nats::{Broker, Wanted};
use crate::config::Settings;
use crate::result::AnalysisResult;

/// Show the latest result of each restaurant.
#[derive(Debug, Clone, Args)]
pub struct ResultsArgs {
    /// Go on with each new result, until interrupted.
    #[arg(long)]
    pub follow: bool,
    /// Only of this restaurant.
    #[arg(long, value_name = "ID", value_parser = super::restaurant_id)]
    pub restaurant: Option<String>,
    /// How to print them.
    #[arg(long, value_enum, default_value_t = ResultsFormat::Table)]
    pub format: ResultsFormat,
    /// Of those that are there only so many, the newest.
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ResultsFormat {
    /// A readable block for each restaurant.
    Table,
    /// One JSON object a line.
    Jsonl,
}

/// Runs the command.
pub async fn run(args: &ResultsArgs, settings: &Settings) -> anyhow::Result<Exit> {
    let broker = Broker::connect(&settings.nats, "maitred results").await?;
    broker.require_version()?;
    let wanted = Wanted { restaurant: args.restaurant.clone(), limit: args.limit, follow: args.follow };
    let mut results = broker.results(wanted).await?;
    let (stop, style) = (stop_on_interrupt(), Style::of_stdout());
    let (mut shown, mut unreadable) = (0_u64, 0_u64);
    loop {
        let next = tokio::select! {
            () = stop.cancelled() => return Ok(if args.follow { Exit::Ok } else { Exit::Interrupted }),
            next = results.next() => next,
        };
        match next {
            Some(Ok(found)) => {
                print(&found.result, args.format, style)?;
                shown += 1;
            }
            Some(Err(error)) => {
                eprintln!("error: a result cannot be read: {error}");
                unreadable += 1;
            }
            None => break,
        }
    }
    if shown + unreadable == 0 {
        let whose = args.restaurant.as_ref().map(|id| format!(" of restaurant `{id}`")).unwrap_or_default();
        eprintln!("there are no results{whose}");
    }
    let missed = unreadable > 0 || (shown == 0 && args.restaurant.is_some());
    Ok(if missed { Exit::Failed } else { Exit::Ok })
}

fn print(result: &AnalysisResult, format: ResultsFormat, style: Style) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match format {
        ResultsFormat::Table => write!(stdout, "{}", table::block(result, style))?,
        ResultsFormat::Jsonl => {
            serde_json::to_writer(&mut stdout, result).map_err(io::Error::from)?;
            writeln!(stdout)?;
        }
    }
    stdout.flush()
}
