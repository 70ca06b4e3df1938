//! The program among its servers, the work it is given, and the promise held against both.

use std::path::Path;

use maitred_testkit::Maitred;

mod checker;
mod workload;

pub use checker::{Checker, Report};
pub use workload::{Workload, real_restaurants};

/// What the stream of jobs may take. The server grants no more than its disk has free, which is not for tests to need.
pub const JOBS_MAX_BYTES: u64 = 64 << 20;

/// The program that these tests are about, with its default settings but for fewer jobs in hand, in this folder: what
/// happens when hands are full is to happen with few jobs.
pub fn maitred(folder: &Path) -> Maitred {
    Maitred::new(Path::new(env!("CARGO_BIN_EXE_maitred")), folder)
        .set("nats.jobs_max_bytes", JOBS_MAX_BYTES)
        .set("worker.slots", 2)
        .set("worker.look_ahead", 2)
}
