//! The keys by which the programs may look a frame up in the tables of flows and of fragments.

use firewall_ebpf::abi::address::{V4, V6};
use firewall_ebpf::abi::flow::{FlowKey4, FlowKey6, Table};
use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::verdict::exempt::has_ports_of_dhcp;
use firewall_ebpf::verdict::flow::flow_key;
use firewall_ebpf::verdict::fragment::fragment_key;
use firewall_ebpf::wire::address::Address;
use firewall_ebpf::wire::assigned::port;
use firewall_ebpf::wire::headers::{Kind, PacketHeaders};
use firewall_ebpf::wire::slice::HostPacket;
use firewall_ebpf::wire::{Frame, HeadersByFamily, parse, protocol};

use crate::dataplane::flows::key::AnyKey;

/// The keys of a frame.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// Of flows, with the protocol, which tells the table of proven ones. That of the frame itself is the first.
    pub(super) flows: Vec<(AnyKey, u8)>,
    /// Of its first fragment.
    pub(super) fragment: Option<AnyKey>,
    /// Whether a flow has the first of the keys: not of ICMP messages without a reply, nor of later fragments.
    pub(super) has_own: bool,
}

impl Keys {
    /// The keys of a frame of an interface.
    pub(super) fn of(packet: &HostPacket<'_>, direction: Direction, slot: u16) -> Self {
        let mut headers = HeadersByFamily::new();
        match parse(packet, &mut headers) {
            Ok(Frame::V4) => {
                let mut keys = Self::of_ip(packet, &headers.v4, direction, slot, AnyKey::V4);
                let (source, destination) =
                    (u16::from_be(headers.v4.src_port()), u16::from_be(headers.v4.dst_port()));
                let (inside, outside) = match direction {
                    Direction::Ingress => (destination, source),
                    Direction::Egress => (source, destination),
                };
                if headers.v4.kind == Kind::Udp && has_ports_of_dhcp(true, inside, outside) {
                    keys.flows.push((AnyKey::V4(dhcp_key(slot)), protocol::UDP));
                }
                keys
            }
            Ok(Frame::V6) => Self::of_ip(packet, &headers.v6, direction, slot, AnyKey::V6),
            Ok(Frame::NonIp(_)) | Err(_) => Self::default(),
        }
    }

    fn of_ip<A: Address>(
        packet: &HostPacket<'_>,
        headers: &PacketHeaders<A>,
        direction: Direction,
        slot: u16,
        any: fn(A::Key) -> AnyKey,
    ) -> Self {
        let mut keys = Self::default();
        if headers.kind == Kind::LaterFragment || headers.fragment.more {
            keys.fragment = Some(any(fragment_key(headers, direction, slot)));
        }
        match headers.kind {
            Kind::LaterFragment | Kind::Message => {}
            Kind::Error => {
                let mut embedded = *headers;
                if A::parse_embedded(packet, headers, &mut embedded) {
                    let key = any(flow_key(&embedded, direction.opposite(), slot));
                    keys.flows.push((key, embedded.protocol));
                }
            }
            _ => {
                keys.has_own = true;
                keys.flows.push((any(flow_key(headers, direction, slot)), headers.protocol));
            }
        }
        keys
    }
}

/// The one flow of all DHCP requests of an interface (`verdict::dhcp`).
fn dhcp_key(slot: u16) -> FlowKey4 {
    let ports = u64::from(port::DHCP_CLIENT.to_be()) | u64::from(port::DHCP_SERVER.to_be()) << 16;
    V4::key(0, 0, ports | u64::from(slot) << 32 | u64::from(protocol::UDP) << 48)
}

/// The tables that may hold a flow of a protocol, in the order in which the programs look.
pub(super) fn tables_of(protocol: u8) -> impl Iterator<Item = Table> {
    [Some(Table::New), Table::proven(protocol)].into_iter().flatten()
}

// The trait's keys are these types.
const _: fn(<V4 as Address>::Key) -> FlowKey4 = |key| key;
const _: fn(<V6 as Address>::Key) -> FlowKey6 = |key| key;
