//! What guests say of each aspect: support, shares, the prevailing polarity, and the words that show it.
//!
//! A review speaks once of an aspect, however many of its clauses do: it praises it if more of its clauses praise than
//! complain, and the other way round; as many of each is no verdict. A review that only mentions the aspect ("we
//! ordered the fish") has no opinion on it and does not count.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::evidence::{self, Clause, QUOTES};
use super::{ReadReview, Thresholds, share};
use crate::result::{Evidence, Polarity};
use crate::selection::vector::UnitVector;

/// When a finding is worth making.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Reviews that must speak of an aspect.
    pub min_support: usize,
    /// By how much the share of praise must differ from that of complaint for one to prevail, 0 to 1.
    pub margin: f32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { min_support: 2, margin: 0.15 }
    }
}

/// A finding without its claim.
#[derive(Debug, Clone, PartialEq)]
pub struct AspectDraft {
    /// Aspect name from `config/`.
    pub aspect: String,
    /// The prevailing polarity.
    pub polarity: Polarity,
    /// Reviews that say something of the aspect.
    pub support: u32,
    /// Of those, the share that is positive on the aspect, 0 to 1.
    pub positive_share: f32,
    /// Of those, the share that is negative on the aspect, 0 to 1.
    pub negative_share: f32,
    /// One to three quotes, best first: of the prevailing polarity; where none prevails, of both sides.
    pub evidence: Vec<Evidence>,
    /// Mean direction of the clauses the evidence is taken from: what a claim must be near to.
    pub centre: UnitVector,
}

/// Findings of the aspects with enough support, most supported first. `aspects` are the names that the facts'
/// indices point into.
pub fn findings(
    read: &[ReadReview<'_>],
    aspects: &[&str],
    thresholds: &Thresholds,
    settings: &Settings,
) -> Vec<AspectDraft> {
    let mut drafts: Vec<AspectDraft> = aspects
        .iter()
        .enumerate()
        .filter_map(|(index, name)| finding(read, index as u16, name, *thresholds, settings))
        .collect();
    // Stable: aspects with like support keep the order of the configuration.
    drafts.sort_by_key(|draft| std::cmp::Reverse(draft.support));
    drafts
}

/// Per aspect, the reviews that praise it: this restaurant's share in the fleet's rates.
pub fn praise_counts(read: &[ReadReview<'_>], aspects: usize, thresholds: &Thresholds) -> Vec<u64> {
    (0..aspects as u16)
        .map(|aspect| {
            let labels = labels(&spoken(read, aspect), *thresholds);
            labels.iter().filter(|label| **label == Polarity::Positive).count() as u64
        })
        .collect()
}

/// Clauses with a probability that are near the aspect, in order.
fn spoken<'a>(read: &[ReadReview<'a>], aspect: u16) -> Vec<(Clause<'a>, f32)> {
    evidence::clauses(read)
        .filter(|clause| clause.facts.aspects.contains(&aspect))
        .filter_map(|clause| Some((clause, clause.facts.p_positive.filter(|p| p.is_finite())?)))
        .collect()
}

/// One label for each review with an opinion: that of the majority of its clauses.
fn labels(spoken: &[(Clause<'_>, f32)], thresholds: Thresholds) -> Vec<Polarity> {
    let mut votes: BTreeMap<usize, i32> = BTreeMap::new();
    for (clause, p) in spoken {
        match thresholds.label(*p) {
            Polarity::Positive => *votes.entry(clause.index).or_default() += 1,
            Polarity::Negative => *votes.entry(clause.index).or_default() -= 1,
            Polarity::Neutral => {}
        }
    }
    votes
        .into_values()
        .map(|balance| match balance {
            1.. => Polarity::Positive,
            ..=-1 => Polarity::Negative,
            0 => Polarity::Neutral,
        })
        .collect()
}

fn finding(
    read: &[ReadReview<'_>],
    aspect: u16,
    name: &str,
    thresholds: Thresholds,
    settings: &Settings,
) -> Option<AspectDraft> {
    let spoken = spoken(read, aspect);
    let labels = labels(&spoken, thresholds);
    if labels.is_empty() || labels.len() < settings.min_support {
        return None;
    }
    let share_of = |polarity| share(labels.iter().filter(|label| **label == polarity).count(), labels.len());
    let (positive, negative) = (share_of(Polarity::Positive), share_of(Polarity::Negative));
    let polarity = prevailing(positive, negative, settings.margin);
    let (evidence, centre) = quotes(&spoken, aspect, polarity, thresholds)?;
    Some(AspectDraft {
        aspect: name.to_owned(),
        polarity,
        support: labels.len() as u32,
        positive_share: positive,
        negative_share: negative,
        evidence,
        centre,
    })
}

/// One prevails if it leads by more than the margin and is no rarer than having no opinion.
fn prevailing(positive: f32, negative: f32, margin: f32) -> Polarity {
    let neutral = 1.0 - positive - negative;
    if positive - negative > margin && positive >= neutral {
        Polarity::Positive
    } else if negative - positive > margin && negative >= neutral {
        Polarity::Negative
    } else {
        Polarity::Neutral
    }
}

/// The quotes that show the polarity, taken from clauses that are about this aspect before all others, if there are
/// any: "good food and fair prices" is filed under both, but shows the food. Where neither side prevails, praise
/// and complaint are both shown, and the undecided.
fn quotes(
    spoken: &[(Clause<'_>, f32)],
    aspect: u16,
    polarity: Polarity,
    thresholds: Thresholds,
) -> Option<(Vec<Evidence>, UnitVector)> {
    let of = |wanted: Polarity| -> Vec<Clause<'_>> {
        let all = spoken.iter().filter(|(_, p)| thresholds.label(*p) == wanted).map(|(clause, _)| *clause);
        let first: Vec<_> = all.clone().filter(|c| c.facts.aspects.first() == Some(&aspect)).collect();
        if first.is_empty() { all.collect() } else { first }
    };
    let pools = match polarity {
        Polarity::Neutral => vec![of(Polarity::Positive), of(Polarity::Negative), of(Polarity::Neutral)],
        decided => vec![of(decided)],
    };
    let mut chosen: Vec<Clause<'_>> = Vec::new();
    let mut centres = Vec::new();
    for pool in pools.iter().filter(|pool| !pool.is_empty()) {
        let decided = |p: f32| (2.0 * p - 1.0).abs();
        let Some(centre) = centre_of(pool) else { continue };
        let limit = if pools.len() == 1 { QUOTES } else { 1 };
        // A review that praises and complains may be chosen for either, not for both.
        let free: Vec<_> =
            pool.iter().filter(|clause| chosen.iter().all(|c| c.index != clause.index)).copied().collect();
        let best = evidence::choose(&free, &centre, decided, limit);
        if !best.is_empty() {
            centres.push(centre);
            chosen.extend(best);
        }
    }
    let centre = UnitVector::mean(&centres).or_else(|| centres.pop())?;
    Some((chosen.iter().map(Clause::evidence).collect(), centre))
}

/// The mean direction, decoding one vector at a time; the first vector if they cancel out.
fn centre_of(clauses: &[Clause<'_>]) -> Option<UnitVector> {
    let vectors = || clauses.iter().filter_map(Clause::vector);
    UnitVector::mean(vectors()).or_else(|| vectors().next())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::analysis::fixture::{Said, axis, read, review, said};

    const THRESHOLDS: Thresholds = Thresholds { positive: 0.6, negative: 0.4 };
    const ASPECTS: [&str; 2] = ["food", "service"];

    fn of(all: &[(crate::job::Review, crate::store::ReviewFacts)]) -> Vec<AspectDraft> {
        findings(&read(all), &ASPECTS, &THRESHOLDS, &Settings::default())
    }

    fn food(p: f32, n: usize) -> Said {
        said(&format!("the food of day {n} was something to talk about"), 0, p, axis(0, 1 + n % 14, 0.5))
    }

    #[test]
    fn a_review_counts_once_and_by_the_mean_of_its_clauses() {
        let all = [
            review("a", None, None, &[food(0.9, 0), food(0.9, 1), food(0.1, 2)]), // mean 0.63
            review("b", None, None, &[food(0.9, 3), food(0.05, 4)]),              // mean 0.475
            review("c", None, None, &[food(0.9, 5)]),
            review("d", None, None, &[said("the waiter was kind", 1, 0.9, axis(3, 1, 0.1))]),
        ];
        let drafts = of(&all);
        assert_eq!(drafts.len(), 1, "service has too little support");
        assert_eq!((drafts[0].aspect.as_str(), drafts[0].support), ("food", 3));
        assert!((drafts[0].positive_share - 2.0 / 3.0).abs() < 1e-6);
        assert!(drafts[0].negative_share.abs() < 1e-6);
        assert_eq!(praise_counts(&read(&all), 2, &THRESHOLDS), [2, 1]);
    }

    #[test]
    fn evidence_is_of_the_prevailing_polarity() {
        let all: Vec<_> = (0..6)
            .map(|n| review(&n.to_string(), None, None, &[food(if n < 2 { 0.9 } else { 0.1 }, n)]))
            .collect();
        let draft = of(&all).remove(0);
        assert_eq!(draft.polarity, Polarity::Negative);
        assert_eq!(draft.evidence.len(), 3);
        assert!(
            draft.evidence.iter().all(|e| e.review_id.parse::<usize>().unwrap() >= 2),
            "{:?}",
            draft.evidence
        );
    }

    #[test]
    fn quotes_are_about_the_aspect_before_others() {
        let mut both = food(0.9, 1);
        both.aspects = vec![0, 1];
        let service = said("the waiter brought us everything at once", 1, 0.9, axis(0, 1, 3.0));
        let all = [
            review("a", None, None, &[both.clone()]),
            review("b", None, None, &[food(0.9, 2)]),
            review("c", None, None, &[service]),
        ];
        let drafts = of(&all);
        let quoted = |n: usize| drafts[n].evidence.iter().map(|e| e.review_id.as_str()).collect::<Vec<_>>();
        assert_eq!((drafts[1].aspect.as_str(), drafts[1].support, quoted(1)), ("service", 2, vec!["c"]));
        assert_eq!((drafts[0].aspect.as_str(), quoted(0).len()), ("food", 2));
        assert_eq!(
            of(&[review("a", None, None, &[both.clone()]), review("b", None, None, &[both])]).len(),
            2
        );
    }

    #[test]
    fn a_divided_opinion_is_shown_from_both_sides() {
        let all: Vec<_> = (0..6)
            .map(|n| review(&n.to_string(), None, None, &[food(if n % 2 == 0 { 0.9 } else { 0.1 }, n)]))
            .collect();
        let draft = of(&all).remove(0);
        assert_eq!(draft.polarity, Polarity::Neutral);
        let sides: Vec<_> =
            draft.evidence.iter().map(|e| e.review_id.parse::<usize>().unwrap() % 2).collect();
        assert_eq!(sides, [0, 1]);
    }

    #[test]
    fn indifference_is_not_praise() {
        assert_eq!(prevailing(0.3, 0.1, 0.15), Polarity::Neutral);
        assert_eq!(prevailing(0.5, 0.1, 0.15), Polarity::Positive);
        assert_eq!(prevailing(0.5, 0.4, 0.15), Polarity::Neutral);
        assert_eq!(prevailing(0.1, 0.6, 0.15), Polarity::Negative);
    }

    proptest! {
        #[test]
        fn a_finding_is_well_formed(
            all in prop::collection::vec(prop::collection::vec((0_u16..3, 0.0..=1.0_f32), 0..4), 0..20),
        ) {
            let all: Vec<_> = all
                .iter()
                .enumerate()
                .map(|(n, clauses)| {
                    let clauses: Vec<_> = clauses
                        .iter()
                        .enumerate()
                        .map(|(m, &(aspect, p))| said(&format!("words {n} and {m}"), aspect, p, axis(aspect.into(), 4 + m, p)))
                        .collect();
                    review(&n.to_string(), None, None, &clauses)
                })
                .collect();
            let texts: std::collections::HashMap<_, _> = all.iter().map(|(r, _)| (r.id.as_str(), r.text.as_str())).collect();
            let drafts = of(&all);
            prop_assert!(drafts.is_sorted_by(|a, b| a.support >= b.support));
            for draft in drafts {
                prop_assert!((2..=all.len()).contains(&(draft.support as usize)));
                prop_assert!(draft.positive_share + draft.negative_share <= 1.0 + 1e-6);
                prop_assert!((1..=3).contains(&draft.evidence.len()));
                for evidence in &draft.evidence {
                    prop_assert!(texts[evidence.review_id.as_str()].contains(&evidence.quote));
                }
                let ids: std::collections::HashSet<_> = draft.evidence.iter().map(|e| &e.review_id).collect();
                prop_assert_eq!(ids.len(), draft.evidence.len());
            }
        }
    }
}
