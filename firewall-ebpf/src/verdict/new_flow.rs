//! Creation of a flow.

use super::context::PacketContext;
use super::evaluate::{Allowed, evaluate};
use super::tables::{Family, Flows, Tables};
use super::update::remove_new;
use super::{tcp, window};
use crate::abi::event::Event;
use crate::abi::flow::{FIN_EGRESS, Flow, INITIATOR_EGRESS, Table};
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
    let allowed = evaluate(tables, packet.direction, headers);
    if let Ok(Allowed { rule, is_untracked: true, .. }) = allowed {
        tables.count_rule(rule, packet.bytes);
        return Ok(Reason::Untracked);
    }
    if packet.segment == Some(SegmentType::SynAck) {
        return Err(Reason::UnsolicitedSynAck);
    }
    let Allowed { rule, epoch, .. } = allowed?;
    if matches!(packet.segment, Some(SegmentType::Ack | SegmentType::Fin)) && !tables.tcp_loose() {
        return Err(Reason::TcpNotOpened);
    }
    tables.count_rule(rule, packet.bytes);
    let (state, mut flags, ack_low, ack_high) = match packet.segment {
        // A RST, or a reply, of no flow creates none: a flow would allow other packets in the
        // opposite direction.
        Some(SegmentType::Rst) => return Ok(Reason::Admitted),
        Some(segment) => tcp::first_transition(headers, segment),
        None => match headers.kind {
            Kind::Udp => (State::Udp, 0, 0, 0),
            Kind::Request => (State::Icmp, 0, 0, 0),
            Kind::Reply => return Ok(Reason::Admitted),
            _ => (State::Other, 0, 0, 0),
        },
    };
    if packet.direction == Direction::Egress {
        flags |= INITIATOR_EGRESS;
        if state == State::FinWait {
            flags |= FIN_EGRESS;
        }
    }
    let mut flow = Flow {
        last_seen: packet.now,
        created: low_half(packet.now),
        rule,
        epoch,
        ack_low,
        ack_high,
        state: state as u8,
        flags,
        ..Flow::default()
    };
    let bytes = u64::from(packet.bytes);
    let (next_seq, last_ack) = (headers.next_seq(), headers.ack);
    match packet.direction {
        Direction::Ingress => {
            (flow.packets[0], flow.bytes[0]) = (1, bytes);
            (flow.next_seq[0], flow.last_ack[0]) = (next_seq, last_ack);
        }
        Direction::Egress => {
            (flow.packets[1], flow.bytes[1]) = (1, bytes);
            (flow.next_seq[1], flow.last_ack[1]) = (next_seq, last_ack);
        }
    }
    if tables.tcp_checks() == TcpChecks::Strict {
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

/// The low 32 bits.
#[inline(always)]
const fn low_half(jiffies: u64) -> u32 {
    (jiffies & 0xffff_ffff) as u32
}
