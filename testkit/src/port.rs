//! Ports that stay free for one test, also while its server is down.

use std::fs::{File, create_dir_all};
use std::net::{Ipv4Addr, TcpListener};

/// A port on the loopback address, held for as long as this lives.
///
/// It lies below the ports that systems give to outgoing connections, or one of these could take it while a killed
/// server is about to come back; a locked file keeps other tests away from it.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// A free one.
    pub fn free() -> Self {
        let uid = nix::unistd::getuid();
        let folder = std::env::temp_dir().join(format!("maitred-ports-{uid}"));
        create_dir_all(&folder).unwrap();
        loop {
            let number = fastrand::u16(15_000..32_000);
            let lock = File::create(folder.join(number.to_string())).unwrap();
            if lock.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Self { number, _lock: lock };
            }
        }
    }

    /// Its number.
    pub const fn number(&self) -> u16 {
        self.number
    }
}
