//! A small workload over the simulator: two restaurants, heads of their own for labels and claims.

use std::sync::Arc;

use super::super::variant::{Ends, Head};
use super::{Place, Workload};
use crate::engine::backend::ContextShape;
use crate::engine::sim::SimTokenizer;
use crate::engine::{Branch, Labels, PrefixId, Request, Span, Token, TokenSet, Tokenizer};
use crate::scheduler::{Arrival, Lane, Seconds};

/// Ten requests at a time, and two heads.
pub const SHAPE: ContextShape =
    ContextShape { sequences: 12, cells: 1200, cells_per_sequence: 1200, batch_tokens: 64, unified: true };
pub const LABEL_HEAD: &str = "good: positive\nbad: negative\nloved it: positive\nnever again: negative\n";
pub const CLAIM_HEAD: &str = "- soup\n- bread\nIn short: warm\n\n- wait\n- noise\nIn short: busy\n\n";
pub const QUESTION: &str = ": ";
pub const LEAD_IN: &str = "\nIn short:";
/// Sampled tokens of a claim at most.
pub const BOUND: u32 = 9;
const CLAUSES: [&[&str]; 2] = [
    &["the soup was cold", "nobody came", "what a view", "we will be back", "dear", "a kind waiter", "loud"],
    &["fresh bread", "slow", "cheap and good", "they were out of fish", "clean tables"],
];
const FINDINGS: [&[&str]; 2] = [&["- cold\n- late", "- view"], &["- bread\n- price", "- slow"]];

pub fn tokens(text: &str) -> Vec<Token> {
    SimTokenizer.tokenize(text, false)
}

pub fn workload() -> Workload {
    let head = |id, text| Head { id: PrefixId(id), tokens: tokens(text) };
    let set = |stops: fn(Token) -> bool| Arc::new(TokenSet::of(SimTokenizer.vocabulary(), stops));
    // The simulator says letters from a to p: some of them end a line, fewer an example.
    let ends = Ends {
        line: set(|token| token.0 >= 256 || (i32::from(b'n')..=i32::from(b'p')).contains(&token.0)),
        example: set(|token| token.0 >= 256),
    };
    let places = CLAUSES.iter().zip(FINDINGS).enumerate().map(|(at, (clauses, findings))| Place {
        labels: clauses.iter().map(|text| label(at, text)).collect(),
        claims: findings.iter().map(|text| claim(at, text, &ends)).collect(),
    });
    let places = places.collect();
    Workload { heads: vec![head(0, LABEL_HEAD), head(1, CLAIM_HEAD)], ends, places }
}

pub fn label(at: usize, text: &str) -> Request {
    let labels = Arc::new(Labels::new(vec![tokens("a"), tokens("b")]).unwrap());
    let branch = Branch::Probe { question: tokens(QUESTION), labels };
    request(at, 0, text, branch)
}

pub fn claim(at: usize, text: &str, ends: &Ends) -> Request {
    let sampled = Span::Free { max_tokens: BOUND, stop: Arc::clone(&ends.line) };
    request(at, 1, text, Branch::Generate { template: vec![Span::Forced(tokens(LEAD_IN)), sampled] })
}

fn request(at: usize, head: usize, text: &str, branch: Branch) -> Request {
    let arrival = Arrival { at: Seconds::new(at as f64), cost: Seconds::ZERO, lane: Lane::Live };
    Request {
        arrival,
        prefix: Some(PrefixId(head)),
        body: tokens(text),
        branches: vec![branch],
        deadline: None,
    }
}
