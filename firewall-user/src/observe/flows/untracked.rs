//! Traffic that a filter by port names and that opens no flows, so that a list of flows is empty of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use firewall_ebpf::abi::interface::Direction;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Serialize;

use crate::clock::Clocks;
use crate::control::Control;
use crate::model::{Interface, Model};
use crate::observe::query::{Checked, PortFilter, Subject, protocol_name};
use crate::policy::explain::{Tracked, explain};
use crate::policy::{Probe, active_rules};

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Ports of a filter that are examined at most: a range may have all of them.
const MAX_PORTS: usize = 256;

/// Addresses of the outside end, where a filter names none: any will do, because only rules for all addresses make
/// traffic untracked.
const ANY: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// Traffic of an interface that passes without a flow, and the rules that make it so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct Untracked {
    /// Id of the interface, `eni-…`.
    pub network_interface_id: String,
    /// Network device.
    pub device: String,
    /// Named network namespace of the device; null for the one that secgroup runs in.
    pub netns: Option<String>,
    /// Direction of the packets to the port: `ingress` or `egress`.
    #[serde(serialize_with = "name")]
    #[schemars(with = "String")]
    pub direction: Direction,
    /// IP protocol number.
    pub protocol: u8,
    /// The lowest port of the filter for which this is so.
    pub port: u16,
    /// Ids of the rules that allow the packets from anywhere (egress: to anywhere).
    pub security_group_rule_ids: Vec<String>,
    /// Ids of the rules that together allow every reply.
    pub reply_rule_ids: Vec<String>,
}

fn name<S: serde::Serializer>(direction: &Direction, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(direction.name())
}

impl Untracked {
    /// One line.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { direction, protocol, port, .. } = self;
        let label = crate::model::label(&self.device, self.netns.as_deref());
        let (to, from) = match direction {
            Direction::Ingress => ("from", "to"),
            Direction::Egress => ("to", "from"),
        };
        format!(
            "{label}: {} {} port {port} is untracked and opens no flow: {} allows it {to} anywhere, and {} every \
             reply {from} anywhere",
            direction.name(),
            protocol_name(*protocol),
            self.security_group_rule_ids.join(", "),
            self.reply_rule_ids.join(", "),
        )
    }
}

/// The traffic that a filter by port names and that is untracked, by interface, direction and protocol. None for a
/// filter that names no port.
///
/// # Errors
/// The store cannot be read.
pub fn untracked(control: &Control, model: &Model, query: &Checked) -> Result<Vec<Untracked>> {
    let given = query.query();
    if given.port.is_empty() || given.not {
        return Ok(Vec::new());
    }
    let traffic = query.of_traffic();
    let networks = || given.from.iter().chain(&given.to).chain(&given.address);
    let is_meant = |outside: &IpAddr| {
        let is_v4 = |net: &IpNet| matches!(net, IpNet::V4(_));
        networks().next().is_none() || networks().any(|net| is_v4(net) == outside.is_ipv4())
    };
    let addresses = control.store().active_addresses()?;
    let now = Clocks::now().moment.boottime;
    let mut found = Vec::new();
    for interface in model.interfaces.values() {
        let mut rules = active_rules(model, &addresses, interface);
        rules.retain(|rule| rule.end.is_none_or(|end| end > now));
        for direction in Direction::ALL {
            for protocol in [TCP, UDP] {
                let first = ports(&given.port, protocol).into_iter().find_map(|port| {
                    if !traffic.matches(&subject(interface, direction, protocol, port)) {
                        return None;
                    }
                    ANY.into_iter().filter(is_meant).find_map(|outside| {
                        let probe = Probe { direction, outside, protocol, port };
                        match explain(&rules, interface.tracking, probe, None).tracked? {
                            Tracked::Untracked { anywhere, replies } => {
                                Some((port, anywhere, replies))
                            }
                            Tracked::Tracked(_) => None,
                        }
                    })
                });
                let Some((port, anywhere, replies)) = first else { continue };
                found.push(Untracked {
                    network_interface_id: interface.id.to_string(),
                    device: interface.device.clone(),
                    netns: interface.netns.clone(),
                    direction,
                    protocol,
                    port,
                    security_group_rule_ids: ids(model, &anywhere),
                    reply_rule_ids: ids(model, &replies),
                });
            }
        }
    }
    Ok(found)
}

/// The ports of filters for a protocol, ascending.
pub(in crate::observe) fn ports(filters: &[PortFilter], protocol: u8) -> Vec<u16> {
    let mut ports = Vec::new();
    for filter in filters {
        match filter {
            PortFilter::Ports(range) => ports.extend(range.clone().take(MAX_PORTS)),
            PortFilter::Service(all) => {
                ports.extend(all.iter().filter(|(of, _)| *of == protocol).map(|(_, port)| port));
            }
            PortFilter::Icmp(_) => {}
        }
    }
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// Packets to a port of an interface.
pub(in crate::observe) fn subject(
    interface: &Interface,
    direction: Direction,
    protocol: u8,
    port: u16,
) -> Subject<'_> {
    Subject {
        device: &interface.device,
        netns: interface.netns.as_deref(),
        direction: Some(direction),
        protocol: Some(protocol),
        destination_port: Some(port),
        ..Subject::default()
    }
}

fn ids(model: &Model, numbers: &[u32]) -> Vec<String> {
    let rules = || model.groups.values().flat_map(|group| &group.rules);
    let id = |number: &u32| {
        let rule = rules().find(|rule| rule.number == *number);
        rule.map_or_else(|| "the management networks".to_owned(), |rule| rule.id.to_string())
    };
    numbers.iter().map(id).collect()
}
