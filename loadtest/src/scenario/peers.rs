//! maitred beside other ways to ask the same model the same thing, in one run, one after the other.
//!
//! ```text
//! ours ─ server, spread ─ ours, given the selection ─ the same without words ─ server, chained ─ server again ─ ours again
//!      ─ ours without words ─ ours ─ the origin's way
//! ```
//!
//! The server is driven in two ways: *spread*, every request by itself, as most would, and *chained*, a restaurant's three
//! requests one after the other, so that the server's cache holds its reviews from the first one on. It is shown the
//! reviews that our selection chose, and does not pay for choosing; so ours is measured with the selection, from all
//! reviews, and *given* the very same reviews, without it. The origin's way is shown all reviews. A restaurant whose answers are
//! invalid counts as asked, and is reported: time is per restaurant asked. Ours runs cold twice, before and after the
//! server, and counts with the mean of both.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, ensure};
use clap::Args;
use maitred::config::Settings;
use maitred::job::{Job, Review, Scope};
use maitred::model::{ModelKind, model_store};
use maitred::result::AnalysisResult;
use maitred::runtime::{self, Loaded};
use maitred::store::memory::MemoryFacts;
use serde::{Deserialize, Serialize};

use crate::cli::{Common, say};
use crate::embedded;
use crate::jobs::{self, Timed};
use crate::peers::llama_server::{self, Drive};
use crate::peers::origin::{self, OriginOptions};
use crate::peers::{PeerServer, Restaurant, Totals, grade, server};
use crate::report::Report;
use crate::sample::Size;

/// Flags.
#[derive(Debug, Args)]
pub struct Options {
    /// Restaurants and their reviews
    file: PathBuf,
    /// Restaurants; the server works eight at a time
    #[arg(long, default_value_t = 8)]
    restaurants: usize,
    /// Restaurants to pass over at the start of the file
    #[arg(long, default_value_t = 0)]
    skip: usize,
    /// Of those, restaurants for the origin's way, which takes minutes for each
    #[arg(long, default_value_t = 2)]
    origin: usize,
    /// Reviews of a restaurant at most
    #[arg(long, default_value_t = 100)]
    reviews: usize,
}

/// Ours, in figures like the peers'.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ours {
    /// Restaurants.
    pub asked: usize,
    /// Of those, the ones with findings.
    pub valid: usize,
    /// From the first to the last, in seconds.
    pub seconds: f64,
    /// Seconds per restaurant.
    pub seconds_per_restaurant: f64,
    /// Tokens computed by the language model per restaurant.
    pub tokens_per_restaurant: f64,
    /// Mean distance of the positive share from the stars.
    pub share_error: Option<f64>,
    /// Quotes, and those that are verbatim.
    pub quotes: (usize, usize),
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Body {
    /// Ours from nothing known, twice.
    pub cold: [Ours; 2],
    /// Ours without words.
    pub wordless: Ours,
    /// Ours given the selected reviews, so that neither side selects.
    pub given: Ours,
    /// The same without words.
    pub given_wordless: Ours,
    /// Ours with all facts known but those of one new review each.
    pub again: Ours,
    /// llama.cpp's server from nothing known, each request by itself.
    pub spread: Totals,
    /// llama.cpp's server from nothing known, a restaurant's requests one after the other.
    pub server: Totals,
    /// The same with one new review each, its prompts cached.
    pub server_again: Totals,
    /// Ours over the restaurants of the origin's way; its share of `cold`.
    pub cold_of_origin: f64,
    /// The origin's way; absent if not asked for.
    pub origin: Option<Totals>,
    /// Model tokens per restaurant over the origin's restaurants: ours.
    pub tokens_of_origin: f64,
}

struct Bench<'a> {
    loaded: &'a Loaded,
    settings: &'a Settings,
    python: PathBuf,
    model: PathBuf,
    threads: usize,
}

/// Runs the scenario.
pub async fn run(common: &Common, options: &Options) -> anyhow::Result<()> {
    let mut settings = common.settings()?;
    settings.analysis.scope = Scope::Selected;
    let python = server::installed().context("the peers are not installed: run scripts/install-peers.sh")?;
    let model = model_store(settings.models.dir.as_deref())?
        .resolve_as(&settings.models.language, ModelKind::Language)?
        .path;
    let loaded = runtime::load(&settings).await?;
    let identity = loaded.identity();
    let report = Report::begin("peers", common.seed, (&identity.name, &identity.digest), &settings);
    let all = jobs::restaurants(&options.file, &settings)?;
    let cold: Vec<Job> = all
        .iter()
        .skip(options.skip)
        .take(options.restaurants)
        .map(|job| jobs::first(job, options.reviews))
        .collect();
    ensure!(!cold.is_empty(), "the file has no restaurant after the first {}", options.skip);
    let next: Vec<Job> =
        cold.iter().zip(1..).map(|(job, n)| jobs::with_a_new_review(job, &all[n % all.len()])).collect();
    let threads = settings.engine.threads.map_or_else(
        || std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        |threads| threads.get() as usize,
    );
    let bench = Bench { loaded: &loaded, settings: &settings, python, model, threads };
    let body = bench.compare(&cold, &next, options.origin).await?;
    say(&table(&body))?;
    common.save(&report.with(&body)?)
}

impl Bench<'_> {
    async fn compare(&self, cold: &[Job], next: &[Job], of_origin: usize) -> anyhow::Result<Body> {
        let store = embedded::fresh_store(self.settings);
        let (before, first) = self.ours(cold, self.settings, &store).await?;
        // Work that blocks, on a thread that may: nothing else is under way.
        let spread = {
            let peer = PeerServer::start(&self.python, &llama_server::options(&self.model, self.threads))?;
            let asked = chosen(cold, &first);
            totals(&tokio::task::block_in_place(|| llama_server::run(&peer, &asked, Drive::Spread)))?
        };
        let given: Vec<Job> =
            cold.iter().zip(&first).map(|(job, result)| selected_only(job, result)).collect();
        let mut all = self.settings.clone();
        all.analysis.scope = Scope::All;
        let mut wordless = all.clone();
        wordless.analysis.words = false;
        let (given_wordless, _) = self.ours(&given, &wordless, &embedded::fresh_store(self.settings)).await?;
        let (given, _) = self.ours(&given, &all, &embedded::fresh_store(self.settings)).await?;
        let (server, server_again, chosen) = {
            let peer = PeerServer::start(&self.python, &llama_server::options(&self.model, self.threads))?;
            let asked = chosen(cold, &first);
            let cold_answers =
                tokio::task::block_in_place(|| llama_server::run(&peer, &asked, Drive::Chained));
            // What our selection makes of the new reviews is known only after our own run; the peer is shown the
            // reviews of before and the new one.
            let more: Vec<Restaurant<'_>> = asked
                .iter()
                .zip(next)
                .map(|(asked, next)| {
                    let reviews = asked.reviews.iter().copied().chain(next.reviews.last());
                    Restaurant::with(next, reviews)
                })
                .collect();
            let again = tokio::task::block_in_place(|| llama_server::run(&peer, &more, Drive::Chained));
            (totals(&cold_answers)?, totals(&again)?, asked.len())
        };
        ensure!(chosen == cold.len(), "not all restaurants were selected from");
        let (again, _) = self.ours(next, self.settings, &store).await?;
        let mut wordless = self.settings.clone();
        wordless.analysis.words = false;
        let (wordless, _) = self.ours(cold, &wordless, &embedded::fresh_store(self.settings)).await?;
        let (after, _) = self.ours(cold, self.settings, &embedded::fresh_store(self.settings)).await?;
        let some = &cold[..of_origin.min(cold.len())];
        let (origin, beside) = if some.is_empty() {
            (None, before.clone())
        } else {
            let (beside, _) = self.ours(some, self.settings, &embedded::fresh_store(self.settings)).await?;
            let peer = PeerServer::start(&self.python, &origin::server(&self.model, self.threads))?;
            let asked: Vec<Restaurant<'_>> = some.iter().map(Restaurant::of).collect();
            let answers =
                tokio::task::block_in_place(|| origin::run(&peer, &asked, OriginOptions::default()));
            (Some(totals(&answers)?), beside)
        };
        Ok(Body {
            cold: [before, after],
            wordless,
            given,
            given_wordless,
            again,
            spread,
            server,
            server_again,
            cold_of_origin: beside.seconds_per_restaurant,
            origin,
            tokens_of_origin: beside.tokens_per_restaurant,
        })
    }

    async fn ours(
        &self,
        jobs: &[Job],
        settings: &Settings,
        store: &Arc<MemoryFacts>,
    ) -> anyhow::Result<(Ours, Vec<AnalysisResult>)> {
        let trace: Vec<Timed> =
            jobs.iter().map(|job| Timed { at: 0.0, size: Size::Large, job: job.clone() }).collect();
        let at_once = settings.analysis.concurrent_restaurants;
        let run = embedded::run(self.loaded, settings, Arc::clone(store), &trace, Some(at_once)).await?;
        let tokens: u64 = run.samples.iter().map(|sample| sample.tokens).sum();
        let errors: Vec<f64> =
            jobs.iter().zip(&run.results).filter_map(|(job, result)| share_error(job, result)).collect();
        let quotes = jobs.iter().zip(&run.results).map(|(job, result)| quotes(job, result));
        let ours = Ours {
            asked: jobs.len(),
            valid: run.samples.iter().filter(|sample| sample.ok).count(),
            seconds: run.wall,
            seconds_per_restaurant: run.wall / jobs.len() as f64,
            tokens_per_restaurant: tokens as f64 / jobs.len() as f64,
            share_error: (!errors.is_empty()).then(|| errors.iter().sum::<f64>() / errors.len() as f64),
            quotes: quotes.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1)),
        };
        ensure!(
            ours.valid == ours.asked,
            "{} of {} of our own results have failures",
            ours.asked - ours.valid,
            ours.asked
        );
        Ok((ours, run.results))
    }
}

fn totals(answers: &[crate::peers::Answered]) -> anyhow::Result<Totals> {
    Totals::of(answers).context("no restaurant was asked about")
}

/// The reviews that our selection chose, as a peer sees them.
fn chosen<'j>(jobs: &'j [Job], results: &[AnalysisResult]) -> Vec<Restaurant<'j>> {
    jobs.iter().zip(results).map(|(job, result)| Restaurant::with(job, labelled(job, result))).collect()
}

/// The reviews that have a label in the result, in the job's order.
fn labelled<'j>(job: &'j Job, result: &AnalysisResult) -> Vec<&'j Review> {
    let read: std::collections::HashSet<&str> =
        result.sentiment.iter().flat_map(|s| &s.reviews).map(|label| label.review_id.as_str()).collect();
    job.reviews.iter().filter(|review| read.contains(review.id.as_str())).collect()
}

/// The restaurant with the reviews that were selected, and no others.
fn selected_only(job: &Job, result: &AnalysisResult) -> Job {
    Job { reviews: labelled(job, result).into_iter().cloned().collect(), ..job.clone() }
}

fn share_error(job: &Job, result: &AnalysisResult) -> Option<f64> {
    let sentiment = result.sentiment.as_ref()?;
    let share = grade::positive_share(sentiment.positive.into(), sentiment.negative.into())?;
    grade::share_error(share, labelled(job, result))
}

/// Quotes of the result, and how many of them stand in the review that they name.
fn quotes(job: &Job, result: &AnalysisResult) -> (usize, usize) {
    let summary =
        result.summary.iter().flat_map(|summary| &summary.aspects).flat_map(|finding| &finding.evidence);
    let strengths =
        result.strengths.iter().flat_map(|strengths| &strengths.items).flat_map(|item| &item.evidence);
    let all: Vec<_> = summary.chain(strengths).collect();
    let stands = |quote: &str, id: &str| {
        job.reviews.iter().any(|review| review.id == id && review.text.contains(quote))
    };
    let verbatim = all.iter().filter(|evidence| stands(&evidence.quote, &evidence.review_id)).count();
    (all.len(), verbatim)
}

fn table(body: &Body) -> String {
    let [before, after] = &body.cold;
    let cold = f64::midpoint(before.seconds_per_restaurant, after.seconds_per_restaurant);
    let ours = |name: &str, ours: &Ours| {
        row(
            name,
            ours.seconds_per_restaurant,
            ours.tokens_per_restaurant,
            (ours.valid, ours.asked),
            ours.share_error,
            ours.quotes,
        )
    };
    let peer = |name: &str, totals: &Totals| {
        let quotes = (totals.evidence.quotes as usize, totals.evidence.verbatim as usize);
        row(
            name,
            totals.seconds_per_restaurant,
            totals.tokens_per_restaurant,
            (totals.answers_valid, totals.answers),
            totals.share_error,
            quotes,
        )
    };
    let mut lines = vec![
        format!(
            "{:<34} {:>9} {:>9} {:>9} {:>11} {:>12}",
            "", "s each", "tokens", "valid", "share error", "verbatim"
        ),
        ours("ours, cold", before),
        ours("ours, cold, after the server", after),
        ours("ours, without words", &body.wordless),
        ours("ours, given the selection", &body.given),
        ours("ours, given it, without words", &body.given_wordless),
        ours("ours, one new review", &body.again),
        peer("llama.cpp's server, spread", &body.spread),
        peer("llama.cpp's server, chained", &body.server),
        peer("llama.cpp's server, one new review", &body.server_again),
    ];
    lines.extend(body.origin.as_ref().map(|origin| peer("the origin's way", origin)));
    for (drive, server) in [("spread", &body.spread), ("chained", &body.server)] {
        let seconds = server.seconds_per_restaurant;
        lines.push(format!(
            "jobs/s against the server, {drive}: {:.2} x cold, {:.2} x without words; given the selection {:.2} x, {:.2} x without words",
            seconds / cold,
            seconds / body.wordless.seconds_per_restaurant,
            seconds / body.given.seconds_per_restaurant,
            seconds / body.given_wordless.seconds_per_restaurant,
        ));
    }
    lines.push(format!(
        "one new review, against the server's cached prompts: {:.1} x",
        body.server_again.seconds_per_restaurant / body.again.seconds_per_restaurant
    ));
    lines.extend(body.origin.as_ref().map(|origin| {
        format!(
            "against the origin's way: {:.1} x jobs/s, {:.0} % fewer model tokens",
            origin.seconds_per_restaurant / body.cold_of_origin,
            (1.0 - body.tokens_of_origin / origin.tokens_per_restaurant) * 100.0
        )
    }));
    lines.join("\n")
}

fn row(
    name: &str,
    seconds: f64,
    tokens: f64,
    (valid, asked): (usize, usize),
    error: Option<f64>,
    (quotes, verbatim): (usize, usize),
) -> String {
    let error = error.map_or_else(|| "-".to_owned(), |error| format!("{error:.3}"));
    format!(
        "{name:<34} {seconds:>9.2} {tokens:>9.0} {:>9} {error:>11} {:>12}",
        format!("{valid}/{asked}"),
        format!("{verbatim}/{quotes}")
    )
}
