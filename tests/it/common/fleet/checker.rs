//! The promise, held against the servers: every job ends as exactly one result or one dead letter, and nothing hangs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::{Context, Message};
use futures_util::{StreamExt, TryStreamExt};
use maitred::broker::names;
use serde::Deserialize;
use tokio::io::AsyncReadExt;
use tokio::time::interval;

use maitred_testkit::{connect, jetstream};

/// The jobs of a test and the server they went through.
#[derive(Debug)]
pub struct Checker {
    context: Context,
    jobs: BTreeSet<String>,
    /// Results of a replay that are wanted besides, by their ids (`names::result_id`).
    replays: BTreeSet<String>,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// How many messages there are with a result's id.
    pub results: BTreeMap<String, usize>,
    /// How many messages there are for a result's id, among the dead letters.
    pub dead: BTreeMap<String, usize>,
    /// What is wrong, in words.
    pub problems: Vec<String>,
}

/// The fields of a result or a dead letter that say whose it is.
#[derive(Deserialize)]
struct Identity {
    #[serde(default)]
    job_id: Option<String>,
    #[serde(default)]
    backfill: Option<String>,
}

impl Checker {
    /// For the jobs with these ids.
    pub async fn new(url: &str, jobs: impl IntoIterator<Item = String>) -> Self {
        let client = connect(url).await.unwrap();
        Self { context: jetstream(client), jobs: jobs.into_iter().collect(), replays: BTreeSet::new() }
    }

    /// For all jobs in the stream, as they lie there.
    pub async fn of_all_jobs(url: &str) -> Self {
        let mut checker = Self::new(url, []).await;
        for message in messages(&checker.context, names::JOBS_STREAM).await.unwrap() {
            let id = identity(&checker.context, &message).await.and_then(|identity| identity.job_id);
            checker.jobs.insert(
                id.unwrap_or_else(|| format!("unreadable:{}", message.info().unwrap().stream_sequence)),
            );
        }
        checker
    }

    /// A backfill must have worked these anew.
    #[must_use]
    pub fn and_replayed(mut self, backfill: &str, jobs: impl IntoIterator<Item = String>) -> Self {
        self.replays.extend(jobs.into_iter().map(|job| names::result_id(&job, Some(backfill))));
        self
    }

    /// Waits until all is well, and fails the test with what is wrong when the limit has passed.
    #[track_caller]
    pub fn wait(&self, limit: Duration) -> impl Future<Output = Report> {
        let caller = std::panic::Location::caller();
        async move {
            let start = Instant::now();
            let mut beat = interval(Duration::from_millis(250));
            loop {
                beat.tick().await;
                let report = self.look().await;
                if report.problems.is_empty() {
                    return report;
                }
                assert!(start.elapsed() <= limit, "{caller}: after {limit:?}\n{}", report.told());
            }
        }
    }

    /// What is there now.
    pub async fn look(&self) -> Report {
        let mut report = Report::default();
        if let Err(error) = self.read(&mut report).await {
            report.problems.push(format!("cannot read the streams: {error}"));
            return report;
        }
        let wanted: BTreeSet<&String> = self.jobs.iter().chain(&self.replays).collect();
        for id in &wanted {
            let count = |found: &BTreeMap<String, usize>| found.get(*id).copied().unwrap_or(0);
            match (count(&report.results), count(&report.dead)) {
                (1, 0) | (0, 1) => {}
                (results, dead) => {
                    report.problems.push(format!("{id}: {results} results, {dead} dead letters"));
                }
            }
        }
        let found: BTreeSet<String> = report.results.keys().chain(report.dead.keys()).cloned().collect();
        let strangers = found.iter().filter(|id| !wanted.contains(id));
        report.problems.extend(strangers.map(|id| format!("{id}: nobody asked for it")));
        report
    }

    async fn read(&self, report: &mut Report) -> Result<(), async_nats::Error> {
        self.consumers(&mut report.problems).await?;
        for (stream, found) in
            [(names::RESULTS_STREAM, &mut report.results), (names::DEAD_LETTERS_STREAM, &mut report.dead)]
        {
            for message in messages(&self.context, stream).await? {
                match result_id(&self.context, &message).await {
                    Some(id) => *found.entry(id).or_default() += 1,
                    None => report.problems.push(format!("{stream}: {} cannot be read", place(&message))),
                }
            }
        }
        Ok(())
    }

    /// Nothing may wait for delivery or for an ack in a lane or a backfill.
    async fn consumers(&self, problems: &mut Vec<String>) -> Result<(), async_nats::Error> {
        let stream = self.context.get_stream(names::JOBS_STREAM).await?;
        let mut consumers = stream.consumers();
        while let Some(info) = consumers.try_next().await? {
            let works = ["worker-", "backfill-"].iter().any(|kind| info.name.starts_with(kind));
            if works && (info.num_pending > 0 || info.num_ack_pending > 0) {
                problems.push(format!(
                    "{}: {} wait, {} are not acknowledged",
                    info.name, info.num_pending, info.num_ack_pending
                ));
            }
        }
        Ok(())
    }
}

impl Report {
    /// For people: how much there is, and what is wrong.
    pub fn told(&self) -> String {
        const SHOWN: usize = 20;
        let more = self.problems.len().saturating_sub(SHOWN);
        let shown: Vec<&str> = self.problems.iter().take(SHOWN).map(String::as_str).collect();
        let more = if more > 0 { format!("\n… and {more} more") } else { String::new() };
        format!(
            "{} results, {} dead letters\n{}{more}",
            self.results.len(),
            self.dead.len(),
            shown.join("\n")
        )
    }
}

/// Everything in a stream.
async fn messages(context: &Context, stream: &str) -> Result<Vec<Message>, async_nats::Error> {
    let stream = context.get_stream(stream).await?;
    let count = stream.get_info().await?.state.messages as usize;
    if count == 0 {
        return Ok(Vec::new());
    }
    // Forgotten by the server if this test ends before it is deleted.
    let config = pull::Config {
        ack_policy: AckPolicy::None,
        inactive_threshold: Duration::from_secs(30),
        ..Default::default()
    };
    let consumer = stream.create_consumer(config).await?;
    let mut found = Vec::with_capacity(count);
    while found.len() < count {
        let mut batch = consumer.fetch().max_messages(500).messages().await?;
        let before = found.len();
        while let Some(message) = batch.next().await {
            found.push(message?);
        }
        if found.len() == before {
            // Fewer than there were: some were deleted meanwhile.
            break;
        }
    }
    stream.delete_consumer(&consumer.cached_info().name).await?;
    Ok(found)
}

/// Which result, or which dead job of a backfill, this is.
async fn result_id(context: &Context, message: &Message) -> Option<String> {
    let identity = identity(context, message).await?;
    let header = |name: &str| message.headers.as_ref()?.get(name).map(|value| value.as_str().to_owned());
    let backfill = header(names::BACKFILL).or(identity.backfill);
    // What cannot be read has no job id; its place in the stream is what `of_all_jobs` knows it by.
    let job = match identity.job_id {
        Some(job) => job,
        None => format!("unreadable:{}", header("Nats-Msg-Id")?.split(':').nth(2)?),
    };
    Some(names::result_id(&job, backfill.as_deref()))
}

/// Reads a body, wherever it lies, as MessagePack or JSON.
async fn identity(context: &Context, message: &Message) -> Option<Identity> {
    let headers = message.headers.as_ref();
    let body = match headers.and_then(|headers| headers.get(names::BODY_OBJECT)) {
        Some(name) => object(context, name.as_str()).await?,
        None => message.payload.to_vec(),
    };
    let is_json = headers
        .and_then(|headers| headers.get(names::CONTENT_TYPE))
        .is_some_and(|kind| kind.as_str() == names::JSON);
    if is_json { serde_json::from_slice(&body).ok() } else { rmp_serde::from_slice(&body).ok() }
}

async fn object(context: &Context, name: &str) -> Option<Vec<u8>> {
    let bucket = context.get_object_store(names::OBJECTS_BUCKET).await.ok()?;
    let mut object = bucket.get(name).await.ok()?;
    let mut body = Vec::new();
    object.read_to_end(&mut body).await.ok()?;
    Some(body)
}

fn place(message: &Message) -> String {
    message.info().map_or_else(|_| "a message".to_owned(), |info| format!("message {}", info.stream_sequence))
}
