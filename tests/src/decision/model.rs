//! A second, simple implementation of connection tracking with a map and whole seconds. It shares
//! only the parser with the verdict logic.

mod connection;
mod exempt;
mod numbers;
mod packet;
mod port;
mod window;

use std::collections::BTreeMap;
use std::net::IpAddr;

use firewall_ebpf::abi::filter::{BLOCK, DENY};
use firewall_ebpf::abi::flow::Tier;
use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::interface::Direction::Ingress;
use firewall_ebpf::abi::reason::{Reason, Verdict};
use firewall_ebpf::backend::host::HostPacket;
use firewall_ebpf::wire;
use firewall_ebpf::wire::headers::Kind;
use firewall_ebpf::wire::{Frame, HeadersByFamily};
use firewall_user::model::Traffic;
use firewall_user::policy::{Probe, ResolvedRule, evaluate};

use self::connection::{Connection, Effect};
use self::exempt::dhcp_flow;
use self::packet::{ModelPacket, read, v4, v6};
use crate::decision::deny::{Blocks, Filter};
use crate::decision::engine::{FlowId, FlowViews};
use crate::decision::packet::flags::{ACK, SYN};
use crate::decision::port::Port;

/// Seconds for which later fragments pass after the first one.
const FRAGMENT_TIMEOUT: u64 = 30;

/// One interface.
pub struct Model {
    /// Each ends, if it does, at a second of [`Self::now`].
    rules: Vec<ResolvedRule>,
    /// With strict TCP nothing is picked up mid-stream.
    is_strict: bool,
    port: Port,
    now: u64,
    /// The filter, and when it was set.
    filter: Option<(Filter, u64)>,
    /// The blocks of the host, and when they were set.
    blocks: (Blocks, u64),
    connections: BTreeMap<FlowId, Connection>,
    /// When a first fragment passed, and its length.
    first_fragments: BTreeMap<FragmentKey, (u64, u32)>,
}

/// Addresses, identification, protocol and direction, which are equal in all fragments of a packet.
type FragmentKey = (IpAddr, IpAddr, u32, u8, Direction);

impl Model {
    /// An interface with these rules and this port security, and without connections.
    #[must_use]
    pub fn new(rules: Vec<ResolvedRule>, is_strict: bool, port: Port) -> Self {
        let (connections, first_fragments) = (BTreeMap::new(), BTreeMap::new());
        let (filter, blocks) = (None, (Blocks::default(), 0));
        Self { rules, is_strict, port, now: 0, filter, blocks, connections, first_fragments }
    }

    /// Advances the clock.
    pub const fn wait(&mut self, seconds: u32) {
        self.now += seconds as u64;
    }

    /// Replaces the filter, or removes it.
    pub fn set_filter(&mut self, filter: Option<Filter>) {
        self.filter = filter.map(|filter| (filter, self.now));
    }

    /// Replaces the blocks of the host.
    pub fn set_blocks(&mut self, blocks: Blocks) {
        self.blocks = (blocks, self.now);
    }

    /// Decides a frame; `None` for frames outside the model: not IP, or malformed.
    pub fn decide(&mut self, frame: &[u8], direction: Direction) -> Option<Reason> {
        let raw = HostPacket::ethernet(frame);
        let mut segments = HeadersByFamily::new();
        let (packet, embedded) = match wire::parse(&raw, &mut segments).ok()? {
            Frame::V4 => read(&raw, &segments.v4, direction, v4),
            Frame::V6 => read(&raw, &segments.v6, direction, v6),
            Frame::NonIp(_) => return None,
        };
        let (blocks, since) = &self.blocks;
        if blocks.of(packet.outside(), self.now - since).is_some() {
            return Some(Reason::Blocked);
        }
        let ip = if packet.src.is_ipv4() { segments.v4.ip } else { segments.v6.ip };
        let refused = port::refused(self.port, frame, ip, &packet);
        Some(refused.unwrap_or_else(|| self.decide_packet(&packet, embedded.as_ref())))
    }

    /// Whether the reason is one of port security.
    #[must_use]
    pub const fn is_port_security(reason: Reason) -> bool {
        port::is_reason(reason)
    }

    fn decide_packet(&mut self, packet: &ModelPacket, embedded: Option<&ModelPacket>) -> Reason {
        let protocol = if packet.src.is_ipv4() { packet.protocol } else { 0 };
        let key = (packet.src, packet.dst, packet.fragment.id, protocol, packet.direction);
        if packet.kind == Kind::LaterFragment {
            return match self.first_fragments.get(&key) {
                Some((when, _)) if self.now - when > FRAGMENT_TIMEOUT => Reason::Fragment,
                Some((_, end)) if packet.fragment.offset < *end => Reason::FragmentOverlap,
                Some(_) => Reason::LaterFragment,
                None => Reason::Fragment,
            };
        }
        let reason = self.decide_unfragmented(packet, embedded);
        if packet.fragment.more && reason.verdict() == Verdict::Pass {
            self.first_fragments.insert(key, (self.now, packet.fragment.length));
        }
        reason
    }

    /// Decides a packet that has its transport header.
    fn decide_unfragmented(
        &mut self,
        packet: &ModelPacket,
        embedded: Option<&ModelPacket>,
    ) -> Reason {
        if packet.kind == Kind::Tcp && !packet.has_valid_flags() {
            return Reason::TcpFlags;
        }
        match packet.exempt() {
            Some(Reason::Dhcp) if packet.src.is_ipv6() || self.track_dhcp(packet) => {
                return Reason::Dhcp;
            }
            Some(Reason::Dhcp) | None => {}
            Some(reason) => return reason,
        }
        if let Some(reason) = self.denied(packet) {
            return reason;
        }
        if packet.kind == Kind::Error {
            let Some(embedded) = embedded.filter(|embedded| embedded.src == packet.dst) else {
                return Reason::IcmpErrorInvalid;
            };
            let has_flow =
                !matches!(embedded.kind, Kind::LaterFragment | Kind::Error | Kind::Message);
            if has_flow && (self.is_live(&embedded.id()) || self.is_untracked(embedded)) {
                return Reason::Related;
            }
        }
        let by_rules =
            if self.allowing(packet).is_empty() { Reason::NoRule } else { Reason::Admitted };
        if matches!(packet.kind, Kind::Error | Kind::Message) {
            return by_rules;
        }
        let id = packet.id();
        if !self.is_live(&id) {
            self.connections.remove(&id);
        }
        if self.connections.contains_key(&id)
            && let Some(reason) = self.update(&id, packet)
        {
            return reason;
        }
        if self.is_untracked(packet) {
            return Reason::Untracked;
        }
        if packet.is_tcp(SYN | ACK) && (by_rules == Reason::NoRule || self.is_strict) {
            return Reason::UnsolicitedSynAck;
        }
        // RST and ICMP replies get no reply, so they open no flow.
        if by_rules == Reason::NoRule || packet.is_rst() || packet.kind == Kind::Reply {
            return by_rules;
        }
        if self.is_strict && packet.kind == Kind::Tcp && !packet.is_tcp(SYN) {
            return Reason::TcpNotOpened;
        }
        let (allowing, is_strict) = (self.allowing(packet), self.is_strict);
        self.connections.insert(id, Connection::new(packet, self.now, allowing, is_strict));
        Reason::NewFlow
    }

    /// Applies a packet to its connection; `None` if it may open the next one.
    fn update(&mut self, id: &FlowId, packet: &ModelPacket) -> Option<Reason> {
        let (now, is_strict) = (self.now, self.is_strict);
        let (allowing, of_request) = (self.allowing(packet), self.allowing_request(packet));
        let connection = self.connections.get_mut(id)?;
        if packet.is_tcp(SYN) && !connection.is_closed() && allowing.is_empty() {
            return Some(Reason::NoRule);
        }
        let effect = if connection.is_begun_anew_by(packet) {
            if of_request.is_empty() {
                return Some(Reason::NoRule);
            }
            connection.begin_anew(packet, of_request);
            Effect::Refresh
        } else {
            connection.update(packet, now)
        };
        Some(match effect {
            Effect::Reopen => return None,
            Effect::Refresh => {
                connection.last_seen = now;
                Reason::Established
            }
            Effect::Beyond => Reason::TcpWindow,
            Effect::Invalid if is_strict && packet.is_rst() => Reason::TcpReset,
            Effect::Invalid if is_strict => Reason::TcpWindow,
            Effect::Ignore | Effect::Invalid => Reason::Established,
        })
    }

    /// Stores a question of DHCP, or returns whether there was one lately.
    fn track_dhcp(&mut self, packet: &ModelPacket) -> bool {
        let (id, now) = (dhcp_flow(), self.now);
        if packet.direction == Ingress {
            return self.is_live(&id);
        }
        let new = || Connection::new(packet, now, vec![0], false);
        self.connections.entry(id).or_insert_with(new).last_seen = now;
        true
    }

    fn is_live(&self, id: &FlowId) -> bool {
        self.connections.get(id).is_some_and(|connection| {
            self.now - connection.last_seen <= u64::from(connection.state.default_timeout())
        })
    }

    /// Why the filter denies a packet.
    fn denied(&self, packet: &ModelPacket) -> Option<Reason> {
        let (filter, since) = self.filter.as_ref()?;
        let word = filter.first(packet.probe(), self.now - since);
        let reason = if word & BLOCK != 0 { Reason::Blocked } else { Reason::Acl };
        (word & DENY != 0).then_some(reason)
    }

    fn allowing(&self, packet: &ModelPacket) -> Vec<u32> {
        self.allowing_probe(packet.probe())
    }

    fn allowing_probe(&self, probe: Probe) -> Vec<u32> {
        let left = |number: &u32| {
            let rule = self.rules.iter().find(|rule| rule.number == *number);
            rule.and_then(|rule| rule.end).is_none_or(|end| self.now <= end)
        };
        evaluate(&self.rules, probe).filter(left).collect()
    }

    /// The rules that allow what this packet answers.
    fn allowing_request(&self, packet: &ModelPacket) -> Vec<u32> {
        let ModelPacket { protocol, src_port: port, .. } = *packet;
        let (direction, outside) = (packet.direction.opposite(), packet.outside());
        self.allowing_probe(Probe { direction, outside, protocol, port })
    }

    /// EC2's untracked connections: rules allow the packet from anywhere, and all replies; or the
    /// packet is such a reply.
    fn is_untracked(&self, packet: &ModelPacket) -> bool {
        let reverse = packet.direction.opposite();
        let is_v4 = packet.src.is_ipv4();
        let (protocol, from, to) = (packet.protocol, packet.src_port, packet.dst_port);
        let is_request = self.is_open(packet.direction, is_v4, protocol, to)
            && self.allows_all(reverse, is_v4, protocol);
        let is_reply = self.is_open(reverse, is_v4, protocol, from)
            && self.allows_all(packet.direction, is_v4, protocol);
        matches!(protocol, 6 | 17) && !self.allowing(packet).is_empty() && (is_request || is_reply)
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
                && rule.end.is_none()
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

    /// Whether a port is allowed from anywhere.
    fn is_open(&self, direction: Direction, is_v4: bool, protocol: u8, port: u16) -> bool {
        let mut ranges = self.anywhere(direction, is_v4, protocol);
        ranges.any(|(from, to)| (from..=to).contains(&port))
    }

    /// Whether all ports are allowed from anywhere.
    fn allows_all(&self, direction: Direction, is_v4: bool, protocol: u8) -> bool {
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

    /// The first difference between flows and the connections of the model.
    #[must_use]
    pub fn difference(&self, flows: &FlowViews) -> Option<String> {
        for (id, connection) in &self.connections {
            let tier = if connection.is_proven { Tier::Proven } else { Tier::New };
            let Some(view) = flows.get(&(tier, *id)) else {
                return Some(format!("no {} flow {id:?} {connection:?}", tier.name()));
            };
            let same = view.flow.state() == Some(connection.state)
                && view.idle == self.now - connection.last_seen
                && view.flow.initiator() == connection.initiator
                && connection.allowing.contains(&view.flow.rule);
            if !same {
                return Some(format!("{view:?} differs from {connection:?}"));
            }
        }
        let has_more = flows.len() > self.connections.len();
        has_more.then(|| format!("{} flows, not {}", flows.len(), self.connections.len()))
    }
}
