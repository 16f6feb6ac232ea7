//! TCP servers and clients in namespaces.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::Namespace;
use crate::wait::PATIENCE;

/// Long enough for a handshake on a busy machine, short of the second after which a client sends
/// its SYN again: an attempt that is blocked is exactly one packet.
const ONE_SYN: Duration = Duration::from_millis(700);

/// A server that lives as long as this.
pub struct TcpServer {
    address: SocketAddr,
    listener: TcpListener,
    connections: Arc<Mutex<Vec<TcpStream>>>,
    thread: Option<JoinHandle<()>>,
}

impl TcpServer {
    /// Listens in a namespace; each connection is handed to a closure, on a thread of its own.
    /// What goes wrong with a connection is for its client to notice.
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

    /// A server that sends everything back.
    #[must_use]
    pub fn echo(namespace: &Namespace, address: SocketAddr) -> Self {
        Self::start(namespace, address, |mut stream| {
            let mut back = stream.try_clone()?;
            io::copy(&mut stream, &mut back).map(drop)
        })
    }

    /// Where it listens; the port is a free one if it was started with port 0.
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
                // The list holds the connection open; its client waits for the end.
                done?.shutdown(Shutdown::Write)?;
                served
            });
        }
    });
}

impl Drop for TcpServer {
    fn drop(&mut self) {
        // A listener has no shutdown of its own in std, and shutting down is what ends `accept`.
        if let Ok(listener) = self.listener.try_clone() {
            let _ = TcpStream::from(OwnedFd::from(listener)).shutdown(Shutdown::Both);
        }
        // A connection that arrives after this finds its client gone: tests drop clients first.
        for stream in self.connections.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Connects from a namespace, patiently. Reading and writing are bounded too.
pub fn connect(namespace: &Namespace, to: SocketAddr) -> io::Result<TcpStream> {
    connect_within(namespace, to, PATIENCE)
}

/// Whether a connection comes about. An attempt that is answered with a refusal is an error of the
/// test: nobody listens there.
#[must_use]
pub fn reaches(namespace: &Namespace, to: SocketAddr) -> bool {
    match connect_within(namespace, to, ONE_SYN) {
        Ok(_) => true,
        Err(error) if error.kind() == io::ErrorKind::TimedOut => false,
        Err(error) => panic!("connect from {} to {to}: {error}", namespace.name()),
    }
}

/// Connects from a namespace, or times out after a limit.
pub fn connect_within(
    namespace: &Namespace,
    to: SocketAddr,
    limit: Duration,
) -> io::Result<TcpStream> {
    let stream = namespace.run(|| TcpStream::connect_timeout(&to, limit))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Whether none of several connections comes about, all tried at the same time: one SYN each.
#[must_use]
pub fn none_reaches(namespace: &Namespace, to: &[SocketAddr]) -> bool {
    thread::scope(|scope| {
        let tries: Vec<_> = to.iter().map(|to| scope.spawn(|| reaches(namespace, *to))).collect();
        // All of them, so that none goes on beside what the test does next.
        let reached: Vec<_> = tries
            .into_iter()
            .map(|one| one.join().unwrap_or_else(|panic| resume_unwind(panic)))
            .collect();
        !reached.contains(&true)
    })
}

/// Sends over a connection to an echo server and waits for the same back. Both at once: what is
/// under way may be less than what is sent.
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
