//! Claims: one sentence per finding, written by the model from what was computed, and checked against it.
//!
//! The findings do not depend on the words. A claim is asked for with its aspect, its polarity and its quotes; it
//! stands only if its own probed polarity agrees, it is near its evidence, and it names no number or name that the
//! evidence lacks. What fails is replaced by the first quote, verbatim, and marked extractive.

pub mod check;

use std::collections::HashSet;

use super::Thresholds;
use super::reader::{Cost, LanguageReader, Reader, Ticket};
use crate::engine::{Branch, BranchAnswer, Request, RequestError, Span};
use crate::job::Language;
use crate::result::{Claim, Evidence, Origin, Polarity};
use crate::scheduler::Tokens;
use crate::selection::vector::UnitVector;

/// Least nearness of a claim to its evidence, on the scale of the aspects' seeds (0 unrelated, 1 same topic).
const NEAR_EVIDENCE: f32 = 0.6;

/// What a claim is asked for.
#[derive(Debug, Clone)]
pub struct Task {
    /// Aspect name.
    pub aspect: String,
    /// The computed polarity.
    pub polarity: Polarity,
    /// One to three quotes, best first.
    pub evidence: Vec<Evidence>,
    /// Mean direction of the clauses behind it.
    pub centre: UnitVector,
    /// What the cost is noted under.
    pub purpose: &'static str,
}

impl Task {
    /// The first quote, verbatim.
    pub fn extractive(&self) -> Claim {
        let text = self.evidence.first().map(|evidence| evidence.quote.clone()).unwrap_or_default();
        Claim { text, origin: Origin::Extractive, carried: false }
    }

    /// Nothing prevails, so there is nothing to claim.
    fn is_one_sided(&self) -> bool {
        self.polarity != Polarity::Neutral
    }
}

/// A claim for each task, in order; without `words`, quotes.
pub async fn write(
    parts: &Reader,
    reader: &LanguageReader,
    tasks: &[Task],
    words: bool,
    thresholds: &Thresholds,
    ticket: Ticket,
    cost: &mut Cost,
) -> Vec<Claim> {
    let mut claims: Vec<Claim> = tasks.iter().map(Task::extractive).collect();
    if !words {
        return claims;
    }
    let asked: Vec<usize> = (0..tasks.len()).filter(|&index| tasks[index].is_one_sided()).collect();
    let mut requests: Vec<Request> =
        asked.iter().map(|&index| request(parts, reader, &tasks[index], ticket)).collect();
    let ticket = ticket.costing(parts.engine().estimate(tokens_of(&requests)));
    for request in &mut requests {
        request.arrival = ticket.arrival;
    }
    let outcomes = parts.engine().run(requests).await;
    let mut drafts: Vec<(usize, String)> = Vec::new();
    for (&index, outcome) in asked.iter().zip(outcomes) {
        cost.note(tasks[index].purpose, &outcome);
        cost.usage.claims_written += 1;
        let Some(text) = text_of(parts, outcome) else { continue };
        let quotes: Vec<&str> = tasks[index].evidence.iter().map(|e| e.quote.as_str()).collect();
        let examples = reader.pack.claim.examples.iter().map(|example| example.claim.as_str());
        if check::is_grounded(&text, &quotes) && !check::repeats(&text, examples) {
            drafts.push((index, text));
        } else {
            tracing::debug!(aspect = tasks[index].aspect, "claim refused: not grounded");
        }
    }
    let mut said = HashSet::new();
    for (index, text) in verified(parts, reader, tasks, drafts, thresholds, ticket, cost).await {
        // The second of two findings with the same words would say nothing: its quote says more.
        if !said.insert((tasks[index].purpose, text.to_lowercase())) {
            continue;
        }
        cost.usage.claims_kept += 1;
        claims[index] = Claim { text, origin: Origin::Generated, carried: false };
    }
    claims
}

fn request(parts: &Reader, reader: &LanguageReader, task: &Task, ticket: Ticket) -> Request {
    let quotes = task.evidence.iter().map(|evidence| evidence.quote.as_str());
    let body = reader.pack.claim_body(&task.aspect, task.polarity, quotes);
    reader.claim(parts.tokenizer().tokenize(&body, false), ticket)
}

/// What the requests will put through the model; free spans end at about half their bound.
fn tokens_of(requests: &[Request]) -> Tokens {
    let free = |branch: &Branch| match branch {
        Branch::Generate { template } => template
            .iter()
            .map(|span| if let Span::Free { max_tokens, .. } = span { u64::from(*max_tokens) / 2 } else { 0 })
            .sum(),
        Branch::Probe { .. } => 0,
    };
    let sampled: u64 = requests.iter().flat_map(|request| &request.branches).map(free).sum();
    let prompts: u64 = requests.iter().map(|request| request.prefill_tokens() as u64).sum();
    Tokens { fed: prompts + sampled, read: sampled }
}

/// The sentence of a generation; `None` if it has none that is whole.
fn text_of(parts: &Reader, outcome: Result<crate::engine::Answer, RequestError>) -> Option<String> {
    let answer = outcome.ok()?;
    let BranchAnswer::Text(spans) = answer.branches.first()? else { return None };
    let span = spans.first()?;
    check::sentence(&parts.tokenizer().detokenize(&span.tokens), span.complete)
}

/// The drafts whose own polarity and direction agree with their task.
async fn verified(
    parts: &Reader,
    reader: &LanguageReader,
    tasks: &[Task],
    drafts: Vec<(usize, String)>,
    thresholds: &Thresholds,
    ticket: Ticket,
    cost: &mut Cost,
) -> Vec<(usize, String)> {
    let texts: Vec<&str> = drafts.iter().map(|(_, text)| text.as_str()).collect();
    let polarity = parts.polarity(reader, &texts, ticket, "check", cost).await;
    // If the check itself fails, nothing was checked, and nothing stands.
    let Ok(vectors) = parts.embed(reader, &texts, ticket).await else { return Vec::new() };
    cost.usage.embedded_texts += texts.len() as u32;
    let agrees = |index: usize, p: &Result<f32, RequestError>, vector: &Option<UnitVector>| {
        let task: &Task = &tasks[index];
        let same = p.as_ref().is_ok_and(|p| thresholds.label(*p) == task.polarity);
        let near = vector.as_ref().is_some_and(|v| reader.space.likeness(v, &task.centre) >= NEAR_EVIDENCE);
        if !(same && near) {
            tracing::debug!(aspect = task.aspect, same, near, "claim refused");
        }
        same && near
    };
    let kept: Vec<bool> = drafts
        .iter()
        .zip(polarity.iter().zip(&vectors))
        .map(|((index, _), (p, v))| agrees(*index, p, v))
        .collect();
    drafts.into_iter().zip(kept).filter(|(_, kept)| *kept).map(|(draft, _)| draft).collect()
}

/// The overall text, composed by rule from figures that were computed.
pub fn overall(
    reader: &LanguageReader,
    positive_share: Option<(f32, u32)>,
    findings: &[(&str, Polarity)],
) -> Claim {
    let words = &reader.pack.overall;
    let title = |aspect: &str| {
        let spec = reader.pack.aspects.iter().find(|spec| spec.name == aspect);
        spec.map_or(aspect.to_owned(), |spec| spec.title.to_lowercase())
    };
    let list = |wanted: Polarity| {
        let titles: Vec<String> = findings
            .iter()
            .filter(|(_, polarity)| *polarity == wanted)
            .map(|(aspect, _)| title(aspect))
            .collect();
        match titles.split_last() {
            None => None,
            Some((last, [])) => Some(last.clone()),
            Some((last, rest)) => Some(format!("{}{}{last}", rest.join(", "), words.and)),
        }
    };
    let mut sentences = Vec::new();
    if let Some((share, count)) = positive_share {
        let percent = format!("{:.0}", f64::from(share) * 100.0);
        sentences.push(words.share.replace("{share}", &percent).replace("{n}", &count.to_string()));
    }
    let praise = list(Polarity::Positive);
    sentences.extend(praise.as_ref().map(|list| words.praise.replace("{list}", list)));
    let complain = if praise.is_some() { &words.complain } else { &words.complain_alone };
    sentences.extend(list(Polarity::Negative).map(|list| complain.replace("{list}", &list)));
    if sentences.is_empty() {
        sentences.extend(list(Polarity::Neutral).map(|list| words.mixed.replace("{list}", &list)));
    }
    let text = sentences.join(" ");
    let text = if reader.pack.language == Language::Ko { check::particles(&text) } else { text };
    Claim { text, origin: Origin::Composed, carried: false }
}
