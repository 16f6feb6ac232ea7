//! A packet of no flow: what the rules say of it, and the flow that remembers it.

use super::{Arrival, remove_new};
use crate::event::Event;
use crate::flow::{self, Address, Flow, INITIATOR_EGRESS, Tier};
use crate::interface::{Direction, State, TcpChecks};
use crate::parse::{Kind, Segment};
use crate::policy::{Active, UNTRACKED, traffic};
use crate::reason::Reason;
use crate::tables::{Family, Flows, Tables};
use crate::tcp::{self, Shape};
use crate::window;

/// Lets a packet in if the rules do, and makes its flow. `over` is the tier of a flow of the same key
/// that is closed: it goes only if the rules allow its successor, so that nobody outside can end a
/// flow with packets that are dropped.
#[inline(always)]
pub(super) fn open<A: Address, T: Tables + Family<A>>(
    tables: &T,
    packet: &Arrival<'_, A>,
    key: &A::Key,
    over: Option<Tier>,
) -> Result<Reason, Reason> {
    let segment = packet.segment;
    let allowed = allow(tables, packet.direction, segment);
    if let Ok(Allowed { rule, is_untracked: true, .. }) = allowed {
        tables.count_rule(rule, packet.bytes);
        return Ok(Reason::Untracked);
    }
    if packet.shape == Some(Shape::SynAck) {
        return Err(Reason::UnsolicitedSynAck);
    }
    let Allowed { rule, epoch, .. } = allowed?;
    if matches!(packet.shape, Some(Shape::Ack | Shape::Fin)) && !tables.picks_up() {
        return Err(Reason::TcpNotOpened);
    }
    tables.count_rule(rule, packet.bytes);
    let (state, mut flags, ack_low, ack_high) = match packet.shape {
        // A RST of no connection, and a reply to nothing, open nothing: a flow would let other
        // packets out.
        Some(Shape::Rst) => return Ok(Reason::Admitted),
        Some(shape) => tcp::begin(segment, shape),
        None => match segment.kind {
            Kind::Udp => (State::Udp, 0, 0, 0),
            Kind::Request => (State::Icmp, 0, 0, 0),
            Kind::Reply => return Ok(Reason::Admitted),
            _ => (State::Other, 0, 0, 0),
        },
    };
    if packet.direction == Direction::Egress {
        flags |= INITIATOR_EGRESS;
        if state == State::FinWait {
            flags |= flow::FIN_EGRESS;
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
    let (end, acked) = (tcp::end(segment), segment.ack);
    match packet.direction {
        Direction::Ingress => {
            (flow.packets[0], flow.bytes[0]) = (1, bytes);
            (flow.end[0], flow.acked[0]) = (end, acked);
        }
        Direction::Egress => {
            (flow.packets[1], flow.bytes[1]) = (1, bytes);
            (flow.end[1], flow.acked[1]) = (end, acked);
        }
    }
    if tables.tcp_checks() == TcpChecks::Strict {
        window::open(&mut flow, segment, packet.scale, packet.direction);
    }
    // It would shadow its successor in the new tier. If another CPU has removed it already and
    // opened the successor, that one is opened once more.
    match over {
        Some(Tier::Proven) => Flows::<A>::remove(tables, Tier::Proven, key),
        Some(Tier::New) => remove_new::<A, T>(tables, key),
        None => {}
    }
    // Two CPUs with the first packets of one flow (a SYN and its repeat) both get here; the first
    // to write wins and the other finds the flow made, which says the same. One packet is not
    // counted in it.
    match Flows::<A>::insert(tables, Tier::New, key, &flow) {
        Ok(is_new) => {
            if is_new {
                tables.count_event(Event::Opened);
            }
            Ok(Reason::NewFlow)
        }
        Err(_) => Err(Reason::FlowTableFull),
    }
}

/// What the rules say of a packet that they allow.
pub(super) struct Allowed {
    /// The rule's number.
    pub(super) rule: u32,
    /// The generation of the policy that holds it.
    epoch: u32,
    /// Neither this packet nor its answers need a flow.
    pub(super) is_untracked: bool,
}

/// Asks the rules about a packet that belongs to no flow.
#[inline(always)]
pub(super) fn allow<A: Address, T: Tables + Family<A>>(
    tables: &T,
    direction: Direction,
    segment: &Segment<A>,
) -> Result<Allowed, Reason> {
    let active = tables.active();
    if !active.is_present() {
        return Err(Reason::NoPolicy);
    }
    let found = find_rule(tables, active, direction, segment).ok_or(Reason::NoRule)?;
    let is_untracked =
        found & UNTRACKED != 0 || answers_untracked(tables, active, direction, segment);
    Ok(Allowed { rule: found & !UNTRACKED, epoch: active.generation(), is_untracked })
}

#[inline(always)]
fn find_rule<A: Address, T: Family<A>>(
    tables: &T,
    active: Active,
    direction: Direction,
    segment: &Segment<A>,
) -> Option<u32> {
    let outside = match direction {
        Direction::Ingress => segment.src,
        Direction::Egress => segment.dst,
    };
    tables.admit(active, direction, outside, traffic(segment.protocol, segment.rule_port))
}

/// The rule that would allow the packet that began a flow, of which this is a packet.
#[inline(always)]
pub(super) fn rule_of_flow<A: Address, T: Tables + Family<A>>(
    tables: &T,
    active: Active,
    packet: &Arrival<'_, A>,
    from_initiator: bool,
) -> Option<u32> {
    if !active.is_present() {
        return None;
    }
    let segment = packet.segment;
    let outside = match packet.direction {
        Direction::Ingress => segment.src,
        Direction::Egress => segment.dst,
    };
    let (direction, port) = if from_initiator {
        (packet.direction, segment.rule_port)
    } else {
        (packet.direction.opposite(), segment.asked_port())
    };
    let rule = tables.admit(active, direction, outside, traffic(segment.protocol, port))?;
    Some(rule & !UNTRACKED)
}

/// Whether a packet answers traffic that is not tracked: then it is not tracked either, though no
/// rule of its own direction says so.
#[inline(always)]
fn answers_untracked<A: Address, T: Family<A>>(
    tables: &T,
    active: Active,
    direction: Direction,
    segment: &Segment<A>,
) -> bool {
    if !active.has_untracked(A::IS_V4) || !matches!(segment.kind, Kind::Tcp | Kind::Udp) {
        return false;
    }
    let asked = traffic(segment.protocol, u16::from_be(segment.src_port()));
    tables
        .rule_for_anywhere(active, direction.opposite(), asked)
        .is_some_and(|r| r & UNTRACKED != 0)
}

/// The low 32 bits.
#[inline(always)]
const fn low_half(jiffies: u64) -> u32 {
    (jiffies & 0xffff_ffff) as u32
}
