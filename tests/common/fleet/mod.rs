//! The program among its servers, the work it is given, and the promise held against both.
#![allow(dead_code, unused_imports, reason = "each test binary uses what it needs of this")]

mod checker;
mod program;
mod workload;

pub use checker::{Checker, Report};
pub use program::{Maitred, Program, Ran};
pub use workload::{Workload, real_restaurants};
