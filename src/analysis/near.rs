//! Which aspects a clause is about: nearness of its embedding to the aspects' seed phrases.
//!
//! Embedding models differ in how far their similarities spread (one calls unrelated texts 0.1, another 0.75), so
//! thresholds are relative: a clause's nearness to an aspect is its similarity to the nearest seeds, measured on
//! the scale from what seeds of *different* aspects have in common (0) to what seeds of the *same* aspect have (1).

use serde::{Deserialize, Serialize};

use crate::selection::vector::UnitVector;

/// When a clause is near an aspect. All on the relative scale.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct NearSettings {
    /// Least nearness.
    pub threshold: f32,
    /// How far behind the nearest aspect another may be.
    pub slack: f32,
    /// How many of an aspect's nearest seeds count.
    pub nearest: usize,
}

impl Default for NearSettings {
    /// Chosen on the `dev` half of the labelled set; `docs/PERFORMANCE.md` has the figures of the `test` half.
    fn default() -> Self {
        Self { threshold: 0.9, slack: 0.35, nearest: 2 }
    }
}

/// The aspects' seeds and their scale.
#[derive(Debug, Clone)]
pub struct AspectSpace {
    seeds: Vec<Vec<UnitVector>>,
    between: f32,
    within: f32,
}

impl AspectSpace {
    /// From each aspect's seed vectors; no aspect may be empty.
    pub fn new(seeds: Vec<Vec<UnitVector>>) -> Self {
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
        Self { seeds, between, within }
    }

    /// Mean similarity of seeds of different aspects: what unrelated clauses have in common.
    pub fn unrelated(&self) -> f32 {
        self.between
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
    pub fn near(&self, clause: &UnitVector, settings: &NearSettings) -> Vec<u16> {
        let nearness = self.nearness(clause, settings.nearest);
        let best = nearness.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let floor = settings.threshold.max(best - settings.slack);
        let mut near: Vec<usize> = (0..nearness.len()).filter(|&aspect| nearness[aspect] >= floor).collect();
        near.sort_by(|&a, &b| nearness[b].total_cmp(&nearness[a]).then(a.cmp(&b)));
        near.into_iter().filter_map(|aspect| u16::try_from(aspect).ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(components: &[f32]) -> UnitVector {
        UnitVector::new(components.to_vec()).unwrap()
    }

    fn space() -> AspectSpace {
        AspectSpace::new(vec![
            vec![vector(&[1.0, 0.1, 0.0]), vector(&[1.0, 0.0, 0.1])],
            vec![vector(&[0.0, 1.0, 0.1]), vector(&[0.1, 1.0, 0.0])],
        ])
    }

    #[test]
    fn a_clause_is_near_its_own_aspect_and_not_the_other() {
        assert_eq!(space().near(&vector(&[1.0, 0.05, 0.05]), &NearSettings::default()), [0]);
    }

    #[test]
    fn a_clause_between_two_aspects_is_near_both_and_one_far_from_all_near_none() {
        let settings = NearSettings { threshold: 0.5, slack: 0.3, nearest: 1 };
        assert_eq!(space().near(&vector(&[1.0, 1.0, 0.0]), &settings).len(), 2);
        assert_eq!(space().near(&vector(&[0.0, 0.0, 1.0]), &settings), Vec::<u16>::new());
    }

    #[test]
    fn the_scale_makes_thresholds_independent_of_the_models_spread() {
        // A constant component, as in embedding models whose similarities are all high.
        let lift = |v: &[f32]| vector(&[v[0], v[1], v[2], 2.0]);
        let raised = AspectSpace::new(vec![
            vec![lift(&[1.0, 0.1, 0.0]), lift(&[1.0, 0.0, 0.1])],
            vec![lift(&[0.0, 1.0, 0.1]), lift(&[0.1, 1.0, 0.0])],
        ]);
        let near = raised.near(&lift(&[1.0, 0.05, 0.05]), &NearSettings::default());
        assert_eq!(near, [0]);
    }

    #[test]
    fn single_seeds_give_a_usable_scale() {
        let space = AspectSpace::new(vec![vec![vector(&[1.0, 0.0])], vec![vector(&[0.0, 1.0])]]);
        assert_eq!(space.near(&vector(&[1.0, 0.0]), &NearSettings::default()), [0]);
    }
}
