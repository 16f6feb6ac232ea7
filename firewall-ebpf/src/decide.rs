//! The decision about a packet, the same for every hook, family and orientation.

use crate::exempt;
use crate::flow::{self, Address, Flow, FlowRef, INITIATOR_EGRESS, PROVEN, Tier};
use crate::interface::{Direction, State};
use crate::packet::Packet;
use crate::parse::{self, Frame, Kind, Segment, Segments};
use crate::policy::traffic;
use crate::reason::Reason;
use crate::tables::{Flows, Prefixes, Tables};
use crate::tcp::{self, Shape, Step};

/// What was decided about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Why; the verdict is the reason's.
    pub reason: Reason,
    /// Length of the frame, to be counted by the caller.
    pub bytes: u32,
}

/// Decides about a packet. Counting by reason is the caller's.
#[inline(always)]
pub fn decide<P: Packet, T: Tables>(packet: &P, tables: &T, direction: Direction) -> Decision {
    // The steady state of a proven flow first; once for each direction, so that nothing in it has
    // to ask for the direction again. The verifier deletes the one that the hook never sees.
    let looked = if !packet.has_ethernet() {
        Steady::Unknown
    } else if direction == Direction::Ingress {
        common(packet, tables, Direction::Ingress)
    } else {
        common(packet, tables, Direction::Egress)
    };
    let proven = match looked {
        // The whole packet was in the linear head, and so the whole frame.
        Steady::Passed => {
            return Decision { reason: Reason::Established, bytes: packet.near_length() };
        }
        Steady::Absent => Proven::Absent,
        Steady::Unknown => Proven::Unknown,
    };
    // Everything else reads the packet anew: to keep what was read, over the lookup, would cost
    // the steady state more than a second reading costs the others.
    let bytes = packet.length();
    let mut segments = Segments::new();
    let judged = match parse::parse(packet, &mut segments) {
        Ok(Frame::V4) => judge(tables, direction, &segments.v4, bytes, proven),
        Ok(Frame::V6) => judge(tables, direction, &segments.v6, bytes, proven),
        Ok(Frame::NonIp(ether_type)) => Ok(exempt::non_ip(ether_type, tables.non_ip())),
        Err(reason) => Err(reason),
    };
    match judged {
        Ok(reason) | Err(reason) => Decision { reason, bytes },
    }
}

/// The common frame of either family, if this is one.
#[inline(always)]
fn common<P: Packet, T: Tables>(packet: &P, tables: &T, direction: Direction) -> Steady {
    let mut common = Segments::new();
    if parse::common_v4(packet, &mut common.v4) {
        steady(tables, direction, &common.v4, packet.near_length())
    } else if parse::common_v6(packet, &mut common.v6) {
        steady(tables, direction, &common.v6, packet.near_length())
    } else {
        Steady::Unknown
    }
}

/// What [`steady`] found.
enum Steady {
    /// The packet belongs to a proven flow and changes nothing about it.
    Passed,
    /// There is no proven flow of its key.
    Absent,
    /// It takes a closer look.
    Unknown,
}

/// A TCP segment with nothing but ACK in a proven, established flow, or UDP in a proven one: nine
/// packets of ten. [`judge`] would say the same ([`Step::Stay`]); here the compiler has few values
/// to carry, which makes the path a third shorter.
#[inline(always)]
fn steady<A: Address, T: Tables + Flows<A>>(
    tables: &T,
    direction: Direction,
    segment: &Segment<A>,
    bytes: u32,
) -> Steady {
    match segment.kind {
        Kind::Tcp if segment.tcp_flags == tcp::PLAIN => {
            stay(tables, direction, segment, bytes, State::Established)
        }
        Kind::Udp => stay(tables, direction, segment, bytes, State::UdpStream),
        _ => Steady::Unknown,
    }
}

/// A packet that leaves a flow in `state` there, if the flow is in it.
#[inline(always)]
fn stay<A: Address, T: Tables + Flows<A>>(
    tables: &T,
    direction: Direction,
    segment: &Segment<A>,
    bytes: u32,
    state: State,
) -> Steady {
    let key = flow::key(segment, direction, tables.slot());
    let Some(flow) = Flows::<A>::find(tables, Tier::Proven, &key) else { return Steady::Absent };
    let now = tables.now();
    if flow.state() != state as u8 || is_expired(&flow, now, tables.timeout(state)) {
        return Steady::Unknown;
    }
    flow.count(direction, bytes);
    flow.set_last_seen(now);
    Steady::Passed
}

/// Whether a flow has been idle for longer than it may. Another CPU may have read the clock later
/// and written first: then it has not.
#[inline(always)]
fn is_expired(flow: &FlowRef<'_>, now: u64, timeout: u64) -> bool {
    let idle = now.wrapping_sub(flow.last_seen());
    // Half of all jiffies: the clock went backwards, in the sense above.
    idle > timeout && idle < 1 << 63
}

/// What is known of the proven tier when [`judge`] begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Proven {
    /// Not looked up, or there is a flow that takes a closer look.
    Unknown,
    /// Looked up: no flow.
    Absent,
}

#[inline(always)]
fn judge<A: Address, T: Tables + Flows<A> + Prefixes<A>>(
    tables: &T,
    direction: Direction,
    segment: &Segment<A>,
    bytes: u32,
    proven: Proven,
) -> Result<Reason, Reason> {
    let shape = if segment.kind == Kind::Tcp {
        Some(tcp::shape(segment.tcp_flags).ok_or(Reason::TcpFlags)?)
    } else {
        if let Some(reason) = exempt::ip(segment, direction) {
            return Ok(reason);
        }
        None
    };
    if segment.kind == Kind::Message {
        rule(tables, direction, segment, bytes)?;
        return Ok(Reason::Admitted);
    }
    let packet = Arrival { direction, segment, shape, bytes, now: tables.now() };
    let key = flow::key(segment, direction, tables.slot());
    let mut over = None;
    if proven == Proven::Unknown
        && let Some(flow) = Flows::<A>::find(tables, Tier::Proven, &key)
    {
        match follow(tables, &packet, &key, flow, Tier::Proven) {
            Fate::Belongs => return Ok(Reason::Established),
            Fate::Expired => Flows::<A>::remove(tables, Tier::Proven, &key),
            Fate::Over => over = Some(Tier::Proven),
        }
    } else if let Some(flow) = Flows::<A>::find(tables, Tier::New, &key) {
        match follow(tables, &packet, &key, flow, Tier::New) {
            Fate::Belongs => return Ok(Reason::Established),
            Fate::Expired => Flows::<A>::remove(tables, Tier::New, &key),
            Fate::Over => over = Some(Tier::New),
        }
    }
    open(tables, &packet, &key, over)
}

/// What a packet is to the flow of its key.
enum Fate {
    /// A part of it.
    Belongs,
    /// It came too late: there is no flow any more.
    Expired,
    /// The flow is closed, and this would be its successor.
    Over,
}

/// A packet with what was found out about it.
struct Arrival<'a, A> {
    direction: Direction,
    segment: &'a Segment<A>,
    /// `None` for what is not TCP.
    shape: Option<Shape>,
    bytes: u32,
    now: u64,
}

/// A packet whose key is in a table: what it is to that flow, and what it does to it.
#[inline(always)]
fn follow<A: Address, T: Tables + Flows<A>>(
    tables: &T,
    packet: &Arrival<'_, A>,
    key: &A::Key,
    flow: FlowRef<'_>,
    tier: Tier,
) -> Fate {
    let Some(state) = State::from_number(flow.state()) else { return Fate::Expired };
    let last_seen = flow.last_seen();
    if is_expired(&flow, packet.now, tables.timeout(state)) {
        return Fate::Expired;
    }
    let step = match packet.shape {
        Some(shape) => tcp::step(&flow, state, packet.segment, shape, packet.direction),
        None => {
            let flags = flow.flags();
            let from_initiator = (flags & INITIATOR_EGRESS != 0) == (packet.direction as u8 == 1);
            let proven = if state == State::Udp { State::UdpStream } else { state };
            tcp::converse(&flow, flags, from_initiator, proven)
        }
    };
    if step == Step::Fresh {
        return Fate::Over;
    }
    flow.count(packet.direction, packet.bytes);
    if step != Step::Ignore {
        flow.set_last_seen(packet.now);
    }
    if let Step::Move(state) | Step::Prove(state) = step {
        flow.set_state(state as u8);
    }
    if tier == Tier::New {
        let earned = matches!(step, Step::Prove(_));
        if earned {
            flow.set_flags(flow.flags() | PROVEN);
        }
        // Where the proven tier was full it is tried again, but not for every packet.
        if earned || (flow.flags() & PROVEN != 0 && packet.now != last_seen) {
            promote::<A, T>(tables, key, flow);
        }
    }
    Fate::Belongs
}

/// Moves a flow to the proven tier: first in, then out, so that it is always in one of them. A
/// packet on another CPU that finds it in the new tier meanwhile passes all the same.
#[inline(always)]
fn promote<A: Address, T: Tables + Flows<A>>(tables: &T, key: &A::Key, flow: FlowRef<'_>) {
    if Flows::<A>::insert(tables, Tier::Proven, key, &flow.copy()).is_ok() {
        Flows::<A>::remove(tables, Tier::New, key);
    } else {
        tables.count_unpromoted();
    }
}

/// A packet of no flow: the rules decide, and a flow remembers what they said. `over` holds a flow of
/// the same key that is closed: it goes only if the rules allow its successor, so that nobody
/// outside can end a flow with packets that are dropped.
#[inline(always)]
fn open<A: Address, T: Tables + Flows<A> + Prefixes<A>>(
    tables: &T,
    packet: &Arrival<'_, A>,
    key: &A::Key,
    over: Option<Tier>,
) -> Result<Reason, Reason> {
    let segment = packet.segment;
    let (state, mut flags, ack_low, ack_high) = match packet.shape {
        Some(Shape::SynAck) => return Err(Reason::UnsolicitedSynAck),
        Some(Shape::Rst) => {
            rule(tables, packet.direction, segment, packet.bytes)?;
            return Ok(Reason::Admitted);
        }
        Some(shape) => tcp::begin(segment, shape),
        None => match segment.kind {
            Kind::Udp => (State::Udp, 0, 0, 0),
            Kind::Request => (State::Icmp, 0, 0, 0),
            // A reply to nothing opens nothing: a flow would let requests out.
            Kind::Reply => {
                rule(tables, packet.direction, segment, packet.bytes)?;
                return Ok(Reason::Admitted);
            }
            _ => (State::Other, 0, 0, 0),
        },
    };
    let (rule, epoch) = rule(tables, packet.direction, segment, packet.bytes)?;
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
    match packet.direction {
        Direction::Ingress => (flow.packets[0], flow.bytes[0]) = (1, u64::from(packet.bytes)),
        Direction::Egress => (flow.packets[1], flow.bytes[1]) = (1, u64::from(packet.bytes)),
    }
    // It would shadow its successor in the new tier. If another CPU has removed it already and
    // opened the successor, that one is opened once more.
    match over {
        Some(Tier::Proven) => Flows::<A>::remove(tables, Tier::Proven, key),
        Some(Tier::New) => Flows::<A>::remove(tables, Tier::New, key),
        None => {}
    }
    // Two CPUs with the first packets of one flow (a SYN and its repeat) both get here; the first
    // to write wins and the other finds the flow made, which says the same. One packet is not
    // counted in it.
    match Flows::<A>::insert(tables, Tier::New, key, &flow) {
        Ok(()) => Ok(Reason::NewFlow),
        Err(_) => Err(Reason::FlowTableFull),
    }
}

/// The rule that allows a segment, counted, and the generation of the policy that holds it.
#[inline(always)]
fn rule<A: Address, T: Tables + Prefixes<A>>(
    tables: &T,
    direction: Direction,
    segment: &Segment<A>,
    bytes: u32,
) -> Result<(u32, u32), Reason> {
    let active = tables.active();
    if !active.is_present() {
        return Err(Reason::NoPolicy);
    }
    let outside = match direction {
        Direction::Ingress => segment.src,
        Direction::Egress => segment.dst,
    };
    let wanted = traffic(segment.protocol, segment.rule_port);
    let rule = tables.admit(active, direction, outside, wanted).ok_or(Reason::NoRule)?;
    tables.count_rule(rule, bytes);
    Ok((rule, active.generation()))
}

/// The low 32 bits.
#[inline(always)]
const fn low_half(jiffies: u64) -> u32 {
    (jiffies & 0xffff_ffff) as u32
}
