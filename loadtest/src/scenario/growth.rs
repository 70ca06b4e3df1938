//! How cost grows: with restaurants, with the reviews of one, and with what is new.
//!
//! Three series, each from nothing known: `restaurants` under `scope = selected`, `reviews` of one restaurant under both
//! scopes, and the same restaurants again with one new review each.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use maitred::config::Settings;
use maitred::job::{Job, Review, Scope};
use maitred::runtime::{self, Loaded};
use maitred::store::memory::MemoryFacts;
use serde::{Deserialize, Serialize};

use crate::cli::{Common, say};
use crate::embedded;
use crate::jobs::{self, Timed};
use crate::report::Report;
use crate::sample::Size;

/// Flags.
#[derive(Debug, Args)]
pub struct Options {
    /// Restaurants and their reviews
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Numbers of restaurants, under `scope = selected`
    #[arg(long, value_delimiter = ',', default_value = "1,10,50,100")]
    restaurants: Vec<usize>,
    /// Numbers of reviews of one restaurant, under `scope = selected`
    #[arg(long, value_delimiter = ',', default_value = "20,100,500,2000,5000")]
    reviews: Vec<usize>,
    /// Numbers of reviews of one restaurant that are all read
    #[arg(long, value_delimiter = ',', default_value = "20,100,500")]
    read_all: Vec<usize>,
    /// Restaurants that are all read, and then again with one new review each
    #[arg(long, default_value_t = 5)]
    again: usize,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Which series.
    pub series: String,
    /// Restaurants.
    pub restaurants: usize,
    /// Reviews of all of them.
    pub reviews: usize,
    /// Reviews read by the language model.
    pub reviews_read: u64,
    /// Prompt tokens computed, fixed text included.
    pub prompt_tokens: u64,
    /// Tokens sampled.
    pub generated_tokens: u64,
    /// Prompt tokens that putting all reviews into the prompt of each analysis would take.
    pub baseline_tokens: u64,
    /// Texts embedded.
    pub embedded_texts: u64,
    /// Seconds inside both models.
    pub model_seconds: f64,
    /// Wall time in seconds.
    pub wall_seconds: f64,
    /// Results that are whole.
    pub ok: usize,
}

/// Runs the scenario.
pub async fn run(common: &Common, options: &Options) -> anyhow::Result<()> {
    let mut settings = common.settings()?;
    let loaded = runtime::load(&settings).await?;
    let identity = loaded.identity();
    let report = Report::begin("growth", common.seed, (&identity.name, &identity.digest), &settings);
    let mut restaurants = Vec::new();
    for file in &options.files {
        restaurants.extend(jobs::restaurants(file, &settings)?);
    }
    let mut points = Vec::new();
    settings.analysis.scope = Scope::Selected;
    for &count in &options.restaurants {
        let trace = trace((0..count).map(|n| copy(&restaurants, n)));
        points.push(work("restaurants, selected", &loaded, &settings, &trace, None).await?);
    }
    for &count in &options.reviews {
        let trace = trace(std::iter::once(of_reviews(&restaurants, count)));
        points.push(work("reviews of one, selected", &loaded, &settings, &trace, None).await?);
    }
    settings.analysis.scope = Scope::All;
    for &count in &options.read_all {
        let trace = trace(std::iter::once(of_reviews(&restaurants, count)));
        points.push(work("reviews of one, all", &loaded, &settings, &trace, None).await?);
    }
    if options.again > 0 {
        let store = embedded::fresh_store(&settings);
        let first: Vec<Job> = (0..options.again).map(|n| copy(&restaurants, n)).collect();
        let next = first
            .iter()
            .zip(1..)
            .map(|(job, n)| jobs::with_a_new_review(job, &restaurants[n % restaurants.len()]));
        let next = trace(next.collect::<Vec<_>>().into_iter());
        let cold = trace(first.into_iter());
        points.push(work("cold, all", &loaded, &settings, &cold, Some(&store)).await?);
        points.push(work("one new review each, all", &loaded, &settings, &next, Some(&store)).await?);
        if let [.., cold, again] = points.as_slice() {
            say(&format!(
                "again with one new review each: {:.1} x less model time, {:.1} x fewer prompt tokens",
                cold.model_seconds / again.model_seconds,
                cold.prompt_tokens as f64 / again.prompt_tokens.max(1) as f64
            ))?;
        }
    }
    common.save(&report.with(&points)?)
}

fn trace(jobs: impl Iterator<Item = Job>) -> Vec<Timed> {
    jobs.map(|job| Timed { at: 0.0, size: Size::Large, job }).collect()
}

/// The `n`-th restaurant; beyond the files' end they come again, under other names and with other texts.
fn copy(restaurants: &[Job], n: usize) -> Job {
    let job = &restaurants[n % restaurants.len()];
    match n / restaurants.len() {
        0 => job.clone(),
        round => renamed(job, round),
    }
}

fn renamed(job: &Job, round: usize) -> Job {
    let review = |review: &Review| Review { text: format!("{} ({round})", review.text), ..review.clone() };
    Job {
        job_id: format!("{}-{round}", job.job_id),
        restaurant_id: format!("{}-{round}", job.restaurant_id),
        reviews: job.reviews.iter().map(review).collect(),
        ..job.clone()
    }
}

/// One restaurant of so many reviews, from all the files' reviews in turn.
fn of_reviews(restaurants: &[Job], count: usize) -> Job {
    let all: Vec<&Review> = restaurants.iter().flat_map(|job| &job.reviews).collect();
    let review = |n: usize| {
        let review = all[n % all.len()];
        let text = if n < all.len() { review.text.clone() } else { format!("{} ({n})", review.text) };
        Review { id: format!("r{n}"), text, ..review.clone() }
    };
    Job {
        job_id: format!("of-{count}"),
        restaurant_id: format!("of-{count}"),
        reviews: (0..count).map(review).collect(),
        ..restaurants[0].clone()
    }
}

async fn work(
    series: &str,
    loaded: &Loaded,
    settings: &Settings,
    trace: &[Timed],
    store: Option<&Arc<MemoryFacts>>,
) -> anyhow::Result<Point> {
    let store = store.map_or_else(|| embedded::fresh_store(settings), Arc::clone);
    let at_once = settings.analysis.concurrent_restaurants;
    let run = embedded::run(loaded, settings, store, trace, Some(at_once)).await?;
    let sum =
        |of: fn(&maitred::result::Usage) -> u64| run.results.iter().map(|result| of(&result.usage)).sum();
    let point = Point {
        series: series.to_owned(),
        restaurants: trace.len(),
        reviews: trace.iter().map(|timed| timed.job.reviews.len()).sum(),
        reviews_read: sum(|usage| usage.reviews_read.into()),
        prompt_tokens: sum(|usage| usage.prompt_tokens + usage.forced_tokens),
        generated_tokens: sum(|usage| usage.generated_tokens),
        baseline_tokens: sum(|usage| usage.baseline_tokens),
        embedded_texts: sum(|usage| usage.embedded_texts.into()),
        model_seconds: (run.stats.core.decode_time + run.stats.embedding_time).as_secs_f64(),
        wall_seconds: run.wall,
        ok: run.samples.iter().filter(|sample| sample.ok).count(),
    };
    say(&format!(
        "{series:<26} {:>4} restaurants {:>6} reviews: {:>6} read, {:>8} prompt, {:>6} sampled tokens, {:>6} embedded, {:>8.1} s ({:.1} s in models), {} ok",
        point.restaurants,
        point.reviews,
        point.reviews_read,
        point.prompt_tokens,
        point.generated_tokens,
        point.embedded_texts,
        point.wall_seconds,
        point.model_seconds,
        point.ok,
    ))?;
    Ok(point)
}
