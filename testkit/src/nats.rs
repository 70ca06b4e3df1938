//! nats-server with JetStream.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpStream};
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::{LIMIT, Manners, Port, Server, Spec, cache_home, installed, on_path, repository, variable};

/// Older ones lose streams when they crash.
const LEAST: [u32; 3] = [2, 10, 25];

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
    /// Variables that those files and lines use.
    pub environment: Vec<(String, String)>,
    /// The user and password of `url()`, as `user:password`.
    pub login: Option<String>,
}

/// A nats-server with its store; killed when dropped.
#[derive(Debug)]
pub struct Nats {
    server: Server,
    login: Option<String>,
}

impl Nats {
    /// How it shows itself and is ended.
    pub const MANNERS: Manners = Manners { ready: greets, end: Signal::SIGTERM, tidy: None };

    /// A server as it runs in production, ready; `None` where there is none.
    pub fn start() -> Option<Self> {
        Self::start_with(&NatsConfig::default())
    }

    /// The same, with what is different.
    pub fn start_with(config: &NatsConfig) -> Option<Self> {
        let program = Self::program()?;
        let folder = tempfile::tempdir().unwrap();
        let port = Port::free();
        let file = folder.path().join("nats.conf");
        std::fs::write(&file, render(config, port.number(), folder.path())).unwrap();
        let mut spec = Spec::new("nats-server", &program, folder.path()).arguments(["-c".into(), file]);
        let store = ("NATS_STORE_DIR".into(), folder.path().join("store").into());
        let others = config.environment.iter().map(|(name, value)| (name.into(), value.into()));
        spec.environment.extend(others.chain([store]));
        Some(Self { server: Server::start(spec, port, folder, Self::MANNERS), login: config.login.clone() })
    }

    /// Where clients connect, with the login of the test.
    pub fn url(&self) -> String {
        let login = self.login.as_ref().map(|login| format!("{login}@")).unwrap_or_default();
        format!("nats://{login}{}", self.address())
    }

    /// The server that `make servers` installs, unless another one is named.
    pub fn program() -> Option<PathBuf> {
        let own = cache_home().map(|cache| cache.join("servers/nats-server"));
        let program = match variable("MAITRED_NATS_SERVER") {
            Some(named) => installed("nats-server at MAITRED_NATS_SERVER", [named]),
            None => installed("nats-server", own.into_iter().chain(on_path("nats-server"))),
        }?;
        let version = version(&program);
        assert!(version >= LEAST, "{} is {version:?}, {LEAST:?} is needed: make servers", program.display());
        Some(program)
    }

    /// A client of its own, as the login of the test.
    pub async fn connect(&self) -> async_nats::Client {
        connect(&self.url()).await.unwrap()
    }
}

/// A client. async-nats overlooks a user and password in the URL, so they are taken out of it here.
pub async fn connect(url: &str) -> Result<async_nats::Client, async_nats::ConnectError> {
    let address: async_nats::ServerAddr = url.parse().unwrap();
    let mut options = async_nats::ConnectOptions::new();
    if let (Some(user), Some(password)) = (address.username(), address.password()) {
        options = options.user_and_password(user.to_owned(), password.to_owned());
    }
    options.connection_timeout(LIMIT).request_timeout(Some(LIMIT)).connect(address).await
}

/// JetStream as tests ask it: an answer comes or is never wanted, however busy the machine and its disk are. The client
/// library's own five seconds are for people who wait.
pub fn jetstream(client: async_nats::Client) -> async_nats::jetstream::Context {
    async_nats::jetstream::ContextBuilder::new().timeout(LIMIT).ack_timeout(LIMIT).build(client)
}

impl Deref for Nats {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl DerefMut for Nats {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.server
    }
}

/// Whether it greets, as it does to all, also to those who must log in. It listens only after it has recovered its
/// streams.
fn greets(port: u16) -> bool {
    let greeting = || -> std::io::Result<String> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        Ok(line)
    };
    greeting().is_ok_and(|line| line.starts_with("INFO ") && line.contains("\"jetstream\":true"))
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
    format!("include \"{up}{}/deploy/nats/{file}\"\n", repository().display())
}

/// Such as 2.14.6; zeros where it does not say.
fn version(program: &Path) -> [u32; 3] {
    let output = Command::new(program).arg("--version").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let numbers = text.trim().rsplit('v').next().unwrap_or_default();
    let mut numbers = numbers.split('.').map(|number| number.parse().unwrap_or(0));
    std::array::from_fn(|_| numbers.next().unwrap_or(0))
}
