//! The simulator, watched for calls that llama.cpp would answer with an abort or with nonsense.

use std::cell::RefCell;
use std::collections::HashMap;

use super::super::super::backend::{Backend, BackendError, BatchToken, ContextShape, SeqId};
use super::super::super::sim::SimBackend;

/// A backend that notes what its caller should not have done.
pub struct Strict {
    /// The simulator under it.
    pub sim: SimBackend,
    /// How many of the next decode calls find no cells.
    pub no_room: u32,
    offences: RefCell<Vec<String>>,
    outputs: Vec<bool>,
    lengths: HashMap<SeqId, u32>,
}

impl Strict {
    pub fn new(sim: SimBackend) -> Self {
        Self { sim, no_room: 0, offences: RefCell::default(), outputs: Vec::new(), lengths: HashMap::new() }
    }

    /// What the caller did wrong so far.
    pub fn offences(&self) -> Vec<String> {
        self.offences.borrow().clone()
    }

    fn blame(&self, offence: String) {
        self.offences.borrow_mut().push(offence);
    }

    /// Tokens in a sequence.
    pub fn length(&self, seq: SeqId) -> u32 {
        self.lengths.get(&seq).copied().unwrap_or(0)
    }
}

impl Backend for Strict {
    fn shape(&self) -> ContextShape {
        self.sim.shape()
    }

    fn decode(&mut self, batch: &[BatchToken]) -> Result<(), BackendError> {
        if self.no_room > 0 {
            self.no_room -= 1;
            self.outputs.clear();
            return Err(BackendError::NoRoom);
        }
        let outcome = self.sim.decode(batch);
        match outcome {
            Ok(()) => {
                for item in batch {
                    *self.lengths.entry(item.seq).or_default() += 1;
                }
                self.outputs = batch.iter().map(|item| item.output).collect();
            }
            // The code of the poison; anything else is a batch that should not have been made.
            Err(BackendError::Fatal { code: -3 }) => self.outputs.clear(),
            Err(ref error) => self.blame(format!("{error} on {batch:?}")),
        }
        outcome
    }

    fn logits(&self, index: usize) -> &[f32] {
        if self.outputs.get(index) != Some(&true) {
            self.blame(format!("logits of token {index}, which has none"));
        }
        self.sim.logits(index)
    }

    fn fork(&mut self, from: SeqId, to: SeqId) {
        if self.length(from) == 0 || self.length(to) != 0 {
            self.blame(format!("fork of {} tokens into {}", self.length(from), self.length(to)));
        }
        self.lengths.insert(to, self.length(from));
        self.sim.fork(from, to);
    }

    fn truncate(&mut self, seq: SeqId, keep: u32) -> bool {
        if keep > self.length(seq) {
            self.blame(format!("{} tokens cut to {keep}", self.length(seq)));
        }
        self.lengths.insert(seq, keep);
        self.sim.truncate(seq, keep)
    }

    fn clear(&mut self, seq: SeqId) {
        self.lengths.remove(&seq);
        self.sim.clear(seq);
    }
}
