//! A child process, with all that it started.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::{LIMIT, on_path, poll};

/// What to run, so that it can be run again.
#[derive(Debug, Clone)]
pub struct Spec {
    /// What it is called in messages; its log is `<name>.log`, or `.out` and `.err` where they are kept apart.
    pub name: String,
    /// The file to run.
    pub program: PathBuf,
    /// What it is told.
    pub arguments: Vec<OsString>,
    /// The whole environment of the child.
    pub environment: Vec<(OsString, OsString)>,
    /// Where it runs and where its log is.
    pub folder: PathBuf,
    /// Run as this user and group, when the test is root and the program refuses root.
    pub user: Option<(u32, u32)>,
    /// Keep stdout in a file of its own.
    pub apart: bool,
    /// The signal it gets from the kernel when the test is no more.
    pub orphaned: &'static str,
}

/// A running or ended child.
#[derive(Debug)]
pub struct Process {
    spec: Spec,
    child: Child,
    ended: Option<ExitStatus>,
    /// The log's length when the child was started.
    started_at: usize,
}

impl Spec {
    /// A program without arguments, in this folder; of the environment it sees only the path.
    pub fn new(name: &str, program: &Path, folder: &Path) -> Self {
        Self {
            name: name.to_owned(),
            program: program.to_owned(),
            arguments: Vec::new(),
            environment: std::env::var_os("PATH").map(|path| ("PATH".into(), path)).into_iter().collect(),
            folder: folder.to_owned(),
            user: None,
            apart: false,
            orphaned: "KILL",
        }
    }

    /// With further arguments.
    #[must_use]
    pub fn arguments<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Where the child's stderr goes, and its stdout too unless they are kept apart.
    pub fn log(&self) -> PathBuf {
        self.folder.join(format!("{}.{}", self.name, if self.apart { "err" } else { "log" }))
    }

    /// Where the child's stdout goes when it is kept apart.
    pub fn out(&self) -> PathBuf {
        self.folder.join(format!("{}.out", self.name))
    }

    fn command(&self) -> Command {
        let mut command = match on_path("setpriv").into_iter().find(|path| path.is_file()) {
            Some(setpriv) => self.guarded(&setpriv),
            None => Command::new(&self.program),
        };
        let log = append(&self.log());
        let out = if self.apart { append(&self.out()) } else { log.try_clone().unwrap() };
        command
            .args(&self.arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(key, value)| (key, value)))
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(log)
            .process_group(0);
        command
    }

    /// The program behind a wish to the kernel: signal it when its parent dies. A change of the user forgets the wish,
    /// so it comes second.
    fn guarded(&self, setpriv: &Path) -> Command {
        let mut command = Command::new(setpriv);
        if let Some((user, group)) = self.user {
            command.args([
                format!("--reuid={user}"),
                format!("--regid={group}"),
                "--clear-groups".to_owned(),
            ]);
            command.arg("--").arg(setpriv);
        }
        command.args(["--pdeathsig", self.orphaned, "--"]).arg(&self.program);
        command
    }
}

impl Process {
    /// Starts it.
    pub fn start(spec: Spec) -> Self {
        let started_at = std::fs::metadata(spec.log()).map_or(0, |log| log.len() as usize);
        let child =
            spawn(spec.command()).unwrap_or_else(|error| panic!("cannot start {}: {error}", spec.name));
        Self { spec, child, ended: None, started_at }
    }

    /// Kills it if it runs, and starts it again as it was.
    pub fn restart(&mut self) {
        self.kill();
        let spec = self.spec.clone();
        *self = Self::start(spec);
    }

    /// What it was started with.
    pub const fn spec(&self) -> &Spec {
        &self.spec
    }

    /// What it is started with the next time.
    pub const fn spec_mut(&mut self) -> &mut Spec {
        &mut self.spec
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The folder that it runs in.
    pub fn folder(&self) -> &Path {
        &self.spec.folder
    }

    /// All that it ever wrote.
    pub fn log(&self) -> String {
        read(&self.spec.log())
    }

    /// What it wrote since it was last started.
    pub fn log_since_start(&self) -> String {
        read_from(&self.spec.log(), self.started_at)
    }

    /// How it ended; `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().unwrap();
        }
        self.ended
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.ended().is_none()
    }

    /// SIGKILL to it and to all that it started; back when all are gone.
    pub fn kill(&mut self) {
        let family = self.family();
        self.signal_family(Signal::SIGKILL);
        if self.ended.is_none() {
            self.ended = Some(self.child.wait().unwrap());
        }
        let gone = poll(LIMIT, || family.iter().all(|pid| is_gone(*pid)).then_some(()));
        assert!(gone.is_some(), "{} does not die", self.spec.name);
    }

    /// SIGSTOP: it is there and does nothing, like a machine that hangs; back when none of its threads runs any more.
    /// The signal alone only asks for that, and a thread that is about to answer still does.
    pub fn stop(&mut self) {
        let family = self.family();
        self.signal_family(Signal::SIGSTOP);
        let still = poll(LIMIT, || family.iter().all(|pid| stands_still(*pid)).then_some(()));
        assert!(still.is_some(), "{} does not stop", self.spec.name);
    }

    /// SIGCONT.
    pub fn cont(&mut self) {
        self.signal_family(Signal::SIGCONT);
    }

    /// A signal to it alone.
    pub fn signal(&mut self, signal: Signal) {
        if self.is_running() {
            // It may end between the two lines; then the signal goes to a zombie, which is ours until it is waited for.
            kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
        }
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        poll(limit, || self.ended())
    }

    /// Waits for its end, which must come: the code, or minus the signal that killed it.
    #[track_caller]
    pub fn wait_code(&mut self) -> i32 {
        let status = self.wait(LIMIT).unwrap_or_else(|| panic!("{} does not end", self.spec.name));
        status.code().or_else(|| status.signal().map(|signal| -signal)).unwrap()
    }

    /// Waits for a line of this run that contains the text; the line.
    #[track_caller]
    pub fn wait_line(&mut self, text: &str) -> String {
        let found = poll(LIMIT, || {
            let ended = !self.is_running();
            let line = line_with(&self.log_since_start(), text, ended);
            assert!(line.is_some() || !ended, "{} ended and did not say {text:?}", self.spec.name);
            line
        });
        found.unwrap_or_else(|| panic!("{} does not say {text:?}", self.spec.name))
    }

    fn signal_family(&mut self, signal: Signal) {
        let family = self.family();
        if self.is_running() {
            // A member may end meanwhile; that is what was wanted, or the caller will see it.
            let _ = killpg(Pid::from_raw(self.child.id() as i32), signal);
        }
        for pid in family.into_iter().skip(1) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// It and its descendants, also those in sessions of their own.
    fn family(&mut self) -> Vec<i32> {
        if !self.is_running() {
            return Vec::new();
        }
        let mut family = vec![self.child.id() as i32];
        let mut next = 0;
        while next < family.len() {
            family.extend(children(family[next]));
            next += 1;
        }
        family
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal_family(Signal::SIGKILL);
        let _ = self.child.wait();
        if thread::panicking() {
            tell(&self.spec);
        }
    }
}

/// Shows the end of what a child wrote.
fn tell(spec: &Spec) {
    const LINES: usize = 200;
    let log = read(&spec.log());
    let lines: Vec<&str> = log.lines().collect();
    eprintln!("-- {} ({} lines)", spec.log().display(), lines.len());
    for line in &lines[lines.len().saturating_sub(LINES)..] {
        eprintln!("   {line}");
    }
}

/// Children are started by a thread that lives as long as the test process: the kernel's "parent died" means the
/// thread that forked, and tests run in threads that end.
fn spawn(command: Command) -> io::Result<Child> {
    type Order = (Command, SyncSender<io::Result<Child>>);
    static SPAWNER: LazyLock<SyncSender<Order>> = LazyLock::new(|| {
        let (sender, orders) = sync_channel::<Order>(0);
        thread::spawn(move || {
            for (mut command, reply) in orders {
                let _ = reply.send(command.spawn());
            }
        });
        sender
    });
    let (reply, answer) = sync_channel(1);
    SPAWNER.send((command, reply)).unwrap();
    answer.recv().unwrap()
}

fn append(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).unwrap()
}

fn read(path: &Path) -> String {
    read_from(path, 0)
}

fn read_from(path: &Path, start: usize) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(bytes.get(start..).unwrap_or_default()).into_owned()
}

/// The first line with the text. The last one may be half written by a process that lives, and is not taken for whole.
pub(crate) fn line_with(log: &str, text: &str, ended: bool) -> Option<String> {
    let whole = if ended { log } else { &log[..log.rfind('\n').map_or(0, |end| end + 1)] };
    whole.lines().find(|line| line.contains(text)).map(str::to_owned)
}

fn children(pid: i32) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// Whether it is no more, or only waits to be reaped.
fn is_gone(pid: i32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
    state(&stat) == Some('Z')
}

/// Whether each of its threads is stopped, or is no more.
fn stands_still(pid: i32) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut stats = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok());
    stats.all(|stat| matches!(state(&stat), Some('T' | 't' | 'Z' | 'X')))
}

/// What the kernel says that a thread does: the letter behind its name, in which there may be parentheses too.
fn state(stat: &str) -> Option<char> {
    stat.rsplit(')').next()?.trim_start().chars().next()
}
