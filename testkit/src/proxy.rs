//! A network that fails on demand: a TCP proxy in front of a server.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::thread;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::sync::{mpsc, oneshot, watch};

use crate::Port;

/// What the network does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It carries.
    Pass,
    /// It carries late: each byte arrives after this time.
    Delay(Duration),
    /// It resets connections, those there are and those to come.
    Cut,
    /// It is silent. Connections stay, new ones are accepted, and nothing arrives; what was sent meanwhile arrives
    /// when it carries again, as after a real partition, if the connection is still wanted then.
    Blackhole,
}

/// A proxy; its connections are reset when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    port: Port,
    state: watch::Sender<State>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    mode: Mode,
    /// How often all connections were cut. A count, so that a short cut is not missed.
    cuts: u64,
}

impl Proxy {
    /// In front of the server on this port of the loopback address, carrying.
    pub fn to(upstream: u16) -> Self {
        let port = Port::free();
        let listener = StdListener::bind((Ipv4Addr::LOCALHOST, port.number())).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (state, states) = watch::channel(State { mode: Mode::Pass, cuts: 0 });
        let (end, ended) = oneshot::channel();
        let upstream = SocketAddr::from((Ipv4Addr::LOCALHOST, upstream));
        // A runtime of its own: the test's may be blocked while it waits for a server.
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, upstream, states) => {}
                    _ = ended => {}
                }
            });
        });
        Self { port, state, end: Some(end), thread: Some(thread) }
    }

    /// Where clients connect.
    pub const fn port(&self) -> u16 {
        self.port.number()
    }

    /// Switches what the network does, from now on and for the connections there are.
    pub fn set(&self, mode: Mode) {
        self.state.send_modify(|state| {
            state.mode = mode;
            state.cuts += u64::from(mode == Mode::Cut);
        });
    }

    /// Resets the connections there are; new ones are treated as before.
    pub fn reset(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.reset();
        // The thread ends by itself if it panicked; then nobody listens.
        let _ = self.end.take().map(|end| end.send(()));
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

async fn serve(listener: StdListener, upstream: SocketAddr, states: watch::Receiver<State>) {
    let listener = TcpListener::from_std(listener).unwrap();
    loop {
        if let Ok((client, _)) = listener.accept().await {
            tokio::spawn(carry(client, upstream, states.clone()));
        }
    }
}

/// A connection, until an end closes it or it is cut.
async fn carry(mut client: TcpStream, upstream: SocketAddr, states: watch::Receiver<State>) {
    let before = states.borrow().cuts;
    let refused = states.borrow().mode == Mode::Cut;
    let mut cut = states.clone();
    let was_cut = refused
        || tokio::select! {
            // The sender of the states is dropped with the proxy, which cuts first.
            _ = cut.wait_for(|state| state.cuts > before) => true,
            carried = connect(&mut client, upstream, states) => carried.is_err(),
        };
    if was_cut {
        // Closing with nothing lingering is a reset.
        let _ = client.set_zero_linger();
    }
}

async fn connect(
    client: &mut TcpStream,
    upstream: SocketAddr,
    states: watch::Receiver<State>,
) -> io::Result<()> {
    audible(&mut states.clone()).await;
    let mut server = TcpStream::connect(upstream).await?;
    server.set_nodelay(true)?;
    client.set_nodelay(true)?;
    let (client_read, client_write) = client.split();
    let (server_read, server_write) = server.split();
    tokio::try_join!(
        flow(client_read, server_write, states.clone()),
        flow(server_read, client_write, states)
    )?;
    Ok(())
}

/// One direction. Reading goes on while bytes wait for their time, so that a delay is no limit to the throughput.
async fn flow(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut states: watch::Receiver<State>,
) -> io::Result<()> {
    let (sender, mut arrivals) = mpsc::channel::<(Instant, Vec<u8>)>(64);
    let read = async move {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let count = from.read(&mut buffer).await?;
            if count == 0 || sender.send((Instant::now(), buffer[..count].to_vec())).await.is_err() {
                return io::Result::Ok(());
            }
        }
    };
    let write = async move {
        while let Some((sent, bytes)) = arrivals.recv().await {
            let mode = audible(&mut states).await;
            if let Mode::Delay(delay) = mode {
                tokio::time::sleep_until((sent + delay).into()).await;
            }
            to.write_all(&bytes).await?;
        }
        audible(&mut states).await;
        to.shutdown().await
    };
    tokio::try_join!(read, write)?;
    Ok(())
}

/// Waits while the network is silent; what it does then.
async fn audible(states: &mut watch::Receiver<State>) -> Mode {
    match states.wait_for(|state| state.mode != Mode::Blackhole).await {
        Ok(state) => state.mode,
        // The proxy is being dropped: the connection goes with it.
        Err(_) => Mode::Cut,
    }
}
