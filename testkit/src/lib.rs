//! Real servers, and the program itself, as child processes of a test or of the load test: each in a folder of its
//! own, on a port of its own.
//!
//! - Nothing outlives the test: children die with their owner, with the process group, and by the kernel when the
//!   test itself is killed.
//! - Whatever a child wrote is in a file in its folder, and on stderr when the test panics.
//! - `start` is `None` where the server is not installed, said on stderr; under `CI` that is a failure.
//! - It knows nothing of the library, so that the library's own tests can use it too.
//! - All calls block until what they say is true; none of them sleeps and hopes.
//! - What cannot be arranged is a panic, which says why: the caller is a test.
#![allow(clippy::missing_panics_doc, reason = "each of these panics where its test cannot go on")]

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

mod browser;
mod nats;
mod port;
mod postgres;
mod process;
mod program;
mod prometheus;
mod proxy;
mod redis;
mod server;

pub use browser::Driver;
pub use nats::{Nats, NatsConfig, connect, jetstream};
pub use port::Port;
pub use postgres::{Postgres, PostgresConfig};
pub use process::{Process, Spec};
pub use program::{Maitred, Program, Ran};
pub use prometheus::{Prometheus, http_get, promtool};
pub use proxy::{Mode, Proxy};
pub use redis::{Redis, RedisConfig};
pub use server::{Manners, Server};

/// The repository, whose configuration files the servers are started with: where this was compiled or, if that is gone
/// (one target folder serves several clones), where the program was started.
fn repository() -> PathBuf {
    let compiled = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let here = std::env::current_dir().unwrap_or_default();
    [compiled, here].into_iter().find(|folder| folder.join("deploy/nats").is_dir()).expect(
        "the repository's folder `deploy` is neither where this was compiled nor here: start it in the repository",
    )
}

/// How long anything may take before it is taken for broken: generous, because the machine may be busy.
pub const LIMIT: Duration = Duration::from_mins(1);

/// Looks again and again until there is a value; `None` when the limit has passed.
pub fn poll<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = look() {
            return Some(value);
        }
        if start.elapsed() > limit {
            return None;
        }
        thread::park_timeout(Duration::from_millis(10));
    }
}

/// Waits until it is so, and fails the test when it does not come to be.
#[track_caller]
pub fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    assert!(poll(LIMIT, || so().then_some(())).is_some(), "waited {LIMIT:?} in vain: {what}");
}

/// The first of the files that is there; else the test is to be skipped, or fails under `CI`.
fn installed(what: &str, candidates: impl IntoIterator<Item = PathBuf>) -> Option<PathBuf> {
    let found = candidates.into_iter().find(|path| path.is_file());
    if found.is_none() {
        skipped(&format!("no {what}, run make servers"));
    }
    found
}

/// Says that a test shows nothing here; where everything must be there, that is a failure.
pub fn skipped(why: &str) {
    assert!(variable("CI").is_none(), "not skipped under CI: {why}");
    eprintln!("SKIPPED: {why}");
}

/// The program's places on `PATH`.
pub fn on_path(name: &str) -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(name)).collect()
}

/// The value of a variable that is set and not empty.
pub fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The folder of what the project's scripts install and fetch (scripts/env.sh).
pub fn cache_home() -> Option<PathBuf> {
    let cache = variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")));
    cache.map(|cache| cache.join("maitred"))
}
