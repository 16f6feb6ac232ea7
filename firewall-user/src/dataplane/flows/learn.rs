//! Learning the connections that are open when an interface is attached: they are read from the kernel's
//! sockets and conntrack tables and written as flows, so that none is dropped.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::BorrowedFd;

use firewall_ebpf::abi::flow::{
    FIN_EGRESS, Flow, FlowKey4, FlowKey6, INITIATOR_EGRESS, PROVEN, REPLIED, Table,
};
use firewall_ebpf::abi::interface::{Direction, Orientation};
use firewall_ebpf::abi::state::State;
use firewall_ebpf::wire::protocol;

use crate::dataplane::error::{Context, DataplaneError, Result};
use crate::dataplane::flows::conntrack::{self, Tracked};
use crate::dataplane::flows::key::AnyKey;
use crate::dataplane::flows::sockets::{self, Connected};
use crate::dataplane::flows::sources::recount;
use crate::dataplane::host::device::Device;
use crate::dataplane::host::{netns, routes};
use crate::dataplane::sys::entries;
use crate::dataplane::tables::maps::Maps;

/// A connection as a device carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpenConnection {
    /// IP protocol number.
    pub protocol: u8,
    /// The protected end; port 0 where the protocol has none.
    pub inside: SocketAddr,
    /// The other end; port 0 where the protocol has none.
    pub outside: SocketAddr,
    /// The direction of the first packet.
    pub initiator: Direction,
    /// Its state.
    pub state: State,
    /// The direction of the first FIN.
    pub finisher: Direction,
}

/// The number of connections that became flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    /// Flows that were written.
    pub flows: u64,
    /// Connections that did not fit into the table.
    pub left_out: u64,
}

impl std::ops::AddAssign for Learned {
    /// A connection that did not fit before is counted again by the later run.
    fn add_assign(&mut self, later: Self) {
        self.flows += later.flows;
        self.left_out = later.left_out;
    }
}

/// The connections whose packets go through a device: those of the host's sockets, and those that the
/// host forwards.
///
/// # Errors
/// The kernel's tables cannot be read.
pub fn open_on(
    netns: Option<&str>,
    device: &Device,
    orientation: Orientation,
) -> Result<BTreeSet<OpenConnection>> {
    let (sockets, tracked) =
        netns::within(netns, || Ok((sockets::connected()?, conntrack::tracked()?)))?;
    let any = |to: SocketAddr| (unspecified(to.ip()), to.ip());
    let of_sockets = sockets.iter().filter(|one| !needs_no_route(one, device, orientation));
    let pairs: BTreeSet<_> = of_sockets
        .map(|one| (one.local.ip(), one.remote.ip()))
        .chain(tracked.iter().flat_map(|one| [any(one.original[0]), any(one.reply[0])]))
        .collect();
    let devices = routes::devices(netns, pairs)?;
    let leaves = |pair| devices.get(&pair).is_some_and(|index| device.carries(*index));
    let mut open = BTreeSet::new();
    for one in &sockets {
        let is_here = one.device == device.index
            || (orientation == Orientation::Host && is_own(one, device))
            || leaves((one.local.ip(), one.remote.ip()));
        if is_here {
            open.insert(of_socket(one, orientation));
        }
    }
    for one in &tracked {
        // The first packet was received on this device, or sent by it.
        if leaves(any(one.original[0])) {
            let [source, destination] = one.original;
            open.insert(of_tracked(one, source, destination, orientation.received()));
        }
        if leaves(any(one.reply[0])) {
            let [source, destination] = one.reply;
            open.insert(of_tracked(one, destination, source, orientation.transmitted()));
        }
    }
    Ok(open)
}

const fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

/// Whether the device of a connection follows from the socket alone, without a route lookup.
fn needs_no_route(one: &Connected, device: &Device, orientation: Orientation) -> bool {
    one.remote.ip().is_loopback()
        || one.device == device.index
        || (orientation == Orientation::Host && is_own(one, device))
}

/// Whether a socket's local address is one of the device, and its remote address is not.
fn is_own(one: &Connected, device: &Device) -> bool {
    let has = |address: &IpAddr| device.addresses.contains(address);
    has(&one.local.ip()) && !has(&one.remote.ip())
}

fn of_socket(one: &Connected, orientation: Orientation) -> OpenConnection {
    let Connected { protocol, local, remote, state, is_server, is_finisher, .. } = *one;
    let (out, back) = (orientation.transmitted(), orientation.received());
    let (inside, outside) = match orientation {
        Orientation::Host => (local, remote),
        Orientation::Guest => (remote, local),
    };
    let initiator = if is_server { back } else { out };
    OpenConnection {
        protocol,
        inside,
        outside,
        initiator,
        state,
        finisher: if is_finisher { out } else { back },
    }
}

/// `source` and `destination`: those of the first packet, as the device carries it.
fn of_tracked(
    one: &Tracked,
    source: SocketAddr,
    destination: SocketAddr,
    initiator: Direction,
) -> OpenConnection {
    let (inside, outside) = match initiator {
        Direction::Ingress => (destination, source),
        Direction::Egress => (source, destination),
    };
    let Tracked { protocol, state, .. } = *one;
    // conntrack does not store the direction of the first FIN; usually the initiator sends it.
    OpenConnection { protocol, inside, outside, initiator, state, finisher: initiator }
}

impl Maps {
    /// Writes connections as proven flows that no rule admitted, unless the flow exists already; `now` in
    /// jiffies.
    ///
    /// # Errors
    /// A table cannot be written.
    pub fn learn<'a>(
        &mut self,
        slot: u16,
        open: impl IntoIterator<Item = &'a OpenConnection>,
        now: u64,
    ) -> Result<Learned> {
        let Some(tables) = self.interface_tables(slot)? else {
            let what = format!("write the open connections of slot {slot}: it has no tables");
            return Err(DataplaneError::new(what, "`secgroup reconcile` creates them"));
        };
        let epoch = self.active(slot)?.generation();
        let mut learned = Learned::default();
        let (open, keys): (Vec<_>, Vec<_>) =
            open.into_iter().map(|one| (one, key(one, slot))).unzip();
        self.bloom_insert(&keys)?;
        for (one, key) in open.into_iter().zip(keys) {
            let flow = record(one, now, epoch);
            // Of other protocols flows are never proven.
            let table = Table::proven(one.protocol).unwrap_or(Table::New);
            let (new, to) =
                (tables.flows(Table::New, key.is_v6()), tables.flows(table, key.is_v6()));
            let written = match &key {
                AnyKey::V4(key) => write(new, to, key, &flow),
                AnyKey::V6(key) => write(new, to, key, &flow),
            };
            match written {
                Ok(true) => learned.flows += 1,
                Ok(false) => {}
                Err(error) if error.raw_os_error() == Some(libc::E2BIG) => learned.left_out += 1,
                Err(error) => return Err(error).context("write a flow"),
            }
        }
        // Learned flows count too, but are not refused.
        recount(&tables)?;
        Ok(learned)
    }
}

fn write<K: aya::Pod>(
    new: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    key: &K,
    flow: &Flow,
) -> std::io::Result<bool> {
    if entries::get::<K, Flow>(new, key)?.is_some() {
        return Ok(false);
    }
    entries::insert(to, key, flow)
}

fn record(one: &OpenConnection, now: u64, epoch: u32) -> Flow {
    let set = |is_set, flag| if is_set { flag } else { 0 };
    let is_tcp = one.protocol == protocol::TCP;
    Flow {
        last_seen: now,
        state: one.state as u8,
        flags: PROVEN
            | REPLIED
            | set(one.initiator == Direction::Egress, INITIATOR_EGRESS)
            | set(is_tcp && one.finisher == Direction::Egress, FIN_EGRESS),
        created: u32::try_from(now & u64::from(u32::MAX)).unwrap_or(0),
        epoch,
        ..Flow::default()
    }
}

fn key(one: &OpenConnection, slot: u16) -> AnyKey {
    let OpenConnection { protocol, inside, outside, .. } = *one;
    let (inside_port, outside_port) = (inside.port().to_be(), outside.port().to_be());
    match (inside.ip(), outside.ip()) {
        (IpAddr::V4(inside), IpAddr::V4(outside)) => {
            let word = |address| u32::from(address).to_be();
            let (inside, outside) = (word(inside), word(outside));
            AnyKey::V4(FlowKey4 {
                inside,
                outside,
                inside_port,
                outside_port,
                slot,
                protocol,
                query: 0,
            })
        }
        (inside, outside) => {
            let words = |address| {
                let address = match address {
                    IpAddr::V6(v6) => u128::from(v6),
                    IpAddr::V4(v4) => u128::from(v4.to_ipv6_mapped()),
                };
                let half = |word: u128| u64::try_from(word & u128::from(u64::MAX)).unwrap_or(0);
                [half(address >> 64).to_be(), half(address).to_be()]
            };
            let (inside, outside) = (words(inside), words(outside));
            AnyKey::V6(FlowKey6 {
                inside,
                outside,
                inside_port,
                outside_port,
                slot,
                protocol,
                query: 0,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::flows::list::entry_for_test;

    #[test]
    fn a_learned_connection_is_listed_as_it_was_found() {
        for (inside, outside) in
            [("10.0.0.1:22", "192.0.2.7:5000"), ("[2001:db8::1]:22", "[2001:db8::2]:5000")]
        {
            let (inside, outside) = (inside.parse().unwrap(), outside.parse().unwrap());
            for (initiator, finisher) in
                [(Direction::Ingress, Direction::Egress), (Direction::Egress, Direction::Ingress)]
            {
                let state = State::CloseWait;
                let open =
                    OpenConnection { protocol: 6, inside, outside, initiator, state, finisher };
                let flow = record(&open, 0x1_0000_0007, 3);
                let entry = entry_for_test(key(&open, 7), Table::Tcp, flow);
                assert_eq!((entry.slot, entry.protocol), (7, 6));
                assert_eq!(SocketAddr::new(entry.inside, entry.inside_port), inside);
                assert_eq!(SocketAddr::new(entry.outside, entry.outside_port), outside);
                assert_eq!((entry.initiator(), flow.state()), (initiator, Some(state)));
                assert_eq!(flow.flags & FIN_EGRESS != 0, finisher == Direction::Egress);
                assert_eq!((flow.rule, flow.created, flow.epoch), (0, 7, 3));
            }
        }
    }

    #[test]
    fn a_translated_connection_is_learned_as_each_device_carries_it() {
        let end = |text: &str| text.parse::<SocketAddr>().unwrap();
        // A guest behind source NAT to the host's address.
        let one = Tracked {
            protocol: 6,
            original: [end("10.0.0.7:5000"), end("192.0.2.1:443")],
            reply: [end("192.0.2.1:443"), end("198.51.100.1:6000")],
            state: State::Established,
        };
        let guest =
            of_tracked(&one, one.original[0], one.original[1], Orientation::Guest.received());
        assert_eq!((guest.inside, guest.outside), (end("10.0.0.7:5000"), end("192.0.2.1:443")));
        assert_eq!(guest.initiator, Direction::Egress);
        let host = of_tracked(&one, one.reply[1], one.reply[0], Orientation::Host.transmitted());
        assert_eq!((host.inside, host.outside), (end("198.51.100.1:6000"), end("192.0.2.1:443")));
        assert_eq!(host.initiator, Direction::Egress);
    }
}
