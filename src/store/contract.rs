//! What every home of facts must do, written once: each home's tests run `holds` over an empty store.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;

use super::{AspectRate, ClauseFacts, FactKey, FactStore, LastResult, ReviewFacts};
use crate::job::{Analysis, Language, Review, Scope, WIRE_VERSION};
use crate::result::{
    AnalysisResult, Claim, Evidence, ModelInfo, Origin, Outcome, Polarity, ReviewLabel, Sentiment, Strength,
    StrengthKind, Strengths, Timings, Usage,
};
use crate::selection::representative::Representative;
use crate::selection::vector::UnitVector;

/// Runs every rule.
pub(super) async fn holds<S: FactStore>(store: &S) {
    facts_come_back_in_the_order_of_the_keys(store).await;
    facts_of_another_reader_are_unknown(store).await;
    keeping_the_same_key_twice_is_harmless(store).await;
    what_is_known_is_told_without_fetching_it(store).await;
    the_earlier_result_is_replaced(store).await;
    an_older_epoch_does_not_replace_a_newer_one(store).await;
    a_representative_vector_is_replaced_only_by_who_knows_it(store).await;
    of_two_writers_of_a_representative_vector_one_wins(store).await;
    totals_follow_any_sequence_of_shares(store).await;
}

async fn facts_come_back_in_the_order_of_the_keys<S: FactStore>(store: &S) {
    let puts: Vec<_> = (0..5).map(|id| (key("order", &format!("t{id}")), facts_of(id, 0.2))).collect();
    store.put_many(puts.clone()).await.unwrap();
    let asked: Vec<_> = ["t3", "absent", "t0", "t3"].map(|text| key("order", text)).into();
    let expected = [Some(puts[3].1.clone()), None, Some(puts[0].1.clone()), Some(puts[3].1.clone())];
    assert_eq!(store.get_many(&asked).await.unwrap(), expected);
    assert_eq!(store.get_many(&[]).await.unwrap(), []);
}

async fn facts_of_another_reader_are_unknown<S: FactStore>(store: &S) {
    let (mine, yours) = (key("mine", "t"), key("yours", "t"));
    store.put_many(vec![(mine.clone(), facts_of(1, 0.9))]).await.unwrap();
    assert_eq!(store.get_many(&[yours, mine]).await.unwrap(), [None, Some(facts_of(1, 0.9))]);
}

async fn keeping_the_same_key_twice_is_harmless<S: FactStore>(store: &S) {
    let pair = (key("twice", "t"), facts_of(2, 0.5));
    store.put_many(vec![pair.clone(), pair.clone()]).await.unwrap();
    store.put_many(vec![pair.clone()]).await.unwrap();
    assert_eq!(store.get_many(&[pair.0]).await.unwrap(), [Some(pair.1)]);
}

async fn the_earlier_result_is_replaced<S: FactStore>(store: &S) {
    assert_eq!(store.last_result("r-1").await.unwrap(), None);
    store.put_last_result(last_of("r-1", "old", 1)).await.unwrap();
    store.put_last_result(last_of("r-2", "old", 2)).await.unwrap();
    store.put_last_result(last_of("r-1", "new", 3)).await.unwrap();
    assert_eq!(store.last_result("r-1").await.unwrap(), Some(last_of("r-1", "new", 3)));
    assert_eq!(store.last_result("r-2").await.unwrap(), Some(last_of("r-2", "old", 2)));
}

async fn what_is_known_is_told_without_fetching_it<S: FactStore>(store: &S) {
    store.put_many(vec![(key("known", "a"), facts_of(1, 0.5))]).await.unwrap();
    let asked = [key("known", "b"), key("known", "a"), key("other", "a"), key("known", "a")];
    assert_eq!(store.known_many(&asked).await.unwrap(), [false, true, false, true]);
    assert!(store.known_many(&[]).await.unwrap().is_empty());
}

async fn an_older_epoch_does_not_replace_a_newer_one<S: FactStore>(store: &S) {
    let of_epoch = |epoch, reader: &str| {
        let mut last = last_of("epochs", reader, 1);
        last.result.epoch = epoch;
        last
    };
    assert_eq!(store.last_epoch("epochs").await.unwrap(), None);
    // Beyond 2^53 neighbours must still differ: an epoch may be a time in nanoseconds.
    let newest = 1_800_000_000_000_000_001;
    for (epoch, reader) in [(9, "a"), (10, "b"), (newest, "c"), (newest - 1, "d"), (newest, "e"), (0, "f")] {
        store.put_last_result(of_epoch(epoch, reader)).await.unwrap();
    }
    assert_eq!(store.last_epoch("epochs").await.unwrap(), Some(newest));
    assert_eq!(store.last_result("epochs").await.unwrap(), Some(of_epoch(newest, "e")));
}

async fn a_representative_vector_is_replaced_only_by_who_knows_it<S: FactStore>(store: &S) {
    let (first, second) = (representative_of("m", 1), representative_of("m", 2));
    assert_eq!(store.representative("swap", "m").await.unwrap(), None);
    assert!(
        !store.put_representative("swap", Some(&first.digest()), &second).await.unwrap(),
        "there is none"
    );
    assert!(store.put_representative("swap", None, &first).await.unwrap());
    assert!(!store.put_representative("swap", None, &second).await.unwrap(), "there is one");
    assert_eq!(store.representative("swap", "m").await.unwrap().as_ref(), Some(&first));
    assert!(store.put_representative("swap", Some(&first.digest()), &second).await.unwrap());
    assert_eq!(store.representative("swap", "m").await.unwrap(), Some(second));
    for (restaurant, model) in [("swap", "another"), ("another", "m")] {
        assert_eq!(store.representative(restaurant, model).await.unwrap(), None, "{restaurant}, {model}");
    }
}

async fn of_two_writers_of_a_representative_vector_one_wins<S: FactStore>(store: &S) {
    let mut kept: Option<Representative> = None;
    for round in 1..=10 {
        let rivals = [representative_of("m", 2 * round), representative_of("m", 2 * round + 1)];
        let expected = kept.as_ref().map(Representative::digest);
        let put = |new| store.put_representative("race", expected.as_deref(), new);
        let (a, b) = tokio::join!(put(&rivals[0]), put(&rivals[1]));
        let won = [a.unwrap(), b.unwrap()];
        assert_ne!(won[0], won[1], "round {round}");
        let [first, second] = rivals;
        kept = Some(if won[0] { first } else { second });
        assert_eq!(store.representative("race", "m").await.unwrap(), kept);
    }
}

/// Against shares summed by hand, over a fixed walk through restaurants, readers and replacements.
async fn totals_follow_any_sequence_of_shares<S: FactStore>(store: &S) {
    const ASPECTS: usize = 3;
    let mut shares: HashMap<(String, String), (u64, [u64; ASPECTS])> = HashMap::new();
    let mut state = 17_u64;
    let mut draw = |below: u64| {
        // Knuth's MMIX generator: the walk is the same in every run and on every home.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for _ in 0..40 {
        let (reader, restaurant) = (format!("walk{}", draw(2)), format!("r{}", draw(5)));
        let reviews = draw(50);
        let positive = [draw(reviews + 1), draw(reviews + 1), draw(reviews + 1)];
        store.put_aspect_counts(&reader, &restaurant, reviews, &positive).await.unwrap();
        shares.insert((reader.clone(), restaurant), (reviews, positive));

        let without = format!("r{}", draw(6));
        let mut expected = [AspectRate::default(); ASPECTS + 1];
        for ((_, _), (reviews, positive)) in
            shares.iter().filter(|((of, restaurant), _)| *of == reader && *restaurant != without)
        {
            for (rate, positive) in expected.iter_mut().zip(positive) {
                rate.restaurants += 1;
                rate.reviews += reviews;
                rate.positive += positive;
            }
        }
        // An aspect beyond those counted is asked for as well: it is there, and zero.
        assert_eq!(store.aspect_rates(&reader, &without, ASPECTS + 1).await.unwrap(), expected);
        assert_eq!(store.aspect_rates(&reader, &without, 1).await.unwrap(), expected[..1]);
    }
}

pub(super) fn key(reader: &str, text: &str) -> FactKey {
    FactKey { reader: reader.into(), text: text.into() }
}

/// Facts of a review with `clauses` clauses, every other one near an aspect and with a vector of 384 f16.
pub(super) fn facts_of(clauses: usize, p_positive: f32) -> ReviewFacts {
    let vector: Vec<u8> = (0..768_u32).map(|byte| (byte * 31 % 251) as u8).collect();
    let clause = |index: usize| ClauseFacts {
        start: index as u32 * 20,
        end: index as u32 * 20 + 18,
        aspects: if index.is_multiple_of(2) { vec![index as u16, 7] } else { Vec::new() },
        p_positive: index.is_multiple_of(2).then_some(p_positive),
        vector: if index.is_multiple_of(2) { vector.clone() } else { Vec::new() },
    };
    ReviewFacts {
        tokens: 5 * clauses as u32,
        p_positive: (clauses > 0).then_some(p_positive),
        clauses: (0..clauses).map(clause).collect(),
        vector: if clauses > 0 { vector.clone() } else { Vec::new() },
    }
}

/// Of as many reviews as said.
pub(super) fn representative_of(model: &str, reviews: usize) -> Representative {
    let mut representative = Representative::new(model);
    for id in 0..reviews {
        let review = Review {
            id: id.to_string(),
            text: format!("text {id}"),
            rating: None,
            recommended: Some(id.is_multiple_of(2)),
            created_at: None,
            embedding: None,
        };
        let vector = UnitVector::new(vec![1.0, id as f32, -0.5]).unwrap();
        representative.add(&review, &vector, time::OffsetDateTime::UNIX_EPOCH).unwrap();
    }
    representative
}

/// An earlier result with every kind of field in it, optional ones absent and present.
pub(super) fn last_of(restaurant: &str, reader: &str, reviews: usize) -> LastResult {
    let label = |id: usize| ReviewLabel {
        review_id: format!("review-{id}"),
        label: Polarity::Positive,
        p_positive: 0.75,
    };
    let total = reviews as u32;
    let sentiment = Sentiment {
        scope: Scope::All,
        positive: total,
        negative: 0,
        neutral: 0,
        total,
        unread: 0,
        positive_share: 1.0,
        negative_share: 0.0,
        neutral_share: 0.0,
        confidence: 0.5,
        trend: Vec::new(),
        reviews: (0..reviews).map(label).collect(),
    };
    let strength = Strength {
        aspect: "food".into(),
        kind: StrengthKind::Representative,
        claim: Claim { text: "국물이 깊다".into(), origin: Origin::Extractive, carried: true },
        support: total,
        support_ratio: 1.0,
        consistency: 0.5,
        recency: 0.5,
        lift: None,
        score: 0.25,
        evidence: vec![Evidence { review_id: "review-0".into(), quote: "국물이 깊다".into() }],
    };
    let failed = Outcome::Failed { code: "engine".into(), message: "the engine stopped".into() };
    let result = AnalysisResult {
        v: WIRE_VERSION,
        job_id: format!("job-{reviews}"),
        restaurant_id: restaurant.into(),
        restaurant_name: None,
        epoch: 4,
        review_set_digest: "d".into(),
        worker: "w".into(),
        model: ModelInfo {
            name: "m".into(),
            digest: "1".into(),
            embedding_name: "e".into(),
            embedding_digest: "2".into(),
            prompt_version: "3".into(),
        },
        language: Language::Ko,
        outcome: failed.clone(),
        outcomes: BTreeMap::from([(Analysis::Sentiment, Outcome::Ok), (Analysis::Summary, failed)]),
        sentiment: Some(sentiment),
        summary: None,
        strengths: Some(Strengths { items: vec![strength], candidates: 3, compared_with: 0 }),
        usage: Usage { reviews: total, prompt_tokens: 120, ..Usage::default() },
        timings: Timings { queue_ms: 0.5, ttft_ms: None, total_ms: 10.0 },
    };
    LastResult { reader: reader.into(), result }
}

/// Runs a future to its end on a runtime of its own.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
