//! What the servers have in common: a process on a port of its own, in a folder of its own.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::{LIMIT, Port, Process, Spec, poll};

/// How a server shows that it is ready, and how it is asked to end.
#[derive(Debug, Clone, Copy)]
pub struct Manners {
    /// Whether the one on this port answers in its own protocol.
    pub ready: fn(u16) -> bool,
    /// Ends it in good order, whoever is connected.
    pub end: Signal,
    /// Ends it at once but tidily, if a killed one leaves something behind.
    pub tidy: Option<Signal>,
}

/// A server with its data; killed when dropped.
#[derive(Debug)]
pub struct Server {
    // Before the folder, so that the process ends before its folder does.
    process: Process,
    port: Port,
    folder: TempDir,
    manners: Manners,
}

impl Server {
    /// Starts it and waits until it is ready.
    #[track_caller]
    pub fn start(spec: Spec, port: Port, folder: TempDir, manners: Manners) -> Self {
        let mut server = Self { process: Process::start(spec), port, folder, manners };
        server.wait_ready();
        server
    }

    /// The port it listens on.
    pub const fn port(&self) -> u16 {
        self.port.number()
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    /// Where its data and its log are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// All that it ever wrote.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// SIGKILL to it and all its processes; what it has written stays.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGSTOP: it is there and does nothing.
    pub fn stop(&mut self) {
        self.process.stop();
    }

    /// SIGCONT.
    pub fn cont(&mut self) {
        self.process.cont();
    }

    /// Asks it to end, and waits for that.
    #[track_caller]
    pub fn terminate(&mut self) {
        self.process.signal(self.manners.end);
        self.process.wait_code();
    }

    /// Kills it if it runs; then the same again, with its data and on its port, ready.
    #[track_caller]
    pub fn restart(&mut self) {
        self.process.restart();
        self.wait_ready();
    }

    /// Starts what was killed or has ended, and does not wait until it is ready.
    pub fn restart_unready(&mut self) {
        self.process.restart();
    }

    /// Waits until it answers in its own protocol.
    #[track_caller]
    pub fn wait_ready(&mut self) {
        let name = self.process.spec().name.clone();
        let ready = poll(LIMIT, || {
            // A server that has ended can say why only in its log, which the failed test shows.
            assert!(self.process.is_running(), "{name} has ended");
            (self.manners.ready)(self.port()).then_some(())
        });
        assert!(ready.is_some(), "{name} does not answer on port {}", self.port());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(tidy) = self.manners.tidy {
            self.process.cont();
            self.process.signal(tidy);
            self.process.wait(Duration::from_secs(5));
        }
    }
}
