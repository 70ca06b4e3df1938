//! Which probes a review needs, and what its facts are once they are answered.

use std::ops::Range;

use super::super::calibration::{logit, sigmoid};
use super::{LabelSource, LanguageReader, Reader, Ticket, nothing_to_read};
use crate::engine::{Request, RequestError, Token};
use crate::selection::vector::UnitVector;
use crate::store::{ClauseFacts, ReviewFacts};

/// Weight of a clause that is not decided at all, beside 1 of one that is.
const LEAST_DECIDED: f32 = 0.02;

/// What a probe is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// The review as a whole.
    Review,
    /// One clause.
    Clause(usize),
    /// A review of one clause: one probe serves both.
    Both,
}

/// One review on its way to facts.
pub(super) struct Plan {
    body: Vec<Token>,
    tokens: u32,
    clauses: Vec<Clause>,
    p_review: Option<f32>,
    failure: Option<RequestError>,
}

struct Clause {
    range: Range<usize>,
    vector: Option<UnitVector>,
    aspects: Vec<u16>,
    /// Prompt tokens; empty if it is not probed on its own.
    body: Vec<Token>,
    p: Option<f32>,
}

impl Plan {
    pub fn new(
        parts: &Reader,
        reader: &LanguageReader,
        text: &str,
        clauses: Vec<(Range<usize>, Option<UnitVector>)>,
    ) -> Self {
        let alone = clauses.len() == 1;
        let label = parts.settings.label;
        let tokenize = |text: &str| parts.tokenizer.tokenize(&reader.pack.polarity_body(text), false);
        let whole = tokenize(text);
        let near = |text: &str, v: &UnitVector| reader.space.near(text, v, &parts.settings.near);
        let clauses = clauses
            .into_iter()
            .map(|(range, vector)| {
                let aspects = vector.as_ref().map(|v| near(&text[range.clone()], v)).unwrap_or_default();
                let probed = !alone && (!aspects.is_empty() || label == LabelSource::Clauses);
                let body = if probed { tokenize(&text[range.clone()]) } else { Vec::new() };
                Clause { range, vector, aspects, body, p: None }
            })
            .collect();
        let tokens = whole.len() as u32;
        Self {
            body: shorten(whole, parts.settings.max_review_tokens),
            tokens,
            clauses,
            p_review: None,
            failure: None,
        }
    }

    /// The probes to run.
    pub fn requests<'p>(
        &'p self,
        parts: &'p Reader,
        reader: &'p LanguageReader,
        ticket: Ticket,
    ) -> impl Iterator<Item = (Target, Request)> + 'p {
        let label = parts.settings.label;
        let review = match self.clauses.len() {
            0 => None,
            1 => Some(Target::Both),
            _ => (label != LabelSource::Clauses).then_some(Target::Review),
        };
        let review = review.map(|target| (target, reader.probe(self.body.clone(), ticket)));
        let limit = parts.settings.max_review_tokens;
        let clauses = self.clauses.iter().enumerate().filter(|(_, clause)| !clause.body.is_empty()).map(
            move |(index, clause)| {
                (Target::Clause(index), reader.probe(shorten(clause.body.clone(), limit), ticket))
            },
        );
        review.into_iter().chain(clauses)
    }

    /// Takes a probe's leaning.
    pub fn take(&mut self, target: Target, leaning: Result<f32, RequestError>, reader: &LanguageReader) {
        let p = match leaning {
            Ok(leaning) => Some(reader.calibration.probability(leaning)),
            Err(error) => {
                // Facts are all or nothing: half a reading would be cached as if it were whole.
                self.failure.get_or_insert(error);
                None
            }
        };
        match target {
            Target::Review => self.p_review = p,
            Target::Clause(index) => self.clauses[index].p = p,
            Target::Both => {
                self.p_review = p;
                self.clauses[0].p = p;
            }
        }
    }

    /// The facts.
    pub fn finish(self, label: LabelSource, neutral: f32) -> Result<ReviewFacts, RequestError> {
        if let Some(error) = self.failure {
            return Err(error);
        }
        if self.clauses.is_empty() {
            return Ok(nothing_to_read(self.tokens));
        }
        let from_clauses = by_clauses(&self.clauses, neutral);
        let p_positive = match label {
            LabelSource::Clauses => from_clauses.or(self.p_review),
            LabelSource::Review => self.p_review.or(from_clauses),
        };
        let weighted = self
            .clauses
            .iter()
            .filter_map(|clause| clause.vector.as_ref().map(|vector| (vector, clause.range.len() as f32)));
        let vector = weighted_mean(weighted).map(|vector| vector.to_f16_bytes()).unwrap_or_default();
        let clauses = self
            .clauses
            .into_iter()
            .map(|clause| ClauseFacts {
                start: clause.range.start as u32,
                end: clause.range.end as u32,
                p_positive: clause.p,
                vector: match clause.vector {
                    // Vectors serve evidence and strengths, which only clauses about something can be.
                    Some(vector) if !clause.aspects.is_empty() => vector.to_f16_bytes(),
                    _ => Vec::new(),
                },
                aspects: clause.aspects,
            })
            .collect();
        Ok(ReviewFacts { tokens: self.tokens, p_positive, clauses, vector })
    }
}

/// Mean over the probed clauses of their log odds' distance from the neutral point, as a probability. A clause weighs
/// by the root of its length, since a rant's forty clauses say what ten do, and by how decided it is, so that telling
/// what was ordered does not water down what was thought of it.
fn by_clauses(clauses: &[Clause], neutral: f32) -> Option<f32> {
    let (mut sum, mut weight) = (0.0, 0.0);
    for clause in clauses {
        if let Some(p) = clause.p {
            let distance = logit(p) - neutral;
            let w = (clause.range.len() as f32).sqrt() * ((distance / 2.0).tanh().abs() + LEAST_DECIDED);
            sum += w * distance;
            weight += w;
        }
    }
    (weight > 0.0).then(|| sigmoid(f64::from(sum / weight)) as f32)
}

/// The review's vector: its clauses', by length.
fn weighted_mean<'v>(vectors: impl Iterator<Item = (&'v UnitVector, f32)>) -> Option<UnitVector> {
    let mut sum: Vec<f32> = Vec::new();
    for (vector, weight) in vectors {
        sum.resize(vector.dimension(), 0.0);
        for (total, value) in sum.iter_mut().zip(vector.as_slice()) {
            *total += weight * value;
        }
    }
    UnitVector::new(sum)
}

/// The first two thirds of the limit and the last third: guests say what they think at the start and at the end.
fn shorten(mut tokens: Vec<Token>, limit: usize) -> Vec<Token> {
    if tokens.len() > limit {
        let head = limit * 2 / 3;
        let tail = tokens.len() - (limit - head);
        tokens.drain(head..tail);
    }
    tokens
}
