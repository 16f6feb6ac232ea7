//! Connections in captures of packets.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context as _, Result};
use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::wire::protocol;

use super::{Observation, Seen, Simulation, Source, answer};
use crate::model::{Interface, Model};
use crate::observe::capture::{CaptureError, Captured, read};
use crate::observe::explain::{Packet, packet_of};
use crate::observe::query::{Checked, Subject};
use crate::policy::Addresses;

/// What was read from captures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packets {
    /// Packets that open a connection.
    pub opening: u64,
    /// Packets that belong to a connection, and those that are not IP.
    pub others: u64,
    /// Packets whose addresses no attached interface has.
    pub elsewhere: u64,
}

/// The ends of a connection: protocol, and addresses with their ports.
type Tuple = (u8, (IpAddr, u16), (IpAddr, u16));

/// What one end of a connection has sent, of which only the ends tell that it belongs together: not TCP, not ICMP.
struct Stream {
    first: Opening,
    /// Whether the other end has sent something.
    is_answered: bool,
}

/// Packets that open a connection.
struct Opening {
    packet: Packet,
    packets: u64,
    bytes: u64,
    first: Option<i64>,
    last: Option<i64>,
}

impl Simulation<'_> {
    /// Adds the packets of a pcap or pcapng file that open a connection and match. The interface is the one that has
    /// an address of the packet: the source of egress, the destination of ingress. Of TCP a SYN opens a connection, of
    /// other protocols the first packet of its addresses and ports.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn add_capture(
        &mut self,
        path: &Path,
        of_host: (&Model, &Addresses),
        (since, query): (i64, &Checked),
    ) -> Result<Packets> {
        let mut packets = Packets::default();
        let mut streams: HashMap<Tuple, Stream> = HashMap::new();
        let read = read(path, |captured: Captured| -> Result<(), CaptureError> {
            if captured.time.is_some_and(|time| time < since) {
                return Ok(());
            }
            let Some(packet) = packet_of(&captured.bytes, captured.has_ethernet) else {
                packets.others += 1;
                return Ok(());
            };
            let bytes = captured.bytes.len() as u64;
            let (first, last) = (captured.time, captured.time);
            let opening = Opening { packet, packets: 1, bytes, first, last };
            match opens(&opening.packet) {
                Some(true) => self.add_opening(&opening, true, of_host, query, &mut packets),
                Some(false) => packets.others += 1,
                None => sort(&mut streams, opening, &mut packets),
            }
            Ok(())
        });
        read.with_context(|| format!("read {}", path.display()))?;
        for Stream { first, is_answered } in streams.into_values() {
            self.add_opening(&first, is_answered, of_host, query, &mut packets);
        }
        Ok(packets)
    }

    fn add_opening(
        &mut self,
        opening: &Opening,
        is_answered: bool,
        (model, addresses): (&Model, &Addresses),
        query: &Checked,
        packets: &mut Packets,
    ) {
        let places = places(&opening.packet, model, addresses);
        if places.is_empty() {
            packets.elsewhere += opening.packets;
        }
        for (interface, direction) in places {
            let id = interface.id.to_string();
            let subject = subject(&opening.packet, interface, &id, direction);
            if !query.matches(&subject) {
                continue;
            }
            if needs_no_rule(&opening.packet, direction) {
                packets.others += opening.packets;
                continue;
            }
            packets.opening += opening.packets;
            self.add(&Observation {
                subject,
                source: Source::Capture,
                seen: Seen::Unknown,
                is_answered,
                records: opening.packets,
                packets: opening.packets,
                bytes: opening.bytes,
                first: opening.first,
                last: opening.last,
            });
        }
    }
}

/// Whether a packet opens a connection; `None`: the packets before it tell.
fn opens(packet: &Packet) -> Option<bool> {
    if packet.protocol == protocol::TCP {
        return Some(packet.flags.and_then(answer::opens) == Some(true));
    }
    // What is neither a query nor a reply is evaluated, each by itself.
    packet.is_icmp().then(|| answer::query_of(packet.source, packet.icmp[0]).is_none())
}

/// Adds a packet to the stream that it belongs to, or answers.
fn sort(streams: &mut HashMap<Tuple, Stream>, opening: Opening, packets: &mut Packets) {
    let Packet { protocol, source, destination, ports: [from, to], .. } = opening.packet;
    let (source, destination) = ((source, from), (destination, to));
    if let Some(stream) = streams.get_mut(&(protocol, destination, source)) {
        stream.is_answered = true;
        packets.others += 1;
        return;
    }
    match streams.entry((protocol, source, destination)) {
        Entry::Occupied(mut stream) => {
            let first = &mut stream.get_mut().first;
            first.packets += 1;
            first.bytes = first.bytes.saturating_add(opening.bytes);
            first.last = first.last.max(opening.last);
        }
        Entry::Vacant(place) => {
            place.insert(Stream { first: opening, is_answered: false });
        }
    }
}

/// Whether a packet passes without a rule and whatever a network ACL says: of neighbour discovery, of MLD and IGMP, and
/// of a DHCP client. Only those that are valid do; this takes all of them for such.
fn needs_no_rule(packet: &Packet, direction: Direction) -> bool {
    const IGMP: u8 = 2;
    let client = match direction {
        Direction::Ingress => packet.ports[1],
        Direction::Egress => packet.ports[0],
    };
    match packet.protocol {
        IGMP => true,
        protocol::ICMPV6 => matches!(packet.icmp[0], 130..=137 | 143),
        protocol::UDP => match (client, packet.ports[0].min(packet.ports[1])) {
            (68, 67) => packet.source.is_ipv4(),
            (546, 546) => packet.source.is_ipv6() && packet.ports.contains(&547),
            _ => false,
        },
        _ => false,
    }
}

/// The interfaces that have an address of a packet, and the direction in which it passes each.
fn places<'a>(
    packet: &Packet,
    model: &'a Model,
    addresses: &Addresses,
) -> Vec<(&'a Interface, Direction)> {
    let interfaces = model.interfaces.values();
    let of_one = interfaces.flat_map(|interface| {
        let inside = addresses.get(&interface.slot);
        let has = |address: &IpAddr| {
            inside.is_some_and(|inside| inside.iter().any(|network| network.contains(address)))
        };
        let egress = has(&packet.source).then_some((interface, Direction::Egress));
        let ingress = has(&packet.destination).then_some((interface, Direction::Ingress));
        egress.into_iter().chain(ingress)
    });
    of_one.collect()
}

fn subject<'a>(
    packet: &Packet,
    interface: &'a Interface,
    id: &'a str,
    direction: Direction,
) -> Subject<'a> {
    let [from, to] = packet.ports;
    let [kind, code] = packet.icmp;
    Subject {
        network_interface_id: id,
        device: &interface.device,
        netns: interface.netns.as_deref(),
        direction: Some(direction),
        protocol: Some(packet.protocol),
        source: Some(packet.source),
        destination: Some(packet.destination),
        source_port: packet.has_ports().then_some(from),
        destination_port: packet.has_ports().then_some(to),
        icmp: packet.is_icmp().then_some((kind, code)),
        ..Subject::default()
    }
}
