//! TCP servers and clients in namespaces.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::Namespace;
use crate::wait::{MAX_WAIT, wait_until};

/// Long enough for a handshake on a busy machine, and less than the second after which a client
/// repeats its SYN: an attempt that is dropped is exactly one packet.
const ONE_SYN: Duration = Duration::from_millis(700);

/// A server that runs until this is dropped.
pub struct TcpServer {
    address: SocketAddr,
    listener: TcpListener,
    connections: Arc<Mutex<Vec<TcpStream>>>,
    thread: Option<JoinHandle<()>>,
}

impl TcpServer {
    /// Listens in a namespace and calls a closure for each connection, on a new thread. Errors of
    /// a connection are ignored: its client sees them.
    pub fn start(
        namespace: &Namespace,
        address: SocketAddr,
        serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = namespace
            .run(|| TcpListener::bind(address))
            .unwrap_or_else(|error| panic!("listen on {address}: {error}"));
        let address = listener.local_addr().expect("a listener has an address");
        let connections = Arc::default();
        let thread = {
            let listener = listener.try_clone().expect("duplicate a listener");
            let connections = Arc::clone(&connections);
            thread::spawn(move || accept(&listener, &connections, &serve))
        };
        Self { address, listener, connections, thread: Some(thread) }
    }

    /// A server that sends back all data.
    #[must_use]
    pub fn echo(namespace: &Namespace, address: SocketAddr) -> Self {
        Self::start(namespace, address, |mut stream| {
            let mut back = stream.try_clone()?;
            io::copy(&mut stream, &mut back).map(drop)
        })
    }

    /// The address that it listens on; with a free port if it was started with port 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn accept(
    listener: &TcpListener,
    connections: &Mutex<Vec<TcpStream>>,
    serve: &(impl Fn(TcpStream) -> io::Result<()> + Sync),
) {
    thread::scope(|scope| {
        // Ends when the listener is shut down.
        while let Ok((stream, _client)) = listener.accept() {
            let Ok(copy) = stream.try_clone() else { continue };
            connections.lock().unwrap_or_else(PoisonError::into_inner).push(copy);
            scope.spawn(|| {
                let done = stream.try_clone();
                let served = serve(stream);
                // `connections` keeps the socket open; the client waits for the FIN.
                done?.shutdown(Shutdown::Write)?;
                served
            });
        }
    });
}

impl Drop for TcpServer {
    fn drop(&mut self) {
        // std has no shutdown of a listener, and only a shutdown ends `accept`.
        if let Ok(listener) = self.listener.try_clone() {
            let _ = TcpStream::from(OwnedFd::from(listener)).shutdown(Shutdown::Both);
        }
        // A connection accepted after this has no client: tests drop clients first.
        for stream in self.connections.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Connects from a namespace, with [`MAX_WAIT`] as the timeout of connecting, reading and writing.
pub fn connect(namespace: &Namespace, to: SocketAddr) -> io::Result<TcpStream> {
    connect_within(namespace, to, MAX_WAIT)
}

/// Whether a connection is established. A RST in reply to the SYN is an error of the test: no
/// server listens there.
#[must_use]
pub fn reaches(namespace: &Namespace, to: SocketAddr) -> bool {
    match connect_within(namespace, to, ONE_SYN) {
        Ok(_) => true,
        Err(error) if error.kind() == io::ErrorKind::TimedOut => false,
        Err(error) => panic!("connect from {} to {to}: {error}", namespace.name()),
    }
}

/// Connects from a namespace; the attempt times out after a limit.
pub fn connect_within(
    namespace: &Namespace,
    to: SocketAddr,
    limit: Duration,
) -> io::Result<TcpStream> {
    let stream = namespace.run(|| TcpStream::connect_timeout(&to, limit))?;
    stream.set_read_timeout(Some(MAX_WAIT))?;
    stream.set_write_timeout(Some(MAX_WAIT))?;
    Ok(stream)
}

/// Whether none of several connections is established, all tried at the same time: one SYN each.
#[must_use]
pub fn none_reaches(namespace: &Namespace, to: &[SocketAddr]) -> bool {
    thread::scope(|scope| {
        let tries: Vec<_> = to.iter().map(|to| scope.spawn(|| reaches(namespace, *to))).collect();
        // Join all, so that no attempt runs into the next part of the test.
        let reached: Vec<_> = tries
            .into_iter()
            .map(|one| one.join().unwrap_or_else(|panic| resume_unwind(panic)))
            .collect();
        !reached.contains(&true)
    })
}

/// Waits until no connection of namespaces has a segment on the way: all data and FINs are acknowledged.
pub fn wait_until_settled(namespaces: [&Namespace; 2]) {
    // As in include/net/tcp_states.h.
    const SETTLED: [&str; 3] = ["01", "06", "0A"];
    let is_settled = |line: &str| {
        let mut words = line.split_whitespace().skip(3);
        let (state, queues) = (words.next(), words.next());
        state.is_some_and(|state| SETTLED.contains(&state))
            && queues.is_some_and(|queues| queues.starts_with("00000000:"))
    };
    wait_until(MAX_WAIT, "TCP connections to settle", || {
        namespaces.iter().all(|namespace| {
            ["tcp", "tcp6"].iter().all(|family| {
                let path = format!("/proc/thread-self/net/{family}");
                let sockets = namespace.run(|| fs::read_to_string(path));
                sockets.is_ok_and(|sockets| sockets.lines().skip(1).all(is_settled))
            })
        })
    });
}

/// Sends data to an echo server and reads it back. Both at the same time: the data may exceed what
/// the socket buffers hold.
pub fn exchange(stream: &mut TcpStream, data: &[u8]) -> io::Result<()> {
    let mut back = vec![0; data.len()];
    let mut out = stream.try_clone()?;
    thread::scope(|scope| {
        let sent = scope.spawn(move || out.write_all(data));
        let received = stream.read_exact(&mut back);
        sent.join().unwrap_or_else(|panic| resume_unwind(panic)).and(received)
    })?;
    if back == data { Ok(()) } else { Err(io::Error::other("the echo differs from what was sent")) }
}
