//! A record of packets: those of one tuple that met one reason, within a short time. The journal keeps it, and every
//! reader prints it, in the same JSON.

use std::net::IpAddr;

use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::reason::Reason;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod text;

pub use text::endpoint;

/// What happened to the packets of a record.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// They were dropped.
    Drop,
    /// They would have been dropped, and passed because the interface is in audit mode.
    WouldDrop,
    /// They passed without a flow (untracked, or a message that has no reply).
    Pass,
}

impl Verdict {
    /// The word in documents, labels and lines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::WouldDrop => "would-drop",
            Self::Pass => "pass",
        }
    }
}

/// Packets of one tuple, interface, direction and reason, within a short time. What it says was known when they
/// were decided about; later changes of rules do not change it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct PacketRecord {
    /// Number in the journal, ascending; names the record (`explain --from-drop`). 0 before it is in the journal.
    pub id: u64,
    /// When the first packet was decided about: milliseconds since 1970, UTC.
    pub first: i64,
    /// When the last one was.
    pub last: i64,
    /// The interface, `eni-…`.
    pub network_interface_id: String,
    /// Its device.
    pub device: String,
    /// The device's named network namespace; null for that of secgroup.
    pub netns: Option<String>,
    /// `ingress` or `egress`.
    #[serde(with = "direction")]
    #[schemars(with = "String")]
    pub direction: Direction,
    /// What happened to the packets: `drop`, `would-drop` (in audit mode they passed) or `pass`.
    #[schemars(with = "String")]
    pub verdict: Verdict,
    /// Why: a name of docs/reasons.md.
    #[serde(with = "reason")]
    #[schemars(with = "String")]
    pub reason: Reason,
    /// Packets of the record.
    pub packets: u64,
    /// Bytes of their whole frames.
    pub bytes: u64,
    /// The generation of the policy that decided.
    pub generation: u32,
    /// IP protocol number; null for a frame that is not IP or does not parse.
    pub protocol: Option<u8>,
    /// Source address.
    pub source: Option<IpAddr>,
    /// Destination address.
    pub destination: Option<IpAddr>,
    /// Source port of TCP and UDP.
    pub source_port: Option<u16>,
    /// Destination port of TCP and UDP.
    pub destination_port: Option<u16>,
    /// Type of an ICMP or ICMPv6 message.
    pub icmp_type: Option<u8>,
    /// Its code.
    pub icmp_code: Option<u8>,
    /// All TCP flags that any of the packets had, as in the 13th byte of the header.
    pub tcp_flags: Option<u8>,
    /// EtherType of a frame that is not IP.
    pub ether_type: Option<u16>,
    /// The rule that let the packets pass.
    pub rule: Option<RuleName>,
    /// The network ACL entry or block that decided, as `acl-… ingress 100` or the blocked network.
    pub entry: Option<String>,
    /// Of packets that no rule allows: the rule that came closest.
    pub nearest_miss: Option<NearestMiss>,
    /// The beginning of the first packet's frame, in hexadecimal.
    pub frame: String,
    /// Length of that frame in bytes.
    pub frame_length: u32,
}

#[cfg(test)]
impl PacketRecord {
    /// A dropped TCP SYN from 192.0.2.7:51234 to 198.51.100.1:443.
    pub(crate) fn sample(time: i64, packets: u64) -> Self {
        Self {
            id: 0,
            first: time,
            last: time + 1,
            network_interface_id: "eni-0123456789abcdef0".to_owned(),
            device: "eth0".to_owned(),
            netns: None,
            direction: Direction::Ingress,
            verdict: Verdict::Drop,
            reason: Reason::NoRule,
            packets,
            bytes: packets * 60,
            generation: 7,
            protocol: Some(6),
            source: "192.0.2.7".parse().ok(),
            destination: "198.51.100.1".parse().ok(),
            source_port: Some(51234),
            destination_port: Some(443),
            icmp_type: None,
            icmp_code: None,
            tcp_flags: Some(2),
            ether_type: None,
            rule: None,
            entry: None,
            nearest_miss: None,
            frame: "00".repeat(60),
            frame_length: 60,
        }
    }
}

/// A rule by its names at the time of the record.
#[derive(
    Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "PascalCase")]
pub struct RuleName {
    /// `sgr-…`.
    pub security_group_rule_id: String,
    /// `sg-…`.
    pub group_id: String,
    /// The group's name.
    pub group_name: String,
}

/// The rule that came closest to allowing a packet, and the first of its fields that the packet does not match, in
/// the order direction, protocol, address, port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct NearestMiss {
    /// The rule.
    #[serde(flatten)]
    pub rule: RuleName,
    /// The field: `direction`, `protocol`, `address` or `port`.
    pub field: String,
    /// What the rule has in this field.
    pub rule_value: String,
    /// What the packet has.
    pub packet_value: String,
}

mod direction {
    use super::Direction;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(value: &Direction, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(value.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Direction, D::Error> {
        let word = String::deserialize(from)?;
        let known = Direction::ALL.into_iter().find(|known| known.name() == word);
        known.ok_or_else(|| D::Error::custom(format!("{word} is neither ingress nor egress")))
    }
}

mod reason {
    use super::Reason;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(value: &Reason, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(value.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Reason, D::Error> {
        let word = String::deserialize(from)?;
        let known = Reason::ALL.iter().copied().find(|known| known.name() == word);
        known.ok_or_else(|| D::Error::custom(format!("{word} is no reason")))
    }
}
