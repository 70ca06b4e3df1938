//! Sentiment: counts, shares and a trend over the labelled reviews.

use std::collections::BTreeMap;

use time::UtcOffset;

use super::{ReadReview, Thresholds, share};
use crate::job::Scope;
use crate::result::{Month, Polarity, ReviewLabel, Sentiment};

/// Counts the labels. `unread` are the reviews in scope without facts; a review whose facts have no probability
/// counts as unread too. Nothing when no review is labelled: no answer is not an answer of zero.
pub fn assemble(
    scope: Scope,
    read: &[ReadReview<'_>],
    unread: usize,
    thresholds: &Thresholds,
) -> Option<Sentiment> {
    let mut counts = Counts::default();
    let mut months: BTreeMap<(i32, u8), Counts> = BTreeMap::new();
    let mut reviews = Vec::with_capacity(read.len());
    let mut certainty = 0.0_f64;
    for ReadReview { review, facts } in read {
        let Some(p_positive) = facts.p_positive.filter(|p| p.is_finite()) else { continue };
        let label = thresholds.label(p_positive);
        counts.add(label);
        if let Some(at) = review.created_at {
            let at = at.to_offset(UtcOffset::UTC);
            months.entry((at.year(), at.month().into())).or_default().add(label);
        }
        certainty += f64::from((2.0 * p_positive - 1.0).abs());
        reviews.push(ReviewLabel { review_id: review.id.clone(), label, p_positive });
    }
    let total = reviews.len();
    if total == 0 {
        return None;
    }
    Some(Sentiment {
        scope,
        positive: counts.positive,
        negative: counts.negative,
        neutral: counts.neutral,
        total: total as u32,
        unread: (unread + read.len() - total) as u32,
        positive_share: share(counts.positive as usize, total),
        negative_share: share(counts.negative as usize, total),
        neutral_share: share(counts.neutral as usize, total),
        confidence: (certainty / total as f64) as f32,
        trend: months.into_iter().map(|(month, counts)| counts.into_month(month)).collect(),
        reviews,
    })
}

#[derive(Default)]
struct Counts {
    positive: u32,
    negative: u32,
    neutral: u32,
}

impl Counts {
    fn add(&mut self, label: Polarity) {
        *match label {
            Polarity::Positive => &mut self.positive,
            Polarity::Negative => &mut self.negative,
            Polarity::Neutral => &mut self.neutral,
        } += 1;
    }

    fn into_month(self, (year, month): (i32, u8)) -> Month {
        let Self { positive, negative, neutral } = self;
        Month { month: format!("{year:04}-{month:02}"), positive, negative, neutral }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;
    use crate::analysis::fixture::{read, review};

    const THRESHOLDS: Thresholds = Thresholds { positive: 0.6, negative: 0.4 };

    #[test]
    fn thresholds_belong_to_their_label() {
        use Polarity::{Negative, Neutral, Positive};
        let all: Vec<_> = [0.6, 0.59, 0.41, 0.4].iter().map(|&p| review("r", None, Some(p), &[])).collect();
        let sentiment = assemble(Scope::All, &read(&all), 0, &THRESHOLDS).unwrap();
        let labels: Vec<_> = sentiment.reviews.iter().map(|r| r.label).collect();
        assert_eq!(labels, [Positive, Neutral, Neutral, Negative]);
    }

    #[test]
    fn without_a_label_there_is_no_sentiment() {
        let all = [review("a", None, None, &[]), review("b", None, Some(f32::NAN), &[])];
        assert_eq!(assemble(Scope::All, &read(&all), 3, &THRESHOLDS), None);
        assert_eq!(assemble(Scope::All, &[], 0, &THRESHOLDS), None);
    }

    #[test]
    fn months_are_in_utc_and_in_order() {
        let mut all = [
            review("a", None, Some(0.9), &[]),
            review("b", None, Some(0.1), &[]),
            review("c", None, Some(0.5), &[]),
            review("d", None, Some(0.9), &[]),
        ];
        all[0].0.created_at = Some(datetime!(2024-02-01 3:00 +9)); // still January in UTC
        all[1].0.created_at = Some(datetime!(2024-01-15 0:00 UTC));
        all[2].0.created_at = Some(datetime!(2023-12-31 23:59 UTC));
        let trend = assemble(Scope::All, &read(&all), 0, &THRESHOLDS).unwrap().trend;
        let month = |month: &str, positive, negative, neutral| Month {
            month: month.into(),
            positive,
            negative,
            neutral,
        };
        assert_eq!(trend, [month("2023-12", 0, 0, 1), month("2024-01", 1, 1, 0)]);
    }

    proptest! {
        #[test]
        fn counts_add_up_and_shares_to_one(ps in prop::collection::vec(prop::option::of(0.0..=1.0_f32), 1..50), unread in 0_usize..9) {
            let all: Vec<_> = ps.iter().map(|p| review("r", None, *p, &[])).collect();
            let labelled = ps.iter().flatten().count();
            match assemble(Scope::Selected, &read(&all), unread, &THRESHOLDS) {
                None => prop_assert_eq!(labelled, 0),
                Some(s) => {
                    prop_assert_eq!(s.positive + s.negative + s.neutral, s.total);
                    prop_assert_eq!((s.total as usize, s.reviews.len()), (labelled, labelled));
                    prop_assert_eq!(s.unread as usize, unread + ps.len() - labelled);
                    prop_assert!((s.positive_share + s.negative_share + s.neutral_share - 1.0).abs() < 1e-5);
                    prop_assert!((0.0..=1.0).contains(&s.confidence));
                }
            }
        }
    }
}
