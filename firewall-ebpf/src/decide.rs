//! The decision about a packet, the same for every hook, family and orientation.

use crate::event::Event;
use crate::exempt;
use crate::flow::{self, Address, FirstFragment, Flow, FlowRef, INITIATOR_EGRESS, PROVEN, Tier};
use crate::interface::{Direction, State, TcpChecks};
use crate::packet::Packet;
use crate::parse::{self, Frame, Kind, Segment, Segments};
use crate::policy::{Active, UNTRACKED, traffic};
use crate::reason::{Reason, Verdict};
use crate::tables::{Family, Flows, Fragments, Tables};
use crate::tcp::{self, Shape, Step};
use crate::window;

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
    if !tables.glances(packet) {
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

/// A TCP segment with nothing but ACK in a proven, established flow, or UDP in a proven one. [`judge`]
/// would say the same ([`Step::Stay`]); here the compiler has few values
/// to carry, which makes the path a third shorter.
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

/// Whether more than `timeout` has passed since. Another CPU may have read the clock later and
/// written first: then it has not.
#[inline(always)]
fn has_passed(since: u64, now: u64, timeout: u64) -> bool {
    let idle = now.wrapping_sub(since);
    // Half of all jiffies: the clock went backwards, in the sense above.
    idle > timeout && idle < 1 << 63
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
        return later_fragment(tables, direction, segment);
    }
    let reason = whole(packet, tables, direction, segment, bytes, glance)?;
    // Fragmented neighbour discovery is exempt from the rules but dropped all the same.
    if segment.fragment.more && reason.verdict() == Verdict::Pass {
        let first = FirstFragment { seen: tables.now(), end: segment.fragment.length, reserved: 0 };
        let key = flow::fragment_key(segment, direction, tables.slot());
        Fragments::<A>::keep_fragment(tables, &key, &first);
        tables.count_event(Event::Fragmented);
    }
    Ok(reason)
}

/// A fragment other than the first has its verdict.
#[inline(always)]
fn later_fragment<A: Address, T: Tables + Family<A>>(
    tables: &T,
    direction: Direction,
    segment: &Segment<A>,
) -> Result<Reason, Reason> {
    let key = flow::fragment_key(segment, direction, tables.slot());
    let first = Fragments::<A>::first_fragment(tables, &key).ok_or(Reason::Fragment)?;
    if has_passed(first.seen, tables.now(), tables.fragment_timeout()) {
        return Err(Reason::Fragment);
    }
    if segment.fragment.offset < first.end {
        return Err(Reason::FragmentOverlap);
    }
    Ok(Reason::LaterFragment)
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
    if glance != Glance::Absent
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
    for tier in [Tier::Proven, Tier::New] {
        if let Some(flow) = Flows::<A>::find(tables, tier, &key)
            && let Some(state) = State::from_number(flow.state())
            && !has_passed(flow.last_seen(), now, tables.timeout(state))
        {
            return Ok(true);
        }
    }
    Ok(allow(tables, direction, &quote).is_ok_and(|allowed| allowed.is_untracked))
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
fn follow<A: Address, T: Tables + Flows<A>>(
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
    let segment = packet.segment;
    let is_strict = tables.tcp_checks() == TcpChecks::Strict;
    let step = match packet.shape {
        Some(Shape::Ack | Shape::Fin)
            if is_strict
                && state != State::SynSent
                && !window::holds(&flow, segment, packet.direction) =>
        {
            return Fate::Contradicts(Reason::TcpWindow);
        }
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
        // A challenge too tells what its sender expects next, which an answering RST will have.
        Some(Shape::Ack) if state == State::SynSent => {
            flow.set_acked(packet.direction, segment.ack);
        }
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

/// A packet of no flow: the rules decide, and a flow remembers what they said. `over` holds a flow of
/// the same key that is closed: it goes only if the rules allow its successor, so that nobody
/// outside can end a flow with packets that are dropped.
#[inline(always)]
fn open<A: Address, T: Tables + Family<A>>(
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
    let picks_up = tables.picks_up() && tables.tcp_checks() == TcpChecks::Guard;
    if matches!(packet.shape, Some(Shape::Ack | Shape::Fin)) && !picks_up {
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
        Ok(()) => {
            tables.count_event(Event::Opened);
            Ok(Reason::NewFlow)
        }
        Err(_) => Err(Reason::FlowTableFull),
    }
}

/// What the rules say of a packet that they allow.
struct Allowed {
    /// The rule's number.
    rule: u32,
    /// The generation of the policy that holds it.
    epoch: u32,
    /// Neither this packet nor its answers need a flow.
    is_untracked: bool,
}

/// Asks the rules about a packet that belongs to no flow.
#[inline(always)]
fn allow<A: Address, T: Tables + Family<A>>(
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

/// Whether a packet answers traffic that is not tracked: then it is not tracked either, though no
/// rule of its own direction says so.
#[inline(always)]
fn answers_untracked<A: Address, T: Family<A>>(
    tables: &T,
    active: Active,
    direction: Direction,
    segment: &Segment<A>,
) -> bool {
    if !tables.has_untracked(active) || !matches!(segment.kind, Kind::Tcp | Kind::Udp) {
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
