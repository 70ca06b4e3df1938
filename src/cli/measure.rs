//! `maitred eval …`: runs a measurement and prints its figures.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;

use super::analyze::Print;
use super::eval::{EvalArgs, EvalCommand};
use crate::config::{Cache, Settings};
use crate::eval;
use crate::input::JobReader;
use crate::job::{Job, Language};
use crate::runtime;
use crate::store::memory::MemoryFacts;
use crate::store::sqlite::SqliteStore;

/// Runs the measurement and prints to `to`.
pub async fn run(args: &EvalArgs, settings: &Settings, to: &mut impl Write) -> anyhow::Result<()> {
    let input = args.what.input();
    let reader = &runtime::start(settings, runtime::read_settings(settings)).await?;
    let language = settings.analysis.language;
    let (review, margin) = (settings.analysis.review, settings.analysis.clause_margin);
    match &args.what {
        EvalCommand::Labels(_) => {
            let mut sentences = eval::load_labels(&input.file)?;
            sentences.truncate(limit(input.limit));
            let spoken = language.unwrap_or_else(|| {
                crate::text::language::detect(sentences.iter().map(|(text, _)| text.as_str()))
            });
            print(input.format, &eval::labels(reader, spoken, &sentences).await?, to)
        }
        EvalCommand::Restaurants(_) => {
            let jobs = jobs(&input.file, settings)?.take(limit(input.limit));
            let figures = match &settings.store.cache {
                Cache::At(path) => {
                    let store = SqliteStore::open(path).await?;
                    eval::restaurants(reader, &store, jobs, language, &review).await?
                }
                Cache::Auto | Cache::None => {
                    let store = MemoryFacts::new(settings.store.memory_limit);
                    eval::restaurants(reader, &store, jobs, language, &review).await?
                }
            };
            print(input.format, &figures, to)
        }
        EvalCommand::Results(results) => {
            let jobs = jobs(&results.reviews, settings)?;
            print(input.format, &eval::results::evaluate(reader, &input.file, jobs, &review).await?, to)
        }
        EvalCommand::Aspects(aspects) => {
            let labels = eval::aspects::load(&input.file, aspects.split.as_deref())?;
            let jobs = jobs(&aspects.reviews, settings)?.take(limit(input.limit));
            let spoken = language.unwrap_or(Language::En);
            let figures = eval::aspects::evaluate(reader, spoken, &labels, jobs, margin).await?;
            if input.format == Print::Table {
                writeln!(
                    to,
                    "{:<20} {:>5} {:>5} {:>5}  {:>9} {:>6} {:>6}",
                    "class", "hits", "false", "miss", "precision", "recall", "F1"
                )?;
                for (class, f) in &figures.classes {
                    writeln!(
                        to,
                        "{class:<20} {:>5} {:>5} {:>5}  {:>9.3} {:>6.3} {:>6.3}",
                        f.hits,
                        f.false_alarms,
                        f.misses,
                        f.precision(),
                        f.recall(),
                        f.f1()
                    )?;
                }
            }
            print(input.format, &figures, to)
        }
    }
}

fn limit(limit: Option<u64>) -> usize {
    limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// The jobs of a file; a bad line ends the measurement, since figures over part of a file mislead.
fn jobs(file: &Path, settings: &Settings) -> anyhow::Result<impl Iterator<Item = anyhow::Result<Job>>> {
    Ok(open(file, settings)?.map(|job| job.map_err(anyhow::Error::from)))
}

/// The file, to be read under these settings.
pub(super) fn open(file: &Path, settings: &Settings) -> anyhow::Result<JobReader> {
    runtime::input(file, settings).with_context(|| file.display().to_string())
}

/// As JSON, or a line per figure.
fn print(format: Print, figures: &impl Serialize, to: &mut impl Write) -> anyhow::Result<()> {
    let value = serde_json::to_value(figures)?;
    if format == Print::Json {
        writeln!(to, "{value:#}")?;
        return Ok(());
    }
    for (name, value) in value.as_object().into_iter().flatten() {
        match value.as_f64() {
            Some(number) if value.is_f64() => writeln!(to, "{name:<24} {number:.4}")?,
            Some(number) => writeln!(to, "{name:<24} {number}")?,
            None => print_counts(name, value, to)?,
        }
    }
    Ok(())
}

/// A line per count of a table such as outcomes; tables of other things are shown elsewhere.
fn print_counts(name: &str, value: &serde_json::Value, to: &mut impl Write) -> anyhow::Result<()> {
    for (key, count) in value.as_object().into_iter().flatten().filter(|(_, count)| count.is_u64()) {
        writeln!(to, "{:<24} {count}", format!("{name}.{key}"))?;
    }
    Ok(())
}
