//! What an explanation says, as JSON. The command line and the page in the browser print the same.

use schemars::JsonSchema;
use serde::Serialize;

use crate::observe::SCHEMA_VERSION;

/// What happens to packets, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct Explanations {
    /// Version of this document: 1.
    pub schema_version: u32,
    /// One for each packet, in the order of the file.
    pub explanations: Vec<Explanation>,
    /// Packets of a file that could not be run, with the reason.
    pub skipped: Vec<Skipped>,
}

impl Explanations {
    /// Of these packets.
    #[must_use]
    pub const fn new(explanations: Vec<Explanation>, skipped: Vec<Skipped>) -> Self {
        Self { schema_version: SCHEMA_VERSION, explanations, skipped }
    }
}

/// A packet of a file that could not be run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct Skipped {
    /// Its number in the file, from 1 on.
    pub number: u64,
    /// Why.
    pub reason: String,
}

/// What happens to a packet, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct Explanation {
    /// Number of the packet in the file that it is from, from 1 on.
    pub number: Option<u64>,
    /// Id of the interface, `eni-…`.
    pub network_interface_id: String,
    /// Network device.
    pub device: String,
    /// Named network namespace of the device; null for the one that secgroup runs in.
    pub netns: Option<String>,
    /// `ingress` or `egress`.
    pub direction: &'static str,
    /// The packet.
    pub packet: PacketDocument,
    /// `pass`, `drop`, or `would-drop` on an interface in audit mode, where it passes.
    pub verdict: &'static str,
    /// Why: a name of docs/reasons.md.
    pub reason: &'static str,
    /// The reason in one sentence.
    pub help: &'static str,
    /// Generation of the policy that decided.
    pub generation: u32,
    /// The live flow of the packet's tuple, as it is now; null if there is none.
    pub flow: Option<FlowOfPacket>,
    /// The block or entry of the network ACL that decided about the packet, or let it go on to the rules; null if
    /// none did.
    pub entry: Option<EntryName>,
    /// The rule that lets the packet pass, or has let its flow in; null if none does.
    pub rule: Option<RuleText>,
    /// Every other rule that allows such a packet when it opens a flow.
    pub other_rules: Vec<RuleText>,
    /// Whether the packet passes in a flow; null if it does not pass.
    pub tracked: Option<bool>,
    /// Why it does or does not need a flow.
    pub tracked_because: Option<String>,
    /// The way back: what happens to the reply; null where the packet does not pass, or nothing replies to it.
    pub reply: Option<Reply>,
    /// Of a packet that no rule allows: the rule that comes closest.
    pub nearest_miss: Option<Nearest>,
    /// What would let the packet pass; empty if it passes.
    pub remedies: Vec<Remedy>,
    /// What else there is to know.
    pub notes: Vec<String>,
    /// What the kernel program printed about the packet, where that was asked for.
    pub log: Vec<String>,
}

/// A packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct PacketDocument {
    /// IP protocol number; null for a frame that is not IP or does not parse.
    pub protocol: Option<u8>,
    /// Source address.
    pub source: Option<String>,
    /// Destination address.
    pub destination: Option<String>,
    /// Source port of TCP and UDP.
    pub source_port: Option<u16>,
    /// Destination port of TCP and UDP.
    pub destination_port: Option<u16>,
    /// Type of an ICMP or ICMPv6 message.
    pub icmp_type: Option<u8>,
    /// Its code.
    pub icmp_code: Option<u8>,
    /// TCP flags, as `syn,ack`.
    pub tcp_flags: Option<String>,
    /// EtherType of a frame that is not IP.
    pub ether_type: Option<u16>,
    /// Bytes of the frame.
    pub length: usize,
    /// The packet in one line.
    pub text: String,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct RuleText {
    /// `sgr-…`.
    pub security_group_rule_id: String,
    /// Id of its group, `sg-…`.
    pub group_id: String,
    /// Name of its group.
    pub group_name: String,
    /// What it allows; null if it was removed meanwhile.
    pub text: Option<String>,
}

/// The live flow of a packet's tuple.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct FlowOfPacket {
    /// State (docs/states.md).
    pub state: String,
    /// Flow table that holds it: `new` or `proven`.
    pub tier: &'static str,
    /// Direction of the first packet: `ingress` or `egress`.
    pub opened_by: &'static str,
    /// Seconds since the last packet.
    pub idle_seconds: u64,
    /// Whether the idle timeout is over: the next packet opens another flow.
    pub expired: bool,
    /// Packets of direction ingress.
    pub ingress_packets: u64,
    /// Packets of direction egress.
    pub egress_packets: u64,
    /// What let it in: `rule`, `management` (emergency mode), `learned` (it was open before the interface was
    /// attached), or `exempt` (DHCP).
    pub let_in_by: &'static str,
}

/// A block, or an entry of a network ACL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct EntryName {
    /// `acl`, or `block`.
    pub kind: &'static str,
    /// As `acl-… ingress 100`, or the blocked network.
    pub name: String,
    /// Name of the network ACL.
    pub acl: Option<String>,
    /// `allow` or `deny`.
    pub action: &'static str,
    /// What it is about.
    pub text: String,
}

/// What happens to the reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct Reply {
    /// `pass`, `drop` or `would-drop`.
    pub verdict: &'static str,
    /// Why: a name of docs/reasons.md.
    pub reason: &'static str,
    /// The reply in one line.
    pub text: String,
    /// Whether it passes because it belongs to the packet's flow.
    pub in_flow: bool,
    /// The block or entry of the network ACL that it meets.
    pub entry: Option<EntryName>,
    /// The rule that lets it pass without a flow.
    pub rule: Option<RuleText>,
}

/// The rule that comes closest to allowing a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct Nearest {
    /// The rule.
    #[serde(flatten)]
    pub rule: RuleText,
    /// The first field that differs: `direction`, `protocol`, `address` or `port`.
    pub field: &'static str,
    /// What the rule has there.
    pub rule_value: String,
    /// What the packet has.
    pub packet_value: String,
}

/// Something that would let a packet pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct Remedy {
    /// What to do, in one sentence.
    pub text: String,
    /// The command that does it; null where no single command does.
    pub command: Option<String>,
}
