//! The SSH connection that a command was run over.
//!
//! sshd sets it in the environment. `sudo` and `su` remove that variable, so the environments of the
//! parent processes are read too, and where none has it, the sockets of the sshd among them.

use std::fmt;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use procfs::net::{TcpNetEntry, TcpState};
use procfs::process::{FDTarget, Process};

/// The variable that sshd sets (sshd(8)): client and server, each with its port.
const VARIABLE: &str = "SSH_CONNECTION";

/// The names of an SSH server's process for a connection.
const SERVERS: [&str; 4] = ["sshd", "sshd-session", "sshd-auth", "dropbear"];

/// Device and inode number of a network namespace, which identify it.
pub(super) type Netns = (u64, u64);

/// An SSH connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Connection {
    /// The remote end.
    pub(super) client: SocketAddr,
    /// The end on this host.
    pub(super) server: SocketAddr,
    /// The device of a link-local connection.
    pub(super) device: Option<String>,
}

impl fmt::Display for Connection {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} -> {}", self.client, self.server)
    }
}

/// The connection that this process was run over, and the network namespace of its server; `None` if
/// there is none that this process can see.
pub(super) fn own_connection() -> Option<(Connection, Netns)> {
    let chain = ancestors(Process::myself().ok()?);
    let server = chain.iter().find(|process| is_server(process));
    let variables: Vec<_> = chain.iter().map(variable).collect();
    if let Some(connection) = variables.iter().find_map(Option::as_ref) {
        // The namespace of the server, or of the process nearest to it with the same connection.
        let topmost = variables.iter().rposition(|one| one.as_ref() == Some(connection))?;
        let namespace = netns_of(server.unwrap_or(&chain[topmost]))?;
        return Some((connection.clone(), namespace));
    }
    let server = server?;
    Some((open_connection(server)?, netns_of(server)?))
}

/// The network namespace of a file such as `/proc/PID/ns/net`.
pub(super) fn netns(file: &Path) -> Option<Netns> {
    fs::metadata(file).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

fn netns_of(process: &Process) -> Option<Netns> {
    netns(&Path::new("/proc").join(process.pid().to_string()).join("ns/net"))
}

/// A process and its parents, without init.
fn ancestors(process: Process) -> Vec<Process> {
    let mut chain = vec![process];
    while let Some(parent) = chain.last().and_then(parent)
        && chain.iter().all(|process| process.pid() != parent.pid())
    {
        chain.push(parent);
    }
    chain
}

fn parent(process: &Process) -> Option<Process> {
    let id = process.stat().ok()?.ppid;
    if id > 1 { Process::new(id).ok() } else { None }
}

/// The connection in a process's environment.
fn variable(process: &Process) -> Option<Connection> {
    let environment = process.environ().ok()?;
    parse(environment.get(std::ffi::OsStr::new(VARIABLE))?.to_str()?)
}

/// `192.0.2.7 51234 198.51.100.1 22`; a link-local address has a `%` and its device appended.
fn parse(value: &str) -> Option<Connection> {
    let words: Vec<&str> = value.split_whitespace().collect();
    let [client, client_port, server, server_port] = words[..] else { return None };
    let (client, client_device) = scoped(client, client_port)?;
    let (server, server_device) = scoped(server, server_port)?;
    Some(Connection { client, server, device: server_device.or(client_device).map(str::to_owned) })
}

fn scoped<'a>(address: &'a str, port: &str) -> Option<(SocketAddr, Option<&'a str>)> {
    let (address, device) = match address.split_once('%') {
        Some((address, device)) => (address, Some(device)),
        None => (address, None),
    };
    let address: IpAddr = address.parse().ok()?;
    Some((SocketAddr::new(address.to_canonical(), port.parse().ok()?), device))
}

fn is_server(process: &Process) -> bool {
    process.stat().is_ok_and(|stat| SERVERS.contains(&stat.comm.as_str()))
}

/// The connection of a server process: the established one among its sockets with the lowest file
/// descriptor, as it opens those that it forwards for its client later.
fn open_connection(process: &Process) -> Option<Connection> {
    let mut sockets: Vec<_> = process
        .fd()
        .ok()?
        .flatten()
        .filter_map(|open| match open.target {
            FDTarget::Socket(inode) => Some((open.fd, inode)),
            _ => None,
        })
        .collect();
    sockets.sort_unstable();
    let tables = [process.tcp(), process.tcp6()].into_iter().flatten();
    let entries: Vec<TcpNetEntry> = tables.flatten().collect();
    let entry = sockets.iter().find_map(|(_, inode)| {
        let is_open = |entry: &&TcpNetEntry| entry.state == TcpState::Established;
        entries.iter().filter(is_open).find(|entry| entry.inode == *inode)
    })?;
    let end = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
    let (client, server) = (end(entry.remote_address), end(entry.local_address));
    Some(Connection { client, server, device: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(client: &str, server: &str, device: Option<&str>) -> Connection {
        Connection {
            client: client.parse().unwrap(),
            server: server.parse().unwrap(),
            device: device.map(str::to_owned),
        }
    }

    #[test]
    fn the_variable_of_sshd_is_parsed() {
        assert_eq!(
            parse("192.0.2.7 51234 198.51.100.1 22"),
            Some(connection("192.0.2.7:51234", "198.51.100.1:22", None))
        );
        assert_eq!(
            parse("::ffff:192.0.2.7 1 2001:db8::1 22"),
            Some(connection("192.0.2.7:1", "[2001:db8::1]:22", None))
        );
        assert_eq!(
            parse("fe80::2%eth0 1 fe80::1%eth0 22"),
            Some(connection("[fe80::2]:1", "[fe80::1]:22", Some("eth0")))
        );
        for wrong in ["", "192.0.2.7 51234 198.51.100.1", "a b c d", "192.0.2.7 66666 ::1 22"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_parent_processes_are_found() {
        let chain: Vec<_> =
            ancestors(Process::myself().unwrap()).iter().map(Process::pid).collect();
        let id = |id: u32| i32::try_from(id).unwrap();
        assert_eq!(chain[0], id(std::process::id()));
        let parent = id(std::os::unix::process::parent_id());
        assert_eq!(chain.get(1).copied(), Some(parent).filter(|id| *id > 1));
    }

    #[test]
    fn the_established_connection_of_a_process_is_found() {
        let listener = std::net::TcpListener::bind("[::ffff:127.0.0.1]:0").unwrap();
        let address = listener.local_addr().unwrap();
        let accept = std::thread::spawn(move || listener.accept().unwrap());
        let client = std::net::TcpStream::connect(("127.0.0.1", address.port())).unwrap();
        let (_server, _) = accept.join().unwrap();
        let found = open_connection(&Process::myself().unwrap()).unwrap();
        let ends = [client.local_addr().unwrap(), client.peer_addr().unwrap()];
        assert!(ends.contains(&found.client) && ends.contains(&found.server), "{found}");
    }
}
