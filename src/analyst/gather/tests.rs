//! Over the engine without a model: what it says means nothing, but it says the same of the same text.

use std::time::Duration as StdDuration;

use time::macros::datetime;
use time::{Duration, OffsetDateTime};

use super::super::ticket;
use super::*;
use crate::analyst::Analyst;
use crate::config::{EngineKind, RedisSettings, Secret, SecretUrl, Settings};
use crate::job::Language;
use crate::runtime;
use crate::store::memory::MemoryFacts;
use crate::store::redis::RedisFacts;

const NEWEST: OffsetDateTime = datetime!(2025-03-01 12:00 UTC);

async fn analyst<S: FactStore>(store: S) -> Analyst<S> {
    let mut settings = Settings::default();
    settings.engine.backend = EngineKind::Sim;
    settings.sim.step = StdDuration::from_micros(10);
    settings.sim.token = StdDuration::from_nanos(10);
    let reader = runtime::start(&settings, runtime::read_settings(&settings)).await.unwrap();
    Analyst::new(reader.into(), store.into(), settings.analysis, "w".into())
}

fn memory() -> MemoryFacts {
    MemoryFacts::new(4 << 20)
}

fn review(id: usize) -> Review {
    Review {
        id: id.to_string(),
        text: format!("The soup number {} was {}.", id, ["great", "cold", "rich", "thin", "salty"][id % 5]),
        rating: None,
        recommended: Some(id.is_multiple_of(3)),
        created_at: (!id.is_multiple_of(7)).then(|| NEWEST - Duration::days(31 * id as i64)),
        embedding: None,
    }
}

fn job(reviews: Vec<Review>) -> Job {
    let mut job: Job = serde_json::from_str(
        r#"{"v":1,"job_id":"j","restaurant_id":"r","analyses":["sentiment"],"reviews":[]}"#,
    )
    .unwrap();
    job.reviews = reviews;
    job
}

/// A restaurant over time: reviews come, one leaves, one is edited, guests change their mind, and all grow older.
fn history() -> Vec<Job> {
    let all: Vec<Review> = (0..40).map(review).collect();
    let mut edited = all[5..30].to_vec();
    edited[3].text = "Something else altogether.".into();
    let mut doubted = edited.clone();
    doubted[4].recommended = Some(false);
    let mut later = doubted.clone();
    later.push(Review { created_at: Some(NEWEST + Duration::days(400)), ..review(50) });
    [all[..20].to_vec(), all[..20].to_vec(), all[..30].to_vec(), all[5..30].to_vec(), edited, doubted, later]
        .map(job)
        .into()
}

async fn selected<S: FactStore>(analyst: &Analyst<S>, job: &Job) -> Vec<usize> {
    let reader = analyst.reader.language(Language::En).await.unwrap();
    analyst.selected(job, reader, 5, ticket(job, analyst.place()), &mut Cost::default()).await.unwrap()
}

async fn kept<S: FactStore>(analyst: &Analyst<S>) -> Option<Representative> {
    let reader = analyst.reader.language(Language::En).await.unwrap();
    analyst.store.representative("r", &reader.embedder.digest).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_from_earlier_jobs_makes_no_difference_to_the_selection() {
    let warm = analyst(memory()).await;
    for (step, job) in history().iter().enumerate() {
        let fresh = analyst(memory()).await;
        let anew = selected(&fresh, job).await;
        assert_eq!(anew.len(), 5);
        assert_eq!(selected(&warm, job).await, anew, "step {step}");
        let representative = kept(&warm).await;
        assert_eq!(representative.as_ref().map(Representative::count), Some(job.reviews.len()));
        assert_eq!(representative, kept(&fresh).await, "step {step}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_makes_no_difference_to_the_selection() {
    let settings = RedisSettings {
        url: None,
        timeout: StdDuration::from_secs(5),
        rest: StdDuration::from_hours(1),
        facts_max_age: StdDuration::from_hours(1),
    };
    let nowhere = Secret::Value(SecretUrl::new("redis://127.0.0.1:1"));
    let without = analyst(RedisFacts::new(nowhere, &settings).unwrap()).await;
    let with = analyst(memory()).await;
    for job in history() {
        assert_eq!(selected(&without, &job).await, selected(&with, &job).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_that_do_not_fit_the_others_are_not_selected() {
    let analyst = analyst(memory()).await;
    let mut reviews: Vec<Review> = (0..4).map(review).collect();
    reviews[2].embedding = Some(vec![1.0; 3]);
    assert_eq!(selected(&analyst, &job(reviews)).await, [0, 1, 3]);
    assert_eq!(kept(&analyst).await.unwrap().count(), 3);
}
