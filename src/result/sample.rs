//! Hand-made results for tests: one in each language, and one of each outcome. The texts are written for this
//! project.

use super::*;
use crate::job::WIRE_VERSION;

/// A result with everything in it.
pub fn english() -> AnalysisResult {
    let mut result = shell("blue-door", Some("The Blue Door"), Language::En);
    result.sentiment =
        Some(sentiment([7, 2, 1], &[("2024-03", 1, 2, 0), ("2024-04", 2, 0, 1), ("2024-06", 4, 0, 0)]));
    result.summary = Some(Summary {
        overall: claim(
            "Guests praise the food and the staff; waiting is the main complaint.",
            Origin::Composed,
        ),
        aspects: vec![
            aspect(
                "food",
                Polarity::Positive,
                (6, 5.0 / 6.0, 1.0 / 6.0),
                claim("The grilled fish is praised.", Origin::Generated),
                &[("r1", "the grilled fish was the best I have had"), ("r4", "fresh fish")],
            ),
            aspect(
                "waiting",
                Polarity::Negative,
                (2, 0.0, 1.0),
                claim("we waited forty minutes for a table", Origin::Extractive),
                &[("r3", "we waited forty minutes for a table")],
            ),
        ],
    });
    result.strengths = Some(Strengths {
        items: vec![
            strength("food", StrengthKind::Distinct, "The fish is grilled well.", 5, Some(2.4)),
            Strength {
                claim: Claim { carried: true, ..claim("The staff is friendly.", Origin::Generated) },
                ..strength("service", StrengthKind::Representative, "", 3, None)
            },
        ],
        candidates: 4,
        compared_with: 49,
    });
    result
}

/// Korean, with wide characters in every text, and neither trend nor strengths.
pub fn korean() -> AnalysisResult {
    let mut result = shell("pureun-mun", Some("푸른문 식당"), Language::Ko);
    result.sentiment = Some(sentiment([3, 1, 0], &[("2024-03", 3, 1, 0)]));
    result.summary = Some(Summary {
        overall: claim("손님들은 음식을 칭찬합니다.", Origin::Composed),
        aspects: vec![aspect(
            "음식",
            Polarity::Positive,
            (3, 1.0, 0.0),
            claim("생선구이가 맛있다는 평이 많습니다.", Origin::Generated),
            &[("r1", "생선구이가 정말 고소하고 맛있어요")],
        )],
    });
    result.strengths = Some(Strengths { items: Vec::new(), candidates: 1, compared_with: 0 });
    result
}

/// One result of each outcome there is.
pub fn one_of_each_outcome() -> Vec<AnalysisResult> {
    let with = |mut result: AnalysisResult, outcome: Outcome| {
        result.outcomes = Analysis::ALL.into_iter().map(|a| (a, outcome.clone())).collect();
        result.outcome = outcome;
        result
    };
    let empty = || shell("empty", None, Language::En);
    let failed =
        Outcome::Failed { code: "engine_stopped".into(), message: "the engine stopped; run again".into() };
    let mut partial = english();
    if let Some(sentiment) = &mut partial.sentiment {
        sentiment.unread = 2;
    }
    vec![
        with(english(), Outcome::Ok),
        with(partial, Outcome::Partial { message: "2 reviews could not be read".into() }),
        with(korean(), Outcome::Unchanged),
        with(empty(), Outcome::NoData),
        with(empty(), Outcome::Stale),
        with(empty(), failed),
    ]
}

/// A result without findings.
fn shell(id: &str, name: Option<&str>, language: Language) -> AnalysisResult {
    AnalysisResult {
        v: WIRE_VERSION,
        job_id: format!("j-{id}"),
        restaurant_id: id.into(),
        restaurant_name: name.map(Into::into),
        epoch: 1,
        review_set_digest: "00".repeat(32),
        worker: "test".into(),
        model: ModelInfo {
            name: "a-model".into(),
            digest: "11".repeat(32),
            embedding_name: "an-embedding".into(),
            embedding_digest: "22".repeat(32),
            prompt_version: "33".repeat(32),
        },
        language,
        outcome: Outcome::Ok,
        outcomes: Analysis::ALL.into_iter().map(|a| (a, Outcome::Ok)).collect(),
        sentiment: None,
        summary: None,
        strengths: None,
        usage: Usage {
            reviews: 10,
            reviews_read: 8,
            reviews_cached: 2,
            requests: 9,
            prompt_tokens: 400,
            reused_tokens: 1200,
            forced_tokens: 20,
            generated_tokens: 30,
            baseline_tokens: 2100,
            embedded_texts: 25,
            claims_written: 6,
            claims_kept: 4,
        },
        timings: Timings { queue_ms: 1.5, ttft_ms: Some(80.25), total_ms: 950.0 },
    }
}

fn sentiment([positive, negative, neutral]: [u32; 3], months: &[(&str, u32, u32, u32)]) -> Sentiment {
    let total = positive + negative + neutral;
    let share = |count: u32| count as f32 / total as f32;
    Sentiment {
        scope: Scope::All,
        positive,
        negative,
        neutral,
        total,
        unread: 0,
        positive_share: share(positive),
        negative_share: share(negative),
        neutral_share: share(neutral),
        confidence: 0.8,
        trend: months
            .iter()
            .map(|&(month, positive, negative, neutral)| Month {
                month: month.into(),
                positive,
                negative,
                neutral,
            })
            .collect(),
        reviews: vec![ReviewLabel { review_id: "r1".into(), label: Polarity::Positive, p_positive: 0.97 }],
    }
}

fn claim(text: &str, origin: Origin) -> Claim {
    Claim { text: text.into(), origin, carried: false }
}

fn aspect(
    name: &str,
    polarity: Polarity,
    (support, positive_share, negative_share): (u32, f32, f32),
    claim: Claim,
    quotes: &[(&str, &str)],
) -> AspectFinding {
    let evidence =
        quotes.iter().map(|&(id, quote)| Evidence { review_id: id.into(), quote: quote.into() }).collect();
    AspectFinding { aspect: name.into(), polarity, support, positive_share, negative_share, claim, evidence }
}

fn strength(aspect: &str, kind: StrengthKind, text: &str, support: u32, lift: Option<f32>) -> Strength {
    Strength {
        aspect: aspect.into(),
        kind,
        claim: claim(text, Origin::Generated),
        support,
        support_ratio: support as f32 / 10.0,
        consistency: 0.9,
        recency: 0.7,
        lift,
        score: 1.1,
        evidence: vec![Evidence { review_id: "r4".into(), quote: "fresh fish".into() }],
    }
}
