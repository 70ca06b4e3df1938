//! llama.cpp's own server, used as a careful user would.
//!
//! - Three requests per restaurant; the form of the answers is held by a grammar; the likeliest token is taken.
//! - The reviews stand first and the question last, so that one slot can answer all three over one reading.
//! - As many requests under way as the server has slots.
//!
//! Settings are the server's own defaults ([`options`]), with as many threads as maitred has.

use std::path::Path;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::answers::TaskAnswer;
use super::grade::Form;
use super::prompts::{Prompts, STOP};
use super::server::CompletionOptions;
use super::{Answered, PeerServer, Restaurant, ServerOptions, Task, grammar};

/// Slots, and requests under way.
pub const SLOTS: usize = 8;

/// Cells of a slot: two worked restaurants, 20 long reviews and an answer.
pub const SLOT_CONTEXT: usize = 4096;

/// The server's settings for this way.
pub fn options(model: &Path, threads: usize) -> ServerOptions {
    ServerOptions::new(model, threads, SLOTS, SLOT_CONTEXT)
}

/// In what order requests go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Drive {
    /// Eight restaurants at a time, the three requests of each one after another: the second and third find the
    /// reviews in their slot.
    Chained,
    /// All requests in one row, eight at a time: those of a restaurant run side by side, each reads the reviews.
    Spread,
}

/// Asks about all restaurants, [`SLOTS`] requests at a time, and gives what became of each, in their order.
pub fn run(server: &PeerServer, restaurants: &[Restaurant<'_>], drive: Drive) -> Vec<Answered> {
    let begun = Instant::now();
    let all =
        (0..restaurants.len()).flat_map(|index| Task::ALL.map(|task| (index, task))).collect::<Vec<_>>();
    let chains: Vec<_> = match drive {
        Drive::Chained => all.chunks(Task::ALL.len()).collect(),
        Drive::Spread => all.chunks(1).collect(),
    };
    let next = AtomicUsize::new(0);
    let answers: Vec<Mutex<Vec<TaskAnswer>>> = restaurants.iter().map(|_| Mutex::default()).collect();
    thread::scope(|scope| {
        for _ in 0..SLOTS.min(chains.len()) {
            scope.spawn(|| {
                while let Some(chain) = chains.get(next.fetch_add(1, Ordering::Relaxed)) {
                    for &(index, task) in *chain {
                        let answer = ask(server, &restaurants[index], task, begun);
                        answers[index].lock().unwrap_or_else(PoisonError::into_inner).push(answer);
                    }
                }
            });
        }
    });
    let answers = answers.into_iter().map(|held| held.into_inner().unwrap_or_else(PoisonError::into_inner));
    restaurants.iter().zip(answers).map(|(restaurant, answers)| Answered::of(restaurant, answers)).collect()
}

fn ask(server: &PeerServer, restaurant: &Restaurant<'_>, task: Task, begun: Instant) -> TaskAnswer {
    let prompt = Prompts::of(restaurant.language).reviews_first(&restaurant.reviews, task);
    let grammar = grammar::of(task, restaurant.language);
    let options = CompletionOptions {
        max_tokens: task.max_tokens(),
        temperature: 0.0,
        seed: 0,
        cache_prompt: true,
        grammar: Some(&grammar),
        stop: STOP,
    };
    let sent = Instant::now();
    let completed = server.completion(&prompt, &options);
    TaskAnswer::of(task, completed, Form::Exact, begun, (sent, Instant::now()))
}
