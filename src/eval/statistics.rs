//! The statistics of the evaluations.

/// Share of readings on the right side of the threshold; 0 of nothing.
pub fn share_right(readings: &[(f32, bool)], threshold: f32) -> f64 {
    let right = readings.iter().filter(|(p, label)| (*p >= threshold) == *label).count();
    right as f64 / readings.len().max(1) as f64
}

/// The middle value.
pub fn median(values: &mut [f32]) -> Option<f32> {
    values.sort_by(f32::total_cmp);
    values.get(values.len() / 2).copied()
}

/// Area under the ROC curve: the probability that a positive reading is above a negative one, ties half.
pub fn auc(readings: &[(f32, bool)]) -> f64 {
    let ranks = ranks(&readings.iter().map(|(p, _)| f64::from(*p)).collect::<Vec<_>>());
    let positive = readings.iter().filter(|(_, label)| *label).count() as f64;
    let negative = readings.len() as f64 - positive;
    if positive == 0.0 || negative == 0.0 {
        return f64::NAN;
    }
    let sum: f64 = ranks.iter().zip(readings).filter(|(_, (_, label))| *label).map(|(rank, _)| rank).sum();
    (sum - positive * (positive + 1.0) / 2.0) / (positive * negative)
}

/// Spearman's rank correlation: Pearson's over ranks.
pub fn spearman(a: &[f64], b: &[f64]) -> f64 {
    let (a, b) = (ranks(a), ranks(b));
    let mean = f64::midpoint(a.len() as f64, 1.0);
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (x, y) in a.iter().zip(&b) {
        ab += (x - mean) * (y - mean);
        aa += (x - mean) * (x - mean);
        bb += (y - mean) * (y - mean);
    }
    ab / (aa * bb).sqrt()
}

/// Ranks from 1, ties sharing their mean rank.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let tied = order[start..]
            .iter()
            .take_while(|&&i| values[i].total_cmp(&values[order[start]]).is_eq())
            .count();
        for &index in &order[start..start + tied] {
            ranks[index] = start as f64 + f64::midpoint(tied as f64, 1.0);
        }
        start += tied;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auc_is_one_for_a_perfect_order_half_for_ties_and_zero_turned_over() {
        assert!((auc(&[(0.1, false), (0.9, true)]) - 1.0).abs() < 1e-9);
        assert!((auc(&[(0.5, false), (0.5, true)]) - 0.5).abs() < 1e-9);
        assert!(auc(&[(0.9, false), (0.1, true)]).abs() < 1e-9);
        assert!(auc(&[(0.9, true)]).is_nan());
    }

    #[test]
    fn spearman_looks_at_order_alone() {
        assert!((spearman(&[1.0, 2.0, 3.0], &[10.0, 200.0, 201.0]) - 1.0).abs() < 1e-9);
        assert!((spearman(&[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0]) + 1.0).abs() < 1e-9);
        // With a tie: ranks 1.5, 1.5, 3 against 1, 2, 3.
        assert!((spearman(&[1.0, 1.0, 2.0], &[1.0, 2.0, 3.0]) - 0.866_025).abs() < 1e-5);
    }

    #[test]
    fn share_right_counts_both_sides_of_the_threshold() {
        let readings = [(0.9, true), (0.6, false), (0.4, false), (0.2, true)];
        assert!((share_right(&readings, 0.5) - 0.5).abs() < 1e-9);
        assert!((share_right(&readings, 0.7) - 0.75).abs() < 1e-9);
    }
}
