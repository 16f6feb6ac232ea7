//! The decision about a packet, the same for every hook, family and orientation.

mod open;

use crate::event::Event;
use crate::flow::{self, Address, FlowRef, INITIATOR_EGRESS, PROVEN, Tier, has_passed};
use crate::interface::{Direction, State, TcpChecks};
use crate::packet::Packet;
use crate::parse::{self, Frame, Kind, Segment, Segments};
use crate::reason::{Reason, Verdict};
use crate::tables::{Family, Flows, Tables};
use crate::tcp::{self, Shape, Step};
use crate::window::{self, Fit};
use crate::{exempt, fragment};
use open::{allow, open};

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
    match glance(packet, tables, direction) {
        // The whole packet was in the linear head, and so the whole frame.
        Glance::Passed => Decision { reason: Reason::Established, bytes: packet.near_length() },
        glance => look(packet, tables, direction, glance),
    }
}

/// The first half of [`decide`]: the steady state of a proven flow, nine packets of ten. Once for
/// each direction, so that nothing in it has to ask for the direction again; the verifier deletes
/// the one that the hook never sees.
#[inline(always)]
pub fn glance<P: Packet, T: Tables>(packet: &P, tables: &T, direction: Direction) -> Glance {
    // In a flood the closer look is shorter: it knows strangers without the flow tables.
    if !tables.glances(packet) || tables.is_refusing() {
        Glance::Unknown
    } else if direction == Direction::Ingress {
        common(packet, tables, Direction::Ingress)
    } else {
        common(packet, tables, Direction::Egress)
    }
}

/// The second half of [`decide`]: everything else. It reads the packet anew, because to keep what
/// was read would cost the steady state more than a second reading costs the others.
#[inline(always)]
pub fn look<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    direction: Direction,
    glance: Glance,
) -> Decision {
    let bytes = packet.length();
    let mut segments = Segments::new();
    let judged = match parse::parse(packet, &mut segments) {
        Ok(Frame::V4) => judge(packet, tables, direction, &segments.v4, bytes, glance),
        Ok(Frame::V6) => judge(packet, tables, direction, &segments.v6, bytes, glance),
        Ok(Frame::NonIp(ether_type)) => Ok(exempt::non_ip(ether_type, tables.non_ip())),
        Err(reason) => Err(reason),
    };
    match judged {
        Ok(reason) | Err(reason) => Decision { reason, bytes },
    }
}

/// The common frame of either family, if this is one.
#[inline(always)]
fn common<P: Packet, T: Tables>(packet: &P, tables: &T, direction: Direction) -> Glance {
    let mut common = Segments::new();
    if parse::common_v4(packet, &mut common.v4) {
        steady(packet, tables, direction, &common.v4)
    } else if parse::common_v6(packet, &mut common.v6) {
        steady(packet, tables, direction, &common.v6)
    } else {
        Glance::Unknown
    }
}

/// What [`glance`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Glance {
    /// The packet belongs to a proven flow and changes nothing about it.
    Passed,
    /// There is no proven flow of its key.
    Absent,
    /// It takes a closer look.
    Unknown,
}

/// A TCP segment with nothing but ACK in a proven, established flow, or UDP in a proven one.
/// [`judge`] would say the same ([`Step::Stay`]); here the compiler has few values to carry, which
/// makes the path a third shorter.
#[inline(always)]
fn steady<A: Address, P: Packet, T: Tables + Flows<A>>(
    packet: &P,
    tables: &T,
    direction: Direction,
    segment: &Segment<A>,
) -> Glance {
    match segment.kind {
        Kind::Tcp if segment.tcp_flags == tcp::PLAIN => {
            stay(packet, tables, direction, segment, State::Established)
        }
        Kind::Udp => stay(packet, tables, direction, segment, State::UdpStream),
        _ => Glance::Unknown,
    }
}

/// A packet that leaves a flow in `state` there, if the flow is in it.
#[inline(always)]
fn stay<A: Address, P: Packet, T: Tables + Flows<A>>(
    packet: &P,
    tables: &T,
    direction: Direction,
    segment: &Segment<A>,
    state: State,
) -> Glance {
    let key = flow::key(segment, direction, tables.slot());
    let Some(flow) = Flows::<A>::find(tables, Tier::Proven, &key) else { return Glance::Absent };
    let now = tables.now();
    if flow.state() != state as u8 || has_passed(flow.last_seen(), now, tables.timeout(state)) {
        return Glance::Unknown;
    }
    if tables.revalidates() && flow.epoch() != tables.active().generation() {
        return Glance::Unknown;
    }
    if state == State::Established {
        // Read again: to carry the numbers over the lookup costs more.
        let Some((seq, ack)) = parse::numbers(packet, segment) else { return Glance::Unknown };
        flow.set_end(direction, seq.wrapping_add(segment.payload));
        flow.set_acked(direction, ack);
    }
    flow.count(direction, packet.near_length());
    flow.set_last_seen(now);
    Glance::Passed
}

#[inline(always)]
fn judge<A: Address, P: Packet, T: Tables + Family<A>>(
    packet: &P,
    tables: &T,
    direction: Direction,
    segment: &Segment<A>,
    bytes: u32,
    glance: Glance,
) -> Result<Reason, Reason> {
    if segment.kind == Kind::Rest {
        return fragment::follow(tables, direction, segment);
    }
    let reason = whole(packet, tables, direction, segment, bytes, glance)?;
    // Fragmented neighbour discovery is exempt from the rules but dropped all the same.
    if segment.fragment.more && reason.verdict() == Verdict::Pass {
        fragment::keep(tables, direction, segment);
    }
    Ok(reason)
}

/// A packet in one piece, or a first fragment.
#[inline(always)]
fn whole<A: Address, P: Packet, T: Tables + Family<A>>(
    packet: &P,
    tables: &T,
    direction: Direction,
    segment: &Segment<A>,
    bytes: u32,
    glance: Glance,
) -> Result<Reason, Reason> {
    let shape = if segment.kind == Kind::Tcp {
        Some(tcp::shape(segment.tcp_flags).ok_or(Reason::TcpFlags)?)
    } else {
        if let Some(reason) = exempt::ip(segment, direction) {
            return Ok(reason);
        }
        None
    };
    if segment.kind == Kind::Error && is_related(packet, tables, direction, segment)? {
        return Ok(Reason::Related);
    }
    if segment.kind == Kind::Error || segment.kind == Kind::Message {
        let allowed = allow(tables, direction, segment)?;
        tables.count_rule(allowed.rule, bytes);
        return Ok(Reason::Admitted);
    }
    let is_strict = tables.tcp_checks() == TcpChecks::Strict;
    let scale = match shape {
        Some(Shape::Syn | Shape::SynAck) if is_strict => parse::window_scale(packet, segment),
        _ => flow::NO_SCALE,
    };
    let packet = Arrival { direction, segment, shape, scale, bytes, now: tables.now() };
    let key = flow::key(segment, direction, tables.slot());
    let mut over = None;
    if glance == Glance::Unknown && !Flows::<A>::may_hold(tables, &key) {
        // Neither tier has it. A flood of what no rule allows ends here without a look into tables
        // that are far larger than a processor's caches.
    } else if glance == Glance::Unknown
        && let Some(flow) = Flows::<A>::find(tables, Tier::Proven, &key)
    {
        match follow(tables, &packet, &key, flow, Tier::Proven) {
            Fate::Belongs => return Ok(Reason::Established),
            Fate::Contradicts(reason) => return Err(reason),
            Fate::Expired => Flows::<A>::remove(tables, Tier::Proven, &key),
            Fate::Over => over = Some(Tier::Proven),
        }
    } else if let Some(flow) = Flows::<A>::find(tables, Tier::New, &key) {
        match follow(tables, &packet, &key, flow, Tier::New) {
            Fate::Belongs => return Ok(Reason::Established),
            Fate::Contradicts(reason) => return Err(reason),
            Fate::Expired => remove_new::<A, T>(tables, &key),
            Fate::Over => over = Some(Tier::New),
        }
    }
    open(tables, &packet, &key, over)
}

/// Whether an ICMP error is about a packet that the inside or the outside really sent, of a live
/// flow or of one that is not tracked. It refreshes nothing and creates nothing.
///
/// # Errors
/// The error contradicts itself.
#[inline(always)]
fn is_related<A: Address, P: Packet, T: Tables + Family<A>>(
    packet: &P,
    tables: &T,
    direction: Direction,
    error: &Segment<A>,
) -> Result<bool, Reason> {
    let mut quote = *error;
    // An error goes to the sender of what it is about, whoever noticed it on the way.
    if !A::quoted(packet, error, &mut quote) || quote.src != error.dst {
        return Err(Reason::IcmpErrorInvalid);
    }
    // A quoted fragment has no ports, and about an error no error is sent (RFC 1122, 3.2.2).
    if matches!(quote.kind, Kind::Rest | Kind::Error | Kind::Message) {
        return Ok(false);
    }
    let direction = direction.opposite();
    let key = flow::key(&quote, direction, tables.slot());
    let now = tables.now();
    if Flows::<A>::may_hold(tables, &key) {
        for tier in [Tier::Proven, Tier::New] {
            if let Some(flow) = Flows::<A>::find(tables, tier, &key)
                && let Some(state) = State::from_number(flow.state())
                && !has_passed(flow.last_seen(), now, tables.timeout(state))
                && !waits(tables, &flow)
            {
                return Ok(true);
            }
        }
    }
    Ok(allow(tables, direction, &quote).is_ok_and(|allowed| allowed.is_untracked))
}

/// Whether the rules of now have not been asked about a flow yet: its own next packet asks them, and
/// until then they are asked about an error.
#[inline(always)]
fn waits<T: Tables>(tables: &T, flow: &FlowRef<'_>) -> bool {
    tables.revalidates() && !is_learned(flow) && flow.epoch() != tables.active().generation()
}

/// What a packet is to the flow of its key.
enum Fate {
    /// A part of it.
    Belongs,
    /// It cannot be a part of it, and is dropped for this reason.
    Contradicts(Reason),
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
    /// Of a SYN or SYN-ACK, where windows are followed.
    scale: u8,
    bytes: u32,
    now: u64,
}

/// A packet whose key is in a table: what it is to that flow, and what it does to it.
#[inline(always)]
fn follow<A: Address, T: Tables + Family<A>>(
    tables: &T,
    packet: &Arrival<'_, A>,
    key: &A::Key,
    flow: FlowRef<'_>,
    tier: Tier,
) -> Fate {
    let Some(state) = State::from_number(flow.state()) else { return Fate::Expired };
    let last_seen = flow.last_seen();
    if has_passed(last_seen, packet.now, tables.timeout(state)) {
        return Fate::Expired;
    }
    if tables.revalidates() && is_revoked(tables, packet, &flow) {
        // It keeps its place, so that its other end does not open it anew from the middle.
        return match packet.shape {
            Some(Shape::Syn) => Fate::Over,
            _ => Fate::Contradicts(Reason::Revoked),
        };
    }
    let segment = packet.segment;
    let is_strict = tables.tcp_checks() == TcpChecks::Strict;
    let fit = match packet.shape {
        Some(Shape::Ack | Shape::Fin) if is_strict && state != State::SynSent => {
            window::fit(&flow, segment, packet.direction)
        }
        _ => Fit::In,
    };
    let step = match packet.shape {
        Some(_) if fit == Fit::Beyond => return Fate::Contradicts(Reason::TcpWindow),
        Some(_) if fit == Fit::Late => Step::Ignore,
        Some(shape) => tcp::step(&flow, state, segment, shape, packet.direction),
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
    if step == Step::Doubt && is_strict {
        let is_reset = packet.shape == Some(Shape::Rst);
        return Fate::Contradicts(if is_reset { Reason::TcpReset } else { Reason::TcpWindow });
    }
    let says_nothing = matches!(step, Step::Ignore | Step::Doubt);
    match packet.shape {
        Some(Shape::Rst) | None => {}
        Some(_) if says_nothing => {}
        Some(Shape::Syn | Shape::SynAck) if is_strict => {
            window::begin(&flow, segment, packet.scale, packet.direction);
            flow.set_acked(packet.direction, segment.ack);
        }
        Some(_) if is_strict => window::advance(&flow, segment, packet.direction),
        Some(_) => {
            flow.set_end(packet.direction, tcp::end(segment));
            flow.set_acked(packet.direction, segment.ack);
        }
    }
    flow.count(packet.direction, packet.bytes);
    if !says_nothing {
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

/// Whether a flow was open before its interface was attached: no rule ever let it in, so none can be
/// missing.
#[inline(always)]
fn is_learned(flow: &FlowRef<'_>) -> bool {
    flow.rule() == 0
}

/// Whether the rules of now refuse a flow. They are asked once for each policy, about the packet that
/// opened the flow.
#[inline(always)]
fn is_revoked<A: Address, T: Tables + Family<A>>(
    tables: &T,
    packet: &Arrival<'_, A>,
    flow: &FlowRef<'_>,
) -> bool {
    let (active, epoch) = (tables.active(), flow.epoch());
    let allowed = active.generation();
    if is_learned(flow) {
        return false;
    }
    if epoch == allowed || epoch == !allowed {
        return epoch != allowed;
    }
    let from_initiator = (flow.flags() & INITIATOR_EGRESS != 0) == (packet.direction as u8 == 1);
    let rule = open::rule_of_flow(tables, active, packet, from_initiator);
    if let Some(rule) = rule {
        flow.set_rule(rule);
    }
    flow.set_epoch(if rule.is_some() { allowed } else { !allowed });
    rule.is_none()
}

/// Moves a flow to the proven tier: first in, then out, so that it is always in one of them. A
/// packet on another CPU that finds it in the new tier meanwhile passes all the same.
#[inline(always)]
fn promote<A: Address, T: Tables + Flows<A>>(tables: &T, key: &A::Key, flow: FlowRef<'_>) {
    if Flows::<A>::insert(tables, Tier::Proven, key, &flow.copy()).is_ok() {
        Flows::<A>::remove(tables, Tier::New, key);
        tables.count_event(Event::Promoted);
    } else {
        tables.count_event(Event::Unpromoted);
    }
}

/// Removes a dead flow from the new tier.
#[inline(always)]
fn remove_new<A: Address, T: Tables + Flows<A>>(tables: &T, key: &A::Key) {
    Flows::<A>::remove(tables, Tier::New, key);
    tables.count_event(Event::Removed);
}
