//! postgres, with trusted logins.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::{User, getuid};

use crate::{Manners, Port, Process, Server, Spec, installed, on_path, skipped};

/// It is asked not to wait for its clients. A killed one leaves a segment of shared memory behind; one that ends at
/// once by itself does not.
const MANNERS: Manners = Manners { ready: welcomes, end: Signal::SIGINT, tidy: Some(Signal::SIGQUIT) };

/// What a test wants to be different.
#[derive(Debug, Clone, Default)]
pub struct PostgresConfig {
    /// Write through to the disk, as in production. A killed server needs it not: what it wrote is with the kernel.
    pub durable: bool,
    /// Further lines of `postgresql.conf`.
    pub lines: String,
}

/// A postgres with its data; ended when dropped.
#[derive(Debug)]
pub struct Postgres {
    server: Server,
    bin: PathBuf,
}

impl Postgres {
    /// A server, ready; `None` where there is none.
    pub fn start() -> Option<Self> {
        Self::start_with(&PostgresConfig::default())
    }

    /// The same, with what is different.
    pub fn start_with(config: &PostgresConfig) -> Option<Self> {
        let bin = installed("postgres", candidates())?.parent().unwrap().to_owned();
        let user = user()?;
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        copy(&template(&bin, user), &data);
        let port = Port::free();
        let settings = data.join("postgresql.auto.conf");
        std::fs::write(&settings, render(config, port.number(), folder.path())).unwrap();
        own(&[folder.path(), &settings], user);
        let mut spec = Spec::new("postgres", &bin.join("postgres"), folder.path());
        spec.user = user;
        spec.orphaned = "QUIT";
        let server = Server::start(spec.arguments(["-D".into(), data]), port, folder, MANNERS);
        Some(Self { server, bin })
    }

    /// The folder of its programs.
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// As the owner of everything.
    pub fn url(&self) -> String {
        self.url_as("postgres", "postgres")
    }

    /// As another user, in another database.
    pub fn url_as(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}@{}/{database}", self.address())
    }

    /// Runs SQL as the owner of everything; what it printed, without decoration.
    #[track_caller]
    pub fn sql(&self, sql: &str) -> String {
        let mut command = Command::new(self.bin.join("psql"));
        command.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", &self.url(), "-c", sql]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }
}

impl Deref for Postgres {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl DerefMut for Postgres {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.server
    }
}

/// Whether the server answers a start-up message with anything but "not yet".
fn welcomes(port: u16) -> bool {
    let answer = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        let words = b"user\0postgres\0database\0postgres\0\0";
        let mut message = (8 + words.len() as u32).to_be_bytes().to_vec();
        message.extend(196_608_u32.to_be_bytes());
        message.extend(words);
        stream.write_all(&message)?;
        let mut answer = vec![0; 1024];
        let read = stream.read(&mut answer)?;
        answer.truncate(read);
        Ok(answer)
    };
    let not_yet = |answer: &[u8]| answer.windows(5).any(|code| code == b"57P03");
    answer().is_ok_and(|answer| !answer.is_empty() && !not_yet(&answer))
}

fn render(config: &PostgresConfig, port: u16, folder: &Path) -> String {
    let durable = if config.durable { "on" } else { "off" };
    // `synchronous_commit` stays on: without it a kill loses what was committed.
    format!(
        "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{}'\n\
         fsync = {durable}\nfull_page_writes = {durable}\n\
         shared_buffers = '16MB'\nmax_connections = 50\n{}\n",
        folder.display(),
        config.lines
    )
}

/// Debian keeps the server's programs off the path, one folder for each version; the newest first.
fn candidates() -> Vec<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<PathBuf> = versions.map(|version| version.path().join("bin/postgres")).collect();
    versions.sort();
    versions.into_iter().rev().chain(on_path("postgres")).collect()
}

/// Whom to run the server as; the inner `None` is the user of the test. It refuses root.
#[expect(clippy::option_option, reason = "no such user, and no change of the user, are different things")]
fn user() -> Option<Option<(u32, u32)>> {
    if !getuid().is_root() {
        return Some(None);
    }
    let found = ["postgres", "nobody"].into_iter().find_map(|name| User::from_name(name).ok().flatten());
    if found.is_none() {
        skipped("postgres refuses root, and there is no user postgres or nobody");
    }
    found.map(|user| Some((user.uid.as_raw(), user.gid.as_raw())))
}

/// A fresh cluster, made once for all tests: `initdb` takes seconds, a copy does not.
fn template(bin: &Path, user: Option<(u32, u32)>) -> PathBuf {
    let version = bin.to_string_lossy().replace('/', "-");
    let kept = std::env::temp_dir();
    let owner = user.map_or_else(|| getuid().as_raw(), |(uid, _)| uid);
    let template = kept.join(format!("maitred-postgres{version}-{}-{owner}", getuid()));
    if !template.is_dir() {
        let folder = tempfile::tempdir().unwrap();
        own(&[folder.path()], user);
        let data = folder.path().join("data");
        let mut spec = Spec::new("initdb", &bin.join("initdb"), folder.path());
        spec.user = user;
        let fixed = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D"];
        let mut initdb = Process::start(spec.arguments(fixed).arguments([&data]));
        assert_eq!(initdb.wait_code(), 0, "{}", initdb.log());
        // Another test may be as far; either copy serves.
        let copied = tempfile::tempdir_in(kept).unwrap().keep();
        copy(&data, &copied.join("data"));
        if std::fs::rename(copied.join("data"), &template).is_err() {
            assert!(template.is_dir(), "cannot keep {}", template.display());
        }
        let _ = std::fs::remove_dir_all(copied);
    }
    template
}

/// Copies a folder with its owners.
fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(status.success(), "cannot copy {} to {}", from.display(), to.display());
}

fn own(paths: &[&Path], user: Option<(u32, u32)>) {
    if let Some((user, group)) = user {
        for path in paths {
            chown(path, Some(user), Some(group)).unwrap();
        }
    }
}
