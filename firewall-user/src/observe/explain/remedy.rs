//! What would let a packet pass that was dropped.

use std::net::IpAddr;

use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::reason::Reason;
use firewall_ebpf::wire::protocol;

use super::document::Remedy;
use super::names::{Names, from_or_to};
use super::parsed::Ip;
use crate::model::{Acl, Peer};
use crate::policy::Probe;

/// A dropped packet.
pub(super) struct Dropped<'a> {
    pub(super) names: &'a Names,
    pub(super) direction: Direction,
    pub(super) reason: Reason,
    pub(super) ip: Option<&'a Ip>,
    /// The number of the block or entry of the network ACL that dropped it.
    pub(super) entry: Option<u32>,
    /// The number of the rule that comes closest.
    pub(super) nearest: Option<u32>,
    /// The number of a rule that allows its service, but not its address.
    pub(super) elsewhere: Option<u32>,
    /// Whether a rule allows it.
    pub(super) has_rule: bool,
    /// The direction of the first packet of its flow.
    pub(super) opened_by: Option<Direction>,
}

impl Dropped<'_> {
    /// What would let it pass.
    pub(super) fn remedies(&self) -> Vec<Remedy> {
        let interface = &self.names.interface;
        let label = interface.label();
        let attach = |options: &str| format!("secgroup attach {label} {options}");
        let probe = self.ip.and_then(|ip| ip.probe(self.direction));
        if self.names.model.is_panicking && self.reason == Reason::NoRule {
            let text = "Only the management networks pass in emergency mode; its end makes the rules active again.";
            return vec![command(text, "secgroup panic --off".to_owned())];
        }
        let one = match self.reason {
            Reason::NoRule => return probe.map(|probe| self.rule(probe)).into_iter().collect(),
            Reason::NoPolicy => {
                command("Makes the policy of the store active.", "secgroup reconcile".to_owned())
            }
            Reason::Revoked => {
                let request = match (self.ip, self.opened_by) {
                    (Some(ip), Some(opener)) if opener != self.direction => {
                        ip.request_probe(self.direction)
                    }
                    _ => probe,
                };
                return request.map(|request| self.rule(request)).into_iter().collect();
            }
            Reason::Acl => return self.acl(probe),
            Reason::Blocked => return self.block(probe),
            Reason::UnsolicitedSynAck => text(
                "No rule helps: the SYN that it answers has to pass this interface first, or its flow has expired.",
            ),
            Reason::TcpNotOpened => command(
                "Lets a segment in the middle of a connection open a flow, where a rule allows it (not with --tcp \
                 strict); or the connection is opened again.",
                attach("--tcp-loose on"),
            ),
            Reason::TcpWindow | Reason::TcpReset => command(
                "No rule helps: the segment does not fit its connection. Guard checks less than strict.",
                attach("--tcp guard"),
            ),
            Reason::FlowTableFull => text(
                "A rule allows it, but the table of new flows has no room: maps.flows_new of the configuration.",
            ),
            Reason::NonIp => command(
                "No rule is about frames that are not IP; --ether-type names those that pass.",
                attach("--ether-type TYPE"),
            ),
            Reason::Fragment => text(
                "No rule helps: the first fragment of its packet has to pass before it, on this interface.",
            ),
            Reason::FragmentOverlap | Reason::TinyFragment => {
                text("No rule helps: such fragments are used to get past filters.")
            }
            Reason::NeighbourDiscoveryInvalid => text(
                "No rule helps: neighbour discovery that is not valid (RFC 4861) is dropped on every interface. Its hop \
                 limit is 255, its code 0, and its options are known ones; it goes to the link or to the neighbour \
                 itself, and router advertisements come from and go to link-local addresses or groups.",
            ),
            Reason::IcmpErrorInvalid => {
                text("No rule helps: the error has to embed a packet that its receiver has sent.")
            }
            Reason::SourceMac => command(
                "Declares another MAC address of the guest; none: any.",
                attach("--mac MAC"),
            ),
            Reason::SourceAddress
            | Reason::DestinationAddress
            | Reason::ArpSender
            | Reason::NeighbourTarget => {
                let own = self.ip.map(|ip| ip.inside(self.direction).to_string());
                let own = own.unwrap_or_else(|| "ADDRESS".to_owned());
                command(
                    "Lets the guest use this address as well; options that are named replace those before.",
                    attach(&format!("--allow-address {own}")),
                )
            }
            Reason::RouterAdvertisement | Reason::Redirect | Reason::DhcpServer => command(
                "Lets the guest send what only routers and DHCP servers send.",
                attach("--guest-router on"),
            ),
            Reason::Bpdu => {
                text("No rule helps: a guest takes no part in the spanning tree of the host.")
            }
            _ => text("No rule helps: the packet is not well-formed, and no host would accept it."),
        };
        vec![one]
    }

    /// The smallest rule for a packet.
    fn rule(&self, probe: Probe) -> Remedy {
        let direction = probe.direction;
        if is_of_other_family(probe) {
            return text(
                "No rule is about ICMP of the other family: only one for all protocols allows it.",
            );
        }
        let words = format!(
            "Allows exactly this: {} {} {} {}.",
            direction.name(),
            service(probe),
            from_or_to(direction),
            probe.outside
        );
        let line = format!(
            "secgroup rule add {} {} {} --cidr {}",
            self.group(),
            direction.name(),
            options(probe),
            cidr(probe.outside)
        );
        command(&words, line)
    }

    /// A group of the interface: that of a rule about the same service, else of the rule that comes closest, else the
    /// first.
    fn group(&self) -> String {
        let model = &self.names.model;
        let nearest = self.elsewhere.or(self.nearest);
        let nearest = nearest.and_then(|number| self.names.stored_rule(number));
        let nearest = nearest.map(|(group, _)| group);
        let first = self.names.interface.groups.first().and_then(|id| model.groups.get(id));
        match nearest.or(first.map(AsRef::as_ref)) {
            Some(group)
                if is_word(&group.name)
                    && model.group(&group.name).is_ok_and(|one| one.id == group.id) =>
            {
                group.name.clone()
            }
            Some(group) => group.id.to_string(),
            None => "GROUP".to_owned(),
        }
    }

    /// An entry before the one that denies, and a rule if there is none.
    fn acl(&self, probe: Option<Probe>) -> Vec<Remedy> {
        let (Some(probe), Some(acl)) = (probe, self.names.model.acl_of(&self.names.interface))
        else {
            return vec![text("An entry of the network ACL that allows it, with a lower number.")];
        };
        if is_of_other_family(probe) {
            return vec![text(
                "No entry is about ICMP of the other family: only one for all protocols allows it.",
            )];
        }
        let name = if is_word(&acl.name)
            && self.names.model.acl(&acl.name).is_ok_and(|one| one.id == acl.id)
        {
            acl.name.clone()
        } else {
            acl.id.to_string()
        };
        let mut remedies = Vec::new();
        match self.free_number(acl) {
            Some(number) => remedies.push(command(
                "Lets it pass the network ACL: the entry with the lowest number decides. Replies need an entry of \
                 the other direction.",
                format!(
                    "secgroup acl entry add {name} {} {number} allow {} --cidr {}",
                    probe.direction.name(),
                    options(probe),
                    cidr(probe.outside)
                ),
            )),
            None => remedies.push(text("The entry of the network ACL that denies it has to go: no number is below it.")),
        }
        if !self.has_rule {
            remedies.push(self.rule(probe));
        }
        remedies
    }

    /// The highest number below that of the entry that denies which no entry has.
    fn free_number(&self, acl: &Acl) -> Option<u16> {
        const LAST: u16 = 32_766;
        let is_it = |number: u32| self.entry == Some(number);
        let denying = acl.entries.iter().find(|(_, entry)| is_it(entry.number));
        let below = denying.map_or(LAST, |((_, number), _)| number.saturating_sub(1).min(LAST));
        let is_free = |number: &u16| !acl.entries.contains_key(&(self.direction, *number));
        // Behind the other entries, in steps of 100 as in EC2, where only the last entry denies.
        let entries = acl
            .entries
            .keys()
            .filter(|(direction, number)| *direction == self.direction && *number <= below);
        let after = entries.map(|(_, number)| *number).max().unwrap_or(0) / 100 * 100 + 100;
        if after <= below && is_free(&after) {
            return Some(after);
        }
        (1..=below).rev().find(is_free)
    }

    /// The end of a block, and a rule if there is none.
    fn block(&self, probe: Option<Probe>) -> Vec<Remedy> {
        let model = &self.names.model;
        let block =
            self.entry.and_then(|number| model.blocks.values().find(|one| one.number == number));
        let Some(block) = block else {
            return vec![text("`secgroup block list` lists what is blocked.")];
        };
        let target = match &block.target {
            Peer::PrefixList(id) => {
                let name = model.prefix_lists.get(id).map(|list| list.name.as_str());
                format!(
                    "--prefix-list {}",
                    name.filter(|name| is_word(name)).unwrap_or(id.as_str())
                )
            }
            other => other.to_string(),
        };
        let on = if block.interface.is_some() {
            format!(" --interface {}", self.names.interface.label())
        } else {
            String::new()
        };
        let mut remedies =
            vec![command("Ends the block.", format!("secgroup unblock {target}{on}"))];
        if !self.has_rule {
            remedies.extend(probe.map(|probe| self.rule(probe)));
        }
        remedies
    }
}

fn text(text: &str) -> Remedy {
    Remedy { text: text.to_owned(), command: None }
}

fn command(text: &str, line: String) -> Remedy {
    Remedy { text: text.to_owned(), command: Some(line) }
}

/// Whether a shell takes a name for one word.
fn is_word(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !name.is_empty() && !name.starts_with('-') && name.bytes().all(plain)
}

/// The network of one address.
fn cidr(address: IpAddr) -> String {
    format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })
}

/// The options of a rule about this traffic.
fn options(probe: Probe) -> String {
    let [kind, code] = probe.port.to_be_bytes();
    match (probe.protocol, probe.outside) {
        (protocol::TCP, _) => format!("--protocol tcp --port {}", probe.port),
        (protocol::UDP, _) => format!("--protocol udp --port {}", probe.port),
        (protocol::ICMP, IpAddr::V4(_)) => format!("--protocol icmp --icmp {kind}/{code}"),
        (protocol::ICMPV6, IpAddr::V6(_)) => format!("--protocol icmpv6 --icmp {kind}/{code}"),
        (number, _) => format!("--protocol {number}"),
    }
}

/// Whether it is ICMP in IPv6, or ICMPv6 in IPv4.
const fn is_of_other_family(probe: Probe) -> bool {
    match probe.outside {
        IpAddr::V4(_) => probe.protocol == protocol::ICMPV6,
        IpAddr::V6(_) => probe.protocol == protocol::ICMP,
    }
}

/// The traffic in words.
fn service(probe: Probe) -> String {
    let [kind, code] = probe.port.to_be_bytes();
    match (probe.protocol, probe.outside) {
        (protocol::TCP, _) => format!("TCP to port {}", probe.port),
        (protocol::UDP, _) => format!("UDP to port {}", probe.port),
        (protocol::ICMP, IpAddr::V4(_)) => format!("ICMP {kind}/{code}"),
        (protocol::ICMPV6, IpAddr::V6(_)) => format!("ICMPv6 {kind}/{code}"),
        (number, _) => format!("protocol {number}"),
    }
}
