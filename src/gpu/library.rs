//! Which library is asked, and what it says when it is asked once.

use std::path::PathBuf;

use super::choice;
use super::nvml::{Closed, Management};

/// Which library is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Library {
    /// The driver's, if there is one.
    Auto,
    /// None: GPUs are not looked at.
    None,
    /// This file.
    At(PathBuf),
}

/// What there is to work with: the driver and its GPUs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inventory {
    /// The driver's version, such as `550.54.15`.
    pub driver: String,
    /// Those that the engine sees, in the order of its numbers.
    pub gpus: Vec<Card>,
}

/// One GPU of an [`Inventory`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Card {
    /// Its number as the engine counts, from 0: that of `engine.devices`.
    pub device: u32,
    /// What it is called, such as `NVIDIA H100 80GB HBM3`.
    pub name: String,
    /// Bytes of its memory.
    pub memory_total_bytes: u64,
    /// Bytes of it that are free now. What the driver keeps for itself is neither free nor in use.
    pub memory_free_bytes: u64,
}

impl Library {
    /// One look, on the caller's thread, which may wait for seconds where a driver is in trouble; else why there is
    /// nothing to see. `visible` is the value of `CUDA_VISIBLE_DEVICES`. Half an inventory is none: a GPU that does not
    /// answer is told instead.
    pub fn inventory(&self, visible: Option<&str>) -> Result<Inventory, String> {
        let management = self.open().map_err(|closed| match closed {
            Closed::Absent(why) | Closed::Failing(why) => why,
        })?;
        let driver = management.driver()?;
        let (wanted, _) = choice::wanted(None, visible, &management.uuids()?);
        let gpus = wanted.iter().map(|wanted| management.card(wanted)).collect::<Result<_, _>>()?;
        Ok(Inventory { driver, gpus })
    }

    pub(super) fn open(&self) -> Result<Management, Closed> {
        match self {
            Self::Auto => Management::open(None),
            Self::At(path) => Management::open(Some(path)),
            Self::None => Err(Closed::Absent("gpu.library is \"none\"".into())),
        }
    }
}
