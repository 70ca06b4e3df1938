//! Facts, collected: thin, and without an opinion. What is seen here is judged in [`judge`](super::judge).

pub mod config;
pub mod disk;
pub mod edges;
pub mod gpu;
pub mod machine;
pub mod models;
pub mod servers;

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

/// Looks on a thread of its own; `None`: it took too long.
pub async fn blocking<T: Send + 'static>(
    limit: Duration,
    look: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    timeout(limit, tokio::task::spawn_blocking(look)).await.ok()?.ok()
}

/// What another program prints; `None` where it is not there, fails or takes too long. It is killed then.
async fn printed(limit: Duration, program: &str, arguments: &[&std::ffi::OsStr]) -> Option<String> {
    let run = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(limit, run).await.ok()?.ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
