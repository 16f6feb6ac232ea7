//! What a connection is, said once more: plainly, slowly, with a map and whole seconds, sharing with
//! the decision nothing but the parser. It knows interfaces with TCP as usual, not strict ones.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use firewall_ebpf::flow::{Address, Tier};
use firewall_ebpf::host::HostPacket;
use firewall_ebpf::interface::Direction::{self, Egress, Ingress};
use firewall_ebpf::interface::State;
use firewall_ebpf::parse::{self, Fragment, Frame, Kind, Segment, Segments, V4, V6};
use firewall_ebpf::reason::{Reason, Verdict};
use firewall_user::model::Traffic;
use firewall_user::policy::{Question, ResolvedRule, evaluate};

use crate::decision::engine::{FlowId, FlowViews};
use crate::decision::host::SLOT;
use crate::decision::packet::flags::{ACK, FIN, RST, SYN, URG};

/// Seconds for which a first fragment speaks for the others.
const FRAGMENTS: u64 = 30;
/// How far a RST may be ahead of what its receiver acknowledged.
const TRAIN: u32 = 0xffff;

/// One interface.
pub struct Model {
    rules: Vec<ResolvedRule>,
    now: u64,
    connections: BTreeMap<FlowId, Connection>,
    /// When a first fragment passed, and how long it was.
    firsts: BTreeMap<Fragmented, (u64, u32)>,
}

/// What the fragments of a packet have in common: addresses, identification, protocol, direction.
type Fragmented = (IpAddr, IpAddr, u32, u8, Direction);

/// What is known of two ends that talk. Pairs are by direction.
#[derive(Clone, Debug)]
struct Connection {
    state: State,
    seen: u64,
    opener: Direction,
    /// The rules that allowed it; one of them gets the honour.
    allowing: Vec<u32>,
    has_reply: bool,
    is_proven: bool,
    /// It began before we looked.
    is_picked_up: bool,
    /// The acknowledgement numbers that only somebody who saw the last SYN can know.
    proof: (u32, u32),
    /// Behind the last byte that was sent.
    sent: [u32; 2],
    /// The last acknowledgement.
    acked: [u32; 2],
    finisher: Direction,
    /// Who spoke since the last RST.
    heard: [bool; 2],
}

/// What a segment is to its connection.
enum Part {
    /// It belongs there.
    Sound,
    /// It is let through, and that is all.
    Stray,
    /// It begins the next connection.
    Successor,
}

/// A packet without its family.
struct Seen {
    direction: Direction,
    src: IpAddr,
    dst: IpAddr,
    protocol: u8,
    kind: Kind,
    src_port: u16,
    dst_port: u16,
    rule_port: u16,
    flags: u8,
    seq: u32,
    ack: u32,
    payload: u32,
    hop_limit: u8,
    fragment: Fragment,
}

impl Model {
    /// An interface with these rules, where nothing happened yet.
    #[must_use]
    pub const fn new(rules: Vec<ResolvedRule>) -> Self {
        Self { rules, now: 0, connections: BTreeMap::new(), firsts: BTreeMap::new() }
    }

    /// Lets time pass.
    pub const fn wait(&mut self, seconds: u32) {
        self.now += seconds as u64;
    }

    /// Decides about a frame; `None` where the model has no opinion: not IP, or not sound.
    pub fn decide(&mut self, frame: &[u8], direction: Direction) -> Option<Reason> {
        let packet = HostPacket::ethernet(frame);
        let mut segments = Segments::new();
        let (seen, quote) = match parse::parse(&packet, &mut segments).ok()? {
            Frame::V4 => read(&packet, &segments.v4, direction, v4),
            Frame::V6 => read(&packet, &segments.v6, direction, v6),
            Frame::NonIp(_) => return None,
        };
        Some(self.judge(&seen, quote.as_ref()))
    }

    fn judge(&mut self, seen: &Seen, quote: Option<&Seen>) -> Reason {
        let protocol = if seen.src.is_ipv4() { seen.protocol } else { 0 };
        let whole = (seen.src, seen.dst, seen.fragment.id, protocol, seen.direction);
        if seen.kind == Kind::Rest {
            return match self.firsts.get(&whole) {
                Some((when, _)) if self.now - when > FRAGMENTS => Reason::Fragment,
                Some((_, end)) if seen.fragment.offset < *end => Reason::FragmentOverlap,
                Some(_) => Reason::LaterFragment,
                None => Reason::Fragment,
            };
        }
        let reason = self.judge_whole(seen, quote);
        if seen.fragment.more && reason.verdict() == Verdict::Pass {
            self.firsts.insert(whole, (self.now, seen.fragment.length));
        }
        reason
    }

    fn judge_whole(&mut self, seen: &Seen, quote: Option<&Seen>) -> Reason {
        if seen.kind == Kind::Tcp && !seen.is_sound_tcp() {
            return Reason::TcpFlags;
        }
        if let Some(reason) = seen.exempt() {
            return reason;
        }
        if seen.kind == Kind::Error {
            let Some(quote) = quote.filter(|quote| quote.src == seen.dst) else {
                return Reason::IcmpErrorInvalid;
            };
            let has_flow = !matches!(quote.kind, Kind::Rest | Kind::Error | Kind::Message);
            if has_flow && (self.is_live(&quote.id()) || self.is_untracked(quote)) {
                return Reason::Related;
            }
        }
        let may = if self.allowing(seen).is_empty() { Reason::NoRule } else { Reason::Admitted };
        if matches!(seen.kind, Kind::Error | Kind::Message) {
            return may;
        }
        let id = seen.id();
        if !self.is_live(&id) {
            self.connections.remove(&id);
        }
        let now = self.now;
        if let Some(connection) = self.connections.get_mut(&id) {
            match connection.hear(seen) {
                Part::Successor => {}
                Part::Stray => return Reason::Established,
                Part::Sound => {
                    connection.seen = now;
                    return Reason::Established;
                }
            }
        }
        if self.is_untracked(seen) {
            return Reason::Untracked;
        }
        if seen.is_tcp(SYN | ACK) {
            return Reason::UnsolicitedSynAck;
        }
        // Nothing answers to these.
        if may == Reason::NoRule || seen.is_rst() || seen.kind == Kind::Reply {
            return may;
        }
        let connection = Connection::new(seen, now, self.allowing(seen));
        self.connections.insert(id, connection);
        Reason::NewFlow
    }

    fn is_live(&self, id: &FlowId) -> bool {
        self.connections.get(id).is_some_and(|connection| {
            self.now - connection.seen <= u64::from(connection.state.default_timeout())
        })
    }

    fn allowing(&self, seen: &Seen) -> Vec<u32> {
        let Seen { direction, protocol, rule_port: port, .. } = *seen;
        let outside = if direction == Ingress { seen.src } else { seen.dst };
        evaluate(&self.rules, Question { direction, outside, protocol, port }).collect()
    }

    /// EC2's untracked connections: allowed from anywhere, and so is every answer. Or such an answer.
    fn is_untracked(&self, seen: &Seen) -> bool {
        let back = seen.direction.opposite();
        let is_v4 = seen.src.is_ipv4();
        let (protocol, from, to) = (seen.protocol, seen.src_port, seen.dst_port);
        let asks = self.is_open(seen.direction, is_v4, protocol, to)
            && self.is_wide_open(back, is_v4, protocol);
        let answers = self.is_open(back, is_v4, protocol, from)
            && self.is_wide_open(seen.direction, is_v4, protocol);
        matches!(protocol, 6 | 17) && !self.allowing(seen).is_empty() && (asks || answers)
    }

    /// The port ranges that are allowed from anywhere.
    fn anywhere(
        &self,
        direction: Direction,
        is_v4: bool,
        protocol: u8,
    ) -> impl Iterator<Item = (u16, u16)> {
        let rules = self.rules.iter().filter(move |rule| {
            let mut networks = rule.networks.iter();
            rule.direction == direction
                && networks.any(|net| net.prefix_len() == 0 && net.addr().is_ipv4() == is_v4)
        });
        rules.filter_map(move |rule| match rule.traffic {
            Traffic::Tcp(ports) if protocol == 6 => Some((ports.from, ports.to)),
            Traffic::Udp(ports) if protocol == 17 => Some((ports.from, ports.to)),
            Traffic::Other(number) if protocol == number => Some((0, u16::MAX)),
            Traffic::All => Some((0, u16::MAX)),
            _ => None,
        })
    }

    fn is_open(&self, direction: Direction, is_v4: bool, protocol: u8, port: u16) -> bool {
        let mut ranges = self.anywhere(direction, is_v4, protocol);
        ranges.any(|(from, to)| (from..=to).contains(&port))
    }

    fn is_wide_open(&self, direction: Direction, is_v4: bool, protocol: u8) -> bool {
        let mut ranges: Vec<_> = self.anywhere(direction, is_v4, protocol).collect();
        ranges.sort_unstable();
        let mut next = 0_u32;
        for (from, to) in ranges {
            if u32::from(from) <= next {
                next = next.max(u32::from(to) + 1);
            }
        }
        next > u32::from(u16::MAX)
    }

    /// What is wrong with flows that should be these connections.
    #[must_use]
    pub fn contradiction(&self, flows: &FlowViews) -> Option<String> {
        for (id, connection) in &self.connections {
            let tier = if connection.is_proven { Tier::Proven } else { Tier::New };
            let Some(view) = flows.get(&(tier, *id)) else {
                return Some(format!("no {} flow {id:?} {connection:?}", tier.name()));
            };
            let same = view.flow.state() == Some(connection.state)
                && view.idle == self.now - connection.seen
                && view.flow.initiator() == connection.opener
                && connection.allowing.contains(&view.flow.rule);
            if !same {
                return Some(format!("{view:?} should be {connection:?}"));
            }
        }
        let is_more = flows.len() > self.connections.len();
        is_more.then(|| format!("{} flows, not {}", flows.len(), self.connections.len()))
    }
}

impl Connection {
    /// Begins with a packet that the rules allow.
    fn new(seen: &Seen, now: u64, allowing: Vec<u32>) -> Self {
        let state = match seen.kind {
            Kind::Tcp if seen.is_tcp(SYN) => State::SynSent,
            Kind::Tcp if seen.flags & FIN != 0 => State::FinWait,
            Kind::Tcp => State::Established,
            Kind::Udp => State::Udp,
            Kind::Request => State::Icmp,
            _ => State::Other,
        };
        let mut connection = Self {
            state,
            seen: now,
            opener: seen.direction,
            allowing,
            has_reply: false,
            is_proven: false,
            is_picked_up: seen.kind == Kind::Tcp && state != State::SynSent,
            proof: seen.proof(),
            sent: [0; 2],
            acked: [0; 2],
            finisher: seen.direction,
            heard: [false; 2],
        };
        connection.note(seen);
        connection
    }

    /// A later packet.
    fn hear(&mut self, seen: &Seen) -> Part {
        if seen.kind != Kind::Tcp {
            self.converse(seen.direction);
            return Part::Sound;
        }
        let before = self.state;
        let part = self.hear_tcp(seen);
        if before == State::SynSent && seen.is_plain() {
            self.acked[seen.direction as usize] = seen.ack;
        } else if matches!(part, Part::Sound) && !seen.is_rst() {
            self.note(seen);
        }
        part
    }

    /// Remembers a segment's numbers.
    fn note(&mut self, seen: &Seen) {
        self.sent[seen.direction as usize] = seen.end();
        self.acked[seen.direction as usize] = seen.ack;
    }

    /// Question, answer, question: then both exist.
    fn converse(&mut self, from: Direction) {
        if from != self.opener {
            self.has_reply = true;
        } else if self.has_reply {
            self.is_proven = true;
            if self.state == State::Udp {
                self.state = State::UdpStream;
            }
        }
    }

    fn hear_tcp(&mut self, seen: &Seen) -> Part {
        let is_opener = seen.direction == self.opener;
        if seen.is_rst() {
            return self.reset(seen);
        }
        match self.state {
            State::SynSent => self.hear_syn_sent(seen, is_opener),
            State::SynRecv => self.hear_syn_recv(seen, is_opener),
            State::TimeWait | State::Close if seen.is_tcp(SYN) => Part::Successor,
            State::TimeWait => Part::Sound,
            State::Close => {
                // Both ends go on as if there had been no RST: then there was none.
                self.heard[seen.direction as usize] = true;
                if self.heard != [true; 2] {
                    return Part::Stray;
                }
                self.state = State::Established;
                Part::Sound
            }
            _ if seen.flags & SYN != 0 => Part::Stray,
            _ => {
                self.hear_established(seen);
                Part::Sound
            }
        }
    }

    /// A RST counts if it refuses the SYN, or has the number that its receiver expects.
    fn reset(&mut self, seen: &Seen) -> Part {
        let (from, to) = (seen.direction, seen.direction.opposite());
        let is_good = if self.state == State::SynSent {
            from != self.opener && self.is_proof(seen)
        } else {
            let expected = self.acked[to as usize];
            let ahead = seen.seq.wrapping_sub(expected);
            let follows = seen.seq == self.sent[from as usize];
            ahead == 0 || (follows && (ahead <= TRAIN || expected == 0))
        };
        if !is_good {
            return Part::Stray;
        }
        self.state = State::Close;
        self.heard = [false; 2];
        Part::Sound
    }

    fn hear_syn_sent(&mut self, seen: &Seen, is_opener: bool) -> Part {
        if seen.is_tcp(SYN) {
            self.proof = seen.proof();
            if !is_opener {
                self.state = State::SynRecv;
            }
            Part::Sound
        } else if seen.is_tcp(SYN | ACK) && !is_opener && self.is_proof(seen) {
            self.has_reply = true;
            self.proof = seen.proof();
            self.state = State::SynRecv;
            Part::Sound
        } else if seen.flags & SYN == 0 && is_opener {
            Part::Sound
        } else {
            Part::Stray
        }
    }

    fn hear_syn_recv(&mut self, seen: &Seen, is_opener: bool) -> Part {
        if seen.is_tcp(SYN) {
            return Part::Sound;
        }
        if is_opener {
            if !self.is_proof(seen) {
                return Part::Stray;
            }
            self.is_proven = true;
            self.state = State::Established;
            if seen.flags & FIN != 0 {
                self.state = State::FinWait;
                self.finisher = seen.direction;
            }
        } else if seen.is_tcp(SYN | ACK) {
            self.has_reply = true;
            // One that is repeated takes back nothing of the data that was sent behind it.
            let proof = seen.proof();
            if proof.0 != self.proof.0 {
                self.proof = proof;
            }
        } else {
            // Data behind the SYN-ACK: the proof may acknowledge it too.
            let end = seen.seq.wrapping_add(seen.payload);
            let (low, high) = self.proof;
            if is_between(end, high, low.wrapping_add(0xffff)) {
                self.proof.1 = end;
            }
        }
        Part::Sound
    }

    fn hear_established(&mut self, seen: &Seen) {
        let is_finisher = seen.direction == self.finisher;
        let is_fin = seen.flags & FIN != 0;
        match self.state {
            State::Established if is_fin => {
                self.finisher = seen.direction;
                self.state = State::FinWait;
            }
            State::Established if self.is_picked_up => self.converse(seen.direction),
            State::FinWait | State::CloseWait if is_fin && !is_finisher => {
                self.state = State::LastAck;
            }
            State::FinWait if !is_fin && !is_finisher => self.state = State::CloseWait,
            State::LastAck if !is_fin && is_finisher => self.state = State::TimeWait,
            _ => {}
        }
    }

    fn is_proof(&self, seen: &Seen) -> bool {
        seen.flags & ACK != 0 && is_between(seen.ack, self.proof.0, self.proof.1)
    }
}

/// In sequence space, which is a circle.
fn is_between(number: u32, low: u32, high: u32) -> bool {
    number.wrapping_sub(low) <= high.wrapping_sub(low)
}

impl Seen {
    fn new<A: Copy>(segment: &Segment<A>, direction: Direction, ip: fn(A) -> IpAddr) -> Self {
        Self {
            direction,
            src: ip(segment.src),
            dst: ip(segment.dst),
            protocol: segment.protocol,
            kind: segment.kind,
            src_port: u16::from_be(segment.src_port()),
            dst_port: u16::from_be(segment.dst_port()),
            rule_port: segment.rule_port,
            flags: segment.tcp_flags,
            seq: segment.seq,
            ack: segment.ack,
            payload: segment.payload,
            hop_limit: segment.hop_limit,
            fragment: segment.fragment,
        }
    }

    fn is_sound_tcp(&self) -> bool {
        let without_urgent = self.flags & !URG;
        match without_urgent {
            SYN | ACK => true,
            _ if without_urgent == FIN | ACK => true,
            // Urgent data belongs to none of these.
            flags => self.flags & URG == 0 && [SYN | ACK, RST, RST | ACK].contains(&flags),
        }
    }

    /// Whether it is TCP with these flags and no others that mean something here.
    fn is_tcp(&self, flags: u8) -> bool {
        self.kind == Kind::Tcp && self.flags & (SYN | ACK | FIN | RST) == flags
    }

    fn is_rst(&self) -> bool {
        self.kind == Kind::Tcp && self.flags & RST != 0
    }

    fn is_plain(&self) -> bool {
        self.is_tcp(ACK)
    }

    fn end(&self) -> u32 {
        let is_counted = self.flags & (SYN | FIN) != 0;
        self.seq.wrapping_add(self.payload).wrapping_add(u32::from(is_counted))
    }

    /// What acknowledges this SYN, and perhaps its data.
    fn proof(&self) -> (u32, u32) {
        let first = self.seq.wrapping_add(1);
        (first, first.wrapping_add(self.payload))
    }

    fn exempt(&self) -> Option<Reason> {
        let (inside, outside) = match self.direction {
            Ingress => (self.dst_port, self.src_port),
            Egress => (self.src_port, self.dst_port),
        };
        let kind = self.rule_port >> 8;
        if self.kind == Kind::Udp && matches!((inside, outside), (68, 67) | (546, 547)) {
            Some(Reason::Dhcp)
        } else if self.protocol == 58 && self.src.is_ipv6() && (133..=136).contains(&kind) {
            let is_near = self.hop_limit == 255 && !self.fragment.more;
            Some(if is_near {
                Reason::NeighbourDiscovery
            } else {
                Reason::NeighbourDiscoveryInvalid
            })
        } else {
            None
        }
    }

    /// The connection that it would be of.
    fn id(&self) -> FlowId {
        let (inside, outside, inside_port, outside_port) = match self.direction {
            Ingress => (self.dst, self.src, self.dst_port, self.src_port),
            Egress => (self.src, self.dst, self.src_port, self.dst_port),
        };
        let is_from_inside = self.direction == Egress;
        let query = match self.kind {
            Kind::Request if is_from_inside => 1,
            Kind::Request => 2,
            Kind::Reply if is_from_inside => 2,
            Kind::Reply => 1,
            _ => 0,
        };
        let (slot, protocol) = (SLOT, self.protocol);
        FlowId { inside, outside, inside_port, outside_port, slot, protocol, query }
    }
}

/// A packet, and the one that it quotes.
fn read<A: Address>(
    packet: &HostPacket<'_>,
    segment: &Segment<A>,
    direction: Direction,
    ip: fn(A) -> IpAddr,
) -> (Seen, Option<Seen>) {
    let mut quote = *segment;
    let is_quoted = segment.kind == Kind::Error && A::quoted(packet, segment, &mut quote);
    let quote = is_quoted.then(|| Seen::new(&quote, direction.opposite(), ip));
    (Seen::new(segment, direction, ip), quote)
}

fn v4(address: V4) -> IpAddr {
    Ipv4Addr::from(address.to_ne_bytes()).into()
}

fn v6([first, second]: V6) -> IpAddr {
    let bits = u128::from(first.to_be()) << 64 | u128::from(second.to_be());
    Ipv6Addr::from_bits(bits).into()
}
