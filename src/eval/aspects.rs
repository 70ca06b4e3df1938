//! Aspects and their polarity against pairs labelled by reading.
//!
//! The labels name a review, an aspect and how the review speaks of it; no text. A review counts as speaking well
//! of an aspect if its clauses near that aspect are positive on the whole, and so on; `mixed` counts as both. Each
//! (aspect, polarity) is a class of its own; figures are precision, recall and F1 per class, and their mean.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use anyhow::{Context, bail};
use serde::Serialize;

use crate::analysis::Thresholds;
use crate::analysis::reader::Reader;
use crate::job::{Job, Language};
use crate::store::ReviewFacts;

/// A class: an aspect's name and whether praise (`true`) or complaint.
pub type Class = (String, bool);

/// The labels of one review: its classes, and which half of the set it belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labelled {
    /// `dev` or `test`.
    pub split: String,
    /// What a reader found.
    pub classes: BTreeSet<Class>,
}

/// Hits and misses of a class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct ClassFigures {
    /// In the labels and found.
    pub hits: u32,
    /// Found but not in the labels.
    pub false_alarms: u32,
    /// In the labels but not found.
    pub misses: u32,
}

impl ClassFigures {
    /// Of what was found, the share that is right.
    pub fn precision(&self) -> f64 {
        f64::from(self.hits) / f64::from((self.hits + self.false_alarms).max(1))
    }

    /// Of what is there, the share that was found.
    pub fn recall(&self) -> f64 {
        f64::from(self.hits) / f64::from((self.hits + self.misses).max(1))
    }

    /// Harmonic mean of both.
    pub fn f1(&self) -> f64 {
        f64::from(2 * self.hits) / f64::from((2 * self.hits + self.false_alarms + self.misses).max(1))
    }
}

/// Figures of `eval aspects`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AspectFigures {
    /// Labelled reviews read.
    pub reviews: usize,
    /// Classes in the labels.
    pub pairs: usize,
    /// By `aspect/polarity`.
    pub classes: BTreeMap<String, ClassFigures>,
    /// Mean F1 over the classes.
    pub macro_f1: f64,
    /// F1 over all hits and misses together.
    pub micro_f1: f64,
    /// Mean F1 over aspects, whatever the polarity: how well topics are found.
    pub aspect_f1: f64,
}

/// Reads the labels: `restaurant_id, review_id, split, start, end, aspect, polarity`, tab-separated, with a header.
pub fn load(file: &Path, split: Option<&str>) -> anyhow::Result<HashMap<String, Labelled>> {
    let mut rows = csv::ReaderBuilder::new()
        .delimiter(b'\t')
        .from_path(file)
        .with_context(|| file.display().to_string())?;
    let mut labels: HashMap<String, Labelled> = HashMap::new();
    for (number, row) in rows.records().enumerate() {
        let row = row.with_context(|| format!("{} row {}", file.display(), number + 2))?;
        if row.len() != 7 {
            bail!("{} row {}: {} columns, expected 7", file.display(), number + 2, row.len());
        }
        if split.is_some_and(|wanted| wanted != &row[2]) {
            continue;
        }
        let entry = labels.entry(row[1].to_owned()).or_default();
        row[2].clone_into(&mut entry.split);
        match &row[6] {
            "positive" => _ = entry.classes.insert((row[5].to_owned(), true)),
            "negative" => _ = entry.classes.insert((row[5].to_owned(), false)),
            "mixed" => entry.classes.extend([(row[5].to_owned(), true), (row[5].to_owned(), false)]),
            "none" => {}
            other => bail!("{} row {}: unknown polarity `{other}`", file.display(), number + 2),
        }
    }
    Ok(labels)
}

/// Reads the labelled reviews among `jobs` and compares.
pub async fn evaluate(
    reader: &Reader,
    language: Language,
    labels: &HashMap<String, Labelled>,
    jobs: impl Iterator<Item = anyhow::Result<Job>>,
    margin: f32,
) -> anyhow::Result<AspectFigures> {
    let ready = reader.language(language).await?;
    let thresholds = ready.calibration.clause_thresholds(margin);
    let mut wanted = Vec::new();
    for job in jobs {
        wanted.extend(job?.reviews.into_iter().filter(|review| labels.contains_key(&review.id)));
    }
    if wanted.is_empty() {
        bail!("none of the labelled reviews is in the file given with --reviews");
    }
    let texts: Vec<&str> = wanted.iter().map(|review| review.text.as_str()).collect();
    let reading = reader.read(ready, &texts, super::ticket(reader)).await;
    let names = ready.pack.aspect_names();
    let mut found = Vec::with_capacity(wanted.len());
    for (review, facts) in wanted.iter().zip(reading.facts) {
        found.push((classes(&facts?, &names, &thresholds), &labels[&review.id].classes));
    }
    Ok(figures(&found))
}

/// What facts say of a review: for each aspect the prevailing polarity of its clauses, or both if they differ much.
pub fn classes(facts: &ReviewFacts, aspects: &[&str], thresholds: &Thresholds) -> BTreeSet<Class> {
    let mut classes = BTreeSet::new();
    for (index, aspect) in aspects.iter().enumerate() {
        let near =
            facts.clauses.iter().filter(|clause| clause.aspects.iter().any(|&a| usize::from(a) == index));
        for p in near.filter_map(|clause| clause.p_positive) {
            match thresholds.label(p) {
                crate::result::Polarity::Positive => _ = classes.insert(((*aspect).to_owned(), true)),
                crate::result::Polarity::Negative => _ = classes.insert(((*aspect).to_owned(), false)),
                crate::result::Polarity::Neutral => {}
            }
        }
    }
    classes
}

fn figures(found: &[(BTreeSet<Class>, &BTreeSet<Class>)]) -> AspectFigures {
    let mut by_class: BTreeMap<Class, ClassFigures> = BTreeMap::new();
    let mut by_aspect: BTreeMap<String, ClassFigures> = BTreeMap::new();
    let mut pairs = 0;
    for (predicted, actual) in found {
        pairs += actual.len();
        for class in predicted.union(actual) {
            let entry = by_class.entry(class.clone()).or_default();
            tally(entry, predicted.contains(class), actual.contains(class));
        }
        let aspects =
            |set: &BTreeSet<Class>| set.iter().map(|(aspect, _)| aspect.clone()).collect::<BTreeSet<_>>();
        let (predicted, actual) = (aspects(predicted), aspects(actual));
        for aspect in predicted.union(&actual) {
            let entry = by_aspect.entry(aspect.clone()).or_default();
            tally(entry, predicted.contains(aspect), actual.contains(aspect));
        }
    }
    let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let total = by_class.values().fold(ClassFigures::default(), |sum, class| ClassFigures {
        hits: sum.hits + class.hits,
        false_alarms: sum.false_alarms + class.false_alarms,
        misses: sum.misses + class.misses,
    });
    AspectFigures {
        reviews: found.len(),
        pairs,
        macro_f1: mean(by_class.values().map(ClassFigures::f1).collect()),
        micro_f1: total.f1(),
        aspect_f1: mean(by_aspect.values().map(ClassFigures::f1).collect()),
        classes: by_class
            .into_iter()
            .map(|((aspect, praise), figures)| {
                (format!("{aspect}/{}", if praise { "positive" } else { "negative" }), figures)
            })
            .collect(),
    }
}

fn tally(figures: &mut ClassFigures, found: bool, there: bool) {
    match (found, there) {
        (true, true) => figures.hits += 1,
        (true, false) => figures.false_alarms += 1,
        (false, true) => figures.misses += 1,
        (false, false) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(classes: &[(&str, bool)]) -> BTreeSet<Class> {
        classes.iter().map(|(aspect, praise)| ((*aspect).to_owned(), *praise)).collect()
    }

    #[test]
    fn a_wrong_polarity_is_a_miss_and_a_false_alarm_but_the_topic_was_found() {
        let actual = set(&[("food", true)]);
        let figures = figures(&[(set(&[("food", false)]), &actual)]);
        assert_eq!(figures.classes["food/positive"], ClassFigures { hits: 0, false_alarms: 0, misses: 1 });
        assert_eq!(figures.classes["food/negative"], ClassFigures { hits: 0, false_alarms: 1, misses: 0 });
        assert!(figures.macro_f1.abs() < 1e-9 && (figures.aspect_f1 - 1.0).abs() < 1e-9);
    }

    #[test]
    fn mixed_labels_are_both_classes_and_none_is_no_class() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let rows = "restaurant_id\treview_id\tsplit\tstart\tend\taspect\tpolarity\n\
                    r\ta\tdev\t0\t4\tfood\tmixed\nr\tb\ttest\t0\t0\tnone\tnone\n";
        std::fs::write(file.path(), rows).unwrap();
        let labels = load(file.path(), None).unwrap();
        assert_eq!(labels["a"].classes, set(&[("food", true), ("food", false)]));
        assert!(labels["b"].classes.is_empty());
        assert_eq!(load(file.path(), Some("dev")).unwrap().len(), 1);
    }
}
