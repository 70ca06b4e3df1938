//! `maitred analyze`: opens what the run needs, in the order in which a mistake should be noticed, works the file,
//! and shows what came out.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::Exit;
use super::analyze::{AnalyzeArgs, Print};
use super::interrupt::stop_on_interrupt;
use super::progress::{Done, Progress, suspend};
use super::text::Style;
use super::{spent, table};
use crate::analyst::Analyst;
use crate::analyst::metrics::{Maker, WORKER};
use crate::config::{Cache, Settings};
use crate::embedded::{self, Books, Event, RunOptions};
use crate::engine::Engine;
use crate::input::JobReader;
use crate::output::{self, ResultWriter};
use crate::result::AnalysisResult;
use crate::runtime;
use crate::stats::RunStats;
use crate::store::FactStore;
use crate::store::memory::MemoryFacts;
use crate::store::metric_writer::{MetricWriter, WriterSettings};
use crate::store::sqlite::SqliteStore;
use crate::telemetry::Telemetry;
use crate::worker::gauges;

/// How long the last words to a collector may take.
const FAREWELL: Duration = Duration::from_secs(5);

/// Runs the command.
pub async fn run(args: &AnalyzeArgs, settings: &Settings, quiet: bool) -> anyhow::Result<Exit> {
    let input = JobReader::open(&args.file, args.input_options(settings))?;
    if let Some(stats) = &args.stats {
        output::check_writable(stats)?;
    }
    // Last of what is cheap to check: it empties what an interrupted run has left.
    let out = args.out.as_deref().map(ResultWriter::create).transpose()?;
    let books = Books {
        rows: None,
        telemetry: Telemetry::start_sending(settings, &instance())?,
        trace_ratio: settings.telemetry.trace_ratio,
    };
    let Some(path) = cache_path(args, settings) else {
        let store = Arc::new(MemoryFacts::new(settings.store.memory_limit));
        return work(args, settings, quiet, input, out, store, books).await;
    };
    let store = Arc::new(SqliteStore::open(&path).await?);
    let writer = MetricWriter::spawn(Arc::clone(&store), WriterSettings::default());
    let books = Books { rows: Some(writer.sink()), ..books };
    let exit = work(args, settings, quiet, input, out, Arc::clone(&store), books).await;
    let report = writer.close().await;
    if report.dropped + report.failed > 0 {
        tracing::warn!(dropped = report.dropped, failed = report.failed, "metrics rows lost");
    }
    if let Err(error) = store.close().await {
        tracing::warn!(%error, "the cache was not tidied");
    }
    exit
}

/// What a collector tells this run's metrics from another's by: two at the same time must not have one name.
fn instance() -> String {
    format!("analyze-{:06x}", fastrand::u32(0..1 << 24))
}

/// Where facts and metrics are kept: as asked for, else beside the output file, if it is a file.
fn cache_path(args: &AnalyzeArgs, settings: &Settings) -> Option<PathBuf> {
    match &settings.store.cache {
        Cache::At(path) => Some(path.clone()),
        Cache::None => None,
        Cache::Auto => {
            let out = args.out.as_deref()?;
            let special = out.as_os_str() == "-" || out.starts_with("/dev");
            (!special && (out.is_file() || !out.exists())).then(|| out.with_extension("maitred.db"))
        }
    }
}

async fn work<S: FactStore>(
    args: &AnalyzeArgs,
    settings: &Settings,
    quiet: bool,
    input: JobReader,
    mut out: Option<ResultWriter>,
    store: Arc<S>,
    books: Books,
) -> anyhow::Result<Exit> {
    let started = Instant::now();
    let telemetry = books.telemetry.clone();
    let watcher = telemetry.instruments().step_watcher();
    let reader = runtime::start_watched(settings, runtime::read_settings(settings), watcher).await?;
    let engine = reader.engine().clone();
    observe(&books, &engine, &reader.model().name, settings);
    let start_seconds = started.elapsed().as_secs_f64();
    let stalled = reader.engine().stalled();
    let maker = Maker::new(WORKER.into(), reader.engine().device(), settings);
    let analyst = Arc::new(Analyst::new(Arc::new(reader), store, settings.analysis.clone(), WORKER.into()));
    let options =
        RunOptions { limit: args.limit, concurrent: settings.analysis.concurrent_restaurants, maker };
    let stop = stop_on_interrupt();
    let style = Style::of_stdout();
    let watched = input.progress();
    let mut progress = Progress::start(watched.total, quiet, Instant::now());
    let mut done = Done::default();
    let tell = |event: Event<'_>| {
        match event {
            Event::Refused(error) => suspend(|| eprintln!("error: {}: {error}", args.file.display())),
            Event::Result(result, bytes) => {
                done.bytes = done.bytes.max(bytes);
                done.restaurants += 1;
                done.reviews += u64::from(result.usage.reviews);
                if let Some(out) = &mut out {
                    out.write(result)?;
                }
                suspend(|| show(args, result, style))?;
            }
        }
        progress.update(done, Instant::now());
        Ok(())
    };
    let run = embedded::run(analyst, input, options, books, stop, tell);
    let stats = tokio::select! {
        stats = run => stats,
        () = stalled => Err(anyhow::anyhow!("the engine is stuck in a step; what was written is kept, run again")),
    };
    progress.finish();
    let exit = stats.and_then(|stats| conclude(args, out, &RunStats { start_seconds, ..stats }, style));
    telemetry.shutdown(FAREWELL).await;
    // Not before: its counters are read for what is sent last.
    drop(engine);
    exit
}

/// Has a collector told of the process, its engine and its rows.
fn observe(books: &Books, engine: &Engine, model: &str, settings: &Settings) {
    gauges::of_process(&books.telemetry);
    gauges::of_engine(&books.telemetry, engine, model, settings);
    if let Some(sink) = &books.rows {
        gauges::of_rows(&books.telemetry, sink.clone());
    }
}

/// One result on stdout.
fn show(args: &AnalyzeArgs, result: &AnalysisResult, style: Style) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    if args.format == Print::Json {
        serde_json::to_writer(&mut stdout, result).map_err(io::Error::from)?;
        writeln!(stdout)?;
    } else if !args.stdout_is_json() {
        write!(stdout, "{}", table::block(result, style))?;
    }
    Ok(())
}

/// Names the output, writes the statistics, says what was spent.
fn conclude(
    args: &AnalyzeArgs,
    out: Option<ResultWriter>,
    stats: &RunStats,
    style: Style,
) -> anyhow::Result<Exit> {
    if let Some(path) = &args.stats {
        output::write_json(path, stats).with_context(|| format!("statistics {}", path.display()))?;
    }
    if !args.stdout_is_json() {
        write!(io::stdout().lock(), "{}", spent::table(stats, style))?;
    }
    if stats.interrupted {
        let told = match &out {
            Some(out) => partial_is_at(out.path(), out.written()),
            None => "no results were kept; --out FILE keeps them".into(),
        };
        eprintln!("interrupted: {told}");
        return Ok(Exit::Interrupted);
    }
    if let Some(out) = out {
        out.finish()?;
    }
    Ok(if stats.has_failures() { Exit::Failed } else { Exit::Ok })
}

fn partial_is_at(path: &Path, written: u64) -> String {
    format!("{written} results are in {}; run the same command again to go on", path.display())
}
