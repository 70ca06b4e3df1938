//! `[gpu]` and `[watchdog]`: what GPUs are at, and when an idle worker ends.

use std::path::PathBuf;
use std::time::Duration;

use super::fleet::{path, secret};
use super::reader::Reader;
use super::secret::Secret;
use super::unless;
use crate::gpu::Library;

/// `[gpu]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuSettings {
    /// Which NVML is asked.
    pub library: Library,
    /// How often.
    pub interval: Duration,
}

/// `[watchdog]`.
#[derive(Debug, Clone, PartialEq)]
pub struct WatchdogSettings {
    /// Whether an idle worker ends by itself.
    pub enabled: bool,
    /// Time between checks.
    pub check_interval: Duration,
    /// Idle checks in a row after which it ends.
    pub idle_limit: u32,
    /// Checks before this time do not count.
    pub min_runtime: Duration,
    /// A GPU is idle below this, in percent; 100: GPUs are not asked.
    pub gpu_idle_percent: f64,
    /// What ends the machine, once the worker has drained.
    pub stop: StopHook,
    /// A try of the hook that takes longer has failed.
    pub hook_timeout: Duration,
    /// Tries of the hook.
    pub hook_tries: u32,
    /// Idle for as long as a start is worth, instead of `idle_limit` checks.
    pub adaptive: bool,
    /// What a start costs beyond what the worker sees of it, as idle time.
    pub cold_start_cost: Duration,
}

/// What ends the machine, once the worker has drained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopHook {
    /// The end of the process is all.
    Exit,
    /// A command line for the shell.
    Command(String),
    /// A POST to a URL.
    Http {
        /// Where.
        url: Secret,
        /// File with a bearer token.
        token: Option<PathBuf>,
    },
}

/// The kinds of hooks.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Exit,
    Command,
    Http,
}

impl GpuSettings {
    pub(super) fn read(read: &mut Reader<'_>) -> Self {
        let library = match read.text("gpu.library").as_str() {
            "auto" => Library::Auto,
            "none" => Library::None,
            path => Library::At(path.into()),
        };
        Self { library, interval: read.duration("gpu.interval") }
    }
}

impl WatchdogSettings {
    pub(super) fn read(read: &mut Reader<'_>) -> Self {
        Self {
            enabled: read.switch("watchdog.enabled"),
            check_interval: read.duration("watchdog.check_interval"),
            idle_limit: read.number("watchdog.idle_limit", 1..=1_000_000),
            min_runtime: read.duration("watchdog.min_runtime"),
            gpu_idle_percent: read.number("watchdog.gpu_idle_percent", 0.0..=100.0),
            stop: StopHook::read(read),
            hook_timeout: read.duration("watchdog.hook_timeout"),
            hook_tries: read.number("watchdog.hook_tries", 1..=1000),
            adaptive: read.switch("watchdog.adaptive"),
            cold_start_cost: read.duration("watchdog.cold_start_cost"),
        }
    }
}

impl StopHook {
    fn read(read: &mut Reader<'_>) -> Self {
        let kinds = [("exit", Kind::Exit), ("command", Kind::Command), ("http", Kind::Http)];
        let kind = read.word("watchdog.stop", &kinds);
        let command = unless(read.text("watchdog.command"), "none");
        let url = secret(read, "watchdog.url", "watchdog.url_file");
        let token = path(read, "watchdog.token_file");
        match (kind, command, url) {
            (Kind::Command, Some(command), _) => Self::Command(command),
            (Kind::Command, None, _) => {
                read.problem("watchdog.command", "name the command that ends the machine".to_owned());
                Self::Exit
            }
            (Kind::Http, _, Some(url)) => {
                if let Secret::Value(url) = &url
                    && !is_web(url.expose())
                {
                    read.problem("watchdog.url", "use a URL that begins with http:// or https://".to_owned());
                }
                Self::Http { url, token }
            }
            (Kind::Http, _, None) => {
                read.problem("watchdog.url", "name the URL that ends the machine".to_owned());
                Self::Exit
            }
            (Kind::Exit, ..) => Self::Exit,
        }
    }
}

/// Whether it is a URL that can be posted to.
fn is_web(url: &str) -> bool {
    url.starts_with("http://") || url.starts_with("https://")
}
