//! A hub of one file: as much HTTP as the client needs, and the ways in which it can go wrong.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::model::Sha256Digest;

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// How the server answers.
#[derive(Clone, Copy)]
pub enum Behaviour {
    /// Everything is right; the etag is the digest.
    Good,
    /// The etag is no digest, as for small files.
    PlainEtag,
    /// The etag is the digest of something else.
    WrongEtag,
    /// The connection closes after this many bytes.
    CutAt(usize),
    /// Nothing but this status.
    Status(u16),
}

struct State {
    content: Vec<u8>,
    behaviour: Behaviour,
    last_start: usize,
}

/// Listens on the loopback interface until the test's process ends.
pub struct HubServer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl HubServer {
    pub fn start(content: Vec<u8>, behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State { content, behaviour, last_start: 0 }));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                // A client that hangs up early is one of the cases under test.
                let _ = answer(connection, &mut lock(&shared));
            }
        });
        Self { address, state }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}/", self.address)
    }

    pub fn behave(&self, behaviour: Behaviour) {
        lock(&self.state).behaviour = behaviour;
    }

    /// Where the last download began, in bytes.
    pub fn last_start(&self) -> usize {
        lock(&self.state).last_start
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(mut connection: TcpStream, state: &mut State) -> std::io::Result<()> {
    let Some((start, end)) = read_request(&connection)? else { return Ok(()) };
    let total = state.content.len();
    if let Behaviour::Status(status) = state.behaviour {
        return write!(connection, "HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    let etag = match state.behaviour {
        Behaviour::PlainEtag => "\"a1b2c3\"".to_owned(),
        Behaviour::WrongEtag => format!("\"{}\"", Sha256Digest::of(b"something else")),
        _ => format!("\"{}\"", Sha256Digest::of(&state.content)),
    };
    let end = end.map_or(total, |end| total.min(end + 1));
    if end != 1 {
        state.last_start = start;
    }
    write!(
        connection,
        "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {start}-{}/{total}\r\n\
         x-repo-commit: {COMMIT}\r\nx-linked-etag: {etag}\r\nConnection: close\r\n\r\n",
        end - start,
        end - 1,
    )?;
    let sent = match state.behaviour {
        Behaviour::CutAt(cut) => end.min(cut),
        _ => end,
    };
    connection.write_all(state.content.get(start..sent).unwrap_or_default())
}

/// The range asked for, if the path is the one that the tests ask for.
fn read_request(connection: &TcpStream) -> std::io::Result<Option<(usize, Option<usize>)>> {
    let mut range = None;
    for line in BufReader::new(connection).lines() {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
            let (start, end) = value.split_once('-').unwrap_or((value, ""));
            range = start.parse().ok().map(|start| (start, end.parse().ok()));
        }
    }
    Ok(range)
}
