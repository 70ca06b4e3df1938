//! What every home of facts must do, written once: each home's tests run `holds` over an empty store.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;

use super::{AspectRate, ClauseFacts, FactKey, FactStore, LastResult, ReviewFacts};
use crate::job::{Analysis, Language, Scope, WIRE_VERSION};
use crate::result::{
    AnalysisResult, Claim, Evidence, ModelInfo, Origin, Outcome, Polarity, ReviewLabel, Sentiment, Strength,
    StrengthKind, Strengths, Timings, Usage,
};

/// Runs every rule.
pub(super) async fn holds<S: FactStore>(store: &S) {
    facts_come_back_in_the_order_of_the_keys(store).await;
    facts_of_another_reader_are_unknown(store).await;
    keeping_the_same_key_twice_is_harmless(store).await;
    the_earlier_result_is_replaced(store).await;
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
