//! Quotes: verbatim parts of named reviews, chosen by rule and checked before anything is published.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::ops::Range;

use super::ReadReview;
use crate::job::Review;
use crate::result::{AnalysisResult, Evidence};
use crate::selection::vector::UnitVector;
use crate::store::ClauseFacts;

/// Quotes shown for one finding.
pub const QUOTES: usize = 3;
/// Lengths that read well as a quote, in characters.
const GOOD_LENGTH: std::ops::RangeInclusive<usize> = 40..=140;
/// Two clauses nearer to each other than this say the same in the same words.
const SAME: f32 = 0.95;

/// The exact characters of a range; nothing if it is empty, out of bounds or within a character.
pub fn cut(review_text: &str, range: Range<usize>) -> Option<&str> {
    review_text.get(range).filter(|part| !part.is_empty())
}

/// A clause in its review.
#[derive(Debug, Clone, Copy)]
pub struct Clause<'a> {
    /// Place of the review among those read.
    pub index: usize,
    /// The review.
    pub review: &'a Review,
    /// The clause's own characters.
    pub text: &'a str,
    /// What the models said of it.
    pub facts: &'a ClauseFacts,
}

impl Clause<'_> {
    /// Its embedding, decoded anew at each call: thousands of clauses are looked at, few are kept.
    pub fn vector(&self) -> Option<UnitVector> {
        UnitVector::from_f16_bytes(&self.facts.vector)
    }

    /// As evidence.
    pub fn evidence(&self) -> Evidence {
        Evidence { review_id: self.review.id.clone(), quote: self.text.to_owned() }
    }
}

/// All clauses that can be cut from their reviews, in order.
pub fn clauses<'a>(read: &[ReadReview<'a>]) -> impl Iterator<Item = Clause<'a>> {
    read.iter().enumerate().flat_map(|(index, &ReadReview { review, facts })| {
        facts.clauses.iter().filter_map(move |facts| {
            let text = cut(&review.text, facts.start as usize..facts.end as usize)?;
            Some(Clause { index, review, text, facts })
        })
    })
}

/// How far towards the nearest clause is as good as nearest.
const CENTRAL: f32 = 0.75;

/// Chooses up to `limit` quotes, best first, at most one of a review and none that repeats another.
///
/// A clause is as good as the sum of three parts, each 0 to 1, the last two weighing half: how near it is to
/// `centre` (between the farthest and the nearest of these clauses, since embedding models differ in spread; from
/// [`CENTRAL`] on near enough, or only phrases like "good food" would ever be quoted), how
/// decided it is (`decided`, from its probability of being positive), and how well its length reads.
pub fn choose<'a>(
    clauses: &[Clause<'a>],
    centre: &UnitVector,
    decided: impl Fn(f32) -> f32,
    limit: usize,
) -> Vec<Clause<'a>> {
    let near: Vec<f32> = clauses.iter().map(|c| c.vector().map_or(-1.0, |v| v.dot(centre))).collect();
    let (least, most) = near.iter().fold((f32::MAX, f32::MIN), |(low, high), &x| (low.min(x), high.max(x)));
    let span = (most - least).max(f32::EPSILON);
    let mut ranked: Vec<(i32, usize)> = clauses
        .iter()
        .enumerate()
        .map(|(n, clause)| {
            let decided = clause.facts.p_positive.map_or(0.0, &decided);
            let central = ((near[n] - least) / span / CENTRAL).min(1.0);
            let score = central + 0.5 * decided + 0.5 * length_fit(clause.text);
            // Thousandths, so that rounding does not decide between equals; the earlier clause does.
            (-(score * 1000.0).round() as i32, n)
        })
        .collect();
    ranked.sort_unstable();

    let mut chosen: Vec<(Clause<'a>, Option<UnitVector>)> = Vec::with_capacity(limit);
    let (mut reviews, mut texts) = (HashSet::new(), HashSet::new());
    for (_, n) in ranked {
        if chosen.len() == limit {
            break;
        }
        let clause = clauses[n];
        if reviews.contains(&clause.index) || texts.contains(&plain(clause.text)) {
            continue;
        }
        let vector = clause.vector();
        let same = |(_, other): &(Clause<'_>, Option<UnitVector>)| {
            vector.as_ref().zip(other.as_ref()).is_some_and(|(a, b)| a.dot(b) > SAME)
        };
        if chosen.iter().any(same) {
            continue;
        }
        reviews.insert(clause.index);
        texts.insert(plain(clause.text));
        chosen.push((clause, vector));
    }
    chosen.into_iter().map(|(clause, _)| clause).collect()
}

/// 1 within good lengths, less the farther from them.
fn length_fit(text: &str) -> f32 {
    let chars = text.chars().count();
    let (short, long) = (*GOOD_LENGTH.start(), *GOOD_LENGTH.end());
    if chars < short {
        chars as f32 / short as f32
    } else if chars > long {
        long as f32 / chars as f32
    } else {
        1.0
    }
}

/// Letters and digits alone, in lower case: "Great food!!" repeats "great food".
fn plain(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// A quote that must not be published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// There is no such review.
    #[error("evidence names review `{review_id}`, which the job does not have")]
    UnknownReview {
        /// The id it names.
        review_id: String,
    },
    /// The review does not say this.
    #[error("a quote of {chars} characters is no verbatim part of review `{review_id}`")]
    NotVerbatim {
        /// The review it names.
        review_id: String,
        /// Its length; the words stay out of messages, which may be logged.
        chars: usize,
    },
}

/// Checks every quote of a result, wherever it stands, against the reviews' texts by id.
pub fn verify<S: BuildHasher>(result: &AnalysisResult, texts: &HashMap<&str, &str, S>) -> Vec<Violation> {
    result.evidence().filter_map(|evidence| check(evidence, texts)).collect()
}

fn check<S: BuildHasher>(evidence: &Evidence, texts: &HashMap<&str, &str, S>) -> Option<Violation> {
    let review_id = evidence.review_id.clone();
    let Some(text) = texts.get(evidence.review_id.as_str()) else {
        return Some(Violation::UnknownReview { review_id });
    };
    let verbatim = !evidence.quote.is_empty() && text.contains(&evidence.quote);
    (!verbatim).then(|| Violation::NotVerbatim { review_id, chars: evidence.quote.chars().count() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::analysis::fixture::{axis, read, review, said};

    const LONG: &str = "the noodles were fresh and warm";

    fn quotes(all: &[(Review, crate::store::ReviewFacts)], limit: usize) -> Vec<String> {
        let read = read(all);
        let clauses: Vec<_> = clauses(&read).collect();
        choose(&clauses, &axis(0, 1, 0.0), |p| p, limit).iter().map(|c| c.text.to_owned()).collect()
    }

    #[test]
    fn the_most_central_clause_of_like_ones_is_quoted_first() {
        let all = [
            review("a", None, None, &[said("the soup was as good as it gets", 0, 0.9, axis(0, 1, 0.9))]),
            review("b", None, None, &[said("what a lovely bowl of noodles", 0, 0.9, axis(0, 2, 0.1))]),
        ];
        assert_eq!(quotes(&all, 3), ["what a lovely bowl of noodles", "the soup was as good as it gets"]);
    }

    #[test]
    fn a_quote_is_decided_and_of_good_length_where_nearness_allows() {
        let all = [
            review("a", None, None, &[said("yum", 0, 0.95, axis(0, 1, 0.5))]),
            review("b", None, None, &[said(LONG, 0, 0.65, axis(0, 2, 0.5))]),
            review("c", None, None, &[said("every dish was a joy to eat", 0, 0.95, axis(0, 3, 0.5))]),
            review("d", None, None, &[said("far away from the other things", 0, 0.95, axis(5, 0, 0.1))]),
        ];
        assert_eq!(quotes(&all, 3)[..2], ["every dish was a joy to eat", LONG]);
    }

    #[test]
    fn a_review_is_quoted_once_and_no_quote_repeats_another() {
        let all = [
            review(
                "a",
                None,
                None,
                &[said(LONG, 0, 0.9, axis(0, 1, 0.1)), said("and the soup as well", 0, 0.9, axis(0, 2, 0.6))],
            ),
            review("b", None, None, &[said("The noodles were fresh, and warm!", 0, 0.9, axis(0, 3, 0.7))]),
            review("c", None, None, &[said("noodles so fresh and so warm", 0, 0.9, axis(0, 1, 0.12))]),
            review("d", None, None, &[said("the dumplings deserve a prize", 0, 0.9, axis(0, 4, 0.8))]),
        ];
        assert_eq!(quotes(&all, 3), [LONG, "the dumplings deserve a prize"]);
    }

    #[test]
    fn facts_that_do_not_fit_the_text_are_never_quoted() {
        let (review, mut facts) = review("a", None, None, &[said("맛있어요", 0, 0.9, axis(0, 1, 0.0))]);
        for (start, end) in [(0, 400), (1, 4), (3, 3), (6, 3)] {
            (facts.clauses[0].start, facts.clauses[0].end) = (start, end);
            assert_eq!(
                clauses(&[ReadReview { review: &review, facts: &facts }]).count(),
                0,
                "{start}..{end}"
            );
        }
    }

    #[test]
    fn a_quote_is_verbatim_and_names_its_review() {
        let texts = HashMap::from([("a", "good soup, bad bread")]);
        let evidence = |id: &str, quote: &str| Evidence { review_id: id.into(), quote: quote.into() };
        assert_eq!(check(&evidence("a", "good soup"), &texts), None);
        for changed in ["Good soup", "good  soup", "soup good", ""] {
            let chars = changed.chars().count();
            assert_eq!(
                check(&evidence("a", changed), &texts),
                Some(Violation::NotVerbatim { review_id: "a".into(), chars })
            );
        }
        assert_eq!(
            check(&evidence("b", "good soup"), &texts),
            Some(Violation::UnknownReview { review_id: "b".into() })
        );
    }

    /// A result as a consumer reads it, with one quote in the summary and one in the strengths.
    fn result(in_summary: &str, in_strengths: &str) -> AnalysisResult {
        let claim = serde_json::json!({"text": "good", "origin": "extractive"});
        let quote = |text: &str| serde_json::json!([{"review_id": "a", "quote": text}]);
        let aspect = serde_json::json!({"aspect": "food", "polarity": "positive", "support": 2, "claim": claim,
            "positive_share": 1.0, "negative_share": 0.0, "evidence": quote(in_summary)});
        let strength = serde_json::json!({"aspect": "food", "kind": "representative", "claim": claim, "support": 2,
            "support_ratio": 1.0, "consistency": 0.8, "recency": 1.0, "score": 1.0, "evidence": quote(in_strengths)});
        let model = serde_json::json!({"name": "m", "digest": "d", "embedding_name": "e", "embedding_digest": "d",
            "prompt_version": "p"});
        let whole = serde_json::json!({"v": 1, "job_id": "j", "restaurant_id": "r", "epoch": 0,
            "review_set_digest": "d", "worker": "w", "model": model, "language": "en", "outcome": {"status": "ok"},
            "outcomes": {}, "summary": {"overall": claim, "aspects": [aspect]},
            "strengths": {"items": [strength], "candidates": 1, "compared_with": 0},
            "usage": crate::result::Usage::default(), "timings": crate::result::Timings::default()});
        serde_json::from_value(whole).unwrap()
    }

    #[test]
    fn quotes_are_checked_wherever_they_stand() {
        let texts = HashMap::from([("a", "good soup, bad bread")]);
        assert_eq!(verify(&result("good soup", "bad bread"), &texts), []);
        assert_eq!(verify(&result("great soup", "bad bread"), &texts).len(), 1);
        assert_eq!(verify(&result("good soup", "fine bread"), &texts).len(), 1);
    }

    proptest! {
        #[test]
        fn what_is_cut_is_verbatim(text in "\\PC{0,40}", start in 0_usize..50, len in 0_usize..50) {
            if let Some(part) = cut(&text, start..start + len) {
                prop_assert!(text.contains(part) && part.len() == len);
            }
        }
    }
}
