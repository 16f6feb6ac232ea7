//! The invariants after every packet.

use std::collections::BTreeMap;
use std::fmt::Debug;

use firewall_ebpf::abi::event::Event;
use firewall_ebpf::abi::flow::{
    Flow, FlowKey4, FlowKey6, PROVEN, REPLIED, SYN_EGRESS, SYN_INGRESS, Tier,
};
use firewall_ebpf::abi::interface::{Direction, FRAGMENT_TIMEOUT, TcpChecks, UDP_STREAM_AGE};
use firewall_ebpf::abi::policy::traffic;
use firewall_ebpf::abi::reason::{Reason, Verdict};
use firewall_ebpf::abi::state::State;
use firewall_ebpf::backend::host::{HostPacket, HostTables};
use firewall_ebpf::verdict::decide::Decision;
use firewall_ebpf::verdict::flow::flow_key;
use firewall_ebpf::verdict::fragment;
use firewall_ebpf::wire;
use firewall_ebpf::wire::address::Address;
use firewall_ebpf::wire::headers::{Kind, PacketHeaders};
use firewall_ebpf::wire::tcp::{SegmentType, segment_type};
use firewall_ebpf::wire::{Frame, HeadersByFamily};

use crate::rules::{self, Rule};

type Flows<K> = BTreeMap<(Tier, K), Flow>;

/// The flows as they were after the last packet.
#[derive(Default)]
pub(super) struct Invariants {
    v4: Flows<FlowKey4>,
    v6: Flows<FlowKey6>,
    /// First fragments that passed: key and time.
    first_fragments: BTreeMap<(bool, Vec<u8>), u64>,
    last_tier: Option<Tier>,
}

/// A packet, its decision and its interface.
struct Case<'a> {
    tables: &'a HostTables,
    rules: &'a [Rule],
    direction: Direction,
    decision: Decision,
    bytes: &'a [u8],
}

impl Invariants {
    /// Checks the flows after a packet against those before it.
    pub(super) fn packet(
        &mut self,
        packet: &HostPacket<'_>,
        tables: &HostTables,
        rules: &[Rule],
        direction: Direction,
        decision: Decision,
    ) {
        let case = Case { tables, rules, direction, decision, bytes: packet.bytes };
        let (v4, v6) = (tables.flows_v4(), tables.flows_v6());
        let mut segments = HeadersByFamily::new();
        assert_eq!(usize::try_from(decision.bytes), Ok(packet.bytes.len()), "{case}");
        match wire::parse(packet, &mut segments) {
            Ok(Frame::V4) => {
                assert!(v6 == self.v6, "IPv4 changes an IPv6 flow: {case}");
                let outside = outside(&segments.v4, direction).to_ne_bytes();
                case.check_fragment(&segments.v4, &mut self.first_fragments);
                self.last_tier = case.check_flows(&segments.v4, &outside, &self.v4, &v4);
            }
            Ok(Frame::V6) => {
                assert!(v4 == self.v4, "IPv6 changes an IPv4 flow: {case}");
                let [first, second] = outside(&segments.v6, direction).map(u64::to_ne_bytes);
                case.check_fragment(&segments.v6, &mut self.first_fragments);
                let outside = [first, second].concat();
                self.last_tier = case.check_flows(&segments.v6, &outside, &self.v6, &v6);
            }
            Ok(Frame::NonIp(_)) => {
                let reasons =
                    [Reason::Arp, Reason::LinkControl, Reason::NonIpAllowed, Reason::NonIp];
                assert!(reasons.contains(&decision.reason), "not IP: {case}");
                assert!(v4 == self.v4 && v6 == self.v6, "not IP changes a flow: {case}");
            }
            Err(reason) => {
                assert_eq!(decision.reason, reason, "{case}");
                assert!(
                    v4 == self.v4 && v6 == self.v6,
                    "a malformed packet changes a flow: {case}"
                );
            }
        }
        (self.v4, self.v6) = (v4, v6);
        self.check_events(tables);
    }

    /// The flow of the last packet is in the proven tier.
    pub(super) fn assert_last_is_proven(&self) {
        assert_eq!(self.last_tier, Some(Tier::Proven), "a complete handshake promotes the flow");
    }

    /// The event counters match the number of flows in the new tier.
    fn check_events(&self, tables: &HostTables) {
        let events = tables.events.borrow();
        let count = |event| events.get(&event).copied().unwrap_or(0);
        let expected = count(Event::Opened) - count(Event::Promoted) - count(Event::Removed);
        let v4 = self.v4.keys().filter(|(tier, _)| *tier == Tier::New).count();
        let v6 = self.v6.keys().filter(|(tier, _)| *tier == Tier::New).count();
        assert_eq!(usize::try_from(expected), Ok(v4 + v6), "events {events:?}");
    }
}

fn outside<A: Address>(segment: &PacketHeaders<A>, direction: Direction) -> A {
    match direction {
        Direction::Ingress => segment.src,
        Direction::Egress => segment.dst,
    }
}

impl std::fmt::Display for Case<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (reason, direction) = (self.decision.reason.name(), self.direction.name());
        write!(f, "{reason}: {direction} {:02x?}, rules {:?}", self.bytes, self.rules)
    }
}

impl Case<'_> {
    fn is_strict(&self) -> bool {
        self.tables.tcp_checks == TcpChecks::Strict
    }

    fn is_live(&self, flow: &Flow) -> bool {
        let state = flow.state().expect("a valid state");
        let timeout = u64::from(state.default_timeout()) * HostTables::HZ;
        self.tables.now.get() <= flow.last_seen + timeout
    }

    /// Later fragments pass only after a first one that passed, within the fragment timeout.
    fn check_fragment<A: Address>(
        &self,
        segment: &PacketHeaders<A>,
        first_fragments: &mut BTreeMap<(bool, Vec<u8>), u64>,
    ) where
        A::Key: Debug,
    {
        let key = fragment::fragment_key(segment, self.direction, 1);
        let key = (A::IS_V4, format!("{key:?}").into_bytes());
        let now = self.tables.now.get();
        let reason = self.decision.reason;
        if reason == Reason::LaterFragment {
            let seen = first_fragments.get(&key);
            let timeout = u64::from(FRAGMENT_TIMEOUT) * HostTables::HZ;
            assert!(seen.is_some_and(|seen| now - seen <= timeout), "seen {seen:?}: {self}");
        } else if segment.kind == Kind::LaterFragment {
            assert_eq!(reason.verdict(), Verdict::Drop, "no first fragment: {self}");
        } else if segment.fragment.more && reason.verdict() == Verdict::Pass {
            first_fragments.insert(key, now);
        }
    }

    /// Checks the packet's flow, and that no other flow changed; returns the tier of the flow.
    fn check_flows<A: Address>(
        &self,
        segment: &PacketHeaders<A>,
        outside: &[u8],
        before: &Flows<A::Key>,
        after: &Flows<A::Key>,
    ) -> Option<Tier>
    where
        A::Key: Ord + Debug,
    {
        let reason = self.decision.reason;
        let key = flow_key(segment, self.direction, 1);
        let of_key = |flows: &Flows<A::Key>| {
            let both = Tier::ALL.map(|tier| flows.get(&(tier, key)).map(|flow| (tier, *flow)));
            assert!(both[0].is_none() || both[1].is_none(), "in both tiers: {self}");
            both.into_iter().flatten().next()
        };
        let (was, is) = (of_key(before), of_key(after));
        if reason == Reason::Dhcp {
            self.check_dhcp(before, after);
            return is.map(|(tier, _)| tier);
        }
        for (other, flow) in before.iter().filter(|((_, other), _)| *other != key) {
            assert_eq!(after.get(other), Some(flow), "another flow changes: {self}");
        }
        let count = |flows: &Flows<A::Key>| flows.keys().filter(|(_, k)| *k != key).count();
        assert_eq!(count(before), count(after), "another flow appears: {self}");

        let packed = traffic(segment.protocol, segment.rule_port);
        let allowing = || rules::allowing(self.rules, self.direction, outside, packed);
        match reason {
            Reason::Established => {
                self.check_update(was, is);
                self.check_promotion(segment, was, is);
            }
            Reason::NewFlow => {
                let (tier, flow) = is.expect("a new flow is in a table");
                assert_eq!(tier, Tier::New, "{self}");
                assert!(allowing().any(|rule| rule == flow.rule), "no such rule: {self}");
                assert_eq!(flow.packets[self.direction as usize], 1, "{self}");
                assert_eq!(flow.packets[self.direction.opposite() as usize], 0, "{self}");
                assert_eq!(flow.last_seen, self.tables.now.get(), "{self}");
                assert_eq!(flow.initiator(), self.direction, "{self}");
            }
            Reason::Admitted => assert!(allowing().next().is_some(), "no rule: {self}"),
            Reason::Untracked => {
                let has_untracked = rules::has_untracked(self.rules);
                assert!(has_untracked && allowing().next().is_some(), "no rule: {self}");
            }
            Reason::NoRule if self.answers_ignored_syn(segment, was) => {
                let request = traffic(segment.protocol, segment.request_port());
                let mut allowing =
                    rules::allowing(self.rules, self.direction.opposite(), outside, request);
                assert!(allowing.next().is_none(), "a rule allows the SYN: {self}");
            }
            Reason::NoRule => assert!(allowing().next().is_none(), "a rule allows: {self}"),
            Reason::NoPolicy => assert!(self.tables.policy().is_none(), "{self}"),
            Reason::TcpWindow | Reason::TcpReset => assert!(self.is_strict(), "{self}"),
            Reason::TcpNotOpened => {
                assert!(self.is_strict() || self.tables.no_tcp_loose, "{self}");
            }
            _ => {}
        }
        if !matches!(reason, Reason::Established | Reason::NewFlow)
            && let Some((_, flow)) = is
        {
            assert_eq!(was.map(|(_, was)| was), Some(flow), "changes or creates a flow: {self}");
        }
        if !self.is_strict()
            && let Some((_, flow)) = was.filter(|(_, flow)| self.is_live(flow))
        {
            self.check_continuity(segment, &flow);
        }
        is.map(|(tier, _)| tier)
    }

    /// Whether a packet can be the answer to a SYN that was ignored on its live flow: then the rule of the
    /// SYN decides, which may be gone since.
    fn answers_ignored_syn<A>(
        &self,
        segment: &PacketHeaders<A>,
        was: Option<(Tier, Flow)>,
    ) -> bool {
        let from_other = match self.direction {
            Direction::Ingress => SYN_EGRESS,
            Direction::Egress => SYN_INGRESS,
        };
        segment.kind == Kind::Tcp
            && segment_type(segment.tcp_flags) == Some(SegmentType::SynAck)
            && was.is_some_and(|(_, flow)| self.is_live(&flow) && flow.pending & from_other != 0)
    }

    /// A DHCP message changes at most one flow, which no rule admitted, and creates only that.
    fn check_dhcp<K: Ord + Debug>(&self, before: &Flows<K>, after: &Flows<K>) {
        assert!(before.keys().all(|key| after.contains_key(key)), "a flow is gone: {self}");
        let changed: Vec<_> =
            after.iter().filter(|(key, flow)| before.get(key) != Some(flow)).collect();
        assert!(changed.len() <= 1, "flows change {changed:?}: {self}");
        for ((tier, _), flow) in changed {
            assert_eq!((*tier, flow.rule), (Tier::New, 0), "{self}");
        }
    }

    /// Only a packet of the initiator promotes a flow, and it has to acknowledge the reply.
    fn check_promotion<A>(
        &self,
        segment: &PacketHeaders<A>,
        was: Option<(Tier, Flow)>,
        is: Option<(Tier, Flow)>,
    ) {
        let (Some((_, was)), Some((_, is))) = (was, is) else { return };
        if was.flags & PROVEN != 0 || is.flags & PROVEN == 0 {
            return;
        }
        assert_eq!(self.direction, was.initiator(), "the responder promotes the flow: {self}");
        assert!(was.flags & REPLIED != 0 || is.flags & REPLIED != 0, "no reply: {self}");
        if segment.kind == Kind::Udp {
            let age = u64::from(low_half(self.tables.now.get()).wrapping_sub(was.created));
            assert!(age >= u64::from(UDP_STREAM_AGE) * HostTables::HZ, "young: {self}");
            return;
        }
        assert_eq!(segment.kind, Kind::Tcp, "nothing proves it: {self}");
        // It acknowledges what the responder has sent, in a handshake or later.
        let (low, high) = match was.state() {
            Some(State::SynRecv) => (was.ack_low, was.ack_high),
            Some(State::SynSent) => panic!("promotes a flow without a reply: {self}"),
            _ => (was.limit[0], was.limit[1]),
        };
        let ahead = segment.ack.wrapping_sub(low);
        assert!(ahead <= high.wrapping_sub(low), "does not acknowledge the reply: {self}");
    }

    /// A packet of an existing flow updates only its own counters and times.
    fn check_update(&self, was: Option<(Tier, Flow)>, is: Option<(Tier, Flow)>) {
        let (from, was) = was.unwrap_or_else(|| panic!("no flow before the packet: {self}"));
        let (to, is) = is.unwrap_or_else(|| panic!("no flow after the packet: {self}"));
        assert!(self.is_live(&was), "the flow was expired: {self}");
        assert!(from <= to, "the flow leaves the proven tier: {self}");
        let at = self.direction as usize;
        let mut counted = was;
        counted.packets[at] += 1;
        counted.bytes[at] += u64::from(self.decision.bytes);
        assert_eq!((is.packets, is.bytes), (counted.packets, counted.bytes), "{self}");
        // A SYN-ACK to a SYN that was ignored begins a connection by the rule of that SYN.
        let begins_anew = is.state() == Some(State::SynRecv)
            && !matches!(was.state(), Some(State::SynSent | State::SynRecv));
        if !begins_anew {
            let same = (was.rule, was.epoch, was.initiator());
            assert_eq!((is.rule, is.epoch, is.initiator()), same, "{self}");
        }
        assert_eq!(is.created, was.created, "{self}");
        let now = self.tables.now.get();
        assert!(is.last_seen == was.last_seen || is.last_seen == now, "{self}");
    }

    /// All valid packets of a flow that is not expired pass, unless the TCP checks are strict.
    fn check_continuity<A: Address>(&self, segment: &PacketHeaders<A>, flow: &Flow) {
        let reason = self.decision.reason;
        let is_valid = match segment.kind {
            Kind::Tcp => match segment_type(segment.tcp_flags) {
                None => reason == Reason::TcpFlags,
                // It opens the next connection with the same key.
                Some(SegmentType::Syn)
                    if matches!(flow.state(), Some(State::TimeWait | State::Close)) =>
                {
                    true
                }
                // It needs a rule of its own; so does the answer to one that was ignored.
                Some(SegmentType::Syn | SegmentType::SynAck) if reason == Reason::NoRule => true,
                Some(_) => reason == Reason::Established,
            },
            Kind::Udp => matches!(reason, Reason::Established | Reason::Dhcp),
            Kind::Request | Kind::Reply => reason == Reason::Established,
            Kind::Other => {
                matches!(reason, Reason::Established | Reason::MulticastMembership)
            }
            Kind::Error | Kind::Message | Kind::LaterFragment => true,
        };
        assert!(is_valid, "a packet of an active flow: {self}");
    }
}

/// The low 32 bits.
fn low_half(jiffies: u64) -> u32 {
    u32::try_from(jiffies & u64::from(u32::MAX)).expect("32 bits")
}
