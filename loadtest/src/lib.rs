//! Load on maitred and its peers. Every figure stands beside its baseline in the same run.
//!
//! | scenario | question |
//! |---|---|
//! | `peers` | how much faster than other ways to ask the same model the same thing |
//! | `ablation` | what each idea is worth |
//! | `scheduler` | what order does to waiting, with the real model |
//! | `simulate` | the same over many loads and weights, in virtual time |
//! | `growth` | how cost grows with restaurants and reviews |
//! | `sweep` | which engine settings pay |
//! | `stress` | whether anything breaks in the smallest context |
//! | `fleet` | workers over NATS |
//! | `autoscale` | what a scaler makes of a day, against fleets of a fixed size, in virtual time |

pub mod arrivals;
pub mod autoscale;
pub mod cli;
#[cfg(feature = "llama")]
pub mod embedded;
pub mod fleet;
pub mod jobs;
pub mod peers;
pub mod plots;
pub mod report;
pub mod sample;
pub mod scenario;
pub mod simulate;
