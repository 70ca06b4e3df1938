//! Which aspects a clause is about: nearness of its embedding to the aspects' seed phrases, and the words it uses.
//!
//! Similarity finds what no word list has ("he took good care of us"); words settle what is said in passing, where
//! the embedding of a clause about three things is near none ("good food, nice ambience and staff"). Measured on
//! the labelled set: macro F1 0.74 without words, 0.81 with them (dev half).
//!
//! Embedding models differ in how far their similarities spread (one calls unrelated texts 0.1, another 0.75), so
//! thresholds are relative: a clause's nearness to an aspect is its similarity to the nearest seeds, measured on
//! the scale from what seeds of *different* aspects have in common (0) to what seeds of the *same* aspect have (1).

use serde::{Deserialize, Serialize};

use crate::selection::vector::UnitVector;
use crate::text::language::is_hangul;

/// When a clause is near an aspect. All on the relative scale.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct NearSettings {
    /// Least nearness.
    pub threshold: f32,
    /// How far behind the nearest aspect another may be.
    pub slack: f32,
    /// How many of an aspect's nearest seeds count.
    pub nearest: usize,
    /// What one of the aspect's words in the clause adds to its nearness.
    pub word: f32,
}

impl Default for NearSettings {
    /// Chosen on the `dev` half of the labelled set; `docs/PERFORMANCE.md` has the figures of the `test` half.
    fn default() -> Self {
        Self { threshold: 0.8, slack: 0.6, nearest: 2, word: 1.0 }
    }
}

/// The aspects' words, seeds, and their scale.
#[derive(Debug, Clone)]
pub struct AspectSpace {
    words: Vec<WordList>,
    seeds: Vec<Vec<UnitVector>>,
    between: f32,
    within: f32,
}

impl AspectSpace {
    /// From each aspect's words and seed vectors.
    pub fn new(words: Vec<WordList>, seeds: Vec<Vec<UnitVector>>) -> Self {
        let (mut within, mut between) = (Vec::new(), Vec::new());
        for (a, first) in seeds.iter().enumerate() {
            for (i, seed) in first.iter().enumerate() {
                // The nearest fellow seed, as for a clause: how near "near" is among those that belong together.
                within.extend(
                    first
                        .iter()
                        .enumerate()
                        .filter(|(j, _)| *j != i)
                        .map(|(_, s)| seed.dot(s))
                        .reduce(f32::max),
                );
                for second in &seeds[a + 1..] {
                    between.extend(second.iter().map(|other| seed.dot(other)));
                }
            }
        }
        let mean = |values: &[f32], none: f32| {
            if values.is_empty() { none } else { values.iter().sum::<f32>() / values.len() as f32 }
        };
        let between = mean(&between, 0.0);
        // Aspects of one seed each have no fellow; a scale of nothing would divide by zero.
        let within = mean(&within, 1.0).max(between + 0.01);
        Self { words, seeds, between, within }
    }

    /// Mean similarity of seeds of different aspects: what unrelated clauses have in common.
    pub fn unrelated(&self) -> f32 {
        self.between
    }

    /// Likeness of two texts on the aspects' scale.
    pub fn likeness(&self, a: &UnitVector, b: &UnitVector) -> f32 {
        (a.dot(b) - self.between) / (self.within - self.between)
    }

    /// Relative nearness to each aspect.
    pub fn nearness(&self, clause: &UnitVector, nearest: usize) -> Vec<f32> {
        let scale = self.within - self.between;
        self.seeds
            .iter()
            .map(|seeds| {
                let mut similarities: Vec<f32> = seeds.iter().map(|seed| seed.dot(clause)).collect();
                similarities.sort_by(|a, b| b.total_cmp(a));
                let top =
                    &similarities[..nearest.clamp(1, similarities.len().max(1)).min(similarities.len())];
                let mean = if top.is_empty() { 0.0 } else { top.iter().sum::<f32>() / top.len() as f32 };
                (mean - self.between) / scale
            })
            .collect()
    }

    /// Indices of the aspects that the clause is near, nearest first.
    pub fn near(&self, text: &str, clause: &UnitVector, settings: &NearSettings) -> Vec<u16> {
        let mut nearness = self.nearness(clause, settings.nearest);
        let text = spaced(text);
        for (near, words) in nearness.iter_mut().zip(&self.words) {
            if words.found_in(&text) {
                *near += settings.word;
            }
        }
        let best = nearness.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let floor = settings.threshold.max(best - settings.slack);
        let mut near: Vec<usize> = (0..nearness.len()).filter(|&aspect| nearness[aspect] >= floor).collect();
        near.sort_by(|&a, &b| nearness[b].total_cmp(&nearness[a]).then(a.cmp(&b)));
        near.into_iter().filter_map(|aspect| u16::try_from(aspect).ok()).collect()
    }
}

/// The words of an aspect: whole words or phrases; in Hangul, where endings grow onto words, any part of one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WordList(Vec<String>);

impl WordList {
    /// In any case.
    pub fn new(words: &[String]) -> Self {
        let pattern = |word: &String| {
            let spaced = spaced(word);
            if word.chars().any(is_hangul) { spaced.trim().to_owned() } else { spaced }
        };
        Self(words.iter().map(pattern).filter(|pattern| !pattern.trim().is_empty()).collect())
    }

    fn found_in(&self, spaced: &str) -> bool {
        self.0.iter().any(|word| spaced.contains(word.as_str()))
    }
}

/// Lower-case words between single blanks, and one at either end.
fn spaced(text: &str) -> String {
    let mut spaced = String::with_capacity(text.len() + 2);
    spaced.push(' ');
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        spaced.extend(word.chars().flat_map(char::to_lowercase));
        spaced.push(' ');
    }
    spaced
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(components: &[f32]) -> UnitVector {
        UnitVector::new(components.to_vec()).unwrap()
    }

    fn space() -> AspectSpace {
        AspectSpace::new(
            vec![],
            vec![
                vec![vector(&[1.0, 0.1, 0.0]), vector(&[1.0, 0.0, 0.1])],
                vec![vector(&[0.0, 1.0, 0.1]), vector(&[0.1, 1.0, 0.0])],
            ],
        )
    }

    #[test]
    fn a_clause_is_near_its_own_aspect_and_not_the_other() {
        assert_eq!(space().near("", &vector(&[1.0, 0.05, 0.05]), &NearSettings::default()), [0]);
    }

    #[test]
    fn a_clause_between_two_aspects_is_near_both_and_one_far_from_all_near_none() {
        let settings = NearSettings { threshold: 0.5, slack: 0.3, nearest: 1, word: 0.0 };
        assert_eq!(space().near("", &vector(&[1.0, 1.0, 0.0]), &settings).len(), 2);
        assert_eq!(space().near("", &vector(&[0.0, 0.0, 1.0]), &settings), Vec::<u16>::new());
    }

    #[test]
    fn the_scale_makes_thresholds_independent_of_the_models_spread() {
        // A constant component, as in embedding models whose similarities are all high.
        let lift = |v: &[f32]| vector(&[v[0], v[1], v[2], 2.0]);
        let raised = AspectSpace::new(
            vec![],
            vec![
                vec![lift(&[1.0, 0.1, 0.0]), lift(&[1.0, 0.0, 0.1])],
                vec![lift(&[0.0, 1.0, 0.1]), lift(&[0.1, 1.0, 0.0])],
            ],
        );
        let near = raised.near("", &lift(&[1.0, 0.05, 0.05]), &NearSettings::default());
        assert_eq!(near, [0]);
    }

    #[test]
    fn single_seeds_give_a_usable_scale() {
        let space = AspectSpace::new(vec![], vec![vec![vector(&[1.0, 0.0])], vec![vector(&[0.0, 1.0])]]);
        assert_eq!(space.near("", &vector(&[1.0, 0.0]), &NearSettings::default()), [0]);
    }

    #[test]
    fn a_word_brings_a_clause_near_its_aspect_as_a_whole_word_only() {
        let words = |list: &[&str]| WordList::new(&list.iter().map(ToString::to_string).collect::<Vec<_>>());
        let space = AspectSpace::new(
            vec![words(&["food", "main course"]), words(&["ambience", "분위기"])],
            vec![vec![vector(&[1.0, 0.0, 0.0])], vec![vector(&[0.0, 1.0, 0.0])]],
        );
        let far = vector(&[0.1, 0.1, 1.0]);
        let near = |text: &str| space.near(text, &far, &NearSettings::default());
        assert_eq!(near("Nice AMBIENCE, good food!").len(), 2);
        assert_eq!(near("the main  course"), [0]);
        assert_eq!(near("분위기가 좋아요"), [1]);
        assert_eq!(near("the foodies of town"), Vec::<u16>::new());
    }
}
