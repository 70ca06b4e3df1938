//! What a request gives when it is alone in the world: a pure function of its tokens over [`sim_logits`], without
//! batches, forks, positions or [`super::super::labels`].

use std::collections::BTreeSet;

use super::super::super::backend::{BackendError, Token};
use super::super::super::request::{
    BackendFailure, Branch, BranchAnswer, Labels, Request, RequestUsage, Span, SpanText,
};
use super::super::super::sim::{SimFaults, sim_logits};

/// A text that grows, and the faults that lie in wait in it.
#[derive(Clone)]
struct Reader {
    text: Vec<Token>,
    faults: SimFaults,
}

impl Reader {
    fn feed(&mut self, tokens: &[Token]) -> Result<(), BackendFailure> {
        self.text.extend(tokens);
        match self.faults.poison {
            Some(poison) if tokens.contains(&poison) => Err(BackendError::Fatal { code: -3 }.into()),
            _ => Ok(()),
        }
    }

    fn read(&self) -> Result<Vec<f32>, BackendFailure> {
        if self.faults.nan_after.is_some() && self.faults.nan_after == self.text.last().copied() {
            return Err(BackendFailure::BadLogits);
        }
        Ok(sim_logits(self.text.iter().copied()))
    }

    fn with(&self, tokens: &[Token]) -> Self {
        Self { text: [self.text.as_slice(), tokens].concat(), faults: self.faults }
    }
}

/// The answer to `request` behind `prefix`, and what it took.
pub fn answer(
    prefix: &[Token],
    request: &Request,
    faults: SimFaults,
) -> Result<(Vec<BranchAnswer>, RequestUsage), BackendFailure> {
    let mut body = Reader { text: prefix.to_vec(), faults };
    body.feed(&request.body)?;
    let mut usage = RequestUsage {
        prompt: request.body.len() as u32,
        reused: prefix.len() as u32,
        ..RequestUsage::default()
    };
    let answers: Vec<_> = request
        .branches
        .iter()
        .map(|branch| match branch {
            Branch::Probe { question, labels } => {
                usage.prompt += question.len() as u32;
                usage.forced += walked(labels.tokens());
                probe(body.clone(), question, labels)
            }
            Branch::Generate { template } => generate(body.clone(), template, &mut usage),
        })
        .collect();
    // A decode error ends the request at once; bad logits end a branch, and the request when all have ended.
    if let Some(Err(failure)) = answers.iter().find(|a| matches!(a, Err(BackendFailure::Decode(_)))) {
        return Err(failure.clone());
    }
    Ok((answers.into_iter().collect::<Result<_, _>>()?, usage))
}

/// Every label's probability by the chain rule, over the labels that share its start.
fn probe(mut at: Reader, question: &[Token], labels: &Labels) -> Result<BranchAnswer, BackendFailure> {
    at.feed(question)?;
    let labels = labels.tokens();
    let mut logs = Vec::new();
    for label in labels {
        let mut log = 0.0_f64;
        for depth in 0..label.len() {
            let rivals: Vec<_> = labels.iter().filter(|l| l.starts_with(&label[..depth])).collect();
            if rivals.len() < 2 {
                break;
            }
            let logits = at.with(&label[..depth]).read()?;
            let logit = |token: Token| f64::from(logits[token.0 as usize]);
            let next: BTreeSet<Token> = rivals.iter().map(|rival| rival[depth]).collect();
            log += logit(label[depth]) - next.into_iter().map(|token| logit(token).exp()).sum::<f64>().ln();
        }
        logs.push(log as f32);
    }
    Ok(BranchAnswer::Probe(logs))
}

/// Tokens of labels that are fed to tell those apart that begin alike: each beginning that several share, once.
fn walked(labels: &[Vec<Token>]) -> u32 {
    let shared = |head: &&[Token]| labels.iter().filter(|label| label.starts_with(head)).count() > 1;
    let heads = labels.iter().flat_map(|label| (1..label.len()).map(|length| &label[..length]));
    let heads: BTreeSet<&[Token]> = heads.filter(shared).collect();
    heads.into_iter().map(|head| head.len() as u32).sum()
}

fn generate(
    mut at: Reader,
    template: &[Span],
    usage: &mut RequestUsage,
) -> Result<BranchAnswer, BackendFailure> {
    let last_free = template.iter().rposition(|span| matches!(span, Span::Free { .. })).unwrap();
    let mut spans = Vec::new();
    for span in &template[..=last_free] {
        match span {
            Span::Forced(tokens) => {
                usage.forced += tokens.len() as u32;
                at.feed(tokens)?;
            }
            Span::Free { max_tokens, stop } => {
                let mut text = SpanText { tokens: Vec::new(), complete: false };
                while text.tokens.len() < *max_tokens as usize && !text.complete {
                    let logits = at.read()?;
                    let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
                    let token = Token(best as i32);
                    usage.generated += 1;
                    if stop.contains(token) {
                        text.complete = true;
                    } else {
                        text.tokens.push(token);
                        at.feed(&[token])?;
                    }
                }
                spans.push(text);
            }
        }
    }
    Ok(BranchAnswer::Text(spans))
}

/// Whether two answers are the same, probabilities to within rounding.
pub fn same(ours: &[BranchAnswer], theirs: &[BranchAnswer]) -> bool {
    ours.len() == theirs.len()
        && ours.iter().zip(theirs).all(|pair| match pair {
            (BranchAnswer::Probe(a), BranchAnswer::Probe(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4)
            }
            (a, b) => a == b,
        })
}
