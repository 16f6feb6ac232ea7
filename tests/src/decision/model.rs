//! What a connection is, said once more: plainly, slowly, with a map and whole seconds, sharing with
//! the decision nothing but the parser. It knows interfaces with TCP as usual, not strict ones.

mod connection;
mod seen;

use std::collections::BTreeMap;
use std::net::IpAddr;

use firewall_ebpf::flow::Tier;
use firewall_ebpf::host::HostPacket;
use firewall_ebpf::interface::Direction::{self, Ingress};
use firewall_ebpf::parse::{self, Frame, Kind, Segments};
use firewall_ebpf::reason::{Reason, Verdict};
use firewall_user::model::Traffic;
use firewall_user::policy::{Probe, ResolvedRule, evaluate};

use self::connection::{Connection, Part};
use self::seen::{Seen, read, v4, v6};
use crate::decision::engine::{FlowId, FlowViews};
use crate::decision::packet::flags::{ACK, SYN};

/// Seconds for which a first fragment speaks for the others.
const FRAGMENTS: u64 = 30;

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
        evaluate(&self.rules, Probe { direction, outside, protocol, port }).collect()
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
