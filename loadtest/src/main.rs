//! `maitred-loadtest`: see the library beside it.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::SUCCESS
}
