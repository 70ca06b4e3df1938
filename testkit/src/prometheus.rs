//! Prometheus, with the rules that are deployed.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::{Manners, Port, Server, Spec, installed, on_path, repository};

/// How often it looks, in the tests: a run of seconds is to have many samples.
const INTERVAL: &str = "1s";

/// A Prometheus; killed when dropped.
#[derive(Debug)]
pub struct Prometheus {
    server: Server,
}

impl Prometheus {
    /// How it shows itself and is ended.
    pub const MANNERS: Manners = Manners { ready: is_ready, end: Signal::SIGTERM, tidy: None };

    /// With the configuration of deploy/prometheus, on these targets (`127.0.0.1:port`), looking every second; `None`
    /// where there is none.
    pub fn start(targets: &[String]) -> Option<Self> {
        let program = installed("prometheus", on_path("prometheus"))?;
        let folder = tempfile::tempdir().unwrap();
        let port = Port::free();
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, render(targets)).unwrap();
        let spec = Spec::new("prometheus", &program, folder.path()).arguments([
            format!("--config.file={}", file.display()),
            format!("--storage.tsdb.path={}", folder.path().join("data").display()),
            format!("--web.listen-address=127.0.0.1:{}", port.number()),
        ]);
        Some(Self { server: Server::start(spec, port, folder, Self::MANNERS) })
    }

    /// What it answers to a query over a span of Unix time, step by step, in seconds: JSON.
    pub fn query_range(&self, expression: &str, from: u64, to: u64, step: u64) -> String {
        let expression = escaped(expression);
        self.get(&format!("/api/v1/query_range?query={expression}&start={from}&end={to}&step={step}"))
    }

    /// What it answers to a query about now: JSON.
    pub fn query(&self, expression: &str) -> String {
        self.get(&format!("/api/v1/query?query={}", escaped(expression)))
    }

    /// The body of what it answers.
    pub fn get(&self, path: &str) -> String {
        http_get(self.port(), path).unwrap().1
    }
}

impl Deref for Prometheus {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

/// The tool that checks rules; `None` where there is none.
pub fn promtool() -> Option<PathBuf> {
    installed("promtool", on_path("promtool"))
}

fn is_ready(port: u16) -> bool {
    http_get(port, "/-/ready").is_ok_and(|(status, _)| status == 200)
}

/// How the deployed file finds its targets.
const FOUND: &str = r#"dns_sd_configs:
      - names: ["worker"]
        type: A
        port: 8080
"#;

/// The file that is deployed, with other targets and intervals.
fn render(targets: &[String]) -> String {
    let file = repository().join("deploy/prometheus");
    let text = std::fs::read_to_string(file.join("prometheus.yml")).unwrap();
    assert!(
        text.contains(FOUND) && text.contains("- rules/"),
        "deploy/prometheus/prometheus.yml was changed"
    );
    text.replacen(FOUND, &format!("static_configs:\n      - targets: {targets:?}\n"), 1)
        .replace("- rules/", &format!("- {}/rules/", file.display()))
        .replace("_interval: 15s", &format!("_interval: {INTERVAL}"))
}

/// Status and body of a GET on this machine. HTTP/1.0: nothing is chunked, and the end of the stream is the end of the body.
pub fn http_get(port: u16, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    Ok((status, body))
}

/// As it may stand in a URL.
fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut escaped, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
        escaped
    })
}
