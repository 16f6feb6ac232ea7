//! The JSON of live flows.

use firewall_ebpf::abi::flow::PROVEN;
use firewall_ebpf::abi::interface::Direction;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Admitted, LiveFlow};
use crate::observe::SCHEMA_VERSION;

/// The live flows.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct FlowList {
    /// Version of this document: 1.
    schema_version: u32,
    /// The flows, by interface, protocol, inside and outside.
    flows: Vec<FlowDocument>,
}

/// The number of live flows.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct FlowCount {
    /// Version of this document: 1.
    schema_version: u32,
    /// Number of live flows that match the filters.
    count: usize,
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
    /// The document of flows, in their order.
    #[must_use]
    pub fn new(flows: &[LiveFlow]) -> Self {
        let flows = flows.iter().map(FlowDocument::from).collect();
        Self { schema_version: SCHEMA_VERSION, flows }
    }
}

impl FlowCount {
    /// The document of a number.
    #[must_use]
    pub const fn new(count: usize) -> Self {
        Self { schema_version: SCHEMA_VERSION, count }
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
