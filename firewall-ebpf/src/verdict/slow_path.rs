//! The slow path: every packet that the fast path does not decide.

use super::context::PacketContext;
use super::evaluate::evaluate;
use super::find::find;
use super::flow::flow_key;
use super::new_flow::create_flow;
use super::related::is_related;
use super::tables::{Family, Flows, PortSecurity, Tables};
use super::update::{FlowOutcome, remove_new, update_flow};
use super::{exempt, fragment, port_security};
use crate::abi::flow::{NO_SCALE, Table};
use crate::abi::interface::{Direction, TcpChecks};
use crate::abi::policy::{Active, traffic};
use crate::abi::reason::{Reason, Verdict};
use crate::wire::address::Address;
use crate::wire::headers::{Kind, PacketHeaders};
use crate::wire::packet::Packet;
use crate::wire::tcp::{SegmentType, segment_type};
use crate::wire::{Frame, HeadersByFamily, parse, window_scale};

/// The decision about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The reason, which implies the verdict.
    pub reason: Reason,
    /// Length of the frame in bytes, which the caller counts.
    pub bytes: u32,
}

/// The second half of [`decide`](super::decide::decide). It parses the packet again: to keep the
/// parsed headers would cost the fast path more than parsing again costs other packets.
#[inline(always)]
pub fn slow_path<P: Packet, T: Tables + PortSecurity<P>>(
    packet: &P,
    tables: &T,
    direction: Direction,
) -> Decision {
    let bytes = packet.length();
    let mut headers = HeadersByFamily::new();
    let result = match parse(packet, &mut headers) {
        Ok(Frame::V4) => decide_ip(packet, tables, direction, &headers.v4, bytes),
        Ok(Frame::V6) => decide_ip(packet, tables, direction, &headers.v6, bytes),
        Ok(Frame::NonIp(ether_type)) => decide_non_ip(packet, tables, direction, ether_type),
        Err(reason) => Err(reason),
    };
    match result {
        Ok(reason) | Err(reason) => Decision { reason, bytes },
    }
}

#[inline(always)]
fn decide_non_ip<P: Packet, T: Tables + PortSecurity<P>>(
    packet: &P,
    tables: &T,
    direction: Direction,
    ether_type: u16,
) -> Result<Reason, Reason> {
    let reason = exempt::non_ip(packet, tables, ether_type);
    let is_llc = ether_type == exempt::LLC;
    port_security::check_non_ip(packet, tables, direction, reason, is_llc)?;
    Ok(reason)
}

#[inline(always)]
fn decide_ip<A: Address, P: Packet, T: Tables + Family<A> + PortSecurity<P>>(
    packet: &P,
    tables: &T,
    direction: Direction,
    headers: &PacketHeaders<A>,
    bytes: u32,
) -> Result<Reason, Reason> {
    if !tables.has_passed_blocks()
        && tables.active().has_blocks()
        && tables.is_blocked(headers.outside(direction), bytes)
    {
        return Err(Reason::Blocked);
    }
    port_security::check_ip(packet, tables, direction, headers)?;
    if headers.kind == Kind::LaterFragment {
        return fragment::decide_later(tables, direction, headers);
    }
    let is_first_fragment = headers.fragment.more;
    if is_first_fragment {
        fragment::keep_first(tables, direction, headers);
    }
    let reason = decide_transport(packet, tables, direction, headers, bytes)?;
    // A fragmented neighbour discovery message is exempt from the rules and still dropped.
    if is_first_fragment && reason.verdict() == Verdict::Pass {
        fragment::store_first::<A, T>(tables);
    }
    Ok(reason)
}

/// An ICMP message that has no reply, and so no flow.
#[inline(always)]
fn admit<A: Address, T: Tables + Family<A>>(
    tables: &T,
    active: Active,
    direction: Direction,
    headers: &PacketHeaders<A>,
    bytes: u32,
) -> Result<Reason, Reason> {
    let allowed = evaluate(tables, active, direction, headers.outside(direction), headers)?;
    tables.count_rule(allowed.rule, bytes);
    Ok(Reason::Admitted)
}

/// A whole packet, or a first fragment.
#[inline(always)]
fn decide_transport<A: Address, P: Packet, T: Tables + Family<A>>(
    packet: &P,
    tables: &T,
    direction: Direction,
    headers: &PacketHeaders<A>,
    bytes: u32,
) -> Result<Reason, Reason> {
    let segment = if headers.kind == Kind::Tcp {
        Some(segment_type(headers.tcp_flags).ok_or(Reason::TcpFlags)?)
    } else {
        if let Some(reason) = exempt::ip(packet, tables, direction, headers, bytes) {
            return Ok(reason);
        }
        None
    };
    let active = tables.active();
    let filter = if active.has_filter() {
        let traffic = traffic(headers.protocol, headers.rule_port);
        tables.check_filter(active, direction, headers.outside(direction), traffic, bytes)?
    } else {
        0
    };
    if headers.kind == Kind::Error {
        if is_related(packet, tables, active, direction, headers)? {
            return Ok(Reason::Related);
        }
        return admit(tables, active, direction, headers, bytes);
    }
    if headers.kind == Kind::Message {
        return admit(tables, active, direction, headers, bytes);
    }
    let is_strict = tables.tcp_checks() == TcpChecks::Strict;
    let scale = match segment {
        Some(SegmentType::Syn | SegmentType::SynAck) if is_strict => window_scale(packet, headers),
        _ => NO_SCALE,
    };
    let now = tables.now();
    let packet = PacketContext { active, direction, headers, segment, scale, filter, bytes, now };
    let key = flow_key(headers, direction, tables.slot());
    let mut closed = None;
    if let Some((table, flow)) = find::<A, T>(tables, headers.protocol, &key) {
        match update_flow(tables, &packet, &key, flow, table) {
            FlowOutcome::Belongs => return Ok(Reason::Established),
            FlowOutcome::Drop(reason) => return Err(reason),
            FlowOutcome::Closed => closed = Some(table),
            FlowOutcome::Expired => match table {
                Table::New => remove_new::<A, T>(tables, &key),
                _ => Flows::<A>::remove(tables, table, &key),
            },
        }
    }
    create_flow(tables, &packet, &key, closed)
}
