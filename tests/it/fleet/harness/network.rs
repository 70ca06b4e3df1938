//! The network that fails on demand.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use maitred_testkit::{LIMIT, Mode, Proxy};

/// A server that says what it hears, and its port. Its threads end with the test's process.
fn echo() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut writer = stream.try_clone().unwrap();
            thread::spawn(move || std::io::copy(&mut &stream, &mut writer));
        }
    });
    port
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

fn hear(stream: &mut TcpStream, expected: &str) {
    let mut heard = vec![0; expected.len()];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(String::from_utf8(heard).unwrap(), expected);
}

/// The connection is reset: the kernel's word for it, or the end of the stream if nothing was on its way.
fn is_cut(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 1]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

#[test]
fn it_carries_both_ways_and_ends_a_connection_when_its_end_does() {
    let proxy = Proxy::to(echo());
    let mut stream = connect(&proxy);
    let long = "soup ".repeat(100_000);
    let mut writer = stream.try_clone().unwrap();
    let sent = long.clone();
    let write = thread::spawn(move || {
        writer.write_all(sent.as_bytes()).unwrap();
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut heard = String::new();
    stream.read_to_string(&mut heard).unwrap();
    write.join().unwrap();
    assert_eq!(heard.len(), long.len());
}

#[test]
fn a_cut_resets_the_connections_there_are_and_those_to_come() {
    let proxy = Proxy::to(echo());
    let mut stream = connect(&proxy);
    stream.write_all(b"soup").unwrap();
    hear(&mut stream, "soup");
    proxy.set(Mode::Cut);
    assert!(is_cut(&mut stream));
    assert!(is_cut(&mut connect(&proxy)));
    proxy.set(Mode::Pass);
    let mut stream = connect(&proxy);
    stream.write_all(b"fish").unwrap();
    hear(&mut stream, "fish");
    proxy.reset();
    assert!(is_cut(&mut stream));
}

#[test]
fn in_a_blackhole_nothing_is_heard_until_it_carries_again() {
    let proxy = Proxy::to(echo());
    let mut before = connect(&proxy);
    before.write_all(b"soup").unwrap();
    hear(&mut before, "soup");
    proxy.set(Mode::Blackhole);
    let mut during = connect(&proxy);
    for stream in [&mut before, &mut during] {
        stream.write_all(b"fish").unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let error = stream.read(&mut [0; 1]).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
        stream.set_read_timeout(Some(LIMIT)).unwrap();
    }
    proxy.set(Mode::Pass);
    hear(&mut before, "fish");
    hear(&mut during, "fish");
}

#[test]
fn a_delay_makes_both_ways_late_and_loses_nothing() {
    let proxy = Proxy::to(echo());
    let delay = Duration::from_millis(100);
    proxy.set(Mode::Delay(delay));
    let mut stream = connect(&proxy);
    let start = Instant::now();
    stream.write_all(b"soup").unwrap();
    hear(&mut stream, "soup");
    assert!(start.elapsed() >= delay * 2);
}
