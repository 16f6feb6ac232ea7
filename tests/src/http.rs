//! A minimal HTTP server and client: a page, and a download with a pause.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::Namespace;
use crate::tcp::{self, TcpServer};

/// The body of `/`.
pub const PAGE: &str = "hello from inside\n";

/// Half of the body of `/slow`: more than the socket buffers hold.
const HALF: usize = 8 << 20;

/// A web server with a page, and a download that pauses in the middle until it is resumed.
pub struct HttpServer {
    gate: Arc<Gate>,
    // Dropped after the gate was opened: its drop joins the connections.
    server: TcpServer,
}

/// Blocks downloads until the test opens it.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    fn open(&self) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    fn wait(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        while !*open {
            open = self.changed.wait(open).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl HttpServer {
    /// Starts the server in a namespace.
    #[must_use]
    pub fn start(namespace: &Namespace, address: SocketAddr) -> Self {
        let gate = Arc::new(Gate::default());
        let server = {
            let gate = Arc::clone(&gate);
            TcpServer::start(namespace, address, move |stream| serve(&stream, &gate))
        };
        Self { gate, server }
    }

    /// The address that it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Resumes all paused downloads; later ones do not pause.
    pub fn finish_downloads(&self) {
        self.gate.open();
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.gate.open();
    }
}

fn serve(stream: &TcpStream, gate: &Gate) -> io::Result<()> {
    let path = read_request(stream)?;
    let mut out = stream;
    if path == "/slow" {
        let half = vec![b'.'; HALF];
        out.write_all(header(2 * HALF).as_bytes())?;
        out.write_all(&half)?;
        gate.wait();
        out.write_all(&half)
    } else {
        // One write, as everywhere here: `write!` sends each of its parts as a packet.
        out.write_all((header(PAGE.len()) + PAGE).as_bytes())
    }
}

fn header(length: usize) -> String {
    format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n")
}

fn read_request(stream: &TcpStream) -> io::Result<String> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().ok_or(io::ErrorKind::UnexpectedEof)??;
    // Up to the empty line; a body is not supported.
    while !lines.next().ok_or(io::ErrorKind::UnexpectedEof)??.is_empty() {}
    Ok(request.split(' ').nth(1).unwrap_or("/").to_owned())
}

/// Requests a page from a namespace; an error unless the status is 200.
pub fn get(namespace: &Namespace, server: SocketAddr, path: &str) -> io::Result<String> {
    let mut body = String::new();
    request(namespace, server, path)?.read_to_string(&mut body)?;
    Ok(body)
}

/// Requests a page from a namespace; returns the status and the body, also of an error status.
pub fn get_any_status(ns: &Namespace, server: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let mut stream = tcp::connect(ns, server)?;
    // HTTP/1.0: the body ends with the connection.
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {server}\r\n\r\n").as_bytes())?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    let (head, body) = response.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or(io::ErrorKind::InvalidData)?, body.to_owned()))
}

/// A download whose first half has arrived.
pub struct Download {
    body: BufReader<TcpStream>,
}

impl Download {
    /// Starts `/slow` and reads its first half.
    pub fn start(namespace: &Namespace, server: SocketAddr) -> io::Result<Self> {
        let mut body = request(namespace, server, "/slow")?;
        body.read_exact(&mut vec![0; HALF])?;
        Ok(Self { body })
    }

    /// Reads the second half, for which [`HttpServer::finish_downloads`] has to be called.
    pub fn finish(mut self) -> io::Result<()> {
        self.body.read_exact(&mut vec![0; HALF])
    }
}

fn request(ns: &Namespace, server: SocketAddr, path: &str) -> io::Result<BufReader<TcpStream>> {
    let mut stream = tcp::connect(ns, server)?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {server}\r\n\r\n").as_bytes())?;
    let mut response = BufReader::new(stream);
    let mut line = String::new();
    response.read_line(&mut line)?;
    if !line.starts_with("HTTP/1.1 200 ") {
        return Err(io::Error::other(format!("the server replied {line:?}")));
    }
    while line != "\r\n" {
        line.clear();
        if response.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(response)
}
