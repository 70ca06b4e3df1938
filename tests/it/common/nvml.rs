//! A stand-in for NVIDIA's library, loaded by the real wrapper: a shared library that answers as a file says (nvml.c).

use std::path::PathBuf;
use std::process::Command;

use maitred_testkit::{skipped, wait_until};
use tempfile::TempDir;

/// The library, and what it answers.
pub struct Nvml {
    folder: TempDir,
}

impl Nvml {
    /// Compiles it; `None`, said on stderr, where there is no C compiler.
    pub fn build() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let nvml = Self { folder };
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/common/nvml.c");
        let answers = format!("-DANSWERS=\"{}\"", nvml.answers().display());
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", &answers, source, "-o"]);
        let Ok(output) = compiler.arg(nvml.library()).output() else {
            skipped("no C compiler (cc), run make deps");
            return None;
        };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        nvml.answer("count=0\n");
        Some(nvml)
    }

    /// The shared library.
    pub fn library(&self) -> PathBuf {
        self.folder.path().join("libnvidia-ml-standin.so")
    }

    /// The file that says what it answers.
    fn answers(&self) -> PathBuf {
        self.folder.path().join("answers")
    }

    /// What it answers from now on: the old or the new, never half of it.
    pub fn answer(&self, text: &str) {
        let new = self.folder.path().join("answers.new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.answers()).unwrap();
    }

    /// Waits until a call hangs.
    #[track_caller]
    pub fn wait_hanging(&self) {
        wait_until("a call that hangs", || self.folder.path().join("answers.hangs").is_file());
    }

    /// One other line of what it answers.
    pub fn change(&self, key: &str, value: &str) {
        let now = std::fs::read_to_string(self.answers()).unwrap();
        let other = |line: &&str| line.split('=').next() != Some(key);
        let lines = now.lines().filter(other).map(|line| format!("{line}\n"));
        self.answer(&lines.chain([format!("{key}={value}\n")]).collect::<String>());
    }
}

/// A machine with so many GPUs, all well and idle but for their numbers.
pub fn gpus(count: u32) -> String {
    let gpu = |n: u32| {
        format!(
            "{n}.uuid=GPU-{n}{n}\n{n}.name=Stand-in {n}\n{n}.utilization=0\n{n}.memory=1000 8000\n{n}.power=251500\n{n}.temperature=61\n"
        )
    };
    format!("driver=550.54\ncount={count}\n") + &(0..count).map(gpu).collect::<String>()
}
