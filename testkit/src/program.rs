//! The program itself, as a worker that lives on or as a command that ends.

use std::ffi::OsString;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};

use crate::process::line_with;
use crate::{LIMIT, Process, Spec, poll, variable};

/// The program, the folder that it runs in, and its settings.
#[derive(Debug, Clone)]
pub struct Maitred {
    program: PathBuf,
    folder: PathBuf,
    environment: Vec<(OsString, OsString)>,
}

/// How a command ended.
#[derive(Debug)]
pub struct Ran {
    /// The exit code, or minus the signal that killed it.
    pub code: i32,
    /// All that it printed.
    pub stdout: String,
    /// All that it said on stderr.
    pub stderr: String,
}

/// A command that runs, such as `worker` or `results --follow`; killed when dropped.
#[derive(Debug)]
pub struct Program {
    process: Process,
}

impl Maitred {
    /// The program with its default settings. Of the test's environment it sees only where the models are.
    pub fn new(program: &Path, folder: &Path) -> Self {
        let passed = ["PATH", "HOME", "XDG_CACHE_HOME", "MAITRED_MODELS_DIR"];
        let environment = passed.iter().filter_map(|name| Some((name.into(), variable(name)?.into())));
        let environment = environment.chain([("RUST_BACKTRACE".into(), "1".into())]).collect();
        Self { program: program.to_owned(), folder: folder.to_owned(), environment }
    }

    /// With this value for a setting, such as `nats.url`.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "a literal reads better without `&`")]
    pub fn set(self, key: &str, value: impl ToString) -> Self {
        let name = format!("MAITRED__{}", key.to_uppercase().replace('.', "__"));
        self.environment(&name, &value.to_string())
    }

    /// With a variable that is no setting.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.retain(|(other, _)| other != name);
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Starts a command; what it says goes to `<name>.out` and `<name>.err` in the folder.
    pub fn start(&self, name: &str, arguments: &[&str]) -> Program {
        let mut spec = Spec::new(name, &self.program, &self.folder);
        spec.environment.clone_from(&self.environment);
        spec.apart = true;
        Program { process: Process::start(spec.arguments(arguments)) }
    }

    /// Starts `maitred worker` under this name.
    pub fn worker(&self, name: &str) -> Program {
        self.clone().set("worker.name", name).start(name, &["worker"])
    }

    /// Runs a command to its end.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Ran {
        // Files of their own: two runs in one folder must not read each other's words.
        let name = format!("run-{:016x}", fastrand::u64(..));
        let mut program = self.start(&name, arguments);
        let code = program.wait_code();
        let ran = Ran { code, stdout: program.stdout(), stderr: program.log() };
        for file in [program.spec().out(), program.spec().log()] {
            let _ = std::fs::remove_file(file);
        }
        ran
    }
}

impl Program {
    /// All that it printed.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.process.spec().out()).unwrap_or_default()).into_owned()
    }

    /// Waits for a printed line that contains the text; the line. (`wait_line` looks at what it says on stderr.)
    #[track_caller]
    pub fn wait_printed(&mut self, text: &str) -> String {
        let found = poll(LIMIT, || {
            let ended = !self.process.is_running();
            let line = line_with(&self.stdout(), text, ended);
            assert!(line.is_some() || !ended, "ended and did not print {text:?}");
            line
        });
        found.unwrap_or_else(|| panic!("does not print {text:?}"))
    }
}

impl Deref for Program {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Program {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

impl Ran {
    /// The run, if it ended with `code`.
    #[track_caller]
    #[expect(clippy::return_self_not_must_use, reason = "often the check is all that is wanted")]
    pub fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.stdout, self.stderr);
        self
    }

    /// Whether all of this was said on stderr.
    #[track_caller]
    pub fn told(&self, parts: &[&str]) {
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is not in {:?}", self.stderr);
        }
    }
}
