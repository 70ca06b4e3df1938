//! redis-server.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use super::{LIMIT, Port, Process, Spec, installed, on_path, poll};

/// What a test wants to be different.
#[derive(Debug, Clone, Default)]
pub struct RedisConfig {
    /// Further lines of the configuration.
    pub lines: String,
    /// The user and password of `url()`, as `user:password`.
    pub login: Option<String>,
}

/// A server; killed when dropped.
#[derive(Debug)]
pub struct Redis {
    process: Process,
    port: Port,
    login: Option<String>,
    folder: TempDir,
}

impl Redis {
    /// A server, ready; `None` where there is none.
    pub fn start() -> Option<Self> {
        Self::start_with(&RedisConfig::default())
    }

    pub fn start_with(config: &RedisConfig) -> Option<Self> {
        let program = installed("redis-server", on_path("redis-server"))?;
        let folder = tempfile::tempdir().unwrap();
        let port = Port::free();
        let file = folder.path().join("redis.conf");
        std::fs::write(&file, render(config, port.number(), folder.path())).unwrap();
        let spec = Spec::new("redis-server", &program, folder.path()).arguments([file]);
        let mut redis = Self { process: Process::start(spec), port, login: config.login.clone(), folder };
        redis.wait_ready();
        Some(redis)
    }

    pub fn url(&self) -> String {
        let login = self.login.as_ref().map(|login| format!("{login}@")).unwrap_or_default();
        format!("redis://{login}127.0.0.1:{}", self.port())
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

    /// SIGKILL.
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

    /// Kills it if it runs; on the same port, ready.
    pub fn restart(&mut self) {
        self.process.restart();
        self.wait_ready();
    }

    /// Waits until it answers a ping, if only by asking who is there.
    pub fn wait_ready(&mut self) {
        let port = self.port();
        let ready = poll(LIMIT, || {
            assert!(self.process.is_running(), "redis-server has ended");
            ping(port).filter(|answer| answer.starts_with("+PONG") || answer.starts_with("-NOAUTH"))
        });
        assert!(ready.is_some(), "redis-server does not answer on port {port}");
    }
}

fn ping(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    stream.write_all(b"PING\r\n").ok()?;
    let mut answer = [0; 64];
    let read = stream.read(&mut answer).ok()?;
    Some(String::from_utf8_lossy(&answer[..read]).into_owned())
}

fn render(config: &RedisConfig, port: u16, folder: &Path) -> String {
    format!("bind 127.0.0.1\nport {port}\ndir {folder:?}\nsave \"\"\nappendonly no\n{}\n", config.lines)
}
