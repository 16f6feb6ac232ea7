//! As much HTTP as a page and a download need.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::Namespace;
use crate::tcp::{self, TcpServer};

/// What `/` is.
pub const PAGE: &str = "hello from inside\n";

/// Half of what `/slow` is: more than a socket holds unread, so that it cannot all be under way.
const HALF: usize = 8 << 20;

/// A web server with a page, and a download that pauses in the middle until it is let go on.
pub struct HttpServer {
    gate: Arc<Gate>,
    // Dropped after the gate was opened, for it waits for its connections.
    server: TcpServer,
}

/// Closed until the test opens it.
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

    fn pass(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        while !*open {
            open = self.changed.wait(open).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl HttpServer {
    /// Serves in a namespace.
    #[must_use]
    pub fn start(namespace: &Namespace, address: SocketAddr) -> Self {
        let gate = Arc::new(Gate::default());
        let server = {
            let gate = Arc::clone(&gate);
            TcpServer::start(namespace, address, move |stream| serve(&stream, &gate))
        };
        Self { gate, server }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Sends the second half of every download, now and from now on.
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
        gate.pass();
        out.write_all(&half)
    } else {
        // In one piece, as everything that is written here: `write!` would send each of its parts
        // as a packet.
        out.write_all((header(PAGE.len()) + PAGE).as_bytes())
    }
}

fn header(length: usize) -> String {
    format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n")
}

fn read_request(stream: &TcpStream) -> io::Result<String> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().ok_or(io::ErrorKind::UnexpectedEof)??;
    // To the empty line; a body has no meaning here.
    while !lines.next().ok_or(io::ErrorKind::UnexpectedEof)??.is_empty() {}
    Ok(request.split(' ').nth(1).unwrap_or("/").to_owned())
}

/// Loads a page from a namespace.
pub fn get(namespace: &Namespace, server: SocketAddr, path: &str) -> io::Result<String> {
    let mut body = String::new();
    request(namespace, server, path)?.read_to_string(&mut body)?;
    Ok(body)
}

/// What a server answers, whatever its status: that and the body.
pub fn answer(ns: &Namespace, server: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let mut stream = tcp::connect(ns, server)?;
    // An older version, so that the end of the body is the end of the connection.
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {server}\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or(io::ErrorKind::InvalidData)?, body.to_owned()))
}

/// A download that has arrived to its middle.
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
    let mut answer = BufReader::new(stream);
    let mut line = String::new();
    answer.read_line(&mut line)?;
    if !line.starts_with("HTTP/1.1 200 ") {
        return Err(io::Error::other(format!("the server answered {line:?}")));
    }
    while line != "\r\n" {
        line.clear();
        if answer.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(answer)
}
