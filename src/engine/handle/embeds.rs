//! Texts that wait for the embedding model, in the order of their jobs: one call at a time, between decode calls.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::engine::backend::{Embedder, Token};
use crate::engine::clock::Clock;
use crate::engine::request::{BackendFailure, RequestError};
use crate::scheduler::{Arrival, Key, Policy, Ready};

/// Texts of one asker, worked off in slices.
pub(super) struct EmbedJob {
    pub model: usize,
    pub texts: VecDeque<Vec<Token>>,
    pub done: Vec<Vec<f32>>,
    pub reply: oneshot::Sender<Result<Vec<Vec<f32>>, RequestError>>,
}

/// What one call of an embedding model did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct EmbedCall {
    pub texts: u64,
    pub tokens: u64,
    pub time: Duration,
}

/// The models, and who waits for them.
pub(super) struct Embeds<'m> {
    models: Vec<Box<dyn Embedder + 'm>>,
    waiting: Ready<EmbedJob>,
}

impl<'m> Embeds<'m> {
    pub fn new(models: Vec<Box<dyn Embedder + 'm>>, policy: Policy) -> Self {
        Self { models, waiting: Ready::new(policy) }
    }

    pub fn push(&mut self, job: EmbedJob, arrival: Arrival) {
        self.waiting.push(job, arrival);
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The most urgent place among those that wait.
    pub fn first_key(&self) -> Option<Key> {
        self.waiting.peek_key()
    }

    /// One call of the embedding model for the job whose turn it is; `None` if there was nothing to call it for.
    pub fn call(&mut self, clock: &impl Clock) -> Option<EmbedCall> {
        let (key, mut job) = self.waiting.pop()?;
        // Nobody waits any more.
        if job.reply.is_closed() {
            return None;
        }
        let Some(model) = self.models.get_mut(job.model) else {
            return refuse(job, RequestError::Malformed("no such embedding model"));
        };
        if job.texts.iter().any(Vec::is_empty) {
            return refuse(job, RequestError::Malformed("a text without tokens"));
        }
        let slice = cut_slice(&mut job.texts, model.as_ref());
        let mut call = None;
        if !slice.is_empty() {
            let begun = clock.now();
            match model.embed(&slice) {
                Ok(vectors) => job.done.extend(vectors),
                Err(error) => return refuse(job, RequestError::Backend(BackendFailure::Decode(error))),
            }
            call = Some(EmbedCall {
                texts: slice.len() as u64,
                tokens: slice.iter().map(Vec::len).sum::<usize>() as u64,
                time: clock.now().saturating_sub(begun),
            });
        }
        if job.texts.is_empty() {
            // A closed reply means that nobody waits any more.
            let _ = job.reply.send(Ok(job.done));
        } else {
            self.waiting.put_back(key, job);
        }
        call
    }
}

fn refuse(job: EmbedJob, error: RequestError) -> Option<EmbedCall> {
    // A closed reply means that nobody waits any more.
    let _ = job.reply.send(Err(error));
    None
}

/// Takes from the front what goes into one call: texts that fit it together, or one that is longer than a call should be. A text over the
/// model's length is cut, its closing token kept.
pub(super) fn cut_slice(texts: &mut VecDeque<Vec<Token>>, embedder: &(dyn Embedder + '_)) -> Vec<Vec<Token>> {
    let longest = embedder.max_text_tokens().max(1);
    let mut slice = Vec::new();
    let mut total = 0;
    while slice.len() < embedder.batch_texts() {
        let Some(next) = texts.front_mut() else { break };
        if next.len() > longest {
            let closing = next[next.len() - 1];
            next.truncate(longest);
            next[longest - 1] = closing;
        }
        if !slice.is_empty() && total + next.len() > embedder.batch_tokens() {
            break;
        }
        total += next.len();
        slice.extend(texts.pop_front());
    }
    slice
}
