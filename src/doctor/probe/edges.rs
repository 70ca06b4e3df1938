//! The address of health, the endpoint of telemetry, the watchdog's hook.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::config::{Config, SecretUrl};
use crate::doctor::judge::edges::{EdgeFacts, EndFacts, HealthFacts};

/// Bytes of an answer that are read.
const MOST: u64 = 4 << 20;

/// Looks at the edges, each within `limit`.
pub async fn look(config: &Config, limit: Duration) -> EdgeFacts {
    // Settings are read by name, so that a build without one of these parts says so, and no more.
    let set: BTreeMap<&str, &str> = config.entries().map(|(key, entry)| (key, entry.text.as_str())).collect();
    let (health, telemetry, hook) = tokio::join!(
        health(config.settings.health.listen, limit),
        telemetry(&set, std::env::var("OTEL_EXPORTER_OTLP_ENDPOINT").ok(), limit),
        hook(&set, limit),
    );
    EdgeFacts { health, telemetry, hook }
}

async fn health(listen: Option<SocketAddr>, limit: Duration) -> HealthFacts {
    let Some(listen) = listen else { return HealthFacts::Unset };
    match TcpListener::bind(listen).await {
        // Given back at once.
        Ok(_) => HealthFacts::Free(listen),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            match timeout(limit, worker_at(reachable(listen))).await {
                Ok(Some(worker)) => HealthFacts::Served { listen, worker },
                _ => HealthFacts::Taken(listen),
            }
        }
        Err(error) => HealthFacts::Unusable { listen, cause: error.to_string() },
    }
}

/// Where to ask somebody who listens on all addresses.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// The name of the worker that tells its state there.
async fn worker_at(address: SocketAddr) -> Option<String> {
    /// Of what `/status` tells, what only a worker of ours tells.
    #[derive(Deserialize)]
    struct Told {
        worker: String,
        #[serde(rename = "engine_fresh")]
        _engine_fresh: bool,
    }
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("GET /status HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    stream.take(MOST).read_to_end(&mut answer).await.ok()?;
    let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let told: Told = serde_json::from_slice(&answer[head + 4..]).ok()?;
    Some(told.worker)
}

/// `environment`: the endpoint that every program of this machine is told.
async fn telemetry(set: &BTreeMap<&str, &str>, environment: Option<String>, limit: Duration) -> EndFacts {
    const KEY: &str = "telemetry.otlp_endpoint";
    let Some(own) = set.get(KEY) else {
        return EndFacts::Unset("this build sends no telemetry".to_owned());
    };
    if set.get("telemetry.enabled") == Some(&"false") {
        return EndFacts::Unset("`telemetry.enabled` is false".to_owned());
    }
    let environment = environment.filter(|url| !url.is_empty());
    let (key, url) = match (*own, environment) {
        ("none", None) => return EndFacts::Unset(format!("`{KEY}` is none")),
        ("none", Some(url)) => ("OTEL_EXPORTER_OTLP_ENDPOINT", url),
        (own, _) => (KEY, own.to_owned()),
    };
    let there = connect(&url, limit).await;
    EndFacts::Set { key: key.to_owned(), value: SecretUrl::new(url).to_string(), there }
}

async fn hook(set: &BTreeMap<&str, &str>, limit: Duration) -> EndFacts {
    let get = |key: &str| set.get(key).copied().filter(|value| *value != "none");
    let Some(enabled) = get("watchdog.enabled") else {
        return EndFacts::Unset("this build has no watchdog".to_owned());
    };
    if enabled != "true" {
        return EndFacts::Unset("`watchdog.enabled` is false".to_owned());
    }
    let missing = || Err("it is not set".to_owned());
    let (key, value, there) = match get("watchdog.stop") {
        Some("command") => {
            let command = get("watchdog.command");
            let there = command.map_or_else(missing, |command| can_run(command, std::env::var_os("PATH")));
            ("watchdog.command", command.unwrap_or_default().to_owned(), there)
        }
        Some("http") => {
            let url = match (get("watchdog.url_file"), get("watchdog.url")) {
                (Some(file), _) => std::fs::read_to_string(file).map(|url| url.trim().to_owned()).ok(),
                (None, url) => url.map(str::to_owned),
            };
            let there = match &url {
                Some(url) => connect(url, limit).await,
                None => missing(),
            };
            ("watchdog.url", SecretUrl::new(url.unwrap_or_default()).to_string(), there)
        }
        other => ("watchdog.stop", other.unwrap_or("exit").to_owned(), Ok(())),
    };
    EndFacts::Set { key: key.to_owned(), value, there }
}

/// Whether the first word of a command line is a program. A line that only a shell understands is left to the shell.
fn can_run(line: &str, path: Option<std::ffi::OsString>) -> Result<(), String> {
    let word = line.split_whitespace().next().unwrap_or_default();
    if word.contains(['$', '=', '(', '{', '`', '\'', '"', '~', ';', '&', '|']) {
        return Ok(());
    }
    let there = if word.contains('/') {
        Path::new(word).is_file()
    } else {
        // What a shell does itself.
        let is_own =
            ["exec", "exit", ":", "true", "false", "kill", "echo", "test", "cd", "if"].contains(&word);
        is_own || std::env::split_paths(&path.unwrap_or_default()).any(|folder| folder.join(word).is_file())
    };
    if there { Ok(()) } else { Err(format!("there is no program `{word}`")) }
}

/// Whether somebody listens where a URL points to. Nothing is sent.
async fn connect(url: &str, limit: Duration) -> Result<(), String> {
    let (host, port) =
        authority(url).ok_or_else(|| "it is no URL such as http://127.0.0.1:4318".to_owned())?;
    match timeout(limit, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {limit:?}")),
    }
}

/// Host and port of a URL over HTTP.
fn authority(url: &str) -> Option<(&str, u16)> {
    let (scheme, rest) = url.split_once("://")?;
    let usual = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let authority = rest.split(['/', '?', '#']).next()?;
    let place = authority.rsplit('@').next()?;
    let (host, port) = match place.strip_prefix('[').and_then(|place| place.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    let port = port.map_or(Some(usual), |port| port.parse().ok())?;
    (!host.is_empty()).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_of_a_url_are_found_whatever_stands_around_them() {
        for (url, expected) in [
            ("http://127.0.0.1:4318", Some(("127.0.0.1", 4318))),
            ("https://u:p@collector.example/v1?x=1", Some(("collector.example", 443))),
            ("http://[::1]:4318/v1", Some(("::1", 4318))),
            ("http://[::1]", Some(("::1", 80))),
            ("grpc://host:1", None),
            ("host:4318", None),
            ("http://", None),
            ("http://host:port", None),
        ] {
            assert_eq!(authority(url), expected, "{url}");
        }
    }

    #[test]
    fn a_command_is_looked_up_unless_only_a_shell_understands_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("stop-pod"), "").unwrap();
        let path = Some(folder.path().as_os_str().to_owned());
        for line in ["stop-pod $ID", "$STOP now", "A=1 stop", "exec stop-pod"] {
            assert_eq!(can_run(line, path.clone()), Ok(()), "{line}");
        }
        assert!(can_run(&format!("{}/stop-pod", folder.path().display()), None).is_ok());
        assert_eq!(can_run("stop-it", path).unwrap_err(), "there is no program `stop-it`");
    }

    #[tokio::test]
    async fn settings_that_a_build_lacks_are_unset() {
        let limit = Duration::from_secs(20);
        let none = BTreeMap::new();
        assert!(matches!(
            telemetry(&none, Some("http://127.0.0.1:1".into()), limit).await,
            EndFacts::Unset(_)
        ));
        assert!(matches!(hook(&none, limit).await, EndFacts::Unset(_)));
        let off = BTreeMap::from([("watchdog.enabled", "false"), ("telemetry.otlp_endpoint", "none")]);
        assert!(matches!(telemetry(&off, None, limit).await, EndFacts::Unset(_)));
        assert!(matches!(hook(&off, limit).await, EndFacts::Unset(_)));
    }

    #[tokio::test]
    async fn an_endpoint_is_there_if_somebody_listens() {
        let limit = Duration::from_secs(20);
        // One that nobody takes when it is free again.
        let port = maitred_testkit::Port::free();
        let listener = TcpListener::bind(("127.0.0.1", port.number())).await.unwrap();
        let url = format!("http://me:secret@{}", listener.local_addr().unwrap());
        let set = BTreeMap::from([("telemetry.otlp_endpoint", "none")]);
        let EndFacts::Set { key, value, there } = telemetry(&set, Some(url.clone()), limit).await else {
            panic!("it is set in the environment")
        };
        assert_eq!((key.as_str(), &there), ("OTEL_EXPORTER_OTLP_ENDPOINT", &Ok(())));
        assert!(!value.contains("secret"), "{value}");
        drop(listener);
        let set = BTreeMap::from([
            ("watchdog.enabled", "true"),
            ("watchdog.stop", "http"),
            ("watchdog.url", url.as_str()),
        ]);
        assert!(matches!(hook(&set, limit).await, EndFacts::Set { there: Err(_), .. }));
        let set = BTreeMap::from([("watchdog.enabled", "true"), ("watchdog.stop", "command")]);
        assert!(matches!(hook(&set, limit).await, EndFacts::Set { there: Err(_), .. }));
    }
}
