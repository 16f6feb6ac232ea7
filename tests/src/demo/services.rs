//! The services of a host.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use super::lab::Host;
use crate::http::HttpServer;
use crate::network::at;
use crate::tcp::TcpServer;
use crate::udp::UdpEcho;

pub(super) const WEB: u16 = 80;
pub(super) const SSH: u16 = 22;
pub(super) const ECHO: u16 = 7;

/// The banner of the service on port 22.
pub(super) const BANNER: &str = "SSH-2.0-demo\r\n";

/// The services of a host on both of its addresses, until this is dropped.
pub(super) struct Services {
    web: [HttpServer; 2],
    _ssh: [TcpServer; 2],
    _echo: [UdpEcho; 2],
}

impl Services {
    pub(super) fn start(host: &Host) -> Self {
        let Host { namespace, addresses, .. } = host;
        Self {
            web: at(*addresses, WEB).map(|address| HttpServer::start(namespace, address)),
            _ssh: at(*addresses, SSH).map(|address| TcpServer::start(namespace, address, ssh)),
            _echo: at(*addresses, ECHO).map(|address| UdpEcho::start(namespace, address)),
        }
    }

    /// Resumes the paused downloads.
    pub(super) fn finish_downloads(&self) {
        self.web.iter().for_each(HttpServer::finish_downloads);
    }
}

/// A minimal session: a banner, then each line is sent back.
fn ssh(stream: TcpStream) -> io::Result<()> {
    let mut out = &stream;
    out.write_all(BANNER.as_bytes())?;
    for line in BufReader::new(&stream).lines() {
        // One write: Nagle's algorithm would delay the second of two small ones until an ACK.
        out.write_all(format!("{}\n", line?).as_bytes())?;
    }
    Ok(())
}
