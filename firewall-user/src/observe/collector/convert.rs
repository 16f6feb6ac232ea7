//! From a record of the kernel program to one that people read.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::reason::{self, Reason};
use firewall_ebpf::abi::record::{AUDIT, FRAGMENT, Key, Record};
use firewall_ebpf::wire::protocol;

use super::policies::Snapshot;
use crate::model::{GroupId, Model, RuleId};
use crate::observe::record::{NearestMiss, PacketRecord, RuleName, Verdict};
use crate::policy::nearest::{Field, nearest_miss};
use crate::policy::{Probe, ResolvedRule};

/// Jiffies, the clock of the boot and the wall clock at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    /// Milliseconds since 1970 at jiffy 0.
    start: i64,
    /// Nanoseconds since the boot.
    boot: u64,
    hz: u64,
}

impl Moment {
    /// What was read at one moment. A jiffy lasts for milliseconds, so each reading says something else about when
    /// they began: as long as it is within two jiffies of the `earlier` one, that stays, so that records have the order
    /// of their jiffies.
    pub(super) fn new(
        clocks: crate::model::Moment,
        jiffies: u64,
        hz: u64,
        earlier: Option<Self>,
    ) -> Self {
        let hz = hz.max(1);
        let start = clocks.wall.saturating_sub(milliseconds(jiffies, hz));
        let start = match earlier {
            Some(Self { start: known, .. }) if start.abs_diff(known) <= 2000 / hz => known,
            _ => start,
        };
        Self { start, boot: clocks.boottime, hz }
    }

    /// The same jiffies by clocks that were read later.
    pub(super) const fn at(self, clocks: crate::model::Moment) -> Self {
        Self { boot: clocks.boottime, ..self }
    }

    /// The wall clock at a time in jiffies, in milliseconds since 1970.
    fn wall_at(self, jiffies: u64) -> i64 {
        self.start.saturating_add(milliseconds(jiffies, self.hz))
    }
}

fn milliseconds(jiffies: u64, hz: u64) -> i64 {
    i64::try_from(u128::from(jiffies) * 1000 / u128::from(hz)).unwrap_or(i64::MAX)
}

/// The record in words; `None` if its interface or its reason is not known. A nearest miss is looked for if
/// `with_nearest`.
pub(super) fn convert(
    raw: &Record,
    snapshot: &Snapshot,
    moment: Moment,
    with_nearest: bool,
) -> Option<PacketRecord> {
    let Record { first, last, packets, bytes, key, frame_length, captured, tcp_flags, .. } = *raw;
    let interface = snapshot.interface(key.slot)?;
    let reason = Reason::from_number(key.reason)?;
    let verdict = match reason.verdict() {
        reason::Verdict::Pass => Verdict::Pass,
        reason::Verdict::Drop if key.flags & AUDIT != 0 => Verdict::WouldDrop,
        reason::Verdict::Drop => Verdict::Drop,
    };
    let tuple = Tuple::of(&key);
    let is_pass = verdict == Verdict::Pass;
    let frame = raw.frame.get(..captured.into()).unwrap_or(&raw.frame);
    Some(PacketRecord {
        id: 0,
        first: moment.wall_at(first),
        last: moment.wall_at(last),
        network_interface_id: interface.id.to_string(),
        device: interface.device.clone(),
        netns: interface.netns.clone(),
        direction: key.direction(),
        verdict,
        reason,
        packets,
        bytes,
        generation: key.generation,
        protocol: tuple.protocol,
        source: tuple.addresses.map(|(source, _)| source),
        destination: tuple.addresses.map(|(_, destination)| destination),
        source_port: tuple.ports.map(|(source, _)| source),
        destination_port: tuple.ports.map(|(_, destination)| destination),
        icmp_type: tuple.icmp.map(|[kind, _]| kind),
        icmp_code: tuple.icmp.map(|[_, code]| code),
        tcp_flags: (tuple.protocol == Some(protocol::TCP)).then_some(tcp_flags),
        ether_type: (key.family == 0 && key.ether_type != 0).then_some(key.ether_type),
        rule: is_pass.then(|| snapshot.rule(key.decided_by).cloned()).flatten(),
        // Counters are given to other entries: only the policy that decided says whose it was.
        entry: (!is_pass && snapshot.rules(key.slot, key.generation).is_some())
            .then(|| snapshot.entry(key.decided_by).map(str::to_owned))
            .flatten(),
        nearest_miss: (with_nearest && reason == Reason::NoRule)
            .then(|| nearest(&key, &tuple, snapshot, moment))
            .flatten(),
        frame: hexadecimal(frame),
        frame_length,
    })
}

/// What rules match of a packet.
struct Tuple {
    addresses: Option<(IpAddr, IpAddr)>,
    protocol: Option<u8>,
    ports: Option<(u16, u16)>,
    icmp: Option<[u8; 2]>,
}

impl Tuple {
    fn of(key: &Key) -> Self {
        let address = |bytes: [u8; 16]| match key.family {
            4 => Some(IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]))),
            6 => Some(IpAddr::V6(Ipv6Addr::from(bytes))),
            _ => None,
        };
        let addresses = address(key.source).zip(address(key.destination));
        let protocol = addresses.map(|_| key.protocol);
        let is_whole = key.flags & FRAGMENT == 0;
        let [source, destination] = key.ports.map(u16::from_be);
        let has_ports = matches!(protocol, Some(protocol::TCP | protocol::UDP));
        let is_icmp = matches!(protocol, Some(protocol::ICMP | protocol::ICMPV6));
        Self {
            addresses,
            protocol,
            ports: (has_ports && is_whole).then_some((source, destination)),
            icmp: (is_icmp && is_whole).then(|| destination.to_be_bytes()),
        }
    }
}

/// The nearest miss among the rules of the policy that decided; none if that policy is not known any more.
fn nearest(key: &Key, tuple: &Tuple, snapshot: &Snapshot, moment: Moment) -> Option<NearestMiss> {
    let (source, destination) = tuple.addresses?;
    let direction = key.direction();
    let outside = if direction == Direction::Ingress { source } else { destination };
    let port = match (tuple.ports, tuple.icmp) {
        (Some((_, port)), _) => port,
        (_, Some(icmp)) => u16::from_be_bytes(icmp),
        _ => 0,
    };
    let probe = Probe { direction, outside, protocol: tuple.protocol?, port };
    let rules = snapshot.rules(key.slot, key.generation)?;
    let has_ended = |rule: &ResolvedRule| rule.end.is_some_and(|end| end <= moment.boot);
    let miss = if rules.iter().any(has_ended) {
        let rules: Vec<_> = rules.iter().filter(|rule| !has_ended(rule)).cloned().collect();
        nearest_miss(&rules, probe)?
    } else {
        nearest_miss(rules, probe)?
    };
    let rule = snapshot.rule(miss.number)?;
    Some(NearestMiss {
        rule: rule.clone(),
        field: miss.field.name().to_owned(),
        rule_value: match miss.field {
            Field::Address => peer(snapshot.model(), rule).unwrap_or_else(|| miss.rule_value()),
            _ => miss.rule_value(),
        },
        packet_value: miss.packet_value(probe),
    })
}

/// A rule's peer as commands print it.
fn peer(model: &Model, rule: &RuleName) -> Option<String> {
    let group: GroupId = rule.group_id.parse().ok()?;
    let rule: RuleId = rule.security_group_rule_id.parse().ok()?;
    Some(model.peer_text(&model.group_by_id(&group).ok()?.rule(&rule).ok()?.spec.peer))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests;
