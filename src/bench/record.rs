//! What the core asks of a backend, written down and played again.
//!
//! Invariant: over a fresh backend of the same shape, [`Log::replay`] makes exactly the calls that change a cache, in
//! the same order with the same tokens. Logits are not read again: looking at them is the engine's part.

use crate::engine::backend::ContextShape;
use crate::engine::{Backend, BackendError, BatchToken, SeqId};

/// A call that changes the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    /// Decodes the next so many tokens of the log.
    Decode(usize),
    Fork(SeqId, SeqId),
    Truncate(SeqId, u32),
    Clear(SeqId),
}

/// The calls in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Log {
    calls: Vec<Call>,
    /// Tokens of all decode calls, one after the other: no allocation per call while it is recorded.
    tokens: Vec<BatchToken>,
}

impl Log {
    /// Decode calls.
    pub fn decode_calls(&self) -> usize {
        self.calls.iter().filter(|call| matches!(call, Call::Decode(_))).count()
    }

    /// Tokens of all decode calls.
    pub fn tokens(&self) -> usize {
        self.tokens.len()
    }

    /// Makes the calls again, and nothing else.
    pub fn replay(&self, backend: &mut impl Backend) -> Result<(), BackendError> {
        let mut rest = self.tokens.as_slice();
        for call in &self.calls {
            match *call {
                Call::Decode(count) => {
                    let (batch, after) = rest.split_at(count);
                    rest = after;
                    backend.decode(batch)?;
                }
                Call::Fork(from, to) => backend.fork(from, to),
                Call::Truncate(seq, keep) => {
                    backend.truncate(seq, keep);
                }
                Call::Clear(seq) => backend.clear(seq),
            }
        }
        Ok(())
    }
}

/// A backend that writes down what is asked of it.
pub struct Recorder<'l, B> {
    inner: B,
    log: &'l mut Log,
}

impl<'l, B: Backend> Recorder<'l, B> {
    /// Records into `log`.
    pub fn new(inner: B, log: &'l mut Log) -> Self {
        Self { inner, log }
    }
}

impl<B: Backend> Backend for Recorder<'_, B> {
    fn shape(&self) -> ContextShape {
        self.inner.shape()
    }

    fn decode(&mut self, batch: &[BatchToken]) -> Result<(), BackendError> {
        self.log.calls.push(Call::Decode(batch.len()));
        self.log.tokens.extend_from_slice(batch);
        self.inner.decode(batch)
    }

    fn logits(&self, index: usize) -> &[f32] {
        self.inner.logits(index)
    }

    fn fork(&mut self, from: SeqId, to: SeqId) {
        self.log.calls.push(Call::Fork(from, to));
        self.inner.fork(from, to);
    }

    fn truncate(&mut self, seq: SeqId, keep: u32) -> bool {
        self.log.calls.push(Call::Truncate(seq, keep));
        self.inner.truncate(seq, keep)
    }

    fn clear(&mut self, seq: SeqId) {
        self.log.calls.push(Call::Clear(seq));
        self.inner.clear(seq);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::super::drive::{self, sample};
    use super::super::variant::OURS;
    use super::*;
    use crate::engine::core::Core;
    use crate::engine::sim::{SimBackend, SimCosts};
    use crate::engine::{Clock, VirtualClock};
    use crate::scheduler::Policy;

    type Batches = Arc<Mutex<Vec<Vec<BatchToken>>>>;

    /// A simulator, its clock, and the batches it was given.
    fn watched() -> (SimBackend, VirtualClock, Batches) {
        let costs = SimCosts { step: Duration::from_millis(2), token: Duration::from_millis(1) };
        let (clock, batches) = (VirtualClock::default(), Batches::default());
        let seen = Arc::clone(&batches);
        let backend = SimBackend::new(sample::SHAPE, costs, clock.clone())
            .with_hook(Box::new(move |batch| seen.lock().unwrap().push(batch.to_vec())));
        (backend, clock, batches)
    }

    #[test]
    fn a_replay_makes_the_same_calls_and_leaves_the_same_cache() {
        let mut log = Log::default();
        let (backend, clock, recorded) = watched();
        let mut core =
            Core::new(Recorder::new(backend, &mut log), Arc::new(clock.clone()), Policy::default(), 2);
        drive::run(&mut core, &clock, &sample::workload(), &OURS).unwrap();
        let counters = core.counters();
        let cells = core.backend().inner.cells_in_use();
        drop(core);

        let (mut bare, bare_clock, replayed) = watched();
        log.replay(&mut bare).unwrap();
        assert_eq!(*replayed.lock().unwrap(), *recorded.lock().unwrap());
        assert_eq!(bare.cells_in_use(), cells);
        assert_eq!(bare_clock.now(), clock.now());
        assert_eq!(log.decode_calls() as u64, counters.steps);
        assert_eq!(log.tokens() as u64, counters.prefill_tokens + counters.decode_tokens);
    }

    #[test]
    fn a_call_that_fails_when_replayed_is_an_error() {
        let mut log = Log::default();
        let (backend, ..) = watched();
        let token = BatchToken { token: crate::engine::Token(65), pos: 3, seq: SeqId(0), output: false };
        assert!(
            Recorder::new(backend, &mut log).decode(&[token]).is_err(),
            "position 3 of an empty sequence"
        );
        assert!(log.replay(&mut watched().0).is_err());
    }
}
