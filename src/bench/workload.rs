//! The workload of the comparison, taken from real restaurants: what the reader asks of the language model.
//!
//! Whole restaurants are analysed first, to find what there is to claim. Then the first reviews of each are kept, and
//! as large a share of its claims: labels and claims stand in the measurement as they stand in real work.

use std::sync::Arc;

use anyhow::{Context, ensure};

use super::drive::{Place, Workload};
use super::variant::{Ends, Head};
use crate::analysis::reader::{LanguageReader, Reader, Ticket};
use crate::analyst::Analyst;
use crate::config::Settings;
use crate::engine::{Request, TokenSet};
use crate::input::JobReader;
use crate::job::Job;
use crate::result::{AnalysisResult, Polarity};
use crate::scheduler::{Arrival, Lane, Seconds};
use crate::store::memory::MemoryFacts;

/// How much of a file is worked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Restaurants.
    pub restaurants: usize,
    /// Reviews of each.
    pub reviews: usize,
}

/// A workload and what it is made of.
pub struct Taken {
    /// What is asked.
    pub workload: Workload,
    /// Reviews in it.
    pub reviews: usize,
}

/// An analyst that knows nothing yet.
pub fn analyst(reader: Reader, settings: &Settings) -> Arc<Analyst<MemoryFacts>> {
    let store = Arc::new(MemoryFacts::new(settings.store.memory_limit));
    Arc::new(Analyst::new(Arc::new(reader), store, settings.analysis.clone(), "bench".into()))
}

/// Takes the workload from the first restaurants of `input`, all in the language of the first one.
pub async fn take(input: JobReader, analyst: &Analyst<MemoryFacts>, extent: Extent) -> anyhow::Result<Taken> {
    let parts = analyst.reader();
    let mut spoken = None;
    let mut taken = None;
    for (index, job) in input.take(extent.restaurants).enumerate() {
        let job = job?;
        let worked = analyst.work(&job, analyst.place()).await;
        let language = *spoken.get_or_insert(worked.result.language);
        let reader = parts.language(language).await?;
        let place = place(parts, reader, &job, &worked.result, extent.reviews, ticket(index));
        let taken = taken.get_or_insert_with(|| Taken { workload: empty(parts, reader), reviews: 0 });
        taken.reviews += job.reviews.len().min(extent.reviews);
        taken.workload.places.push(place);
    }
    let taken = taken.context("the input holds no restaurant")?;
    let asked =
        |requests: fn(&Place) -> &Vec<Request>| taken.workload.places.iter().any(|p| !requests(p).is_empty());
    ensure!(asked(|place| &place.labels), "there is nothing to read in these reviews");
    ensure!(asked(|place| &place.claims), "nothing can be claimed of these reviews; use more restaurants");
    Ok(taken)
}

/// Restaurants come one after the other, as jobs do.
fn ticket(place: usize) -> Ticket {
    let arrival = Arrival { at: Seconds::new(place as f64), cost: Seconds::ZERO, lane: Lane::Live };
    Ticket { arrival, deadline: None }
}

/// A workload without places: the heads, and where sampled text ends.
fn empty(parts: &Reader, reader: &LanguageReader) -> Workload {
    let tokenizer = parts.tokenizer();
    let named = [
        (reader.probe(Vec::new(), ticket(0)).prefix, reader.pack.polarity_prefix()),
        (reader.claim(Vec::new(), ticket(0)).prefix, reader.pack.claim_prefix()),
    ];
    let heads = named
        .into_iter()
        .filter_map(|(id, text)| Some(Head { id: id?, tokens: tokenizer.tokenize(&text, true) }))
        .collect();
    let set = |ending: &str| {
        Arc::new(TokenSet::of(tokenizer.vocabulary(), |token| {
            tokenizer.is_control(token) || String::from_utf8_lossy(&tokenizer.piece(token)).contains(ending)
        }))
    };
    Workload { heads, ends: Ends { line: set("\n"), example: set("\n\n") }, places: Vec::new() }
}

fn place(
    parts: &Reader,
    reader: &LanguageReader,
    job: &Job,
    result: &AnalysisResult,
    reviews: usize,
    ticket: Ticket,
) -> Place {
    let kept = &job.reviews[..job.reviews.len().min(reviews)];
    let labels = kept.iter().flat_map(|review| parts.probes(reader, &review.text, ticket)).collect();
    let mut claims = claims(parts, reader, result, ticket);
    claims.truncate((claims.len() * kept.len()).div_ceil(job.reviews.len().max(1)));
    Place { labels, claims }
}

/// The claims that the result's findings were asked to have.
fn claims(parts: &Reader, reader: &LanguageReader, result: &AnalysisResult, ticket: Ticket) -> Vec<Request> {
    let summary = result.summary.iter().flat_map(|summary| &summary.aspects);
    let findings = summary.map(|finding| (&finding.aspect, finding.polarity, &finding.evidence));
    let strengths = result.strengths.iter().flat_map(|strengths| &strengths.items);
    let praise = strengths.map(|strength| (&strength.aspect, Polarity::Positive, &strength.evidence));
    findings
        .chain(praise)
        .filter(|(_, polarity, _)| *polarity != Polarity::Neutral)
        .map(|(aspect, polarity, evidence)| {
            let quotes = evidence.iter().map(|evidence| evidence.quote.as_str());
            let body = reader.pack.claim_body(aspect, polarity, quotes);
            reader.claim(parts.tokenizer().tokenize(&body, false), ticket)
        })
        .collect()
}
