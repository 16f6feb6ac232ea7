//! Creation of a flow.

use super::context::PacketContext;
use super::evaluate::{Allowed, evaluate};
use super::flow::low_half;
use super::tables::{Family, Flows, Tables};
use super::tcp::First;
use super::update::remove_new;
use super::{filter, tcp, window};
use crate::abi::event::Event;
use crate::abi::flow::{Flow, INITIATOR_EGRESS, Table};
use crate::abi::interface::{Direction, TcpChecks};
use crate::abi::reason::Reason;
use crate::abi::state::State;
use crate::wire::address::Address;
use crate::wire::headers::Kind;
use crate::wire::tcp::SegmentType;

/// Evaluates the policy for a packet of no flow, and creates its flow if a rule allows it. `closed` is
/// the table of a closed flow with the same key: that flow is removed only if a rule allows its
/// successor, so that packets that are dropped cannot end a flow.
///
/// # Errors
/// The reason for which the packet is dropped.
#[inline(always)]
pub(super) fn create_flow<A: Address, T: Tables + Family<A>>(
    tables: &T,
    packet: &PacketContext<'_, A>,
    key: &A::Key,
    closed: Option<Table>,
) -> Result<Reason, Reason> {
    let headers = packet.headers;
    let allowed = evaluate(tables, packet.active, packet.direction, A::outside(key), headers);
    if let Ok(Allowed { rule, is_untracked: true, .. }) = allowed {
        tables.count_rule(rule, packet.bytes);
        return Ok(Reason::Untracked);
    }
    // The SYN may have come in by another interface: then its answer is picked up like any segment.
    if packet.segment == Some(SegmentType::SynAck) && (allowed.is_err() || !tables.tcp_loose()) {
        return Err(Reason::UnsolicitedSynAck);
    }
    let Allowed { rule, epoch, .. } = allowed?;
    if matches!(packet.segment, Some(SegmentType::Ack | SegmentType::Fin)) && !tables.tcp_loose() {
        return Err(Reason::TcpNotOpened);
    }
    tables.count_rule(rule, packet.bytes);
    let without_handshake = |state| First { state, flags: 0, pending: 0, ack_low: 0, ack_high: 0 };
    let First { state, mut flags, pending, ack_low, ack_high } = match packet.segment {
        // A RST, or a reply, of no flow creates none: a flow would allow other packets in the
        // opposite direction.
        Some(SegmentType::Rst) => return Ok(Reason::Admitted),
        Some(segment) => tcp::first_transition(headers, segment, packet.direction),
        None => match headers.kind {
            Kind::Udp => without_handshake(State::Udp),
            Kind::Request => without_handshake(State::Icmp),
            Kind::Reply => return Ok(Reason::Admitted),
            _ => without_handshake(State::Other),
        },
    };
    if packet.direction == Direction::Egress {
        flags |= INITIATOR_EGRESS;
    }
    let mut flow = Flow {
        last_seen: packet.now,
        created: low_half(packet.now),
        rule,
        epoch,
        ack_low,
        ack_high,
        // The latest SYN is the first.
        limit: [ack_low, ack_high],
        state: state as u8,
        flags,
        pending,
        ..Flow::default()
    };
    let bytes = u64::from(packet.bytes);
    let (next_seq, last_ack) = (headers.next_seq(), headers.ack);
    let mark = if packet.filter == 0 { 0 } else { filter::mark::<A>(packet.filter, key) };
    match packet.direction {
        Direction::Ingress => {
            (flow.packets[0], flow.bytes[0]) = (1, bytes);
            (flow.next_seq[0], flow.last_ack[0]) = (next_seq, last_ack);
            flow.filter[0] = mark;
        }
        Direction::Egress => {
            (flow.packets[1], flow.bytes[1]) = (1, bytes);
            (flow.next_seq[1], flow.last_ack[1]) = (next_seq, last_ack);
            flow.filter[1] = mark;
        }
    }
    if packet.segment == Some(SegmentType::Syn) && tables.tcp_checks() == TcpChecks::Strict {
        window::init_first(&mut flow, headers, packet.scale, packet.direction);
    }
    // The closed flow would be found before its successor. If another CPU has removed it and created
    // the successor already, the successor is created again.
    match closed {
        Some(Table::New) => remove_new::<A, T>(tables, key),
        Some(table) => Flows::<A>::remove(tables, table, key),
        None => {}
    }
    // Two CPUs with the first packets of one flow (a SYN and its retransmission) both get here; the
    // first insert succeeds, and the second finds an equal flow. One packet is not counted in the
    // flow.
    match Flows::<A>::insert(tables, Table::New, key, &flow) {
        Ok(is_new) => {
            if is_new {
                tables.count_event(Event::Opened);
            }
            Ok(Reason::NewFlow)
        }
        Err(_) => Err(Reason::FlowTableFull),
    }
}
