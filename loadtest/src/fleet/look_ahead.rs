//! How many waiting jobs a worker should hold: the more, the more its heap can choose from; but what one worker holds,
//! no other one can take.

use std::time::Duration;

use anyhow::Context;
use maitred::scheduler::Lane;
use serde::{Deserialize, Serialize};

use super::{DepthPoint, FleetOptions, Local, Place, run};
use crate::jobs::Timed;
use crate::sample::{Figures, Sample, figures};

/// A look-ahead and how it did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LookAhead {
    /// Jobs that a worker held beyond those in work.
    pub look_ahead: usize,
    /// Figures of the run.
    pub figures: Figures,
    /// Its samples.
    pub samples: Vec<Sample>,
    /// The fleet over its time.
    pub depth: Vec<DepthPoint>,
}

/// Runs the same trace against a fresh fleet for each of the look-aheads; `told` is called with each as it is done.
/// `sla`: longest time to first token that counts as good service, in seconds.
pub async fn look_ahead(
    local: &Local,
    look_aheads: &[usize],
    trace: &[Timed],
    (patience, sla): (Duration, f64),
    mut told: impl FnMut(&LookAhead) -> anyhow::Result<()>,
) -> anyhow::Result<Vec<LookAhead>> {
    let mut done = Vec::with_capacity(look_aheads.len());
    for &look_ahead in look_aheads {
        let place = Place::Local(local.clone().set("worker.look_ahead", look_ahead));
        let options = FleetOptions { place, lane: Lane::Live, patience };
        let run = run(&options, trace.to_vec()).await?.complete()?;
        let figures = figures(&run.samples, sla).context("the trace holds no job")?;
        let one = LookAhead { look_ahead, figures, samples: run.samples, depth: run.depth };
        told(&one)?;
        done.push(one);
    }
    Ok(done)
}
