//! Logs go to stderr, as text for people or as JSON for machines; never a review's text.

use std::io::{self, IsTerminal, Write};

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

use super::progress;
use crate::config::{LogFormat, LogSettings};

/// Starts logging. Call once, before the first log line.
///
/// The level is ours; of the libraries only warnings pass, unless everything is asked for.
pub fn init(log: &LogSettings) {
    let others =
        if log.level == tracing::Level::TRACE { log.level } else { log.level.min(tracing::Level::WARN) };
    let library = if log.level >= tracing::Level::DEBUG { log.level } else { tracing::Level::ERROR };
    let filter = Targets::new()
        .with_default(LevelFilter::from_level(others))
        // The models' library warns of much that is as it should be; what matters comes back as an error.
        .with_target("llama-cpp-2", LevelFilter::from_level(library))
        // It logs each attempt to connect, and whole messages; what happens to the connection we tell ourselves.
        .with_target("async_nats", LevelFilter::OFF)
        .with_target(env!("CARGO_CRATE_NAME"), LevelFilter::from_level(log.level));
    let lines = tracing_subscriber::fmt::layer().with_writer(|| BesideProgress);
    let registry = tracing_subscriber::registry().with(filter);
    // Only a second start fails, and the first one stays: nothing is lost.
    let _ = match log.format {
        LogFormat::Pretty => {
            let color = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            registry.with(lines.with_target(false).with_ansi(color)).try_init()
        }
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
}

/// Stderr, with the progress bar taken off while a line is written.
struct BesideProgress;

impl Write for BesideProgress {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The subscriber hands over whole lines.
        progress::suspend(|| io::stderr().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
