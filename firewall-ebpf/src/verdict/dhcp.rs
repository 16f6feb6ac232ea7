//! The DHCP client's exchange (RFC 2131): an answer is exempt only for a short time after a question.
//!
//! Neither addresses nor interface of an answer follow from its question: a client without an address
//! sends to all, and any server or relay answers to the offered address or to all. So the questions of
//! an interface share one flow of the new tier, whose addresses are 0.0.0.0, which no packet's key has.

use super::flow::is_expired;
use super::tables::{Counts, Flows, Interface};
use crate::abi::address::V4;
use crate::abi::event::Event;
use crate::abi::flow::{Flow, INITIATOR_EGRESS, Tier};
use crate::abi::interface::Direction;
use crate::abi::state::State;
use crate::wire::address::Address as _;
use crate::wire::protocol;

/// The DHCP client's UDP port.
pub(super) const CLIENT: u16 = 68;
/// The DHCP server's UDP port.
pub(super) const SERVER: u16 = 67;

/// Notes a client's question (egress), or returns whether one was asked within `UdpTimeout`
/// (ingress). A question that cannot be stored passes too.
#[inline(always)]
pub fn track<T: Interface + Counts + Flows<V4>>(
    tables: &T,
    direction: Direction,
    bytes: u32,
) -> bool {
    let ports = (CLIENT.to_be() as u64) | (SERVER.to_be() as u64) << 16;
    let tail = ports | (tables.slot() as u64) << 32 | (protocol::UDP as u64) << 48;
    let key = V4::key(0, 0, tail);
    let now = tables.now();
    let is_question = matches!(direction, Direction::Egress);
    if let Some(flow) = Flows::<V4>::lookup(tables, Tier::New, &key) {
        if is_question {
            flow.set_last_seen(now);
        } else if is_expired(flow.last_seen(), now, tables.timeout(State::Udp)) {
            return false;
        }
        flow.count(direction, bytes);
        return true;
    }
    if is_question {
        let flow = Flow {
            last_seen: now,
            created: (now & 0xffff_ffff) as u32,
            packets: [0, 1],
            bytes: [0, u64::from(bytes)],
            state: State::Udp as u8,
            flags: INITIATOR_EGRESS,
            ..Flow::default()
        };
        if Flows::<V4>::insert(tables, Tier::New, &key, &flow) == Ok(true) {
            tables.count_event(Event::Opened);
        }
    }
    is_question
}
