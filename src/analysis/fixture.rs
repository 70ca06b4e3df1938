//! Reviews and facts for this module's tests, made clause by clause.

use time::macros::datetime;
use time::{Duration, OffsetDateTime};

use super::ReadReview;
use crate::job::Review;
use crate::selection::vector::UnitVector;
use crate::store::{ClauseFacts, ReviewFacts};

pub const NOW: OffsetDateTime = datetime!(2024-06-01 0:00 UTC);
pub const DIMENSION: usize = 16;

/// A clause to be: its words, aspects, probability and vector.
#[derive(Debug, Clone)]
pub struct Said {
    pub text: String,
    pub aspects: Vec<u16>,
    pub p: f32,
    pub vector: UnitVector,
}

pub fn said(text: &str, aspect: u16, p: f32, vector: UnitVector) -> Said {
    Said { text: text.into(), aspects: vec![aspect], p, vector }
}

/// A vector along one axis with a bit of another, `tilt` parts to one.
pub fn axis(main: usize, other: usize, tilt: f32) -> UnitVector {
    let mut components = vec![0.0; DIMENSION];
    components[main] = 1.0;
    components[other] += tilt;
    UnitVector::new(components).unwrap()
}

/// A review that consists of the clauses, one blank between them.
pub fn review(id: &str, days_old: Option<i64>, p: Option<f32>, clauses: &[Said]) -> (Review, ReviewFacts) {
    let mut text = String::new();
    let mut facts = Vec::new();
    for clause in clauses {
        if !text.is_empty() {
            text.push(' ');
        }
        let start = text.len();
        text.push_str(&clause.text);
        facts.push(ClauseFacts {
            start: start as u32,
            end: text.len() as u32,
            aspects: clause.aspects.clone(),
            p_positive: Some(clause.p),
            vector: clause.vector.to_f16_bytes(),
        });
    }
    let review = Review {
        id: id.into(),
        text,
        rating: None,
        recommended: None,
        created_at: days_old.map(|days| NOW - Duration::days(days)),
        embedding: None,
    };
    (review, ReviewFacts { tokens: 10, p_positive: p, clauses: facts, vector: Vec::new() })
}

pub fn read(all: &[(Review, ReviewFacts)]) -> Vec<ReadReview<'_>> {
    all.iter().map(|(review, facts)| ReadReview { review, facts }).collect()
}
