//! The one language of filters: of drops, flows, flow logs, the screen and the page in the browser.

use std::net::IpAddr;

use clap::Args;
use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::reason::Reason;
use firewall_ebpf::abi::state::State;
use ipnet::IpNet;

use super::record::{PacketRecord, RuleName};
use crate::model::RuleId;

mod checked;
mod names;
mod value;
mod words;

pub use checked::Checked;
pub use names::{Names, Or, QueryError, Recorded, Stored};
pub use value::{PortFilter, protocol as protocol_by_name, protocol_name};

/// What a query is compared with: a record, a live flow or a line of a flow log. Fields that it does not have match
/// no filter on them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Subject<'a> {
    /// The interface, `eni-…`.
    pub network_interface_id: &'a str,
    /// Its device.
    pub device: &'a str,
    /// Named network namespace of the device.
    pub netns: Option<&'a str>,
    /// Direction of the packet; of a flow that of its first packet.
    pub direction: Option<Direction>,
    /// IP protocol number.
    pub protocol: Option<u8>,
    /// Source; of a flow the end that opened it.
    pub source: Option<IpAddr>,
    /// Destination; of a flow the end that answers.
    pub destination: Option<IpAddr>,
    /// Of TCP and UDP.
    pub source_port: Option<u16>,
    /// Of TCP and UDP.
    pub destination_port: Option<u16>,
    /// Type and code of an ICMP message.
    pub icmp: Option<(u8, u8)>,
    /// Why it passed or was dropped; of a flow none.
    pub reason: Option<Reason>,
    /// State of a flow.
    pub state: Option<State>,
    /// The rule that let it pass; of packets that no rule allows, the one that came closest.
    pub rule: Option<&'a RuleName>,
}

impl<'a> From<&'a PacketRecord> for Subject<'a> {
    fn from(record: &'a PacketRecord) -> Self {
        Self {
            network_interface_id: &record.network_interface_id,
            device: &record.device,
            netns: record.netns.as_deref(),
            direction: Some(record.direction),
            protocol: record.protocol,
            source: record.source,
            destination: record.destination,
            source_port: record.source_port,
            destination_port: record.destination_port,
            icmp: record.icmp_type.zip(record.icmp_code),
            reason: Some(record.reason),
            state: None,
            rule: record.rule.as_ref().or(record.nearest_miss.as_ref().map(|miss| &miss.rule)),
        }
    }
}

/// Filters: what matches every one that is given is chosen. An option that is repeated matches if one of its values
/// does. docs/filters.md describes them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(
    next_help_heading = "Filters (docs/filters.md); a repeated one matches if any of its values does"
)]
pub struct Query {
    /// Source address or network; of a flow, that of the end that opened it
    #[arg(long, value_name = "CIDR", value_parser = value::network)]
    pub from: Vec<IpNet>,
    /// Destination address or network
    #[arg(long, value_name = "CIDR", value_parser = value::network)]
    pub to: Vec<IpNet>,
    /// Address or network of either end
    #[arg(long, value_name = "CIDR", value_parser = value::network)]
    pub address: Vec<IpNet>,
    /// Port of either end: a number, a range 8000-8999, or a service such as https; or an ICMP message,
    /// such as echo-request or 8/0
    #[arg(long, value_name = "PORT", value_parser = value::port)]
    pub port: Vec<PortFilter>,
    /// IP protocol: tcp, udp, icmp, icmpv6, another name or a number
    #[arg(long, value_name = "PROTOCOL", value_parser = value::protocol)]
    pub protocol: Vec<u8>,
    /// Network device, of another network namespace also as NAMESPACE/DEVICE; or the interface's id
    #[arg(long, value_name = "IFACE")]
    pub interface: Vec<String>,
    /// Named network namespace of the device
    #[arg(long, value_name = "NAME")]
    pub netns: Vec<String>,
    /// Group of the rule, by id or name; see --rule
    #[arg(long, value_name = "GROUP")]
    pub group: Vec<String>,
    /// Rule that allowed it, by id, also a deleted one; of a packet that no rule allows, the nearest miss
    #[arg(long, value_name = "RULE-ID")]
    pub rule: Vec<RuleId>,
    /// Reason (docs/reasons.md)
    #[arg(long, value_name = "REASON", value_parser = value::reason(), hide_possible_values = true)]
    pub reason: Vec<Reason>,
    /// Direction; of a flow, that of its first packet
    #[arg(long, value_enum)]
    pub direction: Vec<Direction>,
    /// State of a flow (docs/states.md)
    #[arg(long, value_enum, hide_possible_values = true)]
    pub state: Vec<State>,
    /// Dropped because no rule allows it: reasons no-rule, no-policy and revoked
    #[arg(long)]
    pub default_deny: bool,
    /// Choose what does not match the other filters
    #[arg(long)]
    pub not: bool,
}

impl Query {
    /// Whether it names what may not exist: an interface, a namespace, a group or a rule.
    #[must_use]
    pub const fn has_names(&self) -> bool {
        !self.interface.is_empty()
            || !self.netns.is_empty()
            || !self.group.is_empty()
            || !self.rule.is_empty()
    }

    /// Whether no filter is given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self { not: self.not, ..Self::default() }
    }
}

#[cfg(test)]
mod tests;
