//! What a request needs of the context, and whether it can ever have it.

use super::super::backend::Backend;
use super::super::request::{Branch, Request, RequestError};
use super::{Core, running};
use crate::scheduler::{Capacity, Need};

impl<B: Backend> Core<B> {
    /// Refuses what is malformed, and what would not fit into an empty context.
    pub(super) fn check(&self, request: &Request) -> Result<(), RequestError> {
        let prefix = match request.prefix {
            Some(id) => match self.prefixes.get(id.0) {
                Some(prefix) => prefix.tokens.len(),
                None => return Err(RequestError::Malformed("unknown prefix")),
            },
            None => 0,
        };
        running::check_shape(request)?;
        let need = self.need(request);
        let longest = request.branches.iter().map(Branch::cells).max().unwrap_or(0);
        let reach = saturate(prefix.saturating_add(request.body.len()).saturating_add(longest));
        let longest_reach = self.shape.cells_per_sequence;
        if reach > longest_reach {
            let offered = Need { sequences: self.room.capacity().sequences, cells: longest_reach };
            return Err(too_large(Need { cells: reach, ..need }, offered));
        }
        self.check_room(need)
    }

    /// Whether the need fits into the empty room. A request that does not would wait at the head of the heap, and
    /// hold up all others, for ever.
    pub(super) fn check_room(&self, need: Need) -> Result<(), RequestError> {
        self.room.check(need).map_err(|error| {
            let Capacity { sequences, cells, .. } = error.capacity;
            too_large(need, Need { sequences, cells })
        })
    }

    /// Unified: forks share the body's cells. Split: each sequence has its own stream, checked by reach alone.
    pub(super) fn need(&self, request: &Request) -> Need {
        let cells = if self.shape.unified {
            saturate(
                request.branches.iter().map(Branch::cells).fold(request.body.len(), usize::saturating_add),
            )
        } else {
            0
        };
        Need { sequences: request.branches.len() as u32, cells }
    }
}

/// The refusal of what could never run.
pub(super) fn too_large(need: Need, offered: Need) -> RequestError {
    RequestError::TooLarge {
        needed_sequences: need.sequences,
        needed_cells: need.cells,
        sequences: offered.sequences,
        cells: offered.cells,
    }
}

/// Tokens as cells; what no context could hold stays what no context can hold.
pub(super) fn saturate(tokens: usize) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}
