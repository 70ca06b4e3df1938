//! redis-server.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::ops::{Deref, DerefMut};
use std::path::Path;

use nix::sys::signal::Signal;

use crate::{LIMIT, Manners, Port, Server, Spec, installed, on_path, repository};

/// What a test wants to be different.
#[derive(Debug, Clone, Default)]
pub struct RedisConfig {
    /// Further lines of the configuration.
    pub lines: String,
    /// The user and password of `url()`, as `user:password`.
    pub login: Option<String>,
}

/// A redis-server; killed when dropped.
#[derive(Debug)]
pub struct Redis {
    server: Server,
    login: Option<String>,
}

impl Redis {
    /// How it shows itself and is ended.
    pub const MANNERS: Manners = Manners { ready: answers, end: Signal::SIGTERM, tidy: None };

    /// A server as it runs in production, ready; `None` where there is none.
    pub fn start() -> Option<Self> {
        Self::start_with(&RedisConfig::default())
    }

    /// The same, with what is different.
    pub fn start_with(config: &RedisConfig) -> Option<Self> {
        let program = installed("redis-server", on_path("redis-server"))?;
        let folder = tempfile::tempdir().unwrap();
        let port = Port::free();
        let file = folder.path().join("redis.conf");
        std::fs::write(&file, render(config, port.number(), folder.path())).unwrap();
        let spec = Spec::new("redis-server", &program, folder.path()).arguments([file]);
        Some(Self { server: Server::start(spec, port, folder, Self::MANNERS), login: config.login.clone() })
    }

    /// Where clients connect, with the login of the test.
    pub fn url(&self) -> String {
        let login = self.login.as_ref().map(|login| format!("{login}@")).unwrap_or_default();
        format!("redis://{login}{}", self.address())
    }

    /// Sends a command as a person would type it; the first bytes of the answer, as they come.
    pub fn command(&self, words: &str) -> String {
        Self::say(self.port(), words).unwrap()
    }

    /// The same to the server on this port.
    pub fn say(port: u16, words: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.write_all(format!("{words}\r\n").as_bytes())?;
        let mut answer = [0; 4096];
        let read = stream.read(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer[..read]).into_owned())
    }
}

impl Deref for Redis {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl DerefMut for Redis {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.server
    }
}

/// Whether it answers a ping, if only by asking who is there.
fn answers(port: u16) -> bool {
    Redis::say(port, "PING").is_ok_and(|answer| answer.starts_with("+PONG") || answer.starts_with("-NOAUTH"))
}

/// The file that is deployed, on another port.
fn render(config: &RedisConfig, port: u16, folder: &Path) -> String {
    format!(
        "include \"{}/deploy/redis/redis.conf\"\nport {port}\ndir \"{}\"\n{}\n",
        repository().display(),
        folder.display(),
        config.lines
    )
}
