//! Strengths: what guests repeatedly praise, and what sets the restaurant apart.
//!
//! Positive clauses that say the same are grouped by their embeddings, whatever aspect each was filed under. A
//! group counts by the reviews it speaks from. How alike clauses must be is set between two anchors, because
//! embedding models differ in spread: how alike *unrelated* clauses are under this model, and identity. A setting
//! of 0.45 is 45 % of the way from the first to the second.
//!
//! Grouping compares all pairs, so it is done over at most about [`Settings::max_clauses`] clauses (each aspect's
//! newest, in proportion); every other clause then joins the group it is like, so that support is counted over all
//! of them in linear time.
//!
//! Groups that are too few, too loose or too small are dropped: fewer strengths rather than weak ones.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use super::cluster::{Likeness, average_linkage};
use super::evidence::{self, Clause, QUOTES};
use super::{ReadReview, Thresholds, aspects, share};
use crate::result::{Evidence, StrengthKind};
use crate::selection::vector::UnitVector;
use crate::store::AspectRate;

/// Share of pairs of a restaurant's own clauses that count as unrelated when the model's level is not known.
const UNRELATED_PAIRS: f32 = 0.25;

/// How groups are made and which become strengths. Likenesses lie between unrelated (0) and identical (1).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Strengths in a result.
    pub top_k: usize,
    /// Of those, of one aspect.
    pub per_aspect: usize,
    /// Clauses that are compared with each other.
    pub max_clauses: usize,
    /// Mean likeness within a group.
    pub link: f32,
    /// Likeness of two groups' centres from which they are one.
    pub merge: f32,
    /// The same for groups that share reviews.
    pub merge_sharing: f32,
    /// Share of the smaller group's reviews that makes groups share reviews.
    pub sharing: f32,
    /// Least consistency; 0.5 is no better than chance, 1 is identity.
    pub min_consistency: f32,
    /// Other restaurants that must be known before distinctness is judged.
    pub min_others: u32,
    /// Least lift of a distinct strength.
    pub min_lift: f32,
    /// Least z-value of a distinct strength; 1.96 is a 5 % chance of error, both sides counted.
    pub min_z: f32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            top_k: 5,
            per_aspect: 2,
            max_clauses: 600,
            link: 0.45,
            merge: 0.8,
            merge_sharing: 0.65,
            sharing: 0.3,
            min_consistency: 0.56,
            min_others: 5,
            min_lift: 1.2,
            min_z: 1.96,
        }
    }
}

/// What strengths are judged against.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Names that the facts' aspect indices point into.
    pub aspects: &'a [&'a str],
    /// The other restaurants' rates, by aspect.
    pub rates: &'a [AspectRate],
    /// Labels.
    pub thresholds: Thresholds,
    /// How alike unrelated clauses are under the embedding model, if it was measured; else the lower quartile of
    /// this restaurant's own pairs.
    pub unrelated: Option<f32>,
    /// What ages are counted from: today, or the newest review's date for old data.
    pub now: OffsetDateTime,
}

/// A strength without its claim.
#[derive(Debug, Clone, PartialEq)]
pub struct StrengthDraft {
    /// The aspect most of its clauses are nearest to.
    pub aspect: String,
    /// Common or distinct.
    pub kind: StrengthKind,
    /// Reviews that say it.
    pub support: u32,
    /// `support / reviews read`, 0 to 1.
    pub support_ratio: f32,
    /// `1 / (1 + spread)`, where spread is the clauses' deviation from their centre over that of unrelated ones.
    pub consistency: f32,
    /// Mean recency weight of its reviews, 0 to 1.
    pub recency: f32,
    /// How many times more often its aspect is praised than elsewhere; nothing while too few others are known.
    pub lift: Option<f32>,
    /// `ln(1 + support) · consistency · recency · (1 + distinctness)`; distinctness is `1 − 1/lift` of a distinct
    /// strength, 0 of others.
    pub score: f32,
    /// One to three quotes, best first.
    pub evidence: Vec<Evidence>,
    /// Mean direction of its clauses: what a claim must be near to.
    pub centre: UnitVector,
}

/// Strengths, best first, and what they were chosen from.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Found {
    /// Drafts, best first.
    pub drafts: Vec<StrengthDraft>,
    /// Groups of at least two reviews, before the thresholds.
    pub candidates: u32,
    /// Other restaurants that distinctness was measured against.
    pub compared_with: u32,
}

/// Finds the strengths.
pub fn find(read: &[ReadReview<'_>], context: &Context<'_>, settings: &Settings) -> Found {
    let praise = praise(read, context);
    let compared_with = context.rates.iter().map(|rate| rate.restaurants).max().unwrap_or(0);
    let Some((groups, unrelated)) = group(&praise, context, settings) else {
        return Found { compared_with, ..Found::default() };
    };
    let counts = aspects::praise_counts(read, context.aspects.len(), &context.thresholds);
    let mut drafts: Vec<StrengthDraft> = groups
        .iter()
        .filter(|group| group.reviews.len() >= min_support(read.len()))
        .filter_map(|group| draft(group, &praise, read.len(), &counts, unrelated, context, settings))
        .collect();
    // Stable, so that equals keep the order of their first clause.
    drafts.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut by_aspect: BTreeMap<String, usize> = BTreeMap::new();
    drafts.retain(|draft| {
        let count = by_aspect.entry(draft.aspect.clone()).or_default();
        *count += 1;
        *count <= settings.per_aspect
    });
    drafts.truncate(settings.top_k);
    Found { drafts, candidates: groups.len() as u32, compared_with }
}

/// Reviews that must say a thing, by how many were read.
pub const fn min_support(reviews_read: usize) -> usize {
    match reviews_read {
        0..20 => 2,
        20..50 => 3,
        50..100 => 4,
        _ => 5,
    }
}

/// How many times more often than elsewhere an aspect is praised.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lift {
    /// Ratio of the two rates, each `(praising + 1) / (reviews + 2)` so that small numbers do not shout (Laplace).
    pub ratio: f32,
    /// Two-proportion z-value with pooled variance.
    pub z: f32,
}

/// Compares `positive` of `reviews` here with the others; nothing while fewer than `min_others` are known.
pub fn lift(positive: u64, reviews: u64, others: &AspectRate, min_others: u32) -> Option<Lift> {
    if others.restaurants < min_others || others.reviews == 0 || reviews == 0 {
        return None;
    }
    let (here, there) = (positive.min(reviews) as f64, others.positive.min(others.reviews) as f64);
    let (n, m) = (reviews as f64, others.reviews as f64);
    let ratio = ((here + 1.0) / (n + 2.0)) / ((there + 1.0) / (m + 2.0));
    let pooled = (here + there) / (n + m);
    let deviation = (pooled * (1.0 - pooled) * (1.0 / n + 1.0 / m)).sqrt();
    // Without deviation everybody, or nobody, praises it on both sides: no difference.
    let z = if deviation > 0.0 { (here / n - there / m) / deviation } else { 0.0 };
    Some(Lift { ratio: ratio as f32, z: z as f32 })
}

/// A positive clause near some aspect.
struct Praise<'a> {
    clause: Clause<'a>,
    aspect: u16,
}

fn praise<'a>(read: &[ReadReview<'a>], context: &Context<'_>) -> Vec<Praise<'a>> {
    evidence::clauses(read)
        .filter(|clause| clause.facts.p_positive.is_some_and(|p| p >= context.thresholds.positive))
        .filter_map(|clause| Some(Praise { clause, aspect: *clause.facts.aspects.first()? }))
        .filter(|praise| {
            usize::from(praise.aspect) < context.aspects.len() && !praise.clause.facts.vector.is_empty()
        })
        .collect()
}

/// Clauses that say the same.
struct Group {
    /// Indices into the praise.
    members: Vec<usize>,
    reviews: BTreeSet<usize>,
    /// Sum of the members' vectors: centre and mean likeness follow from it without looking at pairs.
    sum: Vec<f64>,
}

impl Group {
    fn new(dimension: usize) -> Self {
        Self { members: Vec::new(), reviews: BTreeSet::new(), sum: vec![0.0; dimension] }
    }

    fn add(&mut self, member: usize, review: usize, vector: &UnitVector) {
        self.members.push(member);
        self.reviews.insert(review);
        self.sum.iter_mut().zip(vector.as_slice()).for_each(|(sum, &x)| *sum += f64::from(x));
    }

    fn absorb(&mut self, other: Self) {
        self.members.extend(other.members);
        self.reviews.extend(other.reviews);
        self.sum.iter_mut().zip(other.sum).for_each(|(sum, x)| *sum += x);
    }

    fn centre(&self) -> Option<UnitVector> {
        UnitVector::new(self.sum.iter().map(|&x| x as f32).collect())
    }

    /// Mean likeness of a vector to the members.
    fn likeness(&self, vector: &UnitVector) -> f32 {
        let dot: f64 = self.sum.iter().zip(vector.as_slice()).map(|(sum, &x)| sum * f64::from(x)).sum();
        (dot / self.members.len() as f64) as f32
    }

    /// Mean likeness of two different members: `(|sum|² − n) / (n (n − 1))`; 1 of a single one.
    fn inner_likeness(&self) -> f32 {
        let n = self.members.len() as f64;
        let square: f64 = self.sum.iter().map(|x| x * x).sum();
        if n < 2.0 { 1.0 } else { ((square - n) / (n * (n - 1.0))).clamp(-1.0, 1.0) as f32 }
    }

    /// Share of the smaller group's reviews that both speak from.
    fn sharing(&self, other: &Self) -> f32 {
        let smaller = self.reviews.len().min(other.reviews.len());
        share(self.reviews.intersection(&other.reviews).count(), smaller)
    }
}

/// Groups of at least two reviews, and the likeness of unrelated clauses.
fn group(praise: &[Praise<'_>], context: &Context<'_>, settings: &Settings) -> Option<(Vec<Group>, f32)> {
    let sample: Vec<(usize, UnitVector)> = sample(praise, settings.max_clauses)
        .into_iter()
        .filter_map(|n| Some((n, praise[n].clause.vector()?)))
        .collect();
    let dimension = sample.first()?.1.dimension();
    let likeness = Likeness::new(sample.len(), |i, j| sample[i].1.dot(&sample[j].1));
    let unrelated = context.unrelated.or_else(|| likeness.quantile(UNRELATED_PAIRS))?.clamp(-1.0, 1.0);
    // Rounding must not part identical clauses where hardly anything is unrelated.
    let between = |part: f32| unrelated + part * (1.0 - unrelated) - 1e-3;

    let mut groups: Vec<Group> = average_linkage(likeness, between(settings.link))
        .into_iter()
        .map(|items| {
            let mut group = Group::new(dimension);
            for (n, vector) in items.into_iter().map(|item| &sample[item]) {
                group.add(*n, praise[*n].clause.index, vector);
            }
            group
        })
        .filter(|group| group.reviews.len() >= 2)
        .collect();
    merge(&mut groups, |a, b| {
        let near = a.centre().zip(b.centre()).map_or(-1.0, |(a, b)| a.dot(&b));
        near >= between(settings.merge)
            || near >= between(settings.merge_sharing) && a.sharing(b) >= settings.sharing
    });
    assign_rest(&mut groups, praise, between(settings.link));
    Some((groups, unrelated))
}

/// At most about `limit` clauses: of each aspect its newest, in proportion, but at least one. In order.
fn sample(praise: &[Praise<'_>], limit: usize) -> Vec<usize> {
    let mut by_aspect: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
    for (n, one) in praise.iter().enumerate() {
        by_aspect.entry(one.aspect).or_default().push(n);
    }
    let mut taken = Vec::with_capacity(limit.min(praise.len()));
    for mut clauses in by_aspect.into_values() {
        let quota = if praise.len() <= limit { clauses.len() } else { clauses.len() * limit / praise.len() };
        clauses.sort_by_key(|&n| Reverse(praise[n].clause.review.created_at));
        taken.extend(clauses.into_iter().take(quota.max(1)));
    }
    taken.sort_unstable();
    taken
}

/// Joins groups that are one, into the better supported, until none are.
fn merge(groups: &mut Vec<Group>, same: impl Fn(&Group, &Group) -> bool) {
    groups.sort_by_key(|group| Reverse(group.reviews.len()));
    let mut head = 0;
    while head < groups.len() {
        match (head + 1..groups.len()).find(|&n| same(&groups[head], &groups[n])) {
            Some(n) => {
                let other = groups.remove(n);
                groups[head].absorb(other);
            }
            None => head += 1,
        }
    }
}

/// Gives every clause that has no group to the one it is most like, if it is like enough.
fn assign_rest(groups: &mut [Group], praise: &[Praise<'_>], threshold: f32) {
    let grouped: BTreeSet<usize> = groups.iter().flat_map(|group| &group.members).copied().collect();
    let mut joining = Vec::new();
    for n in (0..praise.len()).filter(|n| !grouped.contains(n)) {
        let Some(vector) = praise[n].clause.vector() else { continue };
        let like = groups.iter().enumerate().map(|(place, group)| (group.likeness(&vector), Reverse(place)));
        let best = like.max_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        if let Some((_, Reverse(place))) = best.filter(|(like, _)| *like >= threshold) {
            joining.push((place, n));
        }
    }
    // Only now, so that a clause's group does not depend on which clauses came before it.
    for (place, n) in joining {
        if let Some(vector) = praise[n].clause.vector() {
            groups[place].add(n, praise[n].clause.index, &vector);
        }
    }
}

/// A strength of the group, unless it is too loose.
fn draft(
    group: &Group,
    praise: &[Praise<'_>],
    reviews_read: usize,
    praise_counts: &[u64],
    unrelated: f32,
    context: &Context<'_>,
    settings: &Settings,
) -> Option<StrengthDraft> {
    let spread = ((1.0 - group.inner_likeness()) / (1.0 - unrelated).max(1e-3)).sqrt();
    let consistency = 1.0 / (1.0 + spread);
    if consistency < settings.min_consistency {
        return None;
    }
    let aspect = usize::from(main_aspect(group, praise));
    let rate = context.rates.get(aspect).copied().unwrap_or_default();
    let lift = lift(praise_counts[aspect], reviews_read as u64, &rate, settings.min_others);
    let distinct = lift.filter(|lift| lift.z >= settings.min_z && lift.ratio >= settings.min_lift);
    let distinctness = distinct.map_or(0.0, |lift| 1.0 - 1.0 / lift.ratio);
    let recency = recency(group, praise, context.now);
    let support = group.reviews.len();

    let centre = group.centre()?;
    let clauses: Vec<Clause<'_>> = group.members.iter().map(|&n| praise[n].clause).collect();
    let evidence: Vec<_> =
        evidence::choose(&clauses, &centre, |p| p, QUOTES).iter().map(Clause::evidence).collect();
    Some(StrengthDraft {
        aspect: context.aspects[aspect].to_owned(),
        kind: if distinct.is_some() { StrengthKind::Distinct } else { StrengthKind::Representative },
        support: support as u32,
        support_ratio: share(support, reviews_read),
        consistency,
        recency,
        lift: lift.map(|lift| lift.ratio),
        score: (support as f32).ln_1p() * consistency * recency * (1.0 + distinctness),
        evidence,
        centre,
    })
}

/// The aspect that most members are nearest to, the first configured among equals.
fn main_aspect(group: &Group, praise: &[Praise<'_>]) -> u16 {
    let mut counts: BTreeMap<u16, usize> = BTreeMap::new();
    for &n in &group.members {
        *counts.entry(praise[n].aspect).or_default() += 1;
    }
    counts.into_iter().max_by_key(|&(aspect, count)| (count, Reverse(aspect))).map_or(0, |(aspect, _)| aspect)
}

/// Mean over the reviews: up to 30 days 1.0, up to 90 days 0.5, older 0.1, unknown 0.5.
fn recency(group: &Group, praise: &[Praise<'_>], now: OffsetDateTime) -> f32 {
    let by_review: BTreeMap<usize, Option<OffsetDateTime>> =
        group.members.iter().map(|&n| (praise[n].clause.index, praise[n].clause.review.created_at)).collect();
    let weight = |at: Option<OffsetDateTime>| match at.map(|at| now - at) {
        Some(age) if age <= Duration::days(30) => 1.0,
        Some(age) if age <= Duration::days(90) => 0.5,
        Some(_) => 0.1,
        None => 0.5,
    };
    let sum: f32 = by_review.values().map(|&at| weight(at)).sum();
    sum / by_review.len().max(1) as f32
}

#[cfg(test)]
mod tests;
