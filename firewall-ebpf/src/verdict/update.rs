//! A packet whose key has a flow: whether it belongs to the flow, and how it changes it.

use super::context::PacketContext;
use super::evaluate::rule_of_flow;
use super::flow::{FlowRef, is_expired, is_from_initiator};
use super::tables::{Family, Flows, Tables};
use super::tcp::{self, Transition};
use super::window::{self, Position};
use crate::abi::event::Event;
use crate::abi::flow::{PROVEN, Table};
use crate::abi::interface::TcpChecks;
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
    if tables.revalidates() && is_revoked(tables, packet, &flow) {
        // The record stays, so that the other end's next segment does not open the flow again
        // by mid-stream pickup.
        return match packet.segment {
            Some(SegmentType::Syn) => FlowOutcome::Closed,
            _ => FlowOutcome::Drop(Reason::Revoked),
        };
    }
    let headers = packet.headers;
    let is_strict = tables.tcp_checks() == TcpChecks::Strict;
    let position = match packet.segment {
        Some(SegmentType::Ack | SegmentType::Fin) if is_strict && state != State::SynSent => {
            window::position(&flow, headers, packet.direction)
        }
        _ => Position::Inside,
    };
    let transition = match packet.segment {
        Some(_) if position == Position::Beyond => return FlowOutcome::Drop(Reason::TcpWindow),
        Some(_) if position == Position::Before => Transition::Ignored,
        Some(segment) => tcp::transition(&flow, state, headers, segment, packet.direction),
        None => {
            let flags = flow.flags();
            let from_initiator = is_from_initiator(flags, packet.direction);
            let proven = if state == State::Udp { State::UdpStream } else { state };
            tcp::udp_transition(&flow, flags, from_initiator, proven)
        }
    };
    if transition == Transition::Reopen {
        return FlowOutcome::Closed;
    }
    if transition == Transition::Invalid && is_strict {
        let is_reset = packet.segment == Some(SegmentType::Rst);
        return FlowOutcome::Drop(if is_reset { Reason::TcpReset } else { Reason::TcpWindow });
    }
    let is_ignored = matches!(transition, Transition::Ignored | Transition::Invalid);
    match packet.segment {
        Some(SegmentType::Rst) | None => {}
        Some(_) if is_ignored => {}
        Some(SegmentType::Syn | SegmentType::SynAck) if is_strict => {
            window::init(&flow, headers, packet.scale, packet.direction);
            flow.set_last_ack(packet.direction, headers.ack);
        }
        Some(_) if is_strict => window::update(&flow, headers, packet.direction),
        Some(_) => {
            flow.set_next_seq(packet.direction, headers.next_seq());
            flow.set_last_ack(packet.direction, headers.ack);
        }
    }
    flow.count(packet.direction, packet.bytes);
    if !is_ignored {
        flow.set_last_seen(packet.now);
    }
    if let Transition::Move(state) | Transition::Prove(state) = transition {
        flow.set_state(state as u8);
    }
    if table == Table::New {
        let is_proven = matches!(transition, Transition::Prove(_));
        if is_proven {
            flow.set_flags(flow.flags() | PROVEN);
        }
        // Where the proven tier was full, at most one packet of each jiffy tries again.
        if is_proven || (flow.flags() & PROVEN != 0 && packet.now != last_seen) {
            promote::<A, T>(tables, key, flow, headers.protocol);
        }
    }
    FlowOutcome::Belongs
}

/// Whether no rule of the active policy allows a flow. The policy is evaluated once per flow and
/// generation, for the packet that opened the flow.
#[inline(always)]
fn is_revoked<A: Address, T: Tables + Family<A>>(
    tables: &T,
    packet: &PacketContext<'_, A>,
    flow: &FlowRef<'_>,
) -> bool {
    let (active, epoch) = (tables.active(), flow.epoch());
    let allowed = active.generation();
    if flow.is_learned() {
        return false;
    }
    if epoch == allowed || epoch == !allowed {
        return epoch != allowed;
    }
    let from_initiator = is_from_initiator(flow.flags(), packet.direction);
    let rule = rule_of_flow(tables, active, packet, from_initiator);
    if let Some(rule) = rule {
        flow.set_rule(rule);
    }
    flow.set_epoch(if rule.is_some() { allowed } else { !allowed });
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
    if Flows::<A>::insert(tables, table, key, &flow.copy()).is_ok() {
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
