//! What a peer made of its restaurants, and figures over them. Pure.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::grade::{self, Answer, Evidence, Form, Invalid};
use super::server::Completion;
use super::{Restaurant, Task};

/// Tokens of requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// In prompts, cached ones included.
    pub prompt: u64,
    /// Of those, the ones that the server held already.
    pub cached: u64,
    /// Generated.
    pub generated: u64,
}

impl Tokens {
    /// Those that the model computed.
    pub const fn computed(self) -> u64 {
        self.prompt - self.cached + self.generated
    }

    /// Counts others too.
    pub fn add(&mut self, other: Self) {
        self.prompt += other.prompt;
        self.cached += other.cached;
        self.generated += other.generated;
    }
}

/// What became of one task of one restaurant: the last try, and what all of them cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskAnswer {
    /// What was asked.
    pub task: Task,
    /// Requests made for it.
    pub tries: u32,
    /// The answer, if it is valid.
    pub answer: Option<Answer>,
    /// Why there is none.
    pub invalid: Option<String>,
    /// Tokens of all tries.
    pub tokens: Tokens,
    /// When the first try went out, in seconds of the run.
    pub sent: f64,
    /// When the first token of the first try was known; absent if none came.
    pub first_token: Option<f64>,
    /// When the last try was here.
    pub finished: f64,
}

impl TaskAnswer {
    /// Of one request. `begun`: of the run. A request that failed has no times of its own: it counts from `sent` to
    /// `ended`.
    pub fn of(
        task: Task,
        completed: Result<Completion, anyhow::Error>,
        form: Form,
        begun: Instant,
        (sent, ended): (Instant, Instant),
    ) -> Self {
        let since = |at: Instant| at.saturating_duration_since(begun).as_secs_f64();
        let mut answer = Self {
            task,
            tries: 1,
            answer: None,
            invalid: None,
            tokens: Tokens::default(),
            sent: since(sent),
            first_token: None,
            finished: since(ended),
        };
        match completed {
            Ok(completed) => {
                answer.tokens = Tokens {
                    prompt: completed.prompt_tokens,
                    cached: completed.cached_tokens,
                    generated: completed.generated_tokens,
                };
                answer.first_token = Some(since(completed.first_token));
                match grade::read(task, &completed.text, form) {
                    Ok(read) => answer.answer = Some(read),
                    Err(Invalid::NotJson) if completed.cut => {
                        answer.invalid = Some("cut by the limit".into());
                    }
                    Err(invalid) => answer.invalid = Some(invalid.reason().into()),
                }
            }
            Err(cause) => answer.invalid = Some(format!("{cause:#}")),
        }
        answer
    }

    /// With another try behind it, whose outcome counts.
    #[must_use]
    pub fn then(self, next: Self) -> Self {
        let mut tokens = self.tokens;
        tokens.add(next.tokens);
        Self {
            tries: self.tries + next.tries,
            tokens,
            sent: self.sent,
            first_token: self.first_token.or(next.first_token),
            ..next
        }
    }
}

/// What became of one restaurant. Times are seconds of the run, in which all restaurants arrive at its begin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answered {
    /// Its id.
    pub restaurant: String,
    /// Reviews in each prompt.
    pub reviews: usize,
    /// When it arrived.
    pub arrived: f64,
    /// When its first request went out.
    pub sent: f64,
    /// When the first token of any of its answers was known; absent if none came.
    pub first_token: Option<f64>,
    /// When its last answer was here.
    pub finished: f64,
    /// Tokens of all requests.
    pub tokens: Tokens,
    /// Whether all answers are valid.
    pub valid: bool,
    /// Its positive share; absent without valid counts.
    pub positive_share: Option<f64>,
    /// How far that is from the stars of the same reviews; absent without either.
    pub share_error: Option<f64>,
    /// How its quotes keep to the reviews.
    pub evidence: Evidence,
    /// The answers, in the order of [`Task::ALL`].
    pub answers: Vec<TaskAnswer>,
}

impl Answered {
    /// Of a restaurant's answers.
    pub fn of(restaurant: &Restaurant<'_>, mut answers: Vec<TaskAnswer>) -> Self {
        answers.sort_by_key(|answer| answer.task);
        let reviews = || restaurant.reviews.iter().copied();
        let (mut tokens, mut evidence, mut share) = (Tokens::default(), Evidence::default(), None);
        for answer in &answers {
            tokens.add(answer.tokens);
            match &answer.answer {
                Some(Answer::Counts { positive, negative }) => {
                    share = grade::positive_share(*positive, *negative);
                }
                Some(Answer::Findings(findings)) => evidence.add(Evidence::of(findings, &restaurant.reviews)),
                None => {}
            }
        }
        let first = answers.iter().filter_map(|answer| answer.first_token).min_by(f64::total_cmp);
        Self {
            restaurant: restaurant.id.to_owned(),
            reviews: restaurant.reviews.len(),
            arrived: 0.0,
            sent: answers.iter().map(|answer| answer.sent).min_by(f64::total_cmp).unwrap_or(0.0),
            first_token: first,
            finished: answers.iter().map(|answer| answer.finished).max_by(f64::total_cmp).unwrap_or(0.0),
            tokens,
            valid: answers.len() == Task::ALL.len() && answers.iter().all(|answer| answer.answer.is_some()),
            positive_share: share,
            share_error: share.and_then(|share| grade::share_error(share, reviews())),
            evidence,
            answers,
        }
    }
}

/// A peer's run in figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Restaurants asked about.
    pub asked: usize,
    /// Of those, the ones with three valid answers.
    pub valid: usize,
    /// Answers asked for: three a restaurant.
    pub answers: usize,
    /// Of those, the valid ones.
    pub answers_valid: usize,
    /// Requests made, tries included.
    pub requests: u64,
    /// From the run's begin to its last answer, in seconds.
    pub seconds: f64,
    /// Seconds per restaurant asked, whether its answers are valid or not.
    pub seconds_per_restaurant: f64,
    /// Tokens of all requests.
    pub tokens: Tokens,
    /// Tokens computed per restaurant asked.
    pub tokens_per_restaurant: f64,
    /// How the quotes keep to the reviews.
    pub evidence: Evidence,
    /// Mean distance of the positive share from the stars, over the restaurants that have both.
    pub share_error: Option<f64>,
    /// Restaurants that have both.
    pub shares: usize,
}

impl Totals {
    /// Of a run; `None` of nothing.
    pub fn of(answered: &[Answered]) -> Option<Self> {
        let seconds = answered.iter().map(|answered| answered.finished).max_by(f64::total_cmp)?;
        let (mut tokens, mut evidence) = (Tokens::default(), Evidence::default());
        for one in answered {
            tokens.add(one.tokens);
            evidence.add(one.evidence);
        }
        let answers = || answered.iter().flat_map(|one| &one.answers);
        let errors: Vec<f64> = answered.iter().filter_map(|one| one.share_error).collect();
        let asked = answered.len();
        Some(Self {
            asked,
            valid: answered.iter().filter(|one| one.valid).count(),
            answers: asked * Task::ALL.len(),
            answers_valid: answers().filter(|answer| answer.answer.is_some()).count(),
            requests: answers().map(|answer| u64::from(answer.tries)).sum(),
            seconds,
            seconds_per_restaurant: seconds / asked as f64,
            tokens,
            tokens_per_restaurant: tokens.computed() as f64 / asked as f64,
            evidence,
            share_error: (!errors.is_empty()).then(|| errors.iter().sum::<f64>() / errors.len() as f64),
            shares: errors.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use maitred::job::{Language, Review};

    use super::*;

    fn completed(begun: Instant, text: &str, cut: bool) -> Completion {
        let at = |seconds| begun + Duration::from_secs(seconds);
        Completion {
            text: text.into(),
            prompt_tokens: 100,
            cached_tokens: 60,
            generated_tokens: 5,
            cut,
            sent: at(1),
            first_token: at(2),
            finished: at(3),
        }
    }

    fn answer(task: Task, text: &str, cut: bool) -> TaskAnswer {
        let begun = Instant::now();
        let times = (begun + Duration::from_secs(1), begun + Duration::from_secs(3));
        TaskAnswer::of(task, Ok(completed(begun, text, cut)), Form::Exact, begun, times)
    }

    const COUNTS: &str = r#"{"positive": 1, "negative": 1}"#;
    const STRENGTHS: &str = r#"[{"strength": "soup", "quote": "Good soup", "review": 1}]"#;

    fn reviews() -> Vec<Review> {
        let text = r#"[{"id": "a", "text": "Good soup.", "rating": 5}, {"id": "b", "text": " "}]"#;
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn invalid_answers_count_as_asked_and_their_time_and_tokens_too() {
        let reviews = reviews();
        let restaurant = Restaurant { id: "r", language: Language::En, reviews: vec![&reviews[0]] };
        let cut = answer(Task::Summary, r#"[{"aspect": "#, true);
        assert_eq!(cut.invalid.as_deref(), Some("cut by the limit"));
        let answers =
            vec![answer(Task::Strengths, STRENGTHS, false), cut, answer(Task::Sentiment, COUNTS, false)];
        let answered = Answered::of(&restaurant, answers);
        assert_eq!(answered.answers.iter().map(|a| a.task).collect::<Vec<_>>(), Task::ALL);
        assert!(!answered.valid);
        assert_eq!((answered.positive_share, answered.share_error), (Some(0.5), Some(0.5)));
        assert_eq!(answered.evidence, Evidence { quotes: 1, verbatim: 1, attributed: 1 });
        let totals = Totals::of(&[answered]).unwrap();
        assert_eq!((totals.asked, totals.valid, totals.answers, totals.answers_valid), (1, 0, 3, 2));
        assert_eq!(totals.tokens.computed(), 3 * 45);
        assert!((totals.seconds_per_restaurant - 3.0).abs() < 1e-9);
        assert_eq!(Totals::of(&[]), None);
    }

    #[test]
    fn a_further_try_decides_and_all_tries_are_paid() {
        let tried = answer(Task::Sentiment, "hm", false).then(answer(Task::Sentiment, COUNTS, false));
        assert_eq!((tried.tries, tried.tokens.prompt, tried.invalid.is_none()), (2, 200, true));
        assert!(tried.answer.is_some());
        let failed = answer(Task::Sentiment, COUNTS, false).then(answer(Task::Sentiment, "hm", false));
        assert_eq!((failed.answer, failed.invalid.as_deref()), (None, Some("not JSON")));
    }

    #[test]
    fn a_request_that_failed_is_an_invalid_answer_with_its_time() {
        let begun = Instant::now();
        let times = (begun, begun + Duration::from_secs(4));
        let failed = TaskAnswer::of(Task::Sentiment, Err(anyhow::anyhow!("gone")), Form::Exact, begun, times);
        assert_eq!((failed.invalid.as_deref(), failed.first_token), (Some("gone"), None));
        assert!((failed.finished - 4.0).abs() < 1e-9);
    }
}
