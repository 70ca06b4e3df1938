//! Reading label probabilities from logits: at the first token where that tells the labels apart, else by walking
//! the tree of their tokens.
//!
//! `P(label) = Π P(token | tokens before)`, each factor over the children at that node of the tree, so the labels'
//! probabilities sum to one and no softmax over the vocabulary is needed.

use crate::engine::backend::Token;
use crate::engine::request::Labels;

/// A walk in progress: which labels are still undecided at which depth.
#[derive(Debug)]
pub struct LabelWalk {
    log_probabilities: Vec<f32>,
    /// Nodes still to be read: the tokens on the way and the labels below.
    open: Vec<Node>,
}

#[derive(Debug, Clone)]
struct Node {
    path: Vec<Token>,
    members: Vec<usize>,
}

/// The logits hold something that is not a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotANumber;

impl LabelWalk {
    /// A walk at the root.
    pub fn new(labels: &Labels) -> Self {
        let all = (0..labels.tokens().len()).collect();
        Self {
            log_probabilities: vec![0.0; labels.tokens().len()],
            open: vec![Node { path: vec![], members: all }],
        }
    }

    /// Tokens to feed after the question before the next [`Self::read`]; `None` when all is known.
    pub fn next_path(&self) -> Option<&[Token]> {
        self.open.last().map(|node| node.path.as_slice())
    }

    /// Takes the logits at the end of [`Self::next_path`].
    pub fn read(&mut self, labels: &Labels, logits: &[f32]) -> Result<(), NotANumber> {
        let Some(node) = self.open.pop() else { return Ok(()) };
        let depth = node.path.len();
        let mut children: Vec<(Token, f32, Vec<usize>)> = Vec::new();
        for &member in &node.members {
            // `Labels` are prefix-free, so every member reaches past a node that has two or more members.
            let token = labels.tokens()[member][depth];
            if let Some(child) = children.iter_mut().find(|child| child.0 == token) {
                child.2.push(member);
                continue;
            }
            let logit = usize::try_from(token.0).ok().and_then(|index| logits.get(index)).copied();
            let logit = logit.filter(|value| !value.is_nan()).ok_or(NotANumber)?;
            children.push((token, logit, vec![member]));
        }
        let values: Vec<f32> = children.iter().map(|child| child.1).collect();
        let total = log_sum_exp(&values);
        if !total.is_finite() {
            return Err(NotANumber);
        }
        for (token, logit, members) in children {
            for &member in &members {
                self.log_probabilities[member] += logit - total;
            }
            if members.len() > 1 {
                let mut path = node.path.clone();
                path.push(token);
                self.open.push(Node { path, members });
            }
        }
        Ok(())
    }

    /// Natural-log probabilities in label order.
    pub fn into_log_probabilities(self) -> Vec<f32> {
        self.log_probabilities
    }
}

/// `ln Σ exp(x)` without overflow.
fn log_sum_exp(values: &[f32]) -> f32 {
    let greatest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    greatest + values.iter().map(|value| (value - greatest).exp()).sum::<f32>().ln()
}

/// The most likely token: greedy sampling. `None` if there is nothing but NaN.
pub fn greedy(logits: &[f32]) -> Option<Token> {
    let mut best: Option<(usize, f32)> = None;
    for (index, &logit) in logits.iter().enumerate() {
        // A plain comparison is false for NaN, so NaN never wins.
        if best.map_or(!logit.is_nan(), |(_, value)| logit > value) {
            best = Some((index, logit));
        }
    }
    best.and_then(|(index, _)| i32::try_from(index).ok()).map(Token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(spellings: &[&[i32]]) -> Labels {
        Labels::new(spellings.iter().map(|s| s.iter().map(|&t| Token(t)).collect()).collect()).unwrap()
    }

    #[test]
    fn separable_labels_need_one_reading_and_give_the_softmax_over_them() {
        let labels = labels(&[&[0], &[2]]);
        let mut walk = LabelWalk::new(&labels);
        assert_eq!(walk.next_path(), Some(&[][..]));
        walk.read(&labels, &[1.0, 9.0, 1.0]).unwrap();
        assert_eq!(walk.next_path(), None);
        let p = walk.into_log_probabilities();
        assert!(p.iter().all(|p| (p.exp() - 0.5).abs() < 1e-6), "{p:?}");
    }

    #[test]
    fn labels_with_a_common_first_token_are_walked() {
        let labels = labels(&[&[0, 1], &[0, 2], &[3]]);
        let mut walk = LabelWalk::new(&labels);
        walk.read(&labels, &[0.0, 0.0, 0.0, 0.0]).unwrap();
        assert_eq!(walk.next_path(), Some(&[Token(0)][..]));
        walk.read(&labels, &[0.0, 3f32.ln(), 0.0, 0.0]).unwrap();
        assert_eq!(walk.next_path(), None);
        let p: Vec<f32> = walk.into_log_probabilities().into_iter().map(f32::exp).collect();
        assert!(
            (p[0] - 0.375).abs() < 1e-6 && (p[1] - 0.125).abs() < 1e-6 && (p[2] - 0.5).abs() < 1e-6,
            "{p:?}"
        );
    }

    #[test]
    fn a_label_that_starts_another_is_refused() {
        assert!(Labels::new(vec![vec![Token(1)], vec![Token(1), Token(2)]]).is_none());
        assert!(Labels::new(vec![vec![Token(1)], vec![Token(1)]]).is_none());
        assert!(Labels::new(vec![vec![Token(1)], vec![]]).is_none());
    }

    #[test]
    fn logits_that_are_not_numbers_are_an_error_and_never_a_label() {
        let labels = labels(&[&[0], &[1]]);
        assert_eq!(LabelWalk::new(&labels).read(&labels, &[f32::NAN, 0.0]), Err(NotANumber));
        assert_eq!(LabelWalk::new(&labels).read(&labels, &[f32::NEG_INFINITY; 2]), Err(NotANumber));
        assert_eq!(LabelWalk::new(&labels).read(&labels, &[0.0]), Err(NotANumber));
        assert_eq!(greedy(&[f32::NAN, 1.0, f32::NAN, 2.0]), Some(Token(3)));
        assert_eq!(greedy(&[f32::NAN]), None);
    }

    proptest! {
        #[test]
        fn probabilities_of_any_label_tree_sum_to_one(
            spellings in proptest::collection::hash_set(proptest::collection::vec(0i32..4, 3), 2..12),
            seed in proptest::collection::vec(-20f32..20.0, 4),
        ) {
            let labels = Labels::new(
                spellings.iter().map(|s| s.iter().map(|&t| Token(t)).collect()).collect()
            ).unwrap();
            let mut walk = LabelWalk::new(&labels);
            let mut readings = 0;
            while let Some(path) = walk.next_path() {
                let shift = path.len();
                let logits: Vec<f32> = (0..4).map(|i| seed[(i + shift) % 4]).collect();
                walk.read(&labels, &logits).unwrap();
                readings += 1;
                prop_assert!(readings < 64);
            }
            let total: f32 = walk.into_log_probabilities().into_iter().map(f32::exp).sum();
            prop_assert!((total - 1.0).abs() < 1e-4, "{total}");
        }
    }
}
