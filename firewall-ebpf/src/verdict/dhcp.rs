//! The DHCP client's exchange (RFC 2131): a reply is exempt only for a short time after a request.
//!
//! The addresses of a reply do not follow from its request: a client without an address broadcasts, and
//! any server or relay replies to the offered address or by broadcast. So all requests of an interface
//! share one flow of the new tier, whose addresses are 0.0.0.0, which no packet's key has.

use super::flow::is_expired;
use super::tables::{Counts, FlowLookup, Flows, Interface};
use crate::abi::address::V4;
use crate::abi::event::Event;
use crate::abi::flow::{Flow, INITIATOR_EGRESS, Table};
use crate::abi::interface::Direction;
use crate::abi::state::State;
use crate::wire::address::Address as _;
use crate::wire::assigned::port;
use crate::wire::protocol;

/// Records a client's request (egress) and returns `true`, also if it cannot be stored; returns whether
/// a request was recorded within `UdpTimeout` (ingress).
#[inline(always)]
pub fn track<T: Interface + Counts + Flows<V4>>(
    tables: &T,
    direction: Direction,
    bytes: u32,
) -> bool {
    let ports = (port::DHCP_CLIENT.to_be() as u64) | (port::DHCP_SERVER.to_be() as u64) << 16;
    let tail = ports | (tables.slot() as u64) << 32 | (protocol::UDP as u64) << 48;
    let key = V4::key(0, 0, tail);
    let now = tables.now();
    let is_request = matches!(direction, Direction::Egress);
    if let Some(flow) = FlowLookup::<V4>::lookup(tables, Table::New, &key) {
        if is_request {
            flow.set_last_seen(now);
        } else if is_expired(flow.last_seen(), now, tables.timeout(State::Udp)) {
            return false;
        }
        flow.count(direction, bytes);
        return true;
    }
    if is_request {
        let flow = Flow {
            last_seen: now,
            created: (now & 0xffff_ffff) as u32,
            packets: [0, 1],
            bytes: [0, u64::from(bytes)],
            state: State::Udp as u8,
            flags: INITIATOR_EGRESS,
            ..Flow::default()
        };
        if Flows::<V4>::insert(tables, Table::New, &key, &flow) == Ok(true) {
            tables.count_event(Event::Opened);
        }
    }
    is_request
}
