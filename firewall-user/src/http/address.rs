//! Where an HTTP server listens: an address and a port, or a Unix socket.

use std::borrow::Cow;
use std::fmt;
use std::fs;
use std::io;
use std::net::{self, IpAddr, SocketAddr};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net as unix;
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, umask};

use crate::explain::Explain;

/// How a Unix socket begins.
const UNIX: &str = "unix:";

/// The permissions of a new socket: read and write for its owner and group.
const SOCKET_UMASK: Mode = Mode::from_bits_truncate(0o117);

/// An address of `--metrics` or `--ec2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl Address {
    /// Reads the value of an option. `port` and `socket`: what the option is usually set to, for the example.
    ///
    /// # Errors
    /// It is neither an IP address with a port nor `unix:` and an absolute path.
    pub fn parse(word: &str, port: u16, socket: &str) -> Result<Self, String> {
        if let Some(path) = word.strip_prefix(UNIX) {
            let path = Path::new(path);
            return if path.is_absolute() {
                Ok(Self::Unix(path.to_owned()))
            } else {
                Err(format!("write an absolute path, for example {UNIX}{socket}"))
            };
        }
        word.parse().map(Self::Tcp).map_err(|_| {
            format!(
                "write an IP address and a port, for example 127.0.0.1:{port} or [::1]:{port}, or a Unix \
                 socket, for example {UNIX}{socket}"
            )
        })
    }

    /// Whether only processes of this host can connect: a Unix socket, or an address of the loopback network.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => is_loopback(address.ip()),
            Self::Unix(_) => true,
        }
    }
}

/// Whether an address is 127.0.0.0/8 or ::1, also written as an IPv4-mapped one.
pub(crate) fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(out, "{address}"),
            Self::Unix(path) => write!(out, "{UNIX}{}", path.display()),
        }
    }
}

/// The address of the HTTP server is not available.
#[derive(Debug, thiserror::Error)]
#[error("listen on {address}")]
pub struct ListenError {
    address: Address,
    /// The option that has it.
    option: &'static str,
    source: io::Error,
}

impl Explain for ListenError {
    fn hint(&self) -> Option<Cow<'static, str>> {
        Some(match (&self.address, self.source.kind()) {
            (Address::Unix(path), io::ErrorKind::NotFound) => {
                let dir = path.parent().unwrap_or(path);
                format!("make the directory first: `mkdir -m 0750 {}`", dir.display()).into()
            }
            _ => format!("choose another address, port or socket with {}", self.option).into(),
        })
    }
}

/// A socket that listens.
#[derive(Debug)]
pub(crate) enum Listening {
    Tcp(net::TcpListener),
    Unix(unix::UnixListener, SocketFile),
}

/// The file of a Unix socket, removed when this is dropped if it is still the same file.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|now| now == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Listening {
    /// Listens, and changes the process's file mode creation mask for a moment: no other thread may run. `option`
    /// is named in the hint.
    ///
    /// # Errors
    /// The address is in use or not available.
    pub(crate) fn open(address: &Address, option: &'static str) -> Result<Self, ListenError> {
        let opened = match address {
            Address::Tcp(address) => net::TcpListener::bind(address).map(Self::Tcp),
            Address::Unix(path) => open_unix(path),
        };
        opened.map_err(|source| ListenError { address: address.clone(), option, source })
    }

    /// The address with the port that the kernel chose.
    pub(crate) fn address(&self) -> io::Result<Address> {
        Ok(match self {
            Self::Tcp(listener) => Address::Tcp(listener.local_addr()?),
            Self::Unix(_, file) => Address::Unix(file.path.clone()),
        })
    }
}

fn open_unix(path: &Path) -> io::Result<Listening> {
    remove_stale(path)?;
    let mask = umask(SOCKET_UMASK);
    let bound = unix::UnixListener::bind(path);
    umask(mask);
    let listener = bound?;
    let file = SocketFile { path: path.to_owned(), identity: identity(path)? };
    Ok(Listening::Unix(listener, file))
}

/// Removes a socket on which no process listens: one that was killed left it.
fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(file) = fs::symlink_metadata(path) else { return Ok(()) };
    if !file.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the file is not a socket"));
    }
    match unix::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        // A process listens, or it cannot be told whether one does: binding fails.
        _ => Ok(()),
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_and_printed() {
        let parse = |word| Address::parse(word, 9911, "/run/secgroup/metrics.sock");
        for (word, is_local) in [
            ("127.0.0.1:9911", true),
            ("127.9.9.9:1", true),
            ("[::1]:9911", true),
            ("[::ffff:127.0.0.1]:80", true),
            ("unix:/run/x.sock", true),
            ("0.0.0.0:9911", false),
            ("[::]:9911", false),
            ("192.0.2.1:80", false),
        ] {
            let address = parse(word).unwrap();
            assert_eq!(address.is_local(), is_local, "{word}");
            assert_eq!(address.to_string(), word);
        }
        assert!(parse("unix:x.sock").unwrap_err().ends_with("unix:/run/secgroup/metrics.sock"));
        assert!(parse("localhost:80").unwrap_err().contains("127.0.0.1:9911"));
    }
}
