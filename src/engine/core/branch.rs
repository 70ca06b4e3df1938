//! One branch of a running request: which tokens it wants fed next, and what it makes of the logits.

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::backend::{Backend, BackendError, SeqId, Token};
use super::super::labels::{LabelWalk, greedy};
use super::super::request::{BackendFailure, Branch, BranchAnswer, Labels, Span, SpanText};

/// A branch at work.
#[derive(Debug)]
pub(super) struct BranchRun {
    /// Its sequence.
    pub seq: SeqId,
    /// Next position in the sequence.
    pub pos: u32,
    /// Tokens to feed before the next look at the logits; never empty while the branch is not over.
    pub queue: VecDeque<Token>,
    /// How many tokens at the front of the queue were sampled (0 or 1).
    pub sampled: usize,
    work: Work,
}

#[derive(Debug)]
enum Work {
    Probe { labels: Arc<Labels>, walk: LabelWalk, root: Option<u32> },
    Generate { spans: VecDeque<Span>, current: Vec<Token>, done: Vec<SpanText> },
    Over(Result<BranchAnswer, BackendFailure>),
}

/// Tokens that a look at the logits added.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Progress {
    /// Template tokens queued.
    pub forced: u32,
    /// Tokens sampled.
    pub generated: u32,
    /// Whether a first label or token is known now.
    pub output: bool,
}

impl BranchRun {
    /// A branch at `pos` of `seq`, behind `head` tokens of its own (the body, when it need not be shared).
    pub fn new(branch: &Branch, seq: SeqId, pos: u32, head: &[Token]) -> (Self, Progress) {
        let mut queue: VecDeque<Token> = head.iter().copied().collect();
        let mut progress = Progress::default();
        let work = match branch {
            Branch::Probe { question, labels } => {
                queue.extend(question);
                Work::Probe { labels: Arc::clone(labels), walk: LabelWalk::new(labels), root: None }
            }
            Branch::Generate { template } => {
                let mut spans: VecDeque<Span> = template.iter().cloned().collect();
                progress.forced = force(&mut spans, &mut queue);
                Work::Generate { spans, current: Vec::new(), done: Vec::new() }
            }
        };
        (Self { seq, pos, queue, sampled: 0, work }, progress)
    }

    /// Whether there is nothing more to feed.
    pub fn is_over(&self) -> bool {
        matches!(self.work, Work::Over(_))
    }

    /// Whether the branch has begun to sample.
    pub fn is_decoding(&self) -> bool {
        self.sampled > 0
    }

    /// The answer, once over.
    pub fn into_answer(self) -> Option<Result<BranchAnswer, BackendFailure>> {
        if let Work::Over(answer) = self.work { Some(answer) } else { None }
    }

    /// Takes `count` tokens off the queue: they are in the cache now.
    pub fn fed(&mut self, count: usize) {
        self.queue.drain(..count);
        self.sampled = self.sampled.saturating_sub(count);
        self.pos += count as u32;
    }

    /// Looks at the logits behind the last fed token, the `index`-th of the batch.
    pub fn read(&mut self, index: usize, backend: &mut impl Backend) -> Progress {
        match &mut self.work {
            Work::Probe { labels, walk, root } => {
                if walk.read(labels, backend.logits(index)).is_err() {
                    self.work = Work::Over(Err(BackendFailure::BadLogits));
                    return Progress::default();
                }
                // All labels are read behind the question: go back there before walking into the next one.
                let root = *root.get_or_insert(self.pos);
                if self.pos > root && !backend.truncate(self.seq, root) {
                    self.work = Work::Over(Err(BackendError::Fatal { code: 0 }.into()));
                    return Progress::default();
                }
                self.pos = root;
                if let Some(path) = walk.next_path() {
                    // Tokens of the labels: fed, neither prompt nor sampled, and counted like a template's.
                    self.queue.extend(path);
                    return Progress { forced: path.len() as u32, ..Progress::default() };
                }
                let walk = std::mem::replace(walk, LabelWalk::new(labels));
                self.work = Work::Over(Ok(BranchAnswer::Probe(walk.into_log_probabilities())));
                Progress { output: true, ..Progress::default() }
            }
            Work::Generate { .. } => self.sample(backend.logits(index)),
            Work::Over(_) => Progress::default(),
        }
    }

    fn sample(&mut self, logits: &[f32]) -> Progress {
        let Work::Generate { spans, current, done } = &mut self.work else { return Progress::default() };
        let Some(token) = greedy(logits) else {
            self.work = Work::Over(Err(BackendFailure::BadLogits));
            return Progress::default();
        };
        let Some(Span::Free { max_tokens, stop }) = spans.front() else { return Progress::default() };
        let stopped = stop.contains(token);
        if !stopped {
            current.push(token);
        }
        let full = current.len() >= *max_tokens as usize;
        let mut progress = Progress { output: true, generated: 1, forced: 0 };
        if !stopped {
            // Not in the cache yet: whatever comes next is read behind it.
            self.queue.push_back(token);
            self.sampled = 1;
        }
        if stopped || full {
            done.push(SpanText { tokens: std::mem::take(current), complete: stopped });
            spans.pop_front();
            progress.forced = force(spans, &mut self.queue);
            if spans.is_empty() {
                self.queue.clear();
                self.sampled = 0;
                self.work = Work::Over(Ok(BranchAnswer::Text(std::mem::take(done))));
            }
        }
        progress
    }
}

/// Moves fixed spans from the front of the template into the queue. Fixed text behind the last free span is not
/// fed at all: nothing will be read behind it.
fn force(spans: &mut VecDeque<Span>, queue: &mut VecDeque<Token>) -> u32 {
    if !spans.iter().any(|span| matches!(span, Span::Free { .. })) {
        spans.clear();
        return 0;
    }
    let mut forced = 0;
    while let Some(Span::Forced(tokens)) = spans.front() {
        queue.extend(tokens);
        forced += tokens.len() as u32;
        spans.pop_front();
    }
    forced
}
