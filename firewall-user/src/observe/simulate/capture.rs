//! Connections in captures of packets.

use std::collections::HashSet;
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
        (model, addresses): (&Model, &Addresses),
        (since, query): (i64, &Checked),
    ) -> Result<Packets> {
        let mut packets = Packets::default();
        let mut seen: HashSet<Tuple> = HashSet::new();
        let read = read(path, |captured: Captured| -> Result<(), CaptureError> {
            if captured.time.is_some_and(|time| time < since) {
                return Ok(());
            }
            let Some(packet) = packet_of(&captured.bytes, captured.has_ethernet) else {
                packets.others += 1;
                return Ok(());
            };
            if !opens(&packet, &mut seen) {
                packets.others += 1;
                return Ok(());
            }
            let places = places(&packet, model, addresses);
            if places.is_empty() {
                packets.elsewhere += 1;
            }
            for (interface, direction) in places {
                let id = interface.id.to_string();
                let subject = subject(&packet, interface, &id, direction);
                if query.matches(&subject) {
                    packets.opening += 1;
                    self.add(&Observation {
                        subject,
                        source: Source::Capture,
                        seen: Seen::Unknown,
                        opens: Some(true),
                        is_answered: true,
                        records: 1,
                        packets: 1,
                        bytes: captured.bytes.len() as u64,
                        first: captured.time,
                        last: captured.time,
                    });
                }
            }
            Ok(())
        });
        read.with_context(|| format!("read {}", path.display()))?;
        Ok(packets)
    }
}

/// Whether a packet opens a connection.
fn opens(packet: &Packet, seen: &mut HashSet<Tuple>) -> bool {
    let &Packet { protocol: number, source, destination, ports: [from, to], icmp, flags } = packet;
    if number == protocol::TCP {
        return flags.and_then(answer::opens) == Some(true);
    }
    if packet.is_icmp() {
        // What is neither a query nor a reply is evaluated, each by itself.
        return answer::query_of(source, icmp[0]).is_none();
    }
    let (source, destination) = ((source, from), (destination, to));
    seen.contains(&(number, source, destination)) || {
        let is_reply = seen.contains(&(number, destination, source));
        !is_reply && seen.insert((number, source, destination))
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
