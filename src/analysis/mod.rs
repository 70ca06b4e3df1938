//! From facts to findings: pure functions, no model, no store, no clock.
//!
//! What a review says was read before (facts); here it is counted, grouped and shown with the guests' own words.
//! Claims' texts are not written here: a draft carries what a claim must agree with.

pub mod aspects;
pub mod calibration;
pub mod claims;
mod cluster;
pub mod evidence;
pub mod near;
pub mod pack;
pub mod reader;
pub mod sentiment;
pub mod strengths;

use serde::{Deserialize, Serialize};

use crate::job::Review;
use crate::result::Polarity;
use crate::store::ReviewFacts;

/// A review and what the models said of it.
#[derive(Debug, Clone, Copy)]
pub struct ReadReview<'a> {
    /// The review.
    pub review: &'a Review,
    /// Its facts, made from exactly this text.
    pub facts: &'a ReviewFacts,
}

/// From calibrated probabilities to labels.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    /// From here on positive.
    pub positive: f32,
    /// Down from here negative; below `positive`.
    pub negative: f32,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { positive: 0.6, negative: 0.4 }
    }
}

impl Thresholds {
    /// The label of a probability of being positive.
    pub fn label(&self, p_positive: f32) -> Polarity {
        if p_positive >= self.positive {
            Polarity::Positive
        } else if p_positive <= self.negative {
            Polarity::Negative
        } else {
            Polarity::Neutral
        }
    }
}

/// `part / whole`, 0 of nothing.
fn share(part: usize, whole: usize) -> f32 {
    if whole == 0 { 0.0 } else { part as f32 / whole as f32 }
}

#[cfg(test)]
mod fixture;
