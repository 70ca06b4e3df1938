//! What is taken over from the earlier result: all of it when nothing changed, texts while their evidence stands.

use std::collections::HashMap;

use crate::job::{Analysis, Job};
use crate::result::{AnalysisResult, AspectFinding, Claim, Evidence, Outcome, Polarity, Strength};

/// By how much a share may move before a text is written anew.
const SHARE_MOVES: f32 = 0.1;

/// Whether the earlier result answers the job: the same reviews, and everything asked for.
pub(super) fn is_same(last: &AnalysisResult, job: &Job, review_set_digest: &str) -> bool {
    last.review_set_digest == review_set_digest
        && job.analyses.iter().all(|analysis| last.outcomes.contains_key(analysis))
}

/// The earlier findings repeated, marked so. What it cost then is not counted again.
pub(super) fn unchanged(last: &AnalysisResult, job: &Job, mut result: AnalysisResult) -> AnalysisResult {
    result.usage.reviews = job.reviews.len() as u32;
    result.usage.reviews_cached = result.usage.reviews;
    result.usage.baseline_tokens = last.usage.baseline_tokens;
    for &analysis in &job.analyses {
        let outcome = match last.outcomes.get(&analysis) {
            Some(Outcome::NoData) | None => Outcome::NoData,
            Some(_) => Outcome::Unchanged,
        };
        result.outcomes.insert(analysis, outcome);
        match analysis {
            Analysis::Sentiment => result.sentiment.clone_from(&last.sentiment),
            Analysis::Summary => result.summary.clone_from(&last.summary),
            Analysis::Strengths => result.strengths.clone_from(&last.strengths),
        }
    }
    result.outcome = super::worst(&result.outcomes);
    result
}

/// The job's texts, to see whether a quote still stands.
pub(super) struct Texts<'j>(HashMap<&'j str, &'j str>);

impl<'j> Texts<'j> {
    pub fn new(job: &'j Job) -> Self {
        Self(job.reviews.iter().map(|review| (review.id.as_str(), review.text.as_str())).collect())
    }

    fn stand(&self, evidence: &[Evidence]) -> bool {
        let stands =
            |e: &Evidence| self.0.get(e.review_id.as_str()).is_some_and(|text| text.contains(&e.quote));
        !evidence.is_empty() && evidence.iter().all(stands)
    }
}

/// The earlier claim and evidence of an aspect, if they still stand: same polarity, shares hardly moved.
pub(super) fn aspect<'l>(
    last: Option<&'l AnalysisResult>,
    texts: &Texts<'_>,
    aspect: &str,
    polarity: Polarity,
    positive_share: f32,
    negative_share: f32,
) -> Option<(&'l Claim, &'l [Evidence])> {
    let earlier: &AspectFinding =
        last?.summary.as_ref()?.aspects.iter().find(|finding| finding.aspect == aspect)?;
    let stands = earlier.polarity == polarity
        && (earlier.positive_share - positive_share).abs() <= SHARE_MOVES
        && (earlier.negative_share - negative_share).abs() <= SHARE_MOVES
        && texts.stand(&earlier.evidence);
    stands.then_some((&earlier.claim, earlier.evidence.as_slice()))
}

/// The earlier claim and evidence of a strength that is still the same group: same aspect, a quote in common among
/// those that would be chosen now, support ratio hardly moved.
pub(super) fn strength<'l>(
    last: Option<&'l AnalysisResult>,
    texts: &Texts<'_>,
    aspect: &str,
    evidence: &[Evidence],
    support_ratio: f32,
) -> Option<(&'l Claim, &'l [Evidence])> {
    let earlier: &Strength = last?.strengths.as_ref()?.items.iter().find(|strength| {
        strength.aspect == aspect && strength.evidence.iter().any(|quote| evidence.contains(quote))
    })?;
    let stands =
        (earlier.support_ratio - support_ratio).abs() <= SHARE_MOVES && texts.stand(&earlier.evidence);
    stands.then_some((&earlier.claim, earlier.evidence.as_slice()))
}
