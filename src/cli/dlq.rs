//! `maitred dlq`: look at what was given up, send it again, or drop it.

use std::io::{self, IsTerminal, Write};

use anyhow::bail;
use clap::{Args, Subcommand};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::columns::{Align, list, record};
use super::text::{Style, counted, printable, thousands};
use crate::broker::dead_letter::{self, Filter, Summary};
use crate::broker::nats::{Broker, DeadLetterError, DeadLetters};
use crate::broker::wire::DeadLetter;
use crate::config::Settings;
use crate::scheduler::Lane;

/// What to do with dead letters.
#[derive(Debug, Clone, Subcommand)]
pub enum DlqCommand {
    /// List them, the newest last
    Ls {
        /// Which ones
        #[command(flatten)]
        filter: FilterArgs,
        /// List at most this many of the newest
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = at_least_one)]
        limit: usize,
        /// Print them as a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Show one with its reason, and with its payload only if asked: it holds reviews
    Show {
        /// Its number in the list
        #[arg(value_name = "SEQ", value_parser = clap::value_parser!(u64).range(1..))]
        sequence: u64,
        /// Print the payload and nothing else, byte for byte unless to a terminal
        #[arg(long)]
        payload: bool,
    },
    /// Publish their jobs again, where they were published first
    Replay {
        /// Which ones
        #[command(flatten)]
        pick: Pick,
    },
    /// Delete them, and their jobs with them
    Drop {
        /// Which ones
        #[command(flatten)]
        pick: Pick,
        /// Confirm that all are to be deleted
        #[arg(long, required_if_eq("all", "true"))]
        yes: bool,
    },
}

/// Narrows a list.
#[derive(Debug, Clone, Default, Args)]
pub struct FilterArgs {
    /// Only of this lane: hi, live or backfill
    #[arg(long)]
    lane: Option<Lane>,
    /// Only with this reason, such as malformed or max_deliveries
    #[arg(long, value_name = "CODE")]
    reason: Option<String>,
    /// Only of this restaurant
    #[arg(long, value_name = "ID", value_parser = restaurant)]
    restaurant: Option<String>,
}

/// Dead letters by number, or all that a filter lets through.
#[derive(Debug, Clone, Args)]
pub struct Pick {
    /// Their numbers in the list
    #[arg(value_name = "SEQ", required_unless_present = "all", value_parser = clap::value_parser!(u64).range(1..))]
    sequences: Vec<u64>,
    /// All of them, or all that the filters let through
    #[arg(long, conflicts_with = "sequences")]
    all: bool,
    /// Which of all
    #[command(flatten)]
    filter: FilterArgs,
}

impl From<&FilterArgs> for Filter {
    fn from(args: &FilterArgs) -> Self {
        Self { lane: args.lane, restaurant: args.restaurant.clone(), reason: args.reason.clone() }
    }
}

/// Runs the command.
pub async fn run(command: &DlqCommand, settings: &Settings, to: &mut impl Write) -> anyhow::Result<()> {
    let broker = Broker::connect(&settings.nats, "maitred dlq").await?;
    let letters = DeadLetters::new(&broker);
    match command {
        DlqCommand::Ls { filter, limit, json } => {
            let found = letters.list(&filter.into(), *limit).await?;
            if *json {
                serde_json::to_writer_pretty(&mut *to, &found).map_err(io::Error::from)?;
                writeln!(to)?;
            } else {
                to.write_all(table(&found, Style::of_stdout()).as_bytes())?;
            }
        }
        DlqCommand::Show { sequence, payload } => {
            let letter = letters.get(*sequence).await?;
            if *payload {
                print_payload(&letter.payload, to)?;
            } else {
                to.write_all(record(&fields(*sequence, &letter), Style::of_stdout()).as_bytes())?;
            }
        }
        DlqCommand::Replay { pick } => replay(&letters, pick, to).await?,
        DlqCommand::Drop { pick, .. } => drop_letters(&letters, pick, to).await?,
    }
    Ok(())
}

async fn replay(letters: &DeadLetters, pick: &Pick, to: &mut impl Write) -> anyhow::Result<()> {
    let mut failed = 0;
    for sequence in picked(letters, pick).await? {
        match letters.replay(sequence).await {
            Ok(replayed) => writeln!(to, "replayed {sequence} as job {}", replayed.sequence)?,
            // The others can be replayed all the same; a server that does not answer would fail them all.
            Err(DeadLetterError::Broker(error)) => return Err(error.into()),
            Err(error) => {
                eprintln!("error: {error}");
                failed += 1;
            }
        }
    }
    if failed > 0 {
        bail!("{} not replayed", counted(failed, "dead letter"));
    }
    Ok(())
}

async fn drop_letters(letters: &DeadLetters, pick: &Pick, to: &mut impl Write) -> anyhow::Result<()> {
    let mut missing = 0;
    for sequence in picked(letters, pick).await? {
        if letters.drop(sequence).await? {
            writeln!(to, "dropped {sequence}")?;
        } else {
            eprintln!("error: {}", DeadLetterError::Gone(sequence));
            missing += 1;
        }
    }
    if missing > 0 {
        bail!("{} not there", counted(missing, "dead letter"));
    }
    Ok(())
}

/// The numbers that are meant. All are listed before the first is touched: what is replayed may come back.
async fn picked(letters: &DeadLetters, pick: &Pick) -> anyhow::Result<Vec<u64>> {
    if !pick.all {
        return Ok(pick.sequences.clone());
    }
    let found = letters.list(&(&pick.filter).into(), usize::MAX).await?;
    Ok(found.into_iter().map(|letter| letter.sequence).collect())
}

fn table(letters: &[Summary], style: Style) -> String {
    if letters.is_empty() {
        return "no dead letters\n".to_owned();
    }
    let heads = [
        ("seq", Align::Right),
        ("when (UTC)", Align::Left),
        ("lane", Align::Left),
        ("reason", Align::Left),
        ("restaurant", Align::Left),
        ("job", Align::Left),
    ];
    let known = |text: Option<&str>| text.unwrap_or("-").to_owned();
    let rows: Vec<Vec<String>> = letters
        .iter()
        .map(|letter| {
            vec![
                letter.sequence.to_string(),
                minute(letter.at),
                known(letter.lane.map(Lane::name)),
                letter.reason.clone(),
                known(letter.restaurant_id.as_deref()),
                known(letter.job_id.as_deref()),
            ]
        })
        .collect();
    list(&heads, &rows, style)
}

fn fields(sequence: u64, letter: &DeadLetter) -> Vec<(&'static str, String)> {
    let known = |text: Option<&String>| text.cloned().unwrap_or_else(|| "not known".to_owned());
    let headers = letter
        .headers
        .iter()
        .flat_map(|(name, values)| values.iter().map(move |value| format!("{name}: {value}")));
    let mut fields = vec![
        ("dead letter", sequence.to_string()),
        ("job", known(letter.job_id.as_ref())),
        ("restaurant", known(letter.restaurant_id.as_ref())),
        ("lane", letter.lane.to_string()),
        ("reason", format!("{}: {}", letter.reason.code, letter.reason.message)),
        ("came from", format!("{} {}, {}", letter.stream, letter.sequence, letter.subject)),
        ("delivered", format!("{} by {}", counted(letter.delivered, "time"), letter.consumer)),
        ("failed", counted(letter.failures.into(), "time")),
        ("given up", format!("{} by {}", letter.at.format(&Rfc3339).unwrap_or_default(), letter.worker)),
    ];
    fields.extend(letter.backfill.clone().map(|backfill| ("backfill", backfill)));
    fields.extend(letter.traceparent.clone().map(|trace| ("trace", trace)));
    fields.extend(headers.map(|header| ("header", header)));
    let bytes = thousands(letter.payload.len() as u64);
    fields.push(("payload", format!("{bytes} bytes, shown with --payload: they may hold reviews")));
    fields
}

/// The bytes as they are, for files and pipes; a terminal gets only what it can show.
fn print_payload(payload: &[u8], to: &mut impl Write) -> io::Result<()> {
    if io::stdout().is_terminal() {
        return writeln!(to, "{}", printable(&String::from_utf8_lossy(payload)));
    }
    to.write_all(payload)
}

fn minute(at: OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    format!("{} {:02}:{:02}", at.date(), at.hour(), at.minute())
}

fn restaurant(text: &str) -> Result<String, &'static str> {
    if dead_letter::is_token(text) {
        Ok(text.to_owned())
    } else {
        Err("not an id: no blanks, dots or wildcards")
    }
}

fn at_least_one(text: &str) -> Result<usize, &'static str> {
    text.parse().ok().filter(|n| *n > 0).ok_or("not a number above zero")
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn a_list_fits_eighty_columns_whatever_the_ids_are() {
        let letter = Summary {
            sequence: 12_345,
            at: datetime!(2026-06-15 12:34:56 UTC),
            lane: Some(Lane::Backfill),
            restaurant_id: None,
            job_id: Some("j-0123456789abcdef0123456789abcdef".into()),
            reason: "max_deliveries".into(),
            origin: "REVIEW_JOBS:1".into(),
        };
        let style = Style { width: 80, color: false, unicode: true };
        let expected = "  \
  seq  when (UTC)        lane      reason          restaurant  job
12345  2026-06-15 12:34  backfill  max_deliveries  -           j-0123456789abcd…
";
        assert_eq!(table(&[letter], style), expected);
        assert_eq!(table(&[], style), "no dead letters\n");
    }
}
