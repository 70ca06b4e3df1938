//! nats-server with JetStream.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::{LIMIT, Port, Process, Spec, installed, on_path, poll};

/// What a test wants to be different.
#[derive(Debug, Clone, Default)]
pub struct NatsConfig {
    /// Bytes of a message; the server's default is 1 MiB.
    pub max_payload: Option<u64>,
    /// Bytes that the streams may hold.
    pub max_store: Option<u64>,
    /// Further files of deploy/nats.
    pub includes: Vec<&'static str>,
    /// Further lines of the configuration: users, TLS.
    pub lines: String,
    /// Variables that those lines use.
    pub environment: Vec<(String, String)>,
    /// The user and password of `url()`, as `user:password`.
    pub login: Option<String>,
}

/// A server with its store; killed when dropped.
#[derive(Debug)]
pub struct Nats {
    // Before the folder, so that the process ends before its folder does.
    process: Process,
    port: Port,
    login: Option<String>,
    folder: TempDir,
}

impl Nats {
    /// A server as it runs in production, ready; `None` where there is none.
    pub fn start() -> Option<Self> {
        Self::start_with(&NatsConfig::default())
    }

    pub fn start_with(config: &NatsConfig) -> Option<Self> {
        let program = program()?;
        let folder = tempfile::tempdir().unwrap();
        let port = Port::free();
        let file = folder.path().join("nats.conf");
        std::fs::write(&file, render(config, port.number(), folder.path())).unwrap();
        let mut spec = Spec::new("nats-server", &program, folder.path()).arguments(["-c".into(), file]);
        let store = ("NATS_STORE_DIR".into(), folder.path().join("store").into());
        let others = config.environment.iter().map(|(name, value)| (name.into(), value.into()));
        spec.environment.extend(others.chain([store]));
        let mut nats = Self { process: Process::start(spec), port, login: config.login.clone(), folder };
        nats.wait_ready();
        Some(nats)
    }

    pub fn url(&self) -> String {
        let login = self.login.as_ref().map(|login| format!("{login}@")).unwrap_or_default();
        format!("nats://{login}127.0.0.1:{}", self.port())
    }

    pub const fn port(&self) -> u16 {
        self.port.number()
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn log(&self) -> String {
        self.process.log()
    }

    /// SIGKILL; the store stays.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    pub fn stop(&mut self) {
        self.process.stop();
    }

    pub fn cont(&mut self) {
        self.process.cont();
    }

    /// Asks it to end, and waits for that.
    pub fn terminate(&mut self) {
        self.process.signal(nix::sys::signal::Signal::SIGTERM);
        self.process.wait_code();
    }

    /// Kills it if it runs; the same store, on the same port, ready.
    pub fn restart(&mut self) {
        self.process.restart();
        self.wait_ready();
    }

    /// Waits until it greets, which it does after it has recovered its streams.
    pub fn wait_ready(&mut self) {
        self.process.wait_line("Server is ready");
        let port = self.port();
        let ready = poll(LIMIT, || greeting(port).filter(|line| line.starts_with("INFO ")));
        assert!(ready.is_some(), "nats-server does not greet on port {port}");
    }
}

/// The first line that a server says to a client.
fn greeting(port: u16) -> Option<String> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    Some(line)
}

/// The file that is deployed, on another port.
fn render(config: &NatsConfig, port: u16, folder: &Path) -> String {
    let mut text = include(folder, "nats.conf");
    let _ = writeln!(text, "listen: \"127.0.0.1:{port}\"\nhttp: \"127.0.0.1:-1\"");
    if let Some(bytes) = config.max_store {
        let block = "store_dir: $NATS_STORE_DIR, sync_interval: always";
        let _ = writeln!(text, "jetstream {{ {block}, max_file_store: {bytes} }}");
    }
    if let Some(bytes) = config.max_payload {
        let _ = writeln!(text, "max_payload: {bytes}");
    }
    for file in &config.includes {
        text += &include(folder, file);
    }
    text + &config.lines
}

/// A line that includes a file of deploy/nats. The server takes all paths for relative ones.
fn include(folder: &Path, file: &str) -> String {
    let up = "../".repeat(folder.components().count());
    format!("include \"{up}{}/deploy/nats/{file}\"\n", env!("CARGO_MANIFEST_DIR"))
}

/// The server that `make servers` installs, unless another one is named.
fn program() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(named) = variable("MAITRED_NATS_SERVER") {
        return installed("nats-server at MAITRED_NATS_SERVER", [named]);
    }
    let cache = variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")));
    let own = cache.map(|cache| cache.join("maitred/servers/nats-server"));
    installed("nats-server", own.into_iter().chain(on_path("nats-server")))
}
