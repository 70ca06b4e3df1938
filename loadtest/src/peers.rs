//! Other ways to ask the same model the same thing about the same reviews.
//!
//! | way | what it is |
//! |---|---|
//! | [`llama_server`] | llama.cpp's own server, three requests per restaurant, JSON by grammar, eight at a time |
//! | [`origin`] | one restaurant after another, all reviews in each prompt, free JSON, tried again if unreadable |
//!
//! - Both ask for what maitred gives: counts, claims by aspect and strengths, the latter two with evidence.
//! - Every answer is read and graded. A restaurant with an invalid answer is still a restaurant that was asked, and
//!   time is per restaurant asked: a way that answers nonsense quickly is not fast, it is reported as invalid.
//! - A server remembers prompts. For cold figures each round needs restaurants of its own, or a new server.

pub mod answers;
pub mod grade;
pub mod grammar;
pub mod llama_server;
pub mod origin;
pub mod prompts;
pub mod server;

use maitred::job::{Job, Language, Review};
use maitred::text::language;
use serde::{Deserialize, Serialize};

pub use self::answers::{Answered, Totals};
pub use self::server::{PeerServer, ServerOptions};

/// What is asked of a restaurant, one request each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// How many reviews are positive, how many negative.
    Sentiment,
    /// A claim with evidence for each aspect.
    Summary,
    /// What is praised most, with evidence.
    Strengths,
}

impl Task {
    /// All of them, in the order in which they are asked.
    pub const ALL: [Self; 3] = [Self::Sentiment, Self::Summary, Self::Strengths];

    /// The name in prompts and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sentiment => "sentiment",
            Self::Summary => "summary",
            Self::Strengths => "strengths",
        }
    }

    /// Tokens that an answer may have. Answers under the grammar end well below (20, 230 and 160 tokens in English,
    /// a third more in Korean), so the limit only cuts texts that tokenize badly, such as rows of emoji.
    pub const fn max_tokens(self) -> u32 {
        match self {
            Self::Sentiment => 24,
            Self::Summary => 320,
            Self::Strengths => 240,
        }
    }
}

/// A restaurant as a peer sees it.
#[derive(Debug, Clone)]
pub struct Restaurant<'a> {
    /// Its id.
    pub id: &'a str,
    /// What its reviews are written in.
    pub language: Language,
    /// The reviews to read, in the order in which they are numbered. None is blank.
    pub reviews: Vec<&'a Review>,
}

impl<'a> Restaurant<'a> {
    /// With the reviews given; blank ones are left out.
    pub fn with(job: &'a Job, reviews: impl IntoIterator<Item = &'a Review>) -> Self {
        let texts = || job.reviews.iter().map(|review| review.text.as_str());
        Self {
            id: &job.restaurant_id,
            language: job.language.unwrap_or_else(|| language::detect(texts())),
            reviews: reviews.into_iter().filter(|review| !review.text.trim().is_empty()).collect(),
        }
    }

    /// With all its reviews.
    pub fn of(job: &'a Job) -> Self {
        Self::with(job, &job.reviews)
    }

    /// With the first `count` that are not blank.
    pub fn first(job: &'a Job, count: usize) -> Self {
        let mut all = Self::of(job);
        all.reviews.truncate(count);
        all
    }
}
