//! Waiting for the end of each job: its result, or its dead letter.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{Done, Exit, Progress, Style, SubmitArgs, counted, say, suspend};
use crate::broker::names;
use crate::broker::nats::{Broker, BrokerError, Ending, Since, Stored, Submitted};
use crate::broker::wire::{self, Message};
use crate::cli::table;
use crate::cli::text::printable;
use crate::config::Settings;
use crate::job::Limits;
use crate::result::{AnalysisResult, Outcome};

/// Jobs whose end is waited for.
#[derive(Debug, Default)]
struct Awaited {
    /// The sequence of each job by its id.
    jobs: HashMap<String, u64>,
    /// The other way round: a dead letter may not know the id.
    by_sequence: HashMap<u64, String>,
}

/// How the jobs ended.
#[derive(Debug, Default)]
struct Ended {
    by_status: BTreeMap<&'static str, u64>,
    dead_letters: u64,
}

impl Awaited {
    fn add(&mut self, job_id: String, sequence: u64) {
        self.by_sequence.insert(sequence, job_id.clone());
        self.jobs.insert(job_id, sequence);
    }

    /// Whether the ending is of one of the jobs; if so, it is awaited no more.
    fn take(&mut self, ending: &Ending) -> bool {
        let job_id = match ending {
            // A replay of an old job has its own result.
            Ending::Result(found) if found.backfill.is_some() => return false,
            Ending::Result(found) => found.result.job_id.clone(),
            Ending::DeadLetter(letter)
                if letter.backfill.is_some() || letter.stream != names::JOBS_STREAM =>
            {
                return false;
            }
            Ending::DeadLetter(letter) => match self.by_sequence.get(&letter.sequence) {
                Some(job_id) => job_id.clone(),
                None => return false,
            },
        };
        let Some(sequence) = self.jobs.remove(&job_id) else { return false };
        self.by_sequence.remove(&sequence);
        true
    }
}

/// Waits until all of `stored` have ended, or until `stop`; shows each end.
pub(super) async fn wait(
    args: &SubmitArgs,
    broker: &Broker,
    settings: &Settings,
    since: Since,
    stored: BTreeMap<String, Submitted>,
    quiet: bool,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    let (mut awaited, since) = awaited(broker, &settings.limits, since, stored).await?;
    let all = awaited.jobs.len() as u64;
    let mut endings = broker.endings(since).await?;
    let (mut ended, mut done, style) = (Ended::default(), Done::default(), Style::of_stdout());
    let mut progress = Progress::start(Some(all), quiet, Instant::now());
    while !awaited.jobs.is_empty() {
        let next = tokio::select! {
            () = stop.cancelled() => break,
            next = endings.next() => next,
        };
        match next {
            Some(Ok(ending)) if awaited.take(&ending) => {
                done.bytes += 1;
                done.restaurants += 1;
                done.reviews += ended.note(&ending);
                show(args, &ending, style)?;
            }
            Some(Ok(_)) => {}
            // It may have been one of ours: then the wait goes on until it is interrupted, and this says why.
            Some(Err(error)) => suspend(|| eprintln!("error: {error}")),
            None => anyhow::bail!("the connection to nats was closed; `maitred results` shows what has come"),
        }
        progress.update(done, Instant::now());
    }
    progress.finish();
    say(args, || ended.json(awaited.jobs.len()), || ended.told(awaited.jobs.len()))?;
    if !awaited.jobs.is_empty() {
        eprintln!("interrupted: the jobs go on; `maitred results --follow` shows their results");
        return Ok(Exit::Interrupted);
    }
    Ok(if ended.has_failures() { Exit::Failed } else { Exit::Ok })
}

/// What to wait for, and from where on. Of a duplicate the first one is waited for, which may have ended before
/// this run began, but not before it was stored.
async fn awaited(
    broker: &Broker,
    limits: &Limits,
    mut since: Since,
    stored: BTreeMap<String, Submitted>,
) -> Result<(Awaited, Since), BrokerError> {
    let mut awaited = Awaited::default();
    for (job_id, Submitted { sequence, duplicate }) in stored {
        if !duplicate {
            awaited.add(job_id, sequence);
            continue;
        }
        let first = broker.stored_job(sequence).await?;
        let Some((first, at)) = first.and_then(|first| Some((id_of(&first, limits)?, first.at))) else {
            suspend(|| {
                eprintln!("job `{job_id}` was published and taken out of the queue again: not waited for");
            });
            continue;
        };
        awaited.add(first, sequence);
        since = match since {
            Since::At(earliest) => Since::At(earliest.min(at)),
            Since::Behind { .. } => Since::At(at),
        };
    }
    Ok((awaited, since))
}

fn id_of(stored: &Stored, limits: &Limits) -> Option<String> {
    let Stored { subject, content_type, body, .. } = stored;
    let message = Message { subject, content_type: content_type.as_deref(), body };
    wire::decode_job(message, limits).ok().map(|decoded| decoded.job.job_id)
}

impl Ended {
    /// Counts it; how many reviews it had.
    fn note(&mut self, ending: &Ending) -> u64 {
        match ending {
            Ending::Result(found) => {
                let AnalysisResult { outcome, usage, .. } = &found.result;
                *self.by_status.entry(outcome.status()).or_default() += 1;
                u64::from(usage.reviews)
            }
            Ending::DeadLetter(_) => {
                self.dead_letters += 1;
                0
            }
        }
    }

    fn has_failures(&self) -> bool {
        let failed = Outcome::Failed { code: String::new(), message: String::new() };
        self.dead_letters > 0 || self.by_status.contains_key(failed.status())
    }

    fn json(&self, waiting: usize) -> serde_json::Value {
        json!({"ended": {"results": self.by_status, "dead_letters": self.dead_letters, "waiting": waiting}})
    }

    fn told(&self, waiting: usize) -> String {
        let results: u64 = self.by_status.values().sum();
        let mut parts = vec![counted(results, "result")];
        parts.extend(self.by_status.iter().map(|(status, n)| format!("{n} {}", status.replace('_', " "))));
        if self.dead_letters > 0 {
            parts.push(format!("{}: `maitred dlq ls` lists them", counted(self.dead_letters, "dead letter")));
        }
        if waiting > 0 {
            parts.push(format!("{waiting} not ended yet"));
        }
        parts.join(", ")
    }
}

fn show(args: &SubmitArgs, ending: &Ending, style: Style) -> std::io::Result<()> {
    let as_json = || match ending {
        Ending::Result(found) => json!({"result": found.result}),
        Ending::DeadLetter(letter) => json!({"dead_letter": {
            "job_id": letter.job_id, "restaurant_id": letter.restaurant_id, "sequence": letter.sequence,
            "reason": letter.reason,
        }}),
    };
    let as_text = || match ending {
        Ending::Result(found) => format!("{}\n", table::block(&found.result, style).trim_end()),
        Ending::DeadLetter(letter) => format!(
            "dead letter: restaurant {}, sequence {}: {}: {}\n",
            letter.restaurant_id.as_deref().unwrap_or("unknown"),
            letter.sequence,
            printable(&letter.reason.code),
            printable(&letter.reason.message)
        ),
    };
    say(args, as_json, as_text)
}
