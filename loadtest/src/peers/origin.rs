//! The way of the system that maitred descends from.
//!
//! - One restaurant after another, one request at a time, first come first served.
//! - All reviews of the restaurant in the prompt of each of the three analyses.
//! - Free JSON, read leniently; an answer that cannot be used is asked for again, three tries in all, at the
//!   origin's temperatures (so that another try can be another answer) and with seeds counted from the one given.
//!
//! Two things are kinder than the origin was: answers end at the first empty line, because a model that knows no
//! chat would go on to the limit; and the prompt has worked examples, which the origin's larger model did without.

use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::answers::TaskAnswer;
use super::grade::Form;
use super::prompts::{Prompts, STOP};
use super::server::CompletionOptions;
use super::{Answered, PeerServer, Restaurant, ServerOptions, Task};

/// Cells: all reviews of a restaurant and an answer; what the small model was trained for.
pub const CONTEXT: usize = 32_768;

/// The server's settings for this way.
pub fn server(model: &Path, threads: usize) -> ServerOptions {
    ServerOptions::new(model, threads, 1, CONTEXT)
}

/// What requests share through the server's cache of prompts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Sharing {
    /// Nothing: every prompt is read from its beginning.
    None,
    /// What follows from the origin's prompts, which begin with the task: tries of one request share all, requests
    /// for the same analysis its instructions.
    #[default]
    Task,
    /// The reviews too, which then stand first: better than the origin did, to see how much of the gain that is.
    Reviews,
}

/// How the origin asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginOptions {
    /// What requests share.
    pub sharing: Sharing,
    /// Requests made for one answer at most.
    pub tries: u32,
    /// What the first try draws from; the next try from the number behind it.
    pub seed: u32,
}

impl Default for OriginOptions {
    fn default() -> Self {
        Self { sharing: Sharing::default(), tries: 3, seed: 1 }
    }
}

/// Asks about one restaurant after another.
pub fn run(server: &PeerServer, restaurants: &[Restaurant<'_>], options: OriginOptions) -> Vec<Answered> {
    let begun = Instant::now();
    let mut answered = Vec::with_capacity(restaurants.len());
    for restaurant in restaurants {
        let answers = Task::ALL.map(|task| ask(server, restaurant, task, options, begun));
        answered.push(Answered::of(restaurant, answers.into()));
    }
    answered
}

/// Asks until an answer is valid or all tries are used.
fn ask(
    server: &PeerServer,
    restaurant: &Restaurant<'_>,
    task: Task,
    options: OriginOptions,
    begun: Instant,
) -> TaskAnswer {
    let prompts = Prompts::of(restaurant.language);
    let prompt = match options.sharing {
        Sharing::None | Sharing::Task => prompts.task_first(&restaurant.reviews, task),
        Sharing::Reviews => prompts.reviews_first(&restaurant.reviews, task),
    };
    let attempt = |seed| {
        let completion = CompletionOptions {
            max_tokens: max_tokens(task),
            temperature: temperature(task),
            seed,
            cache_prompt: options.sharing != Sharing::None,
            grammar: None,
            stop: STOP,
        };
        let sent = Instant::now();
        let completed = server.completion(&prompt, &completion);
        TaskAnswer::of(task, completed, Form::Free, begun, (sent, Instant::now()))
    };
    let mut answer = attempt(options.seed);
    while answer.answer.is_none() && answer.tries < options.tries {
        let seed = options.seed.wrapping_add(answer.tries);
        answer = answer.then(attempt(seed));
    }
    answer
}

/// The origin's.
const fn temperature(task: Task) -> f32 {
    match task {
        Task::Sentiment | Task::Strengths => 0.1,
        Task::Summary => 0.3,
    }
}

/// The origin's.
const fn max_tokens(task: Task) -> u32 {
    match task {
        Task::Sentiment => 100,
        Task::Summary | Task::Strengths => 1000,
    }
}
