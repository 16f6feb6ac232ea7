//! UDP servers and clients in namespaces.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::Namespace;

/// How often a server looks whether it should end.
const TICK: Duration = Duration::from_millis(20);

/// A server that sends every datagram back, for as long as it lives.
pub struct UdpEcho {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl UdpEcho {
    /// Serves in a namespace.
    #[must_use]
    pub fn start(namespace: &Namespace, address: SocketAddr) -> Self {
        let socket = bind(namespace, address);
        socket.set_read_timeout(Some(TICK)).expect("bound a socket's waiting");
        let address = socket.local_addr().expect("a bound socket has an address");
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let mut buffer = vec![0; 1 << 16];
                while !stop.load(Ordering::Relaxed) {
                    if let Ok((length, client)) = socket.recv_from(&mut buffer) {
                        // A client that left gets nothing.
                        let _ = socket.send_to(&buffer[..length], client);
                    }
                }
            })
        };
        Self { address, stop, thread: Some(thread) }
    }

    /// Where it listens.
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

/// A socket in a namespace.
#[must_use]
pub fn bind(namespace: &Namespace, address: SocketAddr) -> UdpSocket {
    namespace
        .run(|| UdpSocket::bind(address))
        .unwrap_or_else(|error| panic!("bind to {address} in {}: {error}", namespace.name()))
}

/// A socket in a namespace that talks to one other.
#[must_use]
pub fn connect(namespace: &Namespace, to: SocketAddr) -> UdpSocket {
    let any = match to.ip() {
        IpAddr::V4(_) => "0.0.0.0:0",
        IpAddr::V6(_) => "[::]:0",
    };
    let socket = bind(namespace, any.parse().expect("an address"));
    namespace
        .run(|| socket.connect(to))
        .unwrap_or_else(|error| panic!("choose {to} in {}: {error}", namespace.name()));
    socket
}

/// Sends one datagram and tells whether it came back within the limit.
#[must_use]
pub fn answers(socket: &UdpSocket, limit: Duration) -> bool {
    const QUESTION: &[u8] = b"anybody there?";
    socket.set_read_timeout(Some(limit)).expect("bound a socket's waiting");
    socket.send(QUESTION).unwrap_or_else(|error| panic!("send a datagram: {error}"));
    let mut buffer = [0; 64];
    match socket.recv(&mut buffer) {
        Ok(length) => buffer[..length] == *QUESTION,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
        Err(error) => panic!("wait for a datagram: {error}"),
    }
}
