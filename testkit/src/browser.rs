//! chromedriver, with the Chromium that it starts.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::{Manners, Port, Server, Spec, installed, on_path};

/// A driver of browsers; it and its browsers are killed when dropped.
#[derive(Debug)]
pub struct Driver {
    server: Server,
    chromium: PathBuf,
}

impl Driver {
    const MANNERS: Manners = Manners { ready: is_ready, end: Signal::SIGTERM, tidy: None };

    /// A driver, ready; `None` where there is no Chromium with its driver.
    pub fn start() -> Option<Self> {
        let chromium = installed("chromium", on_path("chromium"))?;
        let driver = installed("chromedriver", on_path("chromedriver"))?;
        let folder = tempfile::tempdir().unwrap();
        let port = Port::free();
        let mut spec = Spec::new("chromedriver", &driver, folder.path());
        spec = spec.arguments([format!("--port={}", port.number())]);
        // Profiles, caches and crash reports: all of it goes with the folder.
        for variable in ["HOME", "TMPDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"] {
            spec.environment.push((variable.into(), folder.path().into()));
        }
        Some(Self { server: Server::start(spec, port, folder, Self::MANNERS), chromium })
    }

    /// Where it takes commands.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// The browser that it is to start.
    pub fn chromium(&self) -> &std::path::Path {
        &self.chromium
    }
}

impl Deref for Driver {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

/// Whether it says that it takes commands. It keeps the connection open behind its answer, so what is wanted is looked
/// for while it comes.
fn is_ready(port: u16) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        let (mut answer, mut part) = (Vec::new(), [0; 1024]);
        loop {
            let count = stream.read(&mut part)?;
            answer.extend_from_slice(&part[..count]);
            let is_ready = String::from_utf8_lossy(&answer).contains("\"ready\":true");
            if is_ready || count == 0 {
                return Ok(is_ready);
            }
        }
    };
    ask().unwrap_or(false)
}
