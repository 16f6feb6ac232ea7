//! `secgroup flows --output json`

use firewall_ebpf::abi::flow::PROVEN;
use firewall_ebpf::abi::interface::Direction;
use schemars::JsonSchema;
use serde::Serialize;

use super::LiveFlow;
use crate::cli::json::SCHEMA_VERSION;

/// The live flows.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct FlowList {
    /// Version of this document: 1.
    schema_version: u32,
    /// The flows, by interface, protocol, inside and outside.
    flows: Vec<Flow>,
}

/// The number of live flows.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct FlowCount {
    /// Version of this document: 1.
    schema_version: u32,
    /// Number of live flows that match the filters.
    count: usize,
}

/// A flow.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
struct Flow {
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
    pub(super) fn new(flows: &[LiveFlow<'_>]) -> Self {
        Self { schema_version: SCHEMA_VERSION, flows: flows.iter().map(Flow::new).collect() }
    }
}

impl FlowCount {
    pub(super) const fn new(count: usize) -> Self {
        Self { schema_version: SCHEMA_VERSION, count }
    }
}

impl Flow {
    fn new(known: &LiveFlow<'_>) -> Self {
        let entry = &known.entry;
        let flow = &entry.flow;
        let rule = known.rule.as_ref();
        let [ingress, egress] = Direction::ALL.map(|direction| direction as usize);
        Self {
            network_interface_id: known.interface.id.to_string(),
            device: known.interface.device.clone(),
            netns: known.interface.netns.clone(),
            protocol: entry.protocol,
            inside_address: entry.inside.to_string(),
            outside_address: entry.outside.to_string(),
            inside_port: entry.inside_port,
            outside_port: entry.outside_port,
            opened_by: entry.initiator().name(),
            state: known.state.name(),
            tier: entry.tier().name(),
            proven: flow.flags & PROVEN != 0,
            idle_seconds: known.idle,
            left_seconds: known.left,
            ingress_packets: flow.packets[ingress],
            egress_packets: flow.packets[egress],
            ingress_bytes: flow.bytes[ingress],
            egress_bytes: flow.bytes[egress],
            security_group_rule_id: rule.map(|rule| rule.rule.to_string()),
            group_id: rule.map(|rule| rule.group.to_string()),
            group_name: rule.map(|rule| rule.group_name.clone()),
            rule_removed: known.rule_removed,
            learned: entry.is_learned(),
        }
    }
}
