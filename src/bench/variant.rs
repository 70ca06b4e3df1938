//! The engine with some of its ideas switched off: the same question asked in another way, of another context.
//!
//! | idea | without it |
//! |---|---|
//! | batching | one sequence: a request begins when the one before has ended |
//! | sharing | the few-shot head is part of every prompt |
//! | probes | the label is sampled, to the end of its line |
//! | forcing | the fixed words before a text are sampled with it |
//! | unified cache | each sequence has cells of its own, so a copied head takes room in each |
//! | flash attention | the plain attention of llama.cpp |

use std::sync::Arc;

use crate::engine::{Branch, BranchAnswer, PrefixId, Request, Span, Token, TokenSet};

/// Sampled tokens of a label at least: the label, and the end of its line.
const LABEL_TOKENS: usize = 3;
/// Streams of a cache that is not unified are made of so many cells (llama.cpp pads them).
const STREAM_CELLS: u32 = 256;

/// What can be switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idea {
    /// Many requests in each decode call.
    Batching,
    /// Heads pinned and copied.
    Sharing,
    /// Labels read from probabilities.
    Probes,
    /// Fixed text fed instead of sampled.
    Forcing,
    /// One pool of cells for all sequences.
    UnifiedCache,
    /// Flash attention.
    FlashAttention,
}

/// A way to run the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variant {
    /// Its name in tables.
    pub name: &'static str,
    without: &'static [Idea],
}

/// Everything on.
pub const OURS: Variant = Variant { name: "ours", without: &[] };

/// What ours is compared with: one idea off at a time, then those that make a request, without and with forcing.
pub const OTHERS: [Variant; 8] = [
    Variant { name: "batching off", without: &[Idea::Batching] },
    Variant { name: "sharing off", without: &[Idea::Sharing] },
    Variant { name: "probes off", without: &[Idea::Probes] },
    Variant { name: "forcing off", without: &[Idea::Forcing] },
    Variant { name: "split cache", without: &[Idea::UnifiedCache] },
    Variant { name: "flash attention off", without: &[Idea::FlashAttention] },
    PROMPTED,
    BASELINE,
];

/// One request at a time, whole prompts with the fixed words at their end, everything else sampled: what a client of
/// any completion server would do.
pub const PROMPTED: Variant =
    Variant { name: "one at a time", without: &[Idea::Batching, Idea::Sharing, Idea::Probes] };

/// One request at a time, whole prompts, everything sampled.
pub const BASELINE: Variant =
    Variant { name: "one at a time", without: &[Idea::Batching, Idea::Sharing, Idea::Probes, Idea::Forcing] };

/// A pinned head: the name that requests know it by, and its tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The id in the reader's requests.
    pub id: PrefixId,
    /// Its tokens.
    pub tokens: Vec<Token>,
}

/// Where sampled text ends.
#[derive(Debug, Clone)]
pub struct Ends {
    /// Tokens that end a line.
    pub line: Arc<TokenSet>,
    /// Tokens that end an example of the prompt: an empty line.
    pub example: Arc<TokenSet>,
}

/// Room of a context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setup {
    /// Sequences, pinned heads included.
    pub sequences: u16,
    /// Sequences set aside for heads.
    pub heads: u16,
    /// KV cells over all sequences.
    pub cells: u32,
    /// Whether all sequences share them.
    pub unified: bool,
    /// Flash attention.
    pub flash_attention: bool,
}

impl Variant {
    /// Whether the idea is in use.
    pub fn has(&self, idea: Idea) -> bool {
        !self.without.contains(&idea)
    }

    /// The context for it, made of `ours`; `reach` is the longest sequence of the workload, its head included.
    pub fn setup(&self, ours: Setup, reach: u32) -> Setup {
        let heads = if self.has(Idea::Sharing) { ours.heads } else { 0 };
        let permits = if self.has(Idea::Batching) { ours.sequences - ours.heads } else { 1 };
        let sequences = permits + heads;
        let unified = ours.unified && self.has(Idea::UnifiedCache);
        let streams = u32::from(sequences) * reach.next_multiple_of(STREAM_CELLS);
        let cells = if unified { ours.cells } else { ours.cells.max(streams) };
        let flash_attention = ours.flash_attention && self.has(Idea::FlashAttention);
        Setup { sequences, heads, cells, unified, flash_attention }
    }

    /// The same question, asked this way. `pinned` are the ids of the heads in the core that it is for.
    pub fn request(&self, asked: &Request, heads: &[Head], pinned: &[PrefixId], ends: &Ends) -> Request {
        let head = heads.iter().position(|head| Some(head.id) == asked.prefix);
        let branches = asked.branches.iter().map(|branch| self.branch(branch, ends)).collect();
        match head {
            Some(index) if self.has(Idea::Sharing) => {
                Request { prefix: pinned.get(index).copied(), branches, ..asked.clone() }
            }
            Some(index) => {
                let body = [heads[index].tokens.as_slice(), &asked.body].concat();
                Request { prefix: None, body, branches, ..asked.clone() }
            }
            None => Request { branches, ..asked.clone() },
        }
    }

    fn branch(&self, asked: &Branch, ends: &Ends) -> Branch {
        match asked {
            Branch::Probe { question, labels } if !self.has(Idea::Probes) => {
                let max_tokens = LABEL_TOKENS.max(labels.longest() + 1) as u32;
                let fed = (!question.is_empty()).then(|| Span::Forced(question.clone()));
                let sampled = Span::Free { max_tokens, stop: Arc::clone(&ends.line) };
                Branch::Generate { template: fed.into_iter().chain([sampled]).collect() }
            }
            Branch::Generate { .. } if !self.has(Idea::Forcing) => {
                let max_tokens = u32::try_from(asked.cells()).unwrap_or(u32::MAX);
                let whole = Span::Free { max_tokens, stop: Arc::clone(&ends.example) };
                Branch::Generate { template: vec![whole] }
            }
            _ => asked.clone(),
        }
    }
}

/// The label that an answer gives, as its place among the labels; `None` if it gives none of them.
pub fn label_of(asked: &Request, answer: &BranchAnswer) -> Option<usize> {
    let Some(Branch::Probe { labels, .. }) = asked.branches.first() else { return None };
    match answer {
        BranchAnswer::Probe(log) => {
            let best = |best: usize, next: usize| if log[next] > log[best] { next } else { best };
            (0..log.len()).reduce(best)
        }
        BranchAnswer::Text(spans) => {
            let said = &spans.first()?.tokens;
            labels.tokens().iter().position(|label| said.starts_with(label))
        }
    }
}

/// The text that an answer gives and whether it is whole. Where the fixed words before it were to be sampled, it is
/// what stands behind them; if they were not said there is none, since nothing in the answer could be found.
pub fn text_of<'a>(
    asked: &Request,
    answer: &'a BranchAnswer,
    variant: &Variant,
) -> Option<(&'a [Token], bool)> {
    let (Some(Branch::Generate { template }), BranchAnswer::Text(spans)) = (asked.branches.first(), answer)
    else {
        return None;
    };
    let span = spans.first()?;
    match template.first()? {
        Span::Forced(words) if !variant.has(Idea::Forcing) => {
            let at = span.tokens.windows(words.len()).position(|part| part == words.as_slice())?;
            Some((&span.tokens[at + words.len()..], span.complete))
        }
        _ => Some((&span.tokens, span.complete)),
    }
}

/// Share of answers that are there on both sides and equal; 1 of none.
pub fn agreement<T: PartialEq>(ours: &[Option<T>], theirs: &[Option<T>]) -> f64 {
    let count = ours.len().max(theirs.len());
    let same = ours.iter().zip(theirs).filter(|(a, b)| a.is_some() && a == b).count();
    if count == 0 { 1.0 } else { same as f64 / count as f64 }
}

#[cfg(test)]
mod tests;
