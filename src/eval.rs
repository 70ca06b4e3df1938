//! `maitred eval`: how right the models are, against labels that people gave.
//!
//! - `labels`: sentences with a label each;
//! - `restaurants`: labels against stars, and restaurants in order of their positive share against mean stars;
//! - `results`: results against the reviews they were made from;
//! - `aspects`: which aspects a review speaks of and how, against pairs labelled by reading.

pub mod aspects;
pub mod results;
pub mod statistics;

use std::path::Path;

use anyhow::{Context, bail};
use serde::Serialize;

use self::statistics::{auc, median, share_right, spearman};
use crate::analysis::Thresholds;
use crate::analysis::reader::{Cost, Reader, Ticket};
use crate::analyst::facts;
use crate::job::{Job, Language};
use crate::scheduler::Lane;
use crate::store::FactStore;

/// Sentences in one request batch.
const GROUP: usize = 256;

/// Figures of `eval labels`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LabelFigures {
    /// Sentences read.
    pub sentences: usize,
    /// Share right at the calibrated threshold, one half.
    pub accuracy: f64,
    /// Share right when the threshold is the median probability of this very set: what a perfect threshold for a
    /// balanced set would give.
    pub accuracy_at_median: f64,
    /// Area under the ROC curve.
    pub auc: f64,
    /// Prompt tokens computed.
    pub prompt_tokens: u64,
    /// Sentences per second.
    pub sentences_per_second: f64,
}

/// Figures of `eval restaurants`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RestaurantFigures {
    /// Restaurants read.
    pub restaurants: usize,
    /// Reviews read.
    pub reviews: usize,
    /// Reviews of at least 4 (4.5 for Korean) or at most 2 stars: those with a clear verdict.
    pub clear: usize,
    /// Share of the clear ones that is right at one half.
    pub accuracy: f64,
    /// Mean of the share right among the positive and among the negative ones.
    pub balanced_accuracy: f64,
    /// Area under the ROC curve over the clear ones.
    pub auc: f64,
    /// Spearman correlation of positive share and mean stars over the restaurants.
    pub spearman: f64,
    /// Prompt tokens computed.
    pub prompt_tokens: u64,
    /// Reviews per second.
    pub reviews_per_second: f64,
}

/// A place when there is nothing to order.
pub(crate) fn ticket(reader: &Reader) -> Ticket {
    Ticket::now(reader.engine(), Lane::Live)
}

/// Reads labelled sentences: a tab between text and `1` or `0`.
pub fn load_labels(file: &Path) -> anyhow::Result<Vec<(String, bool)>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(number, line)| match line.rsplit_once('\t') {
            Some((sentence, "1")) => Ok((sentence.to_owned(), true)),
            Some((sentence, "0")) => Ok((sentence.to_owned(), false)),
            _ => bail!("{} line {}: expected a sentence, a tab and 1 or 0", file.display(), number + 1),
        })
        .collect()
}

/// `eval labels`.
pub async fn labels(
    reader: &Reader,
    language: Language,
    sentences: &[(String, bool)],
) -> anyhow::Result<LabelFigures> {
    let ready = reader.language(language).await?;
    let begun = reader.engine().now();
    let mut cost = Cost::default();
    let mut read = Vec::with_capacity(sentences.len());
    for group in sentences.chunks(GROUP) {
        let texts: Vec<&str> = group.iter().map(|(text, _)| text.as_str()).collect();
        let outcomes = reader.polarity(ready, &texts, ticket(reader), "eval", &mut cost).await;
        for (outcome, (_, label)) in outcomes.into_iter().zip(group) {
            read.push((outcome?, *label));
        }
    }
    let wall = reader.engine().now().saturating_sub(begun).as_secs_f64();
    let middle = median(&mut read.iter().map(|(p, _)| *p).collect::<Vec<_>>()).unwrap_or(0.5);
    Ok(LabelFigures {
        sentences: read.len(),
        accuracy: share_right(&read, 0.5),
        accuracy_at_median: share_right(&read, middle),
        auc: auc(&read),
        prompt_tokens: cost.usage.prompt_tokens,
        sentences_per_second: read.len() as f64 / wall.max(1e-9),
    })
}

/// `eval restaurants`.
pub async fn restaurants<S: FactStore>(
    reader: &Reader,
    store: &S,
    jobs: impl Iterator<Item = anyhow::Result<Job>>,
    language: Option<Language>,
    thresholds: &Thresholds,
) -> anyhow::Result<RestaurantFigures> {
    let begun = reader.engine().now();
    let mut cost = Cost::default();
    let (mut clear, mut shares, mut stars, mut reviews) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for job in jobs {
        let job = job?;
        let texts: Vec<&str> = job.reviews.iter().map(|review| review.text.as_str()).collect();
        let language = language.unwrap_or_else(|| crate::text::language::detect(texts.iter().copied()));
        let ready = reader.language(language).await?;
        let read = facts::of(reader, ready, store, &texts, ticket(reader), &mut cost).await;
        let high = if language == Language::Ko { 4.5 } else { 4.0 };
        let (mut positive, mut labelled) = (0usize, 0usize);
        let mut rated = Vec::new();
        for (review, facts) in job.reviews.iter().zip(read) {
            let Some(p) = facts?.p_positive else { continue };
            reviews += 1;
            labelled += 1;
            positive += usize::from(thresholds.label(p) == crate::result::Polarity::Positive);
            let Some(rating) = review.rating else { continue };
            rated.push(f64::from(rating));
            if rating >= high || rating <= 2.0 {
                clear.push((p, rating >= high));
            }
        }
        if labelled > 0 && !rated.is_empty() {
            shares.push(positive as f64 / labelled as f64);
            stars.push(rated.iter().sum::<f64>() / rated.len() as f64);
        }
    }
    let wall = reader.engine().now().saturating_sub(begun).as_secs_f64();
    let of = |label: bool| clear.iter().copied().filter(|(_, l)| *l == label).collect::<Vec<_>>();
    Ok(RestaurantFigures {
        restaurants: shares.len(),
        reviews,
        clear: clear.len(),
        accuracy: share_right(&clear, 0.5),
        balanced_accuracy: f64::midpoint(share_right(&of(true), 0.5), share_right(&of(false), 0.5)),
        auc: auc(&clear),
        spearman: spearman(&shares, &stars),
        prompt_tokens: cost.usage.prompt_tokens,
        reviews_per_second: reviews as f64 / wall.max(1e-9),
    })
}
