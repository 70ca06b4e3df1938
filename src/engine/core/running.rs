//! A request that holds its grant: the body is fed, then its branches, until every branch is over.

use std::time::Duration;

use super::super::backend::{Backend, BatchToken, SeqId};
use super::super::request::{
    Answer, BackendFailure, Branch, Request, RequestError, RequestTiming, RequestUsage, Span,
};
use super::Waiting;
use super::branch::{BranchRun, Progress};
use crate::scheduler::{Grant, Key};

/// What a batch holds of one sequence, and whose it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Feed {
    /// Index into the running requests.
    pub run: usize,
    /// Index of the branch; `None` while the shared body is fed.
    branch: Option<usize>,
    /// Tokens in the batch.
    count: usize,
    /// Of those, sampled ones.
    pub sampled: usize,
    /// Index in the batch of the last token, if its logits are read.
    read: Option<usize>,
}

/// A request at work.
#[derive(Debug)]
pub(super) struct Running {
    key: Key,
    waiting: Waiting,
    grant: Grant,
    seqs: Vec<SeqId>,
    /// Tokens of the prefix, copied into the first sequence at the start.
    base: u32,
    /// Tokens of a shared body in the cache. A lone branch carries the body in its own queue.
    body_fed: usize,
    /// Empty while a shared body is fed.
    branches: Vec<BranchRun>,
    usage: RequestUsage,
    timing: RequestTiming,
}

/// Refuses requests whose branches could never be read.
pub(super) fn check_shape(request: &Request) -> Result<(), RequestError> {
    if request.branches.is_empty() {
        return Err(RequestError::Malformed("no branches"));
    }
    let alone = request.branches.len() == 1;
    for branch in &request.branches {
        let head = match branch {
            Branch::Probe { question, .. } => question.len(),
            Branch::Generate { template } => {
                check_template(template)?;
                if let Some(Span::Forced(tokens)) = template.first() { tokens.len() } else { 0 }
            }
        };
        if head == 0 && (!alone || request.body.is_empty()) {
            return Err(RequestError::Malformed("a branch with nothing to feed before its first reading"));
        }
    }
    if !alone && request.body.is_empty() {
        return Err(RequestError::Malformed("several branches over an empty body"));
    }
    Ok(())
}

fn check_template(template: &[Span]) -> Result<(), RequestError> {
    let free = |span: &Span| matches!(span, Span::Free { .. });
    if !template.iter().any(free) {
        return Err(RequestError::Malformed("a template without a free span"));
    }
    if template.windows(2).any(|pair| free(&pair[0]) && free(&pair[1])) {
        return Err(RequestError::Malformed("two free spans without fixed text between them"));
    }
    let endless = |span: &Span| matches!(span, Span::Free { max_tokens: 0, .. });
    let void = |span: &Span| matches!(span, Span::Forced(tokens) if tokens.is_empty());
    if template.iter().any(|span| endless(span) || void(span)) {
        return Err(RequestError::Malformed("an empty span"));
    }
    Ok(())
}

impl Running {
    /// Starts a request on its sequences; the prefix, `base` tokens, is in the first one already.
    pub fn new(key: Key, waiting: Waiting, grant: Grant, seqs: Vec<SeqId>, base: u32, now: Duration) -> Self {
        let timing = RequestTiming { queued: waiting.queued, admitted: now, ..RequestTiming::default() };
        let usage = RequestUsage { reused: base, ..RequestUsage::default() };
        let mut run =
            Self { key, grant, seqs, base, body_fed: 0, branches: Vec::new(), usage, timing, waiting };
        run.usage.prompt = run.waiting.request.body.len() as u32;
        if run.waiting.request.branches.len() == 1 {
            // A lone branch needs no copy of the body, and no step between body and question.
            let body = std::mem::take(&mut run.waiting.request.body);
            run.begin_branches(base, &body);
            run.waiting.request.body = body;
        }
        run
    }

    /// Its place in heap order.
    pub fn key(&self) -> Key {
        self.key
    }

    /// The request and who asked.
    pub fn waiting(&self) -> &Waiting {
        &self.waiting
    }

    /// Whether every branch is over.
    pub fn is_over(&self) -> bool {
        !self.branches.is_empty() && self.branches.iter().all(BranchRun::is_over)
    }

    /// What is left of it: who asked, the sequences, the grant.
    pub fn into_parts(self) -> (Waiting, Vec<SeqId>, Grant) {
        (self.waiting, self.seqs, self.grant)
    }

    /// The answer, once over: all branches', or the first failure.
    pub fn take_outcome(&mut self) -> Result<Answer, BackendFailure> {
        let branches = std::mem::take(&mut self.branches);
        // Called when `is_over`: every branch has an answer, so none is filtered away.
        let branches = branches.into_iter().filter_map(BranchRun::into_answer).collect::<Result<_, _>>()?;
        Ok(Answer { branches, usage: self.usage, timing: self.timing })
    }

    /// Adds what this request wants fed, up to `limit` tokens in the batch. `decoding` picks the branches which
    /// sample; the others, and the body, come in the second pass.
    pub fn feed(
        &self,
        index: usize,
        decoding: bool,
        limit: usize,
        batch: &mut Vec<BatchToken>,
        feeds: &mut Vec<Feed>,
    ) {
        if self.branches.is_empty() {
            if !decoding {
                self.feed_body(index, limit, batch, feeds);
            }
            return;
        }
        for (number, branch) in self.branches.iter().enumerate() {
            let count = branch.queue.len().min(limit - batch.len());
            if branch.is_over() || branch.is_decoding() != decoding || count == 0 {
                continue;
            }
            let whole = count == branch.queue.len();
            for (offset, &token) in branch.queue.iter().take(count).enumerate() {
                let output = whole && offset + 1 == count;
                batch.push(BatchToken { token, pos: branch.pos + offset as u32, seq: branch.seq, output });
            }
            feeds.push(Feed {
                run: index,
                branch: Some(number),
                count,
                sampled: branch.sampled.min(count),
                read: whole.then(|| batch.len() - 1),
            });
        }
    }

    fn feed_body(&self, index: usize, limit: usize, batch: &mut Vec<BatchToken>, feeds: &mut Vec<Feed>) {
        let rest = &self.waiting.request.body[self.body_fed..];
        let count = rest.len().min(limit - batch.len());
        if count == 0 {
            return;
        }
        let start = self.base + self.body_fed as u32;
        for (pos, &token) in (start..).zip(&rest[..count]) {
            batch.push(BatchToken { token, pos, seq: self.seqs[0], output: false });
        }
        feeds.push(Feed { run: index, branch: None, count, sampled: 0, read: None });
    }

    /// Takes note of a decode that worked; how many tokens it sampled.
    pub fn absorb(&mut self, feed: &Feed, backend: &mut impl Backend, now: Duration) -> u32 {
        let Some(number) = feed.branch else {
            self.body_fed += feed.count;
            if self.body_fed == self.waiting.request.body.len() {
                for &seq in &self.seqs[1..] {
                    backend.fork(self.seqs[0], seq);
                }
                self.begin_branches(self.base + self.body_fed as u32, &[]);
            }
            return 0;
        };
        let branch = &mut self.branches[number];
        branch.fed(feed.count);
        let Some(index) = feed.read else { return 0 };
        let progress = branch.read(index, backend);
        self.note(progress, now);
        progress.generated
    }

    fn begin_branches(&mut self, pos: u32, head: &[super::Token]) {
        let mut branches = Vec::with_capacity(self.seqs.len());
        for (branch, &seq) in self.waiting.request.branches.iter().zip(&self.seqs) {
            let (run, progress) = BranchRun::new(branch, seq, pos, head);
            if let Branch::Probe { question, .. } = branch {
                self.usage.prompt += question.len() as u32;
            }
            self.usage.forced += progress.forced;
            branches.push(run);
        }
        self.branches = branches;
    }

    fn note(&mut self, progress: Progress, now: Duration) {
        self.usage.forced += progress.forced;
        self.usage.generated += progress.generated;
        if progress.output && self.timing.first_output.is_zero() {
            self.timing.first_output = now;
        }
    }
}
