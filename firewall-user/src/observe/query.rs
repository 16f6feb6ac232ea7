//! The one language of filters: of drops, flows, flow logs, the screen and the page in the browser.

use std::net::IpAddr;

use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::reason::Reason;
use firewall_ebpf::abi::state::State;

use super::record::{PacketRecord, RuleName};

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
    /// The rule that let it pass.
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
            rule: record.rule.as_ref(),
        }
    }
}
