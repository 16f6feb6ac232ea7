//! The SSH connection that a command came by.
//!
//! sshd tells it in the environment. `sudo` and `su` drop that, so that the processes above are asked
//! too, and where none of them says it, the sshd among them for its socket.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What sshd puts into the environment (sshd(8)): client and server, each with its port.
const VARIABLE: &[u8] = b"SSH_CONNECTION=";

/// What SSH servers call the process of a connection.
const SERVERS: [&str; 4] = ["sshd", "sshd-session", "sshd-auth", "dropbear"];

/// `TCP_ESTABLISHED`, as /proc/net/tcp writes it (include/net/tcp_states.h).
const ESTABLISHED: &str = "01";

/// The network namespace of a process, as the file system names it.
pub(super) type Netns = (u64, u64);

/// An SSH connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Connection {
    /// The far end.
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

/// The connection that this process came by, and the network namespace that it ends in; `None` if
/// there is none that can be seen.
pub(super) fn own() -> Option<(Connection, Netns)> {
    let chain = ancestors(std::process::id());
    let told: Vec<_> = chain.iter().map(|id| told(&process(*id))).collect();
    let server = chain.iter().find(|id| is_server(&process(**id)));
    let nearest = told.iter().find_map(Option::as_ref);
    if let Some(connection) = nearest {
        // The server's namespace, or that of who is nearest to it.
        let says_so = |one: &&Option<Connection>| one.as_ref() == Some(connection);
        let topmost = told.iter().rposition(|one| says_so(&one)).map(|at| &chain[at]);
        return Some((connection.clone(), netns(&process(*server.or(topmost)?).join("ns/net"))?));
    }
    let server = process(*server?);
    Some((held(&server)?, netns(&server.join("ns/net"))?))
}

/// The namespace behind a file of one.
pub(super) fn netns(file: &Path) -> Option<Netns> {
    fs::metadata(file).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

fn process(id: u32) -> PathBuf {
    Path::new("/proc").join(id.to_string())
}

/// A process and all above it, but not init.
fn ancestors(id: u32) -> Vec<u32> {
    let mut chain = vec![id];
    while let Some(parent) = chain.last().and_then(|id| parent(&process(*id)))
        && parent > 1
        && !chain.contains(&parent)
    {
        chain.push(parent);
    }
    chain
}

fn parent(process: &Path) -> Option<u32> {
    let status = fs::read_to_string(process.join("status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
}

/// What a process was told in its environment.
fn told(process: &Path) -> Option<Connection> {
    let environment = fs::read(process.join("environ")).ok()?;
    let value = environment.split(|byte| *byte == 0).find_map(|one| one.strip_prefix(VARIABLE))?;
    parse(std::str::from_utf8(value).ok()?)
}

/// `192.0.2.7 51234 198.51.100.1 22`; a link-local address has its device behind a `%`.
fn parse(value: &str) -> Option<Connection> {
    let words: Vec<&str> = value.split_whitespace().collect();
    let [client, client_port, server, server_port] = words[..] else { return None };
    let (client, of_client) = scoped(client, client_port)?;
    let (server, of_server) = scoped(server, server_port)?;
    Some(Connection { client, server, device: of_server.or(of_client).map(str::to_owned) })
}

fn scoped<'a>(address: &'a str, port: &str) -> Option<(SocketAddr, Option<&'a str>)> {
    let (address, device) = match address.split_once('%') {
        Some((address, device)) => (address, Some(device)),
        None => (address, None),
    };
    let address: IpAddr = address.parse().ok()?;
    Some((SocketAddr::new(address.to_canonical(), port.parse().ok()?), device))
}

fn is_server(process: &Path) -> bool {
    let name = fs::read_to_string(process.join("comm"));
    name.is_ok_and(|name| SERVERS.contains(&name.trim()))
}

/// The connection that a server holds: of its sockets the one it opened first, before those that it
/// forwards for its client.
fn held(process: &Path) -> Option<Connection> {
    let sockets: BTreeMap<u32, u64> = fs::read_dir(process.join("fd"))
        .ok()?
        .flatten()
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            let target = fs::read_link(entry.path()).ok()?;
            let inode = target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
            Some((number, inode.parse().ok()?))
        })
        .collect();
    let tables = ["net/tcp", "net/tcp6"];
    let tables = tables.map(|name| fs::read_to_string(process.join(name)).unwrap_or_default());
    let lines = tables.iter().flat_map(|table| table.lines());
    let connections: BTreeMap<u64, Connection> = lines.filter_map(established).collect();
    sockets.values().find_map(|inode| connections.get(inode).cloned())
}

/// The inode and the ends of an established connection in a line of /proc/net/tcp (proc(5)).
fn established(line: &str) -> Option<(u64, Connection)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [_, local, remote, ESTABLISHED, _, _, _, _, _, inode, ..] = words[..] else { return None };
    let (client, server) = (end(remote)?, end(local)?);
    Some((inode.parse().ok()?, Connection { client, server, device: None }))
}

/// `0100007F:0016`: words of an address in network byte order, each written as the host's number.
fn end(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let mut bytes = Vec::with_capacity(16);
    for at in (0..address.len()).step_by(8) {
        let word = u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    let address = match <[u8; 4]>::try_from(&bytes[..]) {
        Ok(v4) => IpAddr::V4(Ipv4Addr::from(v4)),
        Err(_) => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(&bytes[..]).ok()?)),
    };
    Some(SocketAddr::new(address.to_canonical(), u16::from_str_radix(port, 16).ok()?))
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
    fn what_sshd_tells_is_read() {
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
    fn the_kernels_table_is_read() {
        let v4 = "   3: 0101A8C0:0016 070200C0:C822 01 00000000:00000000 02:0009C4A0 00000000     0        0 4242 4 0";
        assert_eq!(
            established(v4),
            Some((4242, connection("192.0.2.7:51234", "192.168.1.1:22", None)))
        );
        let mapped = "0: 0000000000000000FFFF00000101A8C0:0016 0000000000000000FFFF0000070200C0:C822 01 0:0 0:0 0 0 0 7 1";
        assert_eq!(
            established(mapped),
            Some((7, connection("192.0.2.7:51234", "192.168.1.1:22", None)))
        );
        let v6 = "0: B80D0120000000000000000001000000:0016 B80D0120000000000000000002000000:0001 01 0:0 0:0 0 0 0 7 1";
        assert_eq!(
            established(v6),
            Some((7, connection("[2001:db8::2]:1", "[2001:db8::1]:22", None)))
        );
        for wrong in [
            "sl local_address rem_address st",
            "0: 00000000:0016 00000000:0000 0A 0:0 0:0 0 0 0 7 1",
        ] {
            assert_eq!(established(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_processes_above_are_found() {
        let chain = ancestors(std::process::id());
        assert_eq!(chain.first(), Some(&std::process::id()));
        assert_eq!(
            chain.get(1).copied(),
            Some(std::os::unix::process::parent_id()).filter(|id| *id > 1)
        );
    }
}
