//! A packet whose key has a flow: whether it belongs to the flow, and how it changes it.

use super::context::PacketContext;
use super::evaluate::{epoch, rule_of_flow};
use super::exempt;
use super::filter;
use super::flow::{FlowRef, is_expired, is_from_initiator, low_half};
use super::segment::{self, PackedSegment};
use super::tables::{Family, Flows, Tables};
use super::tcp::{self, Transition};
use super::window;
use crate::abi::event::Event;
use crate::abi::flow::{PROVEN, Table};
use crate::abi::interface::TcpChecks;
use crate::abi::policy::rule_number;
use crate::abi::reason::Reason;
use crate::abi::state::State;
use crate::wire::address::Address;
use crate::wire::tcp::SegmentType;

/// How a packet relates to the flow of its key.
pub(super) enum FlowOutcome {
    /// It belongs to the flow, which is updated.
    Belongs,
    /// It cannot belong to the flow, and is dropped for this reason.
    Drop(Reason),
    /// The flow's idle timeout is over: there is no flow any more.
    Expired,
    /// The flow is closed, and the packet would open its successor.
    Closed,
}

/// Applies a packet to the flow of its key.
#[inline(always)]
pub(super) fn update_flow<A: Address, T: Tables + Family<A>>(
    tables: &T,
    packet: &PacketContext<'_, A>,
    key: &A::Key,
    flow: FlowRef<'_>,
    table: Table,
) -> FlowOutcome {
    let Some(state) = State::from_number(flow.state()) else { return FlowOutcome::Expired };
    let last_seen = flow.last_seen();
    if is_expired(last_seen, packet.now, tables.timeout(state)) {
        return FlowOutcome::Expired;
    }
    if tables.revalidates() && is_revoked(tables, packet, key, &flow) {
        // The record stays, so that the other end's next segment does not open the flow again
        // by mid-stream pickup.
        return match packet.segment {
            Some(SegmentType::Syn) => FlowOutcome::Closed,
            _ => FlowOutcome::Drop(Reason::Revoked),
        };
    }
    let was_proven = flow.flags() & PROVEN != 0;
    let transition = match packet.segment {
        Some(segment) => match update_tcp(tables, packet, key, &flow, state, segment) {
            Ok(transition) => transition,
            Err(reason) => return FlowOutcome::Drop(reason),
        },
        None => {
            let age = low_half(packet.now).wrapping_sub(flow.created());
            let can_be_proven = u64::from(age) >= tables.udp_stream_age()
                && !exempt::may_be_dhcp(packet.headers, packet.direction);
            tcp::udp_transition(&flow, state, packet.direction, can_be_proven)
        }
    };
    if transition == Transition::Reopen {
        return FlowOutcome::Closed;
    }
    if packet.filter != 0 {
        let mark = filter::mark::<A>(packet.filter, key);
        // Only where it changes: packets of the fast path read the same cache line.
        if flow.filter(packet.direction) != mark {
            flow.set_filter(packet.direction, mark);
        }
    }
    let is_ignored = matches!(transition, Transition::Ignored | Transition::Invalid);
    flow.count(packet.direction, packet.bytes);
    if !is_ignored {
        flow.set_last_seen(packet.now);
    }
    if let Transition::Move(state) | Transition::Prove(state) = transition {
        flow.set_state(state as u8);
    }
    if table == Table::New {
        if matches!(transition, Transition::Prove(_)) {
            flow.set_flags(flow.flags() | PROVEN);
        }
        let is_proven = flow.flags() & PROVEN != 0;
        // Where the proven tier was full, or its source had its share, at most one packet of each jiffy
        // tries again.
        if is_proven && (!was_proven || packet.now != last_seen) {
            promote::<A, T>(tables, key, flow, packet.headers.protocol);
        }
    }
    FlowOutcome::Belongs
}

/// Applies a segment to a flow in this state, except for times, counts and a state that the result names.
///
/// # Errors
/// The reason for which it is dropped.
#[inline(always)]
fn update_tcp<A: Address, T: Tables + Family<A>>(
    tables: &T,
    packet: &PacketContext<'_, A>,
    key: &A::Key,
    flow: &FlowRef<'_>,
    state: State,
    segment_type: SegmentType,
) -> Result<Transition, Reason> {
    let (headers, sender) = (packet.headers, packet.direction);
    let is_strict = tables.tcp_checks() == TcpChecks::Strict;
    let begins_anew =
        segment_type == SegmentType::SynAck && tcp::begins_anew(flow, state, headers, sender);
    let is_closed = segment::is_closed(state);
    // A SYN needs a rule of its own direction, also where the tuple has a flow. Of a closed flow the
    // caller evaluates the policy.
    if begins_anew || (segment_type == SegmentType::Syn && !is_closed) {
        let active = packet.active;
        let rule = rule_of_flow(tables, active, packet, key, !begins_anew).ok_or(Reason::NoRule)?;
        if begins_anew {
            flow.set_rule(rule_number(rule));
            flow.set_epoch(epoch(active, rule));
            let transition = tcp::begin_anew(flow, headers, sender);
            if is_strict {
                window::init(flow, headers, packet.scale, sender);
            }
            return Ok(transition);
        }
    }
    let packed = PackedSegment::new(headers, state, packet.scale, sender);
    tables.update_segment(flow, packed)
}

/// Whether no rule of the active policy allows a flow. The policy is evaluated once per flow and
/// generation, for the packet that opened the flow; for each packet while the rule that allows it ends.
#[inline(always)]
fn is_revoked<A: Address, T: Tables + Family<A>>(
    tables: &T,
    packet: &PacketContext<'_, A>,
    key: &A::Key,
    flow: &FlowRef<'_>,
) -> bool {
    let (active, found) = (packet.active, flow.epoch());
    let allowed = active.generation();
    if flow.is_learned() {
        return false;
    }
    if found == allowed || found == !allowed {
        return found != allowed;
    }
    let from_initiator = is_from_initiator(flow.flags(), packet.direction);
    let rule = rule_of_flow(tables, active, packet, key, from_initiator);
    if let Some(rule) = rule {
        flow.set_rule(rule_number(rule));
    }
    flow.set_epoch(rule.map_or(!allowed, |rule| epoch(active, rule)));
    rule.is_none()
}

/// Moves a flow to the proven tier: inserted there before it is removed here, so that it is always in
/// one of them. A packet on another CPU that finds it in the new tier meanwhile passes too.
#[inline(always)]
fn promote<A: Address, T: Tables + Flows<A>>(
    tables: &T,
    key: &A::Key,
    flow: FlowRef<'_>,
    protocol: u8,
) {
    let Some(table) = Table::proven(protocol) else { return };
    let is_limited = table == Table::Tcp && tables.max_per_source() != 0;
    // Counted before the flow is stored: two CPUs with flows of one source would else both find room.
    if is_limited && !tables.admit_source(A::source(key)) {
        tables.count_event(Event::SourceLimited);
        return;
    }
    let stored = Flows::<A>::insert(tables, table, key, &flow.copy());
    if is_limited && stored != Ok(true) {
        // Another CPU has stored this flow, and counted it, or there was no room.
        tables.release_source(A::source(key));
    }
    if stored.is_ok() {
        Flows::<A>::remove(tables, Table::New, key);
        tables.count_event(Event::Promoted);
    } else {
        tables.count_event(Event::Unpromoted);
    }
}

/// Removes an expired or closed flow from the new tier.
#[inline(always)]
pub(super) fn remove_new<A: Address, T: Tables + Flows<A>>(tables: &T, key: &A::Key) {
    Flows::<A>::remove(tables, Table::New, key);
    tables.count_event(Event::Removed);
}
