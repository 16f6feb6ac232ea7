//! Connection attempts: the service, the expected and the actual result.

use std::fmt;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::lab::Host;
use super::services::{BANNER, ECHO, SSH, WEB};
use crate::wait::MAX_WAIT;
use crate::{Namespace, http, ping, tcp, udp};

/// The time without a reply that counts as a drop: less than the second after which a client
/// repeats its SYN, so that each dropped connection is one packet.
const DROP_TIMEOUT: Duration = Duration::from_millis(900);

/// The service to reach.
#[derive(Clone, Copy)]
pub(super) enum Service {
    Page,
    Ssh,
    Echo,
    Ping,
}

/// The expected result of an attempt.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    Works,
    Dropped,
}

/// The result of an attempt.
pub(super) enum Outcome {
    /// It worked, with details.
    Worked(String),
    /// No reply, as after a drop.
    NoReply,
    /// Another error, for example a RST.
    Failed(String),
}

/// An attempt of one host to reach a service of another.
#[derive(Clone, Copy)]
pub(super) struct Attempt<'a> {
    pub(super) from: &'a Host,
    pub(super) to: &'a Host,
    pub(super) service: Service,
    pub(super) expected: Expected,
}

impl Attempt<'_> {
    /// Runs the attempt over one family.
    pub(super) fn run(&self, family: usize) -> Outcome {
        let (namespace, address) = (&self.from.namespace, self.to.addresses[family]);
        // A success may take long on a busy machine.
        let limit = if self.expected == Expected::Works { MAX_WAIT } else { DROP_TIMEOUT };
        let start = Instant::now();
        let result = match self.service {
            Service::Page => page(namespace, SocketAddr::new(address, WEB), self.expected),
            Service::Ssh => ssh(namespace, SocketAddr::new(address, SSH), limit).map(|_| "banner"),
            Service::Echo => echo(namespace, SocketAddr::new(address, ECHO), limit),
            Service::Ping => pong(namespace, address),
        };
        match result {
            Ok(what) => Outcome::Worked(format!("{what}, {}", milliseconds(start.elapsed()))),
            Err(error) => Outcome::from(&error),
        }
    }
}

/// Runs several attempts at the same time, over both families; reports them in their order.
pub(super) fn all<E>(
    attempts: &[Attempt<'_>],
    mut report: impl FnMut(&Attempt<'_>, &[Outcome; 2]) -> Result<(), E>,
) -> Result<(), E> {
    thread::scope(|scope| {
        let running: Vec<_> = attempts
            .iter()
            .map(|attempt| [0, 1].map(|family| scope.spawn(move || attempt.run(family))))
            .collect();
        for (attempt, pair) in attempts.iter().zip(running) {
            let outcomes =
                pair.map(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            report(attempt, &outcomes)?;
        }
        Ok(())
    })
}

fn page(namespace: &Namespace, to: SocketAddr, expected: Expected) -> io::Result<&'static str> {
    match expected {
        Expected::Works => http::get(namespace, to, "/").map(|_| "page"),
        // The connection has to fail already.
        Expected::Dropped => tcp::connect_within(namespace, to, DROP_TIMEOUT).map(|_| "connected"),
    }
}

/// Opens a session and reads one echoed line. The session stays open until it is dropped.
pub(super) fn ssh(ns: &Namespace, to: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    let mut stream = tcp::connect_within(ns, to, limit)?;
    let mut replies = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    replies.read_line(&mut line)?;
    if line != BANNER {
        return Err(io::Error::other(format!("no banner, but {line:?}")));
    }
    stream.write_all(b"uptime\n")?;
    line.clear();
    replies.read_line(&mut line)?;
    if line == "uptime\n" { Ok(stream) } else { Err(io::Error::other("no echo")) }
}

fn echo(namespace: &Namespace, to: SocketAddr, limit: Duration) -> io::Result<&'static str> {
    let socket = udp::connect(namespace, to);
    socket.set_read_timeout(Some(limit))?;
    socket.send(b"hello")?;
    let mut back = [0; 16];
    match socket.recv(&mut back)? {
        5 if back.starts_with(b"hello") => Ok("echo"),
        length => Err(io::Error::other(format!("{length} other bytes"))),
    }
}

fn pong(namespace: &Namespace, to: IpAddr) -> io::Result<&'static str> {
    if ping::ping(namespace, to) { Ok("reply") } else { Err(io::ErrorKind::TimedOut.into()) }
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

impl Service {
    fn name(self) -> &'static str {
        match self {
            Self::Page => "http, tcp/80",
            Self::Ssh => "ssh, tcp/22",
            Self::Echo => "echo, udp/7",
            Self::Ping => "ping",
        }
    }
}

impl Outcome {
    pub(super) fn is(&self, expected: Expected) -> bool {
        match self {
            Self::Worked(_) => expected == Expected::Works,
            Self::NoReply => expected == Expected::Dropped,
            Self::Failed(_) => false,
        }
    }
}

impl From<&io::Error> for Outcome {
    fn from(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Self::NoReply,
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl fmt::Display for Attempt<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let route = format!("{} -> {}", self.from.name, self.to.name);
        write!(out, "{route:<23}{}", self.service.name())
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Works => "works",
            Self::Dropped => "dropped",
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Worked(how) => out.write_str(how),
            Self::NoReply => out.write_str("no reply"),
            Self::Failed(why) => out.write_str(why),
        }
    }
}
