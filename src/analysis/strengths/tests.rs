use proptest::prelude::*;

use super::*;
use crate::analysis::fixture::DIMENSION;
use crate::analysis::fixture::{NOW, Said, axis, read, review, said};
use crate::job::Review;
use crate::store::ReviewFacts;

type Reviews = Vec<(Review, ReviewFacts)>;

const ASPECTS: [&str; 3] = ["food", "service", "price"];

fn context(rates: &[AspectRate]) -> Context<'_> {
    let thresholds = Thresholds { positive: 0.6, negative: 0.4 };
    Context { aspects: &ASPECTS, rates, thresholds, unrelated: Some(0.0), now: NOW }
}

fn found(all: &Reviews, rates: &[AspectRate]) -> Found {
    find(&read(all), &context(rates), &Settings::default())
}

/// The `n`-th guest's praise of a subject: near its axis, different words.
fn praise_of(subject: usize, aspect: u16, n: usize) -> Said {
    let text = format!("guest {n} found subject {subject} rather wonderful");
    said(&text, aspect, 0.9, axis(subject, 8 + n % 8, 0.4))
}

/// Reviews of one clause each, so many of each subject.
fn reviews_of(subjects: &[(usize, u16, usize)]) -> Reviews {
    let clauses = subjects
        .iter()
        .flat_map(|&(subject, aspect, count)| (0..count).map(move |n| praise_of(subject, aspect, n)));
    clauses.enumerate().map(|(n, clause)| review(&format!("r{n}"), Some(5), Some(0.9), &[clause])).collect()
}

fn rate(restaurants: u32, reviews: u64, positive: u64) -> AspectRate {
    AspectRate { restaurants, reviews, positive }
}

#[test]
fn each_subject_that_guests_repeat_is_one_strength() {
    let all = reviews_of(&[(0, 0, 8), (1, 1, 5), (2, 2, 3)]);
    let found = found(&all, &[]);
    let shown: Vec<_> = found.drafts.iter().map(|d| (d.aspect.as_str(), d.support)).collect();
    assert_eq!(shown, [("food", 8), ("service", 5), ("price", 3)]);
    assert_eq!((found.candidates, found.compared_with), (3, 0));
    let first = &found.drafts[0];
    assert!((first.support_ratio - 0.5).abs() < 1e-6, "8 of 16 reviews");
    assert_eq!((first.kind, first.lift), (StrengthKind::Representative, None));
    assert_eq!(first.evidence.len(), 3);
    assert!(first.score > 0.0 && (0.56..1.0).contains(&first.consistency));
}

#[test]
fn weak_groups_are_left_out_rather_than_padded() {
    let all = reviews_of(&[(0, 0, 18), (1, 1, 2)]);
    let found = found(&all, &[]);
    assert_eq!(found.drafts.len(), 1, "two of twenty are too few");
    assert_eq!(found.candidates, 2);
    assert!(found.drafts[0].aspect == "food");
}

#[test]
fn complaints_and_clauses_near_no_aspect_are_no_strength() {
    let mut complaint = praise_of(0, 0, 1);
    complaint.p = 0.1;
    let mut nowhere = praise_of(1, 0, 1);
    nowhere.aspects.clear();
    let all: Reviews = (0..6)
        .map(|n| review(&n.to_string(), Some(1), None, &[complaint.clone(), nowhere.clone()]))
        .collect();
    assert_eq!(found(&all, &[]), Found::default());
    assert_eq!(found(&Vec::new(), &[]), Found::default());
}

#[test]
fn a_guest_who_repeats_himself_is_one_supporter() {
    let clauses: Vec<_> = (0..6).map(|n| praise_of(0, 0, n)).collect();
    let all = vec![review("a", None, None, &clauses), review("b", None, None, &[])];
    assert_eq!(found(&all, &[]).drafts, []);
}

#[test]
fn the_same_praise_filed_under_two_aspects_is_one_strength() {
    let all = reviews_of(&[(0, 0, 5), (0, 1, 3)]);
    let found = found(&all, &[]);
    assert_eq!(found.drafts.len(), 1);
    assert_eq!((found.drafts[0].aspect.as_str(), found.drafts[0].support), ("food", 8));
}

#[test]
fn two_near_groups_are_one_if_the_same_reviews_say_both() {
    // Like 0.5 within a group and 0.42 between the two: below the link, but with centres near to each other.
    let clause = |group: usize, n: usize| {
        let mut components = vec![0.0; DIMENSION];
        components[0] = 0.42_f32.sqrt();
        components[1 + group] = 0.08_f32.sqrt();
        components[3 + 6 * group + n] = 0.5_f32.sqrt();
        said(&format!("guest {n} of group {group} was pleased"), 0, 0.9, UnitVector::new(components).unwrap())
    };
    let together: Reviews =
        (0..6).map(|n| review(&n.to_string(), Some(1), None, &[clause(0, n), clause(1, n)])).collect();
    let apart: Reviews =
        (0..12).map(|n| review(&n.to_string(), Some(1), None, &[clause(n / 6, n % 6)])).collect();
    let support = |all| found(all, &[]).drafts.iter().map(|d| d.support).collect::<Vec<_>>();
    assert_eq!(support(&together), [6]);
    assert_eq!(support(&apart), [6, 6]);
    let loose = Settings { merge: 0.65, ..Settings::default() };
    assert_eq!(find(&read(&apart), &context(&[]), &loose).drafts[0].support, 12);
}

#[test]
fn a_loose_group_is_no_strength() {
    let same = said("great food at this place", 0, 0.9, axis(0, 1, 0.0));
    let tight = (0..5).map(|n| review(&format!("t{n}"), Some(1), None, std::slice::from_ref(&same)));
    let loose = reviews_of(&[(1, 1, 8)]);
    let all: Reviews = tight.chain(loose).collect();
    let aspects = |min_consistency| {
        let settings = Settings { min_consistency, ..Settings::default() };
        let found = find(&read(&all), &context(&[]), &settings);
        (found.candidates, found.drafts.into_iter().map(|d| d.aspect).collect::<Vec<_>>())
    };
    assert_eq!(aspects(0.56), (2, vec!["food".to_owned(), "service".to_owned()]));
    assert_eq!(aspects(0.9), (2, vec!["food".to_owned()]), "a candidate still, but no strength");
}

#[test]
fn no_more_than_two_strengths_are_of_one_aspect_and_five_in_all() {
    let of_one = reviews_of(&[(0, 0, 5), (1, 0, 5), (2, 0, 5), (3, 0, 5)]);
    assert_eq!(found(&of_one, &[]).drafts.len(), 2);
    let many: Vec<_> = (0..6).map(|subject| (subject, subject as u16 % 3, 5)).collect();
    let found = found(&reviews_of(&many), &[]);
    assert_eq!((found.drafts.len(), found.candidates), (5, 6));
}

#[test]
fn recent_praise_outranks_old_praise() {
    let mut all = reviews_of(&[(0, 0, 5), (1, 1, 5)]);
    for (review, _) in &mut all[..5] {
        review.created_at = Some(NOW - Duration::days(400));
    }
    let found = found(&all, &[]);
    assert_eq!(found.drafts[0].aspect, "service");
    assert!((found.drafts[0].recency - 1.0).abs() < 1e-6 && (found.drafts[1].recency - 0.1).abs() < 1e-6);
}

#[test]
fn what_is_praised_far_more_than_elsewhere_is_distinct() {
    let all = reviews_of(&[(0, 0, 30), (1, 1, 30)]);
    // Half of the reviews praise each; elsewhere nearly half praise the food, a tenth the service.
    let rates = [rate(20, 1000, 480), rate(20, 1000, 100), rate(20, 1000, 5)];
    let found = found(&all, &rates);
    assert_eq!(found.compared_with, 20);
    let kinds: Vec<_> = found.drafts.iter().map(|d| (d.aspect.as_str(), d.kind)).collect();
    assert_eq!(kinds, [("service", StrengthKind::Distinct), ("food", StrengthKind::Representative)]);
    assert!(found.drafts[0].lift.unwrap() > 4.0);
}

#[test]
fn distinctness_needs_five_others_and_significance() {
    assert_eq!(lift(30, 60, &rate(4, 1000, 100), 5), None);
    assert_eq!(lift(30, 60, &rate(5, 0, 0), 5), None);
    let few = lift(2, 4, &rate(5, 1000, 250), 5).unwrap();
    assert!(few.ratio > 1.2 && few.z < 1.96, "{few:?}: half of four reviews prove nothing");
    let many = lift(50, 100, &rate(5, 1000, 250), 5).unwrap();
    assert!(many.ratio > 1.9 && many.z > 1.96, "{many:?}");
    let all = lift(10, 10, &rate(5, 100, 100), 5).unwrap();
    assert!(all.z.abs() < 1e-6, "everybody on both sides is no difference");
}

#[test]
fn support_is_counted_over_clauses_beyond_the_cap() {
    let all = reviews_of(&[(0, 0, 300), (1, 1, 100)]);
    let settings = Settings { max_clauses: 40, ..Settings::default() };
    let capped = find(&read(&all), &context(&[]), &settings);
    let support: Vec<_> = capped.drafts.iter().map(|d| (d.aspect.as_str(), d.support)).collect();
    assert_eq!(support, [("food", 300), ("service", 100)]);
}

#[test]
fn a_spread_measured_from_the_restaurant_itself_separates_subjects_too() {
    let all = reviews_of(&[(0, 0, 8), (1, 1, 6), (2, 2, 6)]);
    let context = Context { unrelated: None, ..context(&[]) };
    let found = find(&read(&all), &context, &Settings::default());
    assert_eq!(found.drafts.iter().map(|d| d.support).collect::<Vec<_>>(), [8, 6, 6]);
}

#[test]
fn identical_praise_is_one_group_even_where_nothing_is_unrelated() {
    let clause = said("great food at this place", 0, 0.9, axis(0, 1, 0.3));
    let all: Reviews =
        (0..5).map(|n| review(&n.to_string(), None, None, std::slice::from_ref(&clause))).collect();
    let context = Context { unrelated: None, ..context(&[]) };
    let found = find(&read(&all), &context, &Settings::default());
    assert_eq!((found.drafts.len(), found.drafts[0].support, found.drafts[0].evidence.len()), (1, 5, 1));
}

#[test]
fn min_support_grows_with_the_reviews_read() {
    let at = [0, 19, 20, 49, 50, 99, 100, 5000].map(min_support);
    assert_eq!(at, [2, 2, 3, 3, 4, 4, 5, 5]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn strengths_are_well_formed_and_repeatable(
        all in prop::collection::vec(
            (prop::collection::vec((0_usize..5, 0_u16..3, 0.0..=1.0_f32, 0.0..2.0_f32), 0..4), prop::option::of(0_i64..200)),
            0..40,
        ),
        measured in any::<bool>(), cap in 1_usize..60,
    ) {
        let all: Reviews = all
            .iter()
            .enumerate()
            .map(|(n, (clauses, days))| {
                let clauses: Vec<_> = clauses
                    .iter()
                    .enumerate()
                    .map(|(m, &(subject, aspect, p, tilt))| {
                        said(&format!("guest {n} says {m} of it"), aspect, p, axis(subject, 8 + n % 8, tilt))
                    })
                    .collect();
                review(&n.to_string(), *days, None, &clauses)
            })
            .collect();
        let texts: std::collections::HashMap<_, _> = all.iter().map(|(r, _)| (r.id.as_str(), r.text.as_str())).collect();
        let rates = [rate(9, 500, 100); 3];
        let context = Context { unrelated: measured.then_some(0.1), ..context(&rates) };
        let settings = Settings { max_clauses: cap, ..Settings::default() };
        let found = find(&read(&all), &context, &settings);
        prop_assert_eq!(&found, &find(&read(&all), &context, &settings));
        prop_assert!(found.drafts.len() <= 5 && found.drafts.len() <= found.candidates as usize);
        prop_assert!(found.drafts.is_sorted_by(|a, b| a.score >= b.score));
        for draft in &found.drafts {
            prop_assert!((min_support(all.len())..=all.len()).contains(&(draft.support as usize)));
            prop_assert!((draft.support_ratio - draft.support as f32 / all.len() as f32).abs() < 1e-6);
            prop_assert!((settings.min_consistency..=1.0).contains(&draft.consistency));
            prop_assert!((0.1 - 1e-6..=1.0).contains(&draft.recency));
            prop_assert!((1..=3).contains(&draft.evidence.len()));
            for evidence in &draft.evidence {
                prop_assert!(texts[evidence.review_id.as_str()].contains(&evidence.quote));
            }
            prop_assert!(found.drafts.iter().filter(|other| other.aspect == draft.aspect).count() <= 2);
        }
    }
}
