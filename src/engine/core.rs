//! The loop of the engine, without the thread: waiting and running requests, one decode call per [`Core::step`].
//!
//! Each step feeds decode tokens of generating branches first, then prompt tokens in heap order, up to the batch
//! size; sequences join and leave at every step. A decode call that fails for an unknown reason puts every
//! request that was in it back as a *suspect*: suspects run alone, so only the one at fault fails.

mod branch;
mod counters;
mod need;
mod running;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

pub use self::counters::{CoreCounters, Step};
use self::need::{saturate, too_large};
use self::running::{Feed, Running};
use super::backend::{Backend, BackendError, BatchToken, ContextShape, SeqId, Token};
use super::clock::Clock;
use super::request::{Answer, BackendFailure, PrefixId, Request, RequestError};
use crate::scheduler::{Capacity, Grant, Key, Need, Policy, Ready, Room, admit_next};

/// Where an answer goes. Closed by whoever no longer wants it.
pub type Reply = oneshot::Sender<Result<Answer, RequestError>>;

/// How often a request may be put back for want of cells before it fails.
const MAX_EVICTIONS: u8 = 3;

/// A request that holds nothing yet.
#[derive(Debug)]
pub(super) struct Waiting {
    request: Request,
    reply: Reply,
    queued: Duration,
    evictions: u8,
    suspect: bool,
}

/// A pinned prompt head: a sequence of its own from the first request that names it on.
#[derive(Debug)]
struct Prefix {
    tokens: Vec<Token>,
    seq: SeqId,
    resident: bool,
}

/// The state machine. Owns the backend, the heap, the sequences and the room.
pub struct Core<B> {
    backend: B,
    clock: Arc<dyn Clock>,
    shape: ContextShape,
    room: Room,
    free: Vec<SeqId>,
    prefix_seqs: Vec<SeqId>,
    prefixes: Vec<Prefix>,
    waiting: Ready<Waiting>,
    suspects: VecDeque<(Key, Waiting)>,
    /// In key order.
    running: Vec<Running>,
    batch: Vec<BatchToken>,
    feeds: Vec<Feed>,
    counters: CoreCounters,
}

impl<B: Backend> Core<B> {
    /// A core over a fresh backend. `prefixes` sequences are set aside for pinned heads, the others are permits.
    pub fn new(backend: B, clock: Arc<dyn Clock>, policy: Policy, prefixes: u16) -> Self {
        let shape = backend.shape();
        let prefixes = prefixes.min(shape.sequences.saturating_sub(1));
        let permits = shape.sequences - prefixes;
        let capacity = Capacity {
            sequences: u32::from(permits),
            cells: shape.cells,
            cells_per_sequence: shape.cells_per_sequence,
        };
        Self {
            backend,
            clock,
            shape,
            room: Room::new(capacity),
            free: (prefixes..shape.sequences).rev().map(SeqId).collect(),
            prefix_seqs: (0..prefixes).rev().map(SeqId).collect(),
            prefixes: Vec::new(),
            waiting: Ready::new(policy),
            suspects: VecDeque::new(),
            running: Vec::new(),
            batch: Vec::new(),
            feeds: Vec::new(),
            counters: CoreCounters::default(),
        }
    }

    /// Registers a prompt head. Its cells are set aside now; it is prefilled when first named.
    pub fn register_prefix(&mut self, tokens: Vec<Token>) -> Result<PrefixId, RequestError> {
        if let Some(known) = self.prefixes.iter().position(|prefix| prefix.tokens == tokens) {
            return Ok(PrefixId(known));
        }
        if tokens.is_empty() {
            return Err(RequestError::Malformed("an empty prefix"));
        }
        let length = saturate(tokens.len());
        let cells = if self.shape.unified { length } else { 0 };
        let offered = Need {
            sequences: self.prefix_seqs.len() as u32,
            cells: self.room.free().cells.min(self.shape.cells_per_sequence.saturating_sub(1)),
        };
        let refused = too_large(Need { sequences: 1, cells: length }, offered);
        // Nothing is taken before all of it is known to be there: what is pinned is never given back.
        if self.prefix_seqs.is_empty() || length > offered.cells {
            return Err(refused);
        }
        self.room.reserve_permanently(cells).map_err(|_| refused.clone())?;
        let seq = self.prefix_seqs.pop().ok_or(refused)?;
        self.prefixes.push(Prefix { tokens, seq, resident: false });
        Ok(PrefixId(self.prefixes.len() - 1))
    }

    /// Puts a request into the heap, or answers at once why it can never run.
    pub fn submit(&mut self, request: Request, reply: Reply) {
        if let Err(error) = self.check(&request) {
            self.refuse(reply, error);
            return;
        }
        let queued = self.clock.now();
        let arrival = request.arrival;
        self.waiting.push(Waiting { request, reply, queued, evictions: 0, suspect: false }, arrival);
    }

    /// Whether there is nothing to do.
    pub fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty() && self.suspects.is_empty()
    }

    /// Requests in the heap and requests running.
    pub fn depth(&self) -> (usize, usize) {
        (self.waiting.len() + self.suspects.len(), self.running.len())
    }

    /// The most urgent place among those that wait for a sequence: who is admitted next.
    pub fn waiting_key(&self) -> Option<Key> {
        let suspect = self.suspects.front().map(|(key, _)| *key);
        suspect.into_iter().chain(self.waiting.peek_key()).min()
    }

    /// Counters so far.
    pub fn counters(&self) -> CoreCounters {
        self.counters
    }

    /// The room, to see that it is whole.
    pub fn room(&self) -> &Room {
        &self.room
    }

    /// The backend, to look at in tests and benchmarks.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// One round: drop what is no longer wanted, admit, decode once. `None` if there was nothing to decode.
    pub fn step(&mut self) -> Option<Step> {
        let begun = self.clock.now();
        self.sweep(begun);
        self.admit();
        self.build_batch();
        let before = self.clock.now();
        if self.batch.is_empty() {
            // A prefix that could not be pinned took its time all the same.
            self.counters.busy_time += before.saturating_sub(begun);
            return None;
        }
        let outcome = self.backend.decode(&self.batch);
        let after = self.clock.now();
        let mut step = self.describe(after.saturating_sub(before));
        match outcome {
            Ok(()) => step.generated_tokens = self.absorb(after),
            Err(BackendError::NoRoom) => self.evict(),
            Err(error @ BackendError::Fatal { .. }) => self.isolate(&error),
        }
        let end = self.clock.now();
        step.read_time = end.saturating_sub(after);
        step.total_time = end.saturating_sub(begun);
        step.ended = end;
        self.count(&step);
        Some(step)
    }

    /// Answers everything with `error` and lets go of all of it.
    pub fn abort(&mut self, error: &RequestError) {
        while let Some((_, waiting)) = self.waiting.pop() {
            self.refuse(waiting.reply, error.clone());
        }
        while let Some((_, waiting)) = self.suspects.pop_front() {
            self.refuse(waiting.reply, error.clone());
        }
        while let Some(run) = self.running.pop() {
            let waiting = self.dismiss(run);
            self.refuse(waiting.reply, error.clone());
        }
    }

    fn refuse(&mut self, reply: Reply, error: RequestError) {
        self.counters.failed += 1;
        // A closed reply means that nobody waits any more: there is no one to tell.
        let _ = reply.send(Err(error));
    }

    /// Ends running requests whose asker has gone or whose deadline has passed.
    fn sweep(&mut self, now: Duration) {
        let mut index = 0;
        while index < self.running.len() {
            let Some(error) = unwanted(self.running[index].waiting(), now) else {
                index += 1;
                continue;
            };
            let run = self.running.remove(index);
            let waiting = self.dismiss(run);
            self.refuse(waiting.reply, error);
        }
    }

    /// Takes from the heap while the next one fits. No later request passes one that does not fit: that bound on
    /// waiting is worth more than the cells it leaves unused.
    fn admit(&mut self) {
        if self.running.iter().any(|run| run.waiting().suspect) {
            return;
        }
        if let Some((key, suspect)) = self.suspects.pop_front() {
            if self.running.is_empty() {
                self.admit_alone(key, suspect);
            } else {
                self.suspects.push_front((key, suspect));
            }
            return;
        }
        while let Some(waiting) = self.waiting.peek() {
            let now = self.clock.now();
            let need = self.need(&waiting.request);
            // A prefix registered since it was submitted has made the room smaller.
            if let Some(error) = unwanted(waiting, now).or_else(|| self.check_room(need).err()) {
                if let Some((_, waiting)) = self.waiting.pop() {
                    self.refuse(waiting.reply, error);
                }
                continue;
            }
            let Some((key, waiting, grant)) = admit_next(&mut self.waiting, &self.room, |_| need) else {
                return;
            };
            self.start(key, waiting, grant, now);
        }
    }

    fn admit_alone(&mut self, key: Key, suspect: Waiting) {
        let now = self.clock.now();
        let need = self.need(&suspect.request);
        if let Some(error) = unwanted(&suspect, now).or_else(|| self.check_room(need).err()) {
            return self.refuse(suspect.reply, error);
        }
        match self.room.try_admit(need) {
            Some(grant) => self.start(key, suspect, grant, now),
            None => self.suspects.push_front((key, suspect)),
        }
    }

    fn start(&mut self, key: Key, waiting: Waiting, grant: Grant, now: Duration) {
        let mut base = 0;
        let mut prefix_seq = None;
        if let Some(id) = waiting.request.prefix {
            if let Err(error) = self.pin(id) {
                drop(grant);
                return self.refuse(waiting.reply, RequestError::Backend(error.into()));
            }
            let prefix = &self.prefixes[id.0];
            base = prefix.tokens.len() as u32;
            prefix_seq = Some(prefix.seq);
        }
        let count = waiting.request.branches.len();
        // The grant covers `count` permits and there are as many free sequences as free permits.
        let seqs: Vec<SeqId> = self.free.split_off(self.free.len() - count);
        if let Some(prefix) = prefix_seq {
            self.backend.fork(prefix, seqs[0]);
        }
        let run = Running::new(key, waiting, grant, seqs, base, now);
        let place = self.running.partition_point(|other| other.key() <= run.key());
        self.running.insert(place, run);
    }

    /// Prefills a prefix the first time it is named.
    fn pin(&mut self, id: PrefixId) -> Result<(), BackendError> {
        let prefix = &mut self.prefixes[id.0];
        if prefix.resident {
            return Ok(());
        }
        for (chunk, tokens) in prefix.tokens.chunks(self.shape.batch_tokens as usize).enumerate() {
            let start = chunk * self.shape.batch_tokens as usize;
            let batch: Vec<BatchToken> = (start..)
                .zip(tokens)
                .map(|(pos, &token)| BatchToken { token, pos: pos as u32, seq: prefix.seq, output: false })
                .collect();
            let before = self.clock.now();
            let outcome = self.backend.decode(&batch);
            let took = self.clock.now().saturating_sub(before);
            // The step that pins it counts the time in all.
            self.counters.decode_time += took;
            self.counters.steps += 1;
            self.counters.sequence_steps += 1;
            self.counters.prefill_tokens += batch.len() as u64;
            if let Err(error) = outcome {
                self.backend.clear(prefix.seq);
                return Err(error);
            }
        }
        prefix.resident = true;
        Ok(())
    }

    /// Decode tokens of generating branches first, then prompts in heap order.
    fn build_batch(&mut self) {
        self.batch.clear();
        self.feeds.clear();
        let limit = self.shape.batch_tokens as usize;
        for decoding in [true, false] {
            for (index, run) in self.running.iter().enumerate() {
                run.feed(index, decoding, limit, &mut self.batch, &mut self.feeds);
            }
        }
    }

    fn describe(&self, decode_time: Duration) -> Step {
        let decode_tokens = self.feeds.iter().map(|feed| feed.sampled).sum::<usize>() as u32;
        Step {
            prefill_tokens: self.batch.len() as u32 - decode_tokens,
            decode_tokens,
            generated_tokens: 0,
            read_tokens: self.batch.iter().filter(|item| item.output).count() as u32,
            sequences: self.feeds.len() as u32,
            decode_time,
            read_time: Duration::ZERO,
            total_time: Duration::ZERO,
            ended: Duration::ZERO,
        }
    }

    fn count(&mut self, step: &Step) {
        self.counters.steps += 1;
        self.counters.prefill_tokens += u64::from(step.prefill_tokens);
        self.counters.decode_tokens += u64::from(step.decode_tokens);
        self.counters.sequence_steps += u64::from(step.sequences);
        self.counters.read_tokens += u64::from(step.read_tokens);
        self.counters.decode_time += step.decode_time;
        self.counters.read_time += step.read_time;
        self.counters.busy_time += step.total_time;
    }

    /// Takes the logits of a decode that worked; answers what is complete. Tokens that were sampled.
    fn absorb(&mut self, now: Duration) -> u32 {
        let feeds = std::mem::take(&mut self.feeds);
        let mut generated = 0;
        for feed in &feeds {
            generated += self.running[feed.run].absorb(feed, &mut self.backend, now);
        }
        self.feeds = feeds;
        let mut index = 0;
        while index < self.running.len() {
            if self.running[index].is_over() {
                let run = self.running.remove(index);
                self.settle(run);
            } else {
                index += 1;
            }
        }
        generated
    }

    fn settle(&mut self, mut run: Running) {
        let outcome = run.take_outcome();
        let waiting = self.dismiss(run);
        match outcome {
            Ok(mut answer) => {
                answer.timing.finished = self.clock.now();
                self.counters.completed += 1;
                self.counters.forced_tokens += u64::from(answer.usage.forced);
                self.counters.reused_tokens += u64::from(answer.usage.reused);
                // A closed reply means that nobody waits any more.
                let _ = waiting.reply.send(Ok(answer));
            }
            Err(failure) => self.refuse(waiting.reply, RequestError::Backend(failure)),
        }
    }

    /// Gives back sequences, cells and permits.
    fn dismiss(&mut self, run: Running) -> Waiting {
        let (waiting, seqs, grant) = run.into_parts();
        for seq in seqs {
            self.backend.clear(seq);
            self.free.push(seq);
        }
        drop(grant);
        waiting
    }

    /// Puts the last in heap order back: it costs recomputation only.
    fn evict(&mut self) {
        let alone = self.running.len() == 1;
        let Some(run) = self.running.pop() else { return };
        let key = run.key();
        let mut waiting = self.dismiss(run);
        self.counters.evictions += 1;
        waiting.evictions += 1;
        if alone || waiting.evictions > MAX_EVICTIONS {
            self.refuse(waiting.reply, RequestError::Backend(BackendError::NoRoom.into()));
        } else {
            self.waiting.put_back(key, waiting);
        }
    }

    /// Puts every request of the failed batch back as a suspect; one that was alone has failed.
    fn isolate(&mut self, error: &BackendError) {
        let involved: Vec<bool> =
            (0..self.running.len()).map(|index| self.feeds.iter().any(|feed| feed.run == index)).collect();
        let alone = involved.iter().filter(|&&involved| involved).count() == 1;
        let (suspects, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.running).into_iter().zip(involved).partition(|&(_, involved)| involved);
        self.running = others.into_iter().map(|(run, _)| run).collect();
        for (run, _) in suspects {
            let key = run.key();
            let mut waiting = self.dismiss(run);
            if alone {
                self.refuse(waiting.reply, RequestError::Backend(BackendFailure::Decode(error.clone())));
            } else {
                waiting.suspect = true;
                self.suspects.push_back((key, waiting));
            }
        }
    }
}

/// Why a request should not run any more, if so.
fn unwanted(waiting: &Waiting, now: Duration) -> Option<RequestError> {
    if waiting.reply.is_closed() {
        return Some(RequestError::Cancelled);
    }
    waiting.request.deadline.is_some_and(|deadline| now > deadline).then_some(RequestError::DeadlineExceeded)
}
