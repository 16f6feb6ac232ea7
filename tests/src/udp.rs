//! UDP servers and clients in namespaces.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::Namespace;

/// How often a server checks whether it has to stop.
const TICK: Duration = Duration::from_millis(20);

/// A server that sends every datagram back until it is dropped.
pub struct UdpEcho {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl UdpEcho {
    /// Starts the server in a namespace.
    #[must_use]
    pub fn start(namespace: &Namespace, address: SocketAddr) -> Self {
        let socket = bind(namespace, address);
        socket.set_read_timeout(Some(TICK)).expect("set a read timeout");
        let address = socket.local_addr().expect("a bound socket has an address");
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let mut buffer = vec![0; 1 << 16];
                while !stop.load(Ordering::Relaxed) {
                    if let Ok((length, client)) = socket.recv_from(&mut buffer) {
                        // The client may have closed its socket.
                        let _ = socket.send_to(&buffer[..length], client);
                    }
                }
            })
        };
        Self { address, stop, thread: Some(thread) }
    }

    /// The address that it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for UdpEcho {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Runs `work` while datagrams are sent to each of several addresses, each from a new port, so that
/// most belong to no flow; returns how many were sent to each.
pub fn while_flooding<T>(
    namespace: &Namespace,
    to: &[SocketAddr],
    work: impl FnOnce() -> T,
) -> (T, Vec<u64>) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let flood = |to: &SocketAddr| {
            let (to, stop) = (*to, &stop);
            scope.spawn(move || namespace.run(|| flood(to, stop)))
        };
        let floods: Vec<_> = to.iter().map(flood).collect();
        let result = {
            // Also when `work` panics: the scope joins the sending threads.
            let _stop = StopAtEnd(&stop);
            work()
        };
        let sent = floods.into_iter().map(|one| one.join().unwrap_or_else(|p| resume_unwind(p)));
        (result, sent.collect())
    })
}

struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn flood(to: SocketAddr, stop: &AtomicBool) -> u64 {
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        let socket = UdpSocket::bind(any(to)).expect("a free port");
        socket.send_to(b"some data", to).unwrap_or_else(|error| panic!("send to {to}: {error}"));
        sent += 1;
        // Often enough to hit a gap of one millisecond; other tests need the CPU too.
        thread::sleep(Duration::from_micros(250));
    }
    sent
}

/// The unspecified address of the same family, and any port.
fn any(like: SocketAddr) -> SocketAddr {
    let any = match like.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    SocketAddr::new(any, 0)
}

/// A socket in a namespace.
#[must_use]
pub fn bind(namespace: &Namespace, address: SocketAddr) -> UdpSocket {
    namespace
        .run(|| UdpSocket::bind(address))
        .unwrap_or_else(|error| panic!("bind to {address} in {}: {error}", namespace.name()))
}

/// A connected socket in a namespace.
#[must_use]
pub fn connect(namespace: &Namespace, to: SocketAddr) -> UdpSocket {
    connect_from(namespace, 0, to)
}

/// As [`connect`], from a port: among many that the kernel chooses, some are chosen twice.
#[must_use]
pub fn connect_from(namespace: &Namespace, port: u16, to: SocketAddr) -> UdpSocket {
    let mut from = any(to);
    from.set_port(port);
    let socket = bind(namespace, from);
    namespace
        .run(|| socket.connect(to))
        .unwrap_or_else(|error| panic!("connect to {to} in {}: {error}", namespace.name()));
    socket
}

/// Sends one datagram to an echo server; whether it came back within the limit.
#[must_use]
pub fn is_echoed(socket: &UdpSocket, limit: Duration) -> bool {
    const DATA: &[u8] = b"a 14-byte text";
    socket.set_read_timeout(Some(limit)).expect("set a read timeout");
    socket.send(DATA).unwrap_or_else(|error| panic!("send a datagram: {error}"));
    let mut buffer = [0; 64];
    loop {
        match socket.recv(&mut buffer) {
            Ok(length) => return buffer[..length] == *DATA,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            // For example after the process was stopped and continued.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => panic!("receive a datagram: {error}"),
        }
    }
}
