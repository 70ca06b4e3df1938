//! What the fleet needs on the server.

use std::time::Duration;

use super::{Consumer, Discard, Kind, Object, Retention, Storage, Stream, Topology};
use crate::broker::names;
use crate::config::NatsSettings;
use crate::scheduler::Lane;

/// A job that is submitted again within this is the same job.
const JOBS_WINDOW: Duration = Duration::from_mins(10);
/// A worker that could not acknowledge a job repeats it and publishes its result again: within this it is dropped.
const RESULTS_WINDOW: Duration = Duration::from_hours(2);
/// What the server itself takes where nothing is said.
const DEFAULT_WINDOW: Duration = Duration::from_mins(2);
/// Presence is written every 3 s: a worker that misses five writes has gone.
const WORKERS_MAX_AGE: Duration = Duration::from_secs(15);
/// An attempt is removed when its job settles; what is left was left by a crash.
const ATTEMPTS_MAX_AGE: Duration = Duration::from_hours(24);
/// Jobs that one pull may ask for: many small pulls share a backlog fairly, a large one takes it all.
const MAX_BATCH: u64 = 64;
/// Advisories in the hands of all workers together.
const SWEEPER_MAX_ACK_PENDING: u64 = 100;

impl Topology {
    /// What the fleet needs under these settings.
    pub fn desired(settings: &NatsSettings) -> Self {
        let lanes = Lane::ALL.into_iter().map(|lane| lane_consumer(lane, settings));
        Self { streams: streams(settings), consumers: lanes.chain([sweeper(settings)]).collect() }
    }
}

fn streams(settings: &NatsSettings) -> Vec<Stream> {
    let NatsSettings { jobs_max_age, results_max_age, .. } = *settings;
    let advisories = ["MAX_DELIVERIES", "MSG_TERMINATED"]
        .map(|what| format!("$JS.EVENT.ADVISORY.CONSUMER.{what}.{}.*", names::JOBS_STREAM));
    // Jobs refer to objects, and so do results and dead letters.
    let objects_max_age = jobs_max_age.max(results_max_age);
    vec![
        Stream {
            max_bytes: Some(settings.jobs_max_bytes),
            ..stream(settings, names::JOBS_STREAM, &[names::JOBS_SUBJECTS], jobs_max_age, JOBS_WINDOW)
        },
        stream(settings, names::RESULTS_STREAM, &[names::RESULTS_SUBJECTS], results_max_age, RESULTS_WINDOW),
        stream(
            settings,
            names::DEAD_LETTERS_STREAM,
            &[names::DEAD_LETTERS_SUBJECTS],
            results_max_age,
            RESULTS_WINDOW,
        ),
        // An advisory is of use for as long as its job is there.
        stream(
            settings,
            names::ADVISORIES_STREAM,
            &advisories.each_ref().map(String::as_str),
            jobs_max_age,
            DEFAULT_WINDOW,
        ),
        key_value(settings, names::WORKERS_BUCKET, WORKERS_MAX_AGE),
        Stream {
            // A mark is deleted as a message: the tombstone of a deleted key would be kept for each job of a day.
            deny_delete: false,
            ..key_value(settings, names::ATTEMPTS_BUCKET, ATTEMPTS_MAX_AGE)
        },
        key_value(settings, names::BACKFILLS_BUCKET, Duration::ZERO),
        objects(settings, names::OBJECTS_BUCKET, objects_max_age),
    ]
}

fn stream(
    settings: &NatsSettings,
    name: &str,
    subjects: &[&str],
    max_age: Duration,
    window: Duration,
) -> Stream {
    Stream {
        object: Object { kind: Kind::Stream, name: name.to_owned() },
        subjects: subjects.iter().map(ToString::to_string).collect(),
        retention: Retention::Limits,
        storage: Storage::File,
        discard: Discard::Old,
        max_age,
        max_bytes: None,
        max_per_subject: None,
        duplicate_window: within(window, max_age),
        allow_direct: true,
        allow_rollup: false,
        deny_delete: false,
        replicas: settings.replicas as u64,
    }
}

/// As clients make their key-value buckets; they check it when they open one.
fn key_value(settings: &NatsSettings, bucket: &str, max_age: Duration) -> Stream {
    Stream {
        object: Object { kind: Kind::KeyValue, name: bucket.to_owned() },
        discard: Discard::New,
        max_per_subject: Some(1),
        allow_rollup: true,
        deny_delete: true,
        ..stream(settings, bucket, &[&format!("$KV.{bucket}.>")], max_age, DEFAULT_WINDOW)
    }
}

/// As clients make their object buckets.
fn objects(settings: &NatsSettings, bucket: &str, max_age: Duration) -> Stream {
    let (chunks, records) = (format!("$O.{bucket}.C.>"), format!("$O.{bucket}.M.>"));
    Stream {
        object: Object { kind: Kind::Objects, name: bucket.to_owned() },
        discard: Discard::New,
        allow_rollup: true,
        ..stream(settings, bucket, &[&chunks, &records], max_age, DEFAULT_WINDOW)
    }
}

/// The server refuses to remember ids for longer than messages.
fn within(window: Duration, max_age: Duration) -> Duration {
    if max_age.is_zero() { window } else { window.min(max_age) }
}

fn lane_consumer(lane: Lane, settings: &NatsSettings) -> Consumer {
    Consumer {
        object: Object { kind: Kind::Consumer, name: names::lane_consumer(lane) },
        stream: names::JOBS_STREAM.to_owned(),
        filter: vec![names::lane_subjects(lane)],
        pull: true,
        from_start: true,
        explicit_ack: true,
        ack_wait: settings.ack_wait,
        max_deliver: Some(u64::from(settings.max_deliver)),
        max_ack_pending: u64::from(settings.max_ack_pending),
        max_batch: Some(MAX_BATCH),
        backoff: Vec::new(),
    }
}

/// Advisories are swept until that succeeds: they are the last trace of a job that the server gave up.
fn sweeper(settings: &NatsSettings) -> Consumer {
    Consumer {
        object: Object { kind: Kind::Consumer, name: names::SWEEPER.to_owned() },
        stream: names::ADVISORIES_STREAM.to_owned(),
        filter: Vec::new(),
        max_deliver: None,
        max_ack_pending: SWEEPER_MAX_ACK_PENDING,
        ..lane_consumer(Lane::Live, settings)
    }
}
