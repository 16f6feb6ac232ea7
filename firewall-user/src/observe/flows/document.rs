//! The JSON of live flows.

use firewall_ebpf::abi::flow::PROVEN;
use firewall_ebpf::abi::interface::Direction;
use schemars::JsonSchema;
use serde::Serialize;

use super::totals::{Rate, Top, Total};
use super::untracked::Untracked;
use super::{Admitted, Change, Kind, LiveFlow};
use crate::observe::SCHEMA_VERSION;

/// The live flows.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct FlowList {
    /// Version of this document: 1.
    schema_version: u32,
    /// The flows, by interface, protocol, inside and outside, or as `--sort` says.
    flows: Vec<FlowDocument>,
    /// Flows that match the filters; with `--limit` there may be more than `Flows` has.
    count: usize,
    /// If there are none: the traffic of `--port` that is untracked, so that it opens no flows.
    untracked: Vec<Untracked>,
}

/// The number of live flows.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct FlowCount {
    /// Version of this document: 1.
    schema_version: u32,
    /// Number of live flows that match the filters.
    count: usize,
    /// With `--by`: the flows of each value, most flows first; else empty.
    by: Vec<Total>,
    /// If there are none: the traffic of `--port` that is untracked, so that it opens no flows.
    untracked: Vec<Untracked>,
}

/// The flows with the highest rates in an interval.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct FlowTop {
    /// Version of this document: 1.
    schema_version: u32,
    /// End of the interval, in milliseconds since 1970.
    time: i64,
    /// Its length in seconds.
    interval_seconds: f64,
    /// Bytes and packets of all flows that match the filters, each second.
    total: Rate,
    /// The flows with the most bytes each second, highest first; with `--by` none.
    flows: Vec<FlowRate>,
    /// With `--by`: the rates of each value, most bytes first; else empty.
    by: Vec<TotalRate>,
}

/// A flow that began or ended: a line of `flows watch`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct FlowEvent {
    /// `new` or `ended`.
    event: &'static str,
    /// When it was noticed, in milliseconds since 1970.
    time: i64,
    /// The flow; one that ended as it was seen last.
    #[serde(flatten)]
    flow: FlowDocument,
}

/// A flow and its rates.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct FlowRate {
    /// Its rates.
    #[serde(flatten)]
    rate: Rate,
    /// The flow.
    #[serde(flatten)]
    flow: FlowDocument,
}

/// The flows of a group, rule, state, interface or address and their rates.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct TotalRate {
    /// The value.
    key: String,
    /// Flows that had packets.
    flows: usize,
    /// Their rates.
    #[serde(flatten)]
    rate: Rate,
}

/// A flow.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct FlowDocument {
    /// Id of the interface, `eni-…`.
    network_interface_id: String,
    /// Network device.
    device: String,
    /// Named network namespace of the device; null for the one that secgroup runs in.
    netns: Option<String>,
    /// IP protocol number.
    protocol: u8,
    /// Name of the service or ICMP message of the packet that opened the flow, `https` or `echo-request`; null if
    /// it has none.
    service: Option<&'static str>,
    /// Address of the protected end.
    inside_address: String,
    /// Address of the other end.
    outside_address: String,
    /// TCP or UDP port of the protected end; of an ICMP query the identifier if this end sent the
    /// request, else 256 times the request's type plus its code; else 0.
    inside_port: u16,
    /// TCP or UDP port of the other end; of an ICMP query as for `InsidePort`.
    outside_port: u16,
    /// Direction of the first packet: `ingress` or `egress`.
    opened_by: &'static str,
    /// State (docs/states.md).
    state: &'static str,
    /// Flow table that holds it: `new` or `proven`.
    tier: &'static str,
    /// Whether the flow is proven (docs/floods.md); `Tier` is still `new` if the
    /// table of proven flows was full.
    proven: bool,
    /// Seconds since the first packet; of a flow that is older than 2^32 jiffies (49 to 497 days, depending on the
    /// kernel's HZ) the rest.
    age_seconds: u64,
    /// Seconds since the last packet.
    idle_seconds: u64,
    /// Seconds to the idle timeout.
    left_seconds: u64,
    /// Packets of direction ingress.
    ingress_packets: u64,
    /// Packets of direction egress.
    egress_packets: u64,
    /// Bytes of whole frames of direction ingress.
    ingress_bytes: u64,
    /// Bytes of whole frames of direction egress.
    egress_bytes: u64,
    /// Id of the rule that allowed the flow, `sgr-…`; null for learned flows, and those of a management
    /// network or of exempt DHCP.
    security_group_rule_id: Option<String>,
    /// Id of the rule's group, `sg-…`.
    group_id: Option<String>,
    /// Name of the rule's group.
    group_name: Option<String>,
    /// Whether the rule was deleted meanwhile.
    rule_removed: bool,
    /// Whether the connection was open before the interface was attached.
    learned: bool,
}

impl FlowList {
    /// The document of flows, in their order, out of `count` that match.
    #[must_use]
    pub fn new(flows: &[LiveFlow], count: usize, untracked: Vec<Untracked>) -> Self {
        let flows = flows.iter().map(FlowDocument::from).collect();
        Self { schema_version: SCHEMA_VERSION, flows, count, untracked }
    }
}

impl FlowCount {
    /// The document of a number.
    #[must_use]
    pub const fn new(count: usize, by: Vec<Total>, untracked: Vec<Untracked>) -> Self {
        Self { schema_version: SCHEMA_VERSION, count, by, untracked }
    }
}

impl FlowTop {
    /// The document of the rates in an interval.
    #[must_use]
    pub fn new(top: &Top, time: i64) -> Self {
        let seconds = top.interval.as_secs_f64();
        let rate = |one: &Change| FlowRate {
            rate: Rate::of(one.packets, one.bytes, top.interval),
            flow: FlowDocument::from(&one.flow),
        };
        let total = |one: &Total| TotalRate {
            key: one.key.clone(),
            flows: one.flows,
            rate: Rate::of(one.packets_of(), one.bytes_of(), top.interval),
        };
        Self {
            schema_version: SCHEMA_VERSION,
            time,
            interval_seconds: seconds,
            total: Rate::of(top.packets, top.bytes, top.interval),
            flows: top.flows.iter().map(rate).collect(),
            by: top.by.iter().map(total).collect(),
        }
    }
}

impl FlowEvent {
    /// The document of a flow that began or ended; `None` of one that did neither.
    #[must_use]
    pub fn new(change: &Change, time: i64) -> Option<Self> {
        let event = match change.kind {
            Kind::New => "new",
            Kind::Ended => "ended",
            Kind::Existing | Kind::Continued => return None,
        };
        Some(Self { event, time, flow: FlowDocument::from(&change.flow) })
    }
}

impl From<&LiveFlow> for FlowDocument {
    fn from(known: &LiveFlow) -> Self {
        let entry = &known.entry;
        let flow = &entry.flow;
        let rule = known.rule();
        let [ingress, egress] = Direction::ALL.map(|direction| direction as usize);
        Self {
            network_interface_id: known.place.network_interface_id.clone(),
            device: known.place.device.clone(),
            netns: known.place.netns.clone(),
            protocol: entry.protocol,
            service: known.service(),
            inside_address: entry.inside.to_string(),
            outside_address: entry.outside.to_string(),
            inside_port: entry.inside_port,
            outside_port: entry.outside_port,
            opened_by: entry.initiator().name(),
            state: known.state.name(),
            tier: entry.tier().name(),
            proven: flow.flags & PROVEN != 0,
            age_seconds: known.age,
            idle_seconds: known.idle,
            left_seconds: known.left,
            ingress_packets: flow.packets[ingress],
            egress_packets: flow.packets[egress],
            ingress_bytes: flow.bytes[ingress],
            egress_bytes: flow.bytes[egress],
            security_group_rule_id: rule.map(|rule| rule.security_group_rule_id.clone()),
            group_id: rule.map(|rule| rule.group_id.clone()),
            group_name: rule.map(|rule| rule.group_name.clone()),
            rule_removed: matches!(known.admitted, Admitted::Rule { is_removed: true, .. }),
            learned: known.admitted == Admitted::Learned,
        }
    }
}
