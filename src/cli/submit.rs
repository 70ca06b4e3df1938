//! `maitred submit`: the restaurants of a file become jobs for the fleet.
//!
//! The file is read as `analyze` reads it: one restaurant in memory at a time, what cannot be used is told with its
//! line and passed over. A fixed number of jobs is on the way to the server at a time. Nothing counts as published
//! before the server has said that it is stored.

mod wait;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use super::interrupt::stop_on_interrupt;
use super::progress::{Done, Progress, suspend};
use super::text::{Style, counted};
use super::{Exit, Overrides};
use crate::broker::nats::{Broker, SendError, Submitted, message_id};
use crate::broker::{names, wire};
use crate::config::Settings;
use crate::digest;
use crate::embedded::read_in_background;
use crate::input::{Columns, Format, InputOptions, JobReader, JobTemplate};
use crate::job::{Job, JobOptions, Scope};
use crate::scheduler::Lane;
use crate::telemetry::spans::submitted;
use crate::telemetry::{TraceContext, Traces};

/// Jobs on the way to the server at a time.
const IN_FLIGHT: usize = 32;
/// How long the end of the command waits for a collector to take its spans.
const FAREWELL: Duration = Duration::from_secs(5);

/// Publish the restaurants of a file as jobs for the fleet.
#[derive(Debug, Clone, Args)]
pub struct SubmitArgs {
    /// Reviews as JSONL (one restaurant a line) or CSV (one review a row); - reads stdin.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// How urgent the jobs are.
    #[arg(long, value_name = "hi|live|backfill", default_value_t = Lane::Live)]
    pub lane: Lane,
    /// Wait until every job has its result or is a dead letter, and show each.
    #[arg(long, conflicts_with = "dry_run")]
    pub wait: bool,
    /// Read and check the file and say what would be published; no server is needed.
    #[arg(long)]
    pub dry_run: bool,
    /// Epoch of the jobs that bring none: of two jobs of a restaurant the newer one is worked.
    #[arg(long, value_name = "N")]
    pub epoch: Option<u64>,
    /// What to ask: sentiment, summary, strengths; separated by commas.
    #[arg(long, value_name = "LIST")]
    pub analyses: Option<String>,
    /// Which reviews the model reads; what the worker is set to, if not given.
    #[arg(long, value_name = "all|selected")]
    pub scope: Option<Scope>,
    /// Language of the reviews: en, ko, or auto.
    #[arg(long, value_name = "auto|en|ko")]
    pub lang: Option<String>,
    /// Stop after this many restaurants.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Shape of the input, if its name does not say.
    #[arg(long, value_enum)]
    pub input_format: Option<Format>,
    /// Names of CSV columns, such as restaurant_id=rid,text=review_text.
    #[arg(long, value_name = "FIELD=COLUMN,…")]
    pub columns: Option<Columns>,
    /// Print JSON, one object a line: {"job"|"result"|"dead_letter"|"submitted"|"ended": …}.
    #[arg(long)]
    pub json: bool,
}

impl SubmitArgs {
    /// The settings that flags give.
    pub fn overrides(&self) -> Overrides {
        Overrides::default().set("analysis.analyses", "--analyses", self.analyses.as_ref()).set(
            "analysis.language",
            "--lang",
            self.lang.as_ref(),
        )
    }

    fn input_options(&self, settings: &Settings) -> InputOptions {
        InputOptions {
            format: self.input_format,
            columns: self.columns.clone().unwrap_or_default(),
            limits: settings.limits.clone(),
            job: JobTemplate {
                analyses: settings.analysis.analyses.clone(),
                language: settings.analysis.language,
                options: JobOptions { scope: self.scope, ..JobOptions::default() },
            },
        }
    }

    /// What the file does not say of a job.
    fn complete(&self, mut job: Job, now: OffsetDateTime) -> Job {
        if let Some(epoch) = self.epoch.filter(|_| job.epoch == 0) {
            // An id that was made from the job is made anew; one that the file brought stays.
            let set = digest::review_set_digest(&job.reviews);
            let made = digest::job_id(&job.restaurant_id, job.epoch, &job.analyses, &set);
            job.epoch = epoch;
            if job.job_id == made {
                job.job_id = digest::job_id(&job.restaurant_id, epoch, &job.analyses, &set);
            }
        }
        job.enqueued_at.get_or_insert(now);
        job
    }
}

/// What was published.
#[derive(Debug, Default)]
struct Sent {
    published: u64,
    /// The server had them already.
    duplicates: u64,
    /// Lines and restaurants that cannot be used.
    refused: u64,
    /// Jobs that the server has stored, by id: where they are. Only kept if somebody waits for them.
    stored: Option<BTreeMap<String, Submitted>>,
    interrupted: bool,
}

/// Runs the command.
pub async fn run(args: &SubmitArgs, settings: &Settings, quiet: bool) -> anyhow::Result<Exit> {
    let input = JobReader::open(&args.file, args.input_options(settings))?;
    if args.dry_run {
        return dry_run(args, input);
    }
    let broker = Broker::connect(&settings.nats, "maitred submit").await?;
    broker.require_version()?;
    // Before the first job, so that no result comes too early to be seen.
    let since = if args.wait { Some(broker.now().await?) } else { None };
    let stop = stop_on_interrupt();
    let traces = Traces::start(&settings.telemetry, "maitred submit")?;
    let ratio = settings.telemetry.trace_ratio;
    let sent = publish(args, &broker, input, quiet, (&traces, ratio), &stop).await;
    traces.shutdown(FAREWELL).await;
    let sent = sent?;
    let mut exit = if sent.refused > 0 { Exit::Failed } else { Exit::Ok };
    say_sent(args, &sent)?;
    if sent.interrupted {
        eprintln!(
            "interrupted: run the same command again; what is published counts as a duplicate for ten minutes"
        );
        return Ok(Exit::Interrupted);
    }
    if let (Some(since), Some(stored)) = (since, sent.stored) {
        let waited = wait::wait(args, &broker, settings, since, stored, quiet, &stop).await?;
        if waited != Exit::Ok {
            exit = waited;
        }
    }
    Ok(exit)
}

/// Publishes the jobs of the input, to its end or until `stop`.
async fn publish(
    args: &SubmitArgs,
    broker: &Broker,
    input: JobReader,
    quiet: bool,
    (traces, ratio): (&Traces, f64),
    stop: &CancellationToken,
) -> anyhow::Result<Sent> {
    let mut progress = Progress::start(input.progress().total, quiet, Instant::now());
    let mut jobs = read_in_background(input, args.limit);
    let (mut sent, mut done) = (Sent::default(), Done::default());
    sent.stored = args.wait.then(BTreeMap::new);
    let mut flying = FuturesUnordered::new();
    let mut more = true;
    let mut random = fastrand::Rng::new();
    while more || !flying.is_empty() {
        tokio::select! {
            biased;
            () = stop.cancelled(), if more => {
                // What is on its way is still waited for, so that the counts are right.
                sent.interrupted = true;
                more = false;
            }
            Some((job, bytes, outcome)) = flying.next() => {
                let job: Job = job;
                done.bytes = done.bytes.max(bytes);
                done.restaurants += 1;
                done.reviews += job.reviews.len() as u64;
                if let Err(error) = sent.note(job, outcome) {
                    progress.finish();
                    let published = sent.published;
                    return Err(error).with_context(|| format!("after {published} jobs were published"));
                }
            }
            read = jobs.recv(), if more && flying.len() < IN_FLIGHT => match read {
                Some((Ok(job), bytes)) => {
                    let job = args.complete(job, OffsetDateTime::now_utc());
                    let trace = TraceContext::root_sampled(&mut random, ratio);
                    flying.push(async move {
                        let (start, begun) = (OffsetDateTime::now_utc(), Instant::now());
                        let outcome = broker.submit(&job, args.lane, trace).await;
                        if traces.is_on() {
                            let failure = outcome.as_ref().err().map(SendError::to_string);
                            let when = (start, begun.elapsed());
                            traces.offer([submitted(trace, &job, args.lane, when, failure)]);
                        }
                        (job, bytes, outcome)
                    });
                }
                Some((Err(error), _)) => {
                    sent.refused += 1;
                    suspend(|| eprintln!("error: {}: {error}", args.file.display()));
                }
                None => more = false,
            },
        }
        progress.update(done, Instant::now());
    }
    progress.finish();
    Ok(sent)
}

impl Sent {
    /// Counts a job. An error means that no job can be published.
    fn note(&mut self, job: Job, outcome: Result<Submitted, SendError>) -> Result<(), SendError> {
        match outcome {
            Ok(submitted) => {
                *(if submitted.duplicate { &mut self.duplicates } else { &mut self.published }) += 1;
                if let Some(stored) = &mut self.stored {
                    stored.insert(job.job_id, submitted);
                }
                Ok(())
            }
            Err(SendError::Encode(error)) => {
                self.refused += 1;
                suspend(|| eprintln!("error: restaurant `{}`: {error}", job.restaurant_id));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

/// Checks the input and says what would be published.
fn dry_run(args: &SubmitArgs, input: JobReader) -> anyhow::Result<Exit> {
    let (mut jobs, mut refused) = (0_u64, 0_u64);
    let limit = args.limit.unwrap_or(u64::MAX);
    for job in input {
        match job {
            Ok(job) => {
                jobs += 1;
                would_publish(args, &args.complete(job, OffsetDateTime::now_utc()))?;
            }
            Err(error) => {
                refused += 1;
                eprintln!("error: {}: {error}", args.file.display());
            }
        }
        if jobs == limit {
            break;
        }
    }
    say(
        args,
        || json!({"submitted": {"would_publish": jobs, "refused": refused}}),
        || format!("{} would be published{}", counted(jobs, "job"), and_refused(refused)),
    )?;
    Ok(if refused > 0 { Exit::Failed } else { Exit::Ok })
}

fn would_publish(args: &SubmitArgs, job: &Job) -> anyhow::Result<()> {
    let bytes = wire::encode_job(job, wire::Encoding::Msgpack)?.len();
    let (subject, message_id) = (names::job_subject(args.lane, &job.restaurant_id), message_id(job));
    let reviews = job.reviews.len();
    let as_json = || {
        json!({"job": {
            "job_id": job.job_id, "restaurant_id": job.restaurant_id, "epoch": job.epoch, "subject": subject,
            "message_id": message_id, "reviews": reviews, "bytes": bytes,
        }})
    };
    let as_text =
        || format!("{subject}  {}  {}, {}", job.job_id, counted(reviews as u64, "review"), bytes_of(bytes));
    Ok(say(args, as_json, as_text)?)
}

fn bytes_of(bytes: usize) -> String {
    bytesize::ByteSize::b(bytes as u64).display().iec().to_string()
}

fn say_sent(args: &SubmitArgs, sent: &Sent) -> io::Result<()> {
    let as_json = || {
        let Sent { published, duplicates, refused, .. } = sent;
        json!({"submitted": {"published": published, "duplicates": duplicates, "refused": refused}})
    };
    let as_text = || {
        let duplicates = match sent.duplicates {
            0 => String::new(),
            n => format!(", {} that the queue had already", counted(n, "duplicate")),
        };
        format!("{} published{duplicates}{}", counted(sent.published, "job"), and_refused(sent.refused))
    };
    say(args, as_json, as_text)
}

fn and_refused(refused: u64) -> String {
    if refused > 0 { format!(", {refused} refused") } else { String::new() }
}

/// One line on stdout, as JSON or for people.
fn say(
    args: &SubmitArgs,
    as_json: impl FnOnce() -> Value,
    as_text: impl FnOnce() -> String,
) -> io::Result<()> {
    suspend(|| {
        let mut stdout = io::stdout().lock();
        if args.json {
            writeln!(stdout, "{}", as_json())
        } else {
            writeln!(stdout, "{}", as_text().trim_end())
        }?;
        stdout.flush()
    })
}

#[cfg(test)]
mod tests;
