//! Evaluation of the policy for a packet that belongs to no flow.

use super::context::PacketContext;
use super::tables::{Family, Tables};
use crate::abi::flow::EPOCH_TIMED;
use crate::abi::interface::Direction;
use crate::abi::policy::{Active, TIMED, UNTRACKED, rule_number, traffic};
use crate::abi::reason::Reason;
use crate::wire::address::Address;
use crate::wire::headers::{Kind, PacketHeaders};

/// The rule that allows a packet.
pub(super) struct Allowed {
    /// The rule's number.
    pub(super) rule: u32,
    /// What [`Flow::epoch`](crate::abi::flow::Flow::epoch) is to be.
    pub(super) epoch: u32,
    /// Neither the packet nor its replies need a flow.
    pub(super) is_untracked: bool,
}

/// Evaluates the policy for a packet that belongs to no flow, from or to `outside`.
///
/// # Errors
/// The reason for which the packet is dropped.
#[inline(always)]
pub(super) fn evaluate<A: Address, T: Tables + Family<A>>(
    tables: &T,
    active: Active,
    direction: Direction,
    outside: A,
    headers: &PacketHeaders<A>,
) -> Result<Allowed, Reason> {
    if !active.is_present() {
        return Err(Reason::NoPolicy);
    }
    let rule = lookup_rule(tables, active, direction, outside, headers).ok_or(Reason::NoRule)?;
    let is_untracked =
        rule & UNTRACKED != 0 || replies_to_untracked(tables, active, direction, headers);
    Ok(Allowed { rule: rule_number(rule), epoch: epoch(active, rule), is_untracked })
}

/// [`Flow::epoch`](crate::abi::flow::Flow::epoch) of a flow that a rule of the active policy allows.
#[inline(always)]
pub(super) const fn epoch(active: Active, rule: u32) -> u32 {
    if rule & TIMED != 0 { EPOCH_TIMED } else { active.generation() }
}

#[inline(always)]
fn lookup_rule<A: Address, T: Family<A>>(
    tables: &T,
    active: Active,
    direction: Direction,
    outside: A,
    headers: &PacketHeaders<A>,
) -> Option<u32> {
    let traffic = traffic(headers.protocol, headers.rule_port);
    tables.lookup_rule(active, direction, outside, traffic)
}

/// The rule that would allow the first packet of a flow, given any packet of the flow; as
/// [`Range::rule`](crate::abi::policy::Range::rule).
#[inline(always)]
pub(super) fn rule_of_flow<A: Address, T: Tables + Family<A>>(
    tables: &T,
    active: Active,
    packet: &PacketContext<'_, A>,
    key: &A::Key,
    from_initiator: bool,
) -> Option<u32> {
    if !active.is_present() {
        return None;
    }
    let headers = packet.headers;
    let (direction, port) = if from_initiator {
        (packet.direction, headers.rule_port)
    } else {
        (packet.direction.opposite(), headers.request_port())
    };
    tables.lookup_rule(active, direction, A::outside(key), traffic(headers.protocol, port))
}

/// Whether a packet replies to untracked traffic. Then it is untracked too, though the rule that
/// allows it does not say so.
#[inline(always)]
fn replies_to_untracked<A: Address, T: Family<A>>(
    tables: &T,
    active: Active,
    direction: Direction,
    headers: &PacketHeaders<A>,
) -> bool {
    if !active.has_untracked(A::IS_V4) || !matches!(headers.kind, Kind::Tcp | Kind::Udp) {
        return false;
    }
    let request = traffic(headers.protocol, u16::from_be(headers.src_port()));
    tables
        .lookup_anywhere(active, direction.opposite(), request)
        .is_some_and(|rule| rule & UNTRACKED != 0)
}
