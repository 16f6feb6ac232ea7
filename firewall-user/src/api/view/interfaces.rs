//! Network interfaces.

use std::net::IpAddr;

use firewall_ebpf::abi::interface::Orientation;
use firewall_ebpf::abi::state::State;
use firewall_ec2::Xml;
use ipnet::IpNet;

use super::{tags, vpcs};
use crate::api::devices::Seen;
use crate::model::{Attachment, Identity, Interface, InterfaceId, Model, is_one_address, rfc3339};
use crate::observe::instance;

/// The timeouts that EC2 has, with the names of their elements.
pub(in crate::api) const TIMEOUTS: [(&str, State); 3] = [
    ("tcpEstablishedTimeout", State::Established),
    ("udpStreamTimeout", State::UdpStream),
    ("udpTimeout", State::Udp),
];

/// A network interface as its clients see it.
#[derive(Debug)]
pub(in crate::api) struct View<'a> {
    pub(in crate::api) model: &'a Model,
    pub(in crate::api) identity: &'a Identity,
    pub(in crate::api) interface: &'a Interface,
    /// Its device; `None` if it has none now.
    pub(in crate::api) seen: Option<&'a Seen>,
}

impl View<'_> {
    /// `available` or `in-use`.
    pub(in crate::api) const fn status(&self) -> &'static str {
        if self.interface.is_attached() { "in-use" } else { "available" }
    }

    /// Its addresses of a family, the primary one first: those that were given; those of its device, if it is of
    /// this host; and the one that was chosen because none was given, until a device has some.
    pub(in crate::api) fn addresses(&self, is_v4: bool) -> Vec<IpAddr> {
        let Interface { addresses, details, orientation, .. } = self.interface;
        let given = addresses.iter().filter(|network| is_one_address(network)).map(IpNet::addr);
        let seen = self.seen.filter(|_| *orientation == Orientation::Host);
        let seen = seen.map_or(&[][..], |seen| &seen.addresses);
        let is_of_family = |address: &IpAddr| address.is_ipv4() == is_v4;
        let seen: Vec<_> = seen.iter().copied().filter(is_of_family).collect();
        let chosen = details.chosen.filter(|_| seen.is_empty());
        let mut all: Vec<IpAddr> = Vec::new();
        for address in chosen.into_iter().chain(given).chain(seen).filter(is_of_family) {
            if !all.contains(&address) {
                all.push(address);
            }
        }
        all
    }

    /// The zone of its subnet.
    pub(in crate::api) fn zone(&self) -> String {
        let subnet = self.model.subnets.get(&self.interface.subnet);
        subnet.map_or_else(|| self.identity.zone(), |subnet| vpcs::zone(self.identity, subnet))
    }

    /// The id of that zone.
    pub(in crate::api) fn zone_id(&self) -> String {
        self.identity.zone_id(&self.zone())
    }

    /// The networks of a family that were given in place of addresses.
    fn networks(&self, is_v4: bool) -> impl Iterator<Item = &IpNet> {
        let all = self.interface.addresses.iter();
        all.filter(move |one| !is_one_address(one) && one.addr().is_ipv4() == is_v4)
    }

    /// The MAC address of the device or guest; of one that has none, a locally administered one made of its id,
    /// because clients expect one.
    pub(in crate::api) fn mac(&self) -> String {
        let declared = self.interface.port.mac;
        let guest = self.interface.orientation == Orientation::Guest;
        let seen = self.seen.filter(|_| !guest).and_then(|seen| seen.mac);
        declared.or(seen).map_or_else(|| mac_of(&self.interface.id), |mac| mac.to_string())
    }

    /// The element's contents.
    pub(in crate::api) fn write(&self, xml: &mut Xml) {
        let Self { model, identity, interface, .. } = self;
        let Interface { id, subnet, details, port, .. } = interface;
        if let Some(attachment) = &details.attachment {
            xml.node("attachment", |xml| write_attachment(xml, identity, attachment));
        }
        xml.text("availabilityZone", self.zone());
        let timeouts = TIMEOUTS.map(|(name, state)| (name, interface.timeouts.get(&state)));
        if timeouts.iter().any(|(_, seconds)| seconds.is_some()) {
            xml.node("connectionTrackingConfiguration", |xml| {
                timeouts.iter().for_each(|(name, seconds)| xml.option(name, *seconds));
            });
        }
        xml.text("description", &details.description);
        write_groups(xml, model, interface);
        xml.text("interfaceType", "interface");
        xml.list("ipv6AddressesSet", self.addresses(false), |xml, address| {
            xml.text("ipv6Address", address);
        });
        xml.text("macAddress", self.mac());
        xml.text("networkInterfaceId", id);
        xml.text("ownerId", identity.account);
        let addresses = self.addresses(true);
        let primary = addresses.first().copied();
        xml.option("privateIpAddress", primary);
        xml.list("privateIpAddressesSet", addresses, |xml, address| {
            xml.text("primary", Some(address) == primary);
            xml.text("privateIpAddress", address);
        });
        if self.networks(true).next().is_some() {
            let networks = self.networks(true);
            xml.list("ipv4PrefixSet", networks, |xml, one| xml.text("ipv4Prefix", one));
        }
        if self.networks(false).next().is_some() {
            let networks = self.networks(false);
            xml.list("ipv6PrefixSet", networks, |xml, one| xml.text("ipv6Prefix", one));
        }
        xml.text("requesterManaged", false);
        xml.text("sourceDestCheck", port.source_dest_check);
        xml.text("status", self.status());
        xml.text("subnetId", subnet);
        tags::set(xml, &interface.tags);
        xml.text("vpcId", model.vpc_of(interface));
        xml.option("ipv6Address", self.addresses(false).first());
    }
}

/// The element `groupSet`.
pub(in crate::api) fn write_groups(xml: &mut Xml, model: &Model, interface: &Interface) {
    let groups = interface.groups.iter().filter_map(|id| model.groups.get(id));
    xml.list("groupSet", groups, |xml, group| {
        xml.text("groupId", &group.id);
        xml.text("groupName", &group.name);
    });
}

/// The contents of the element `attachment`.
pub(in crate::api) fn write_attachment(
    xml: &mut Xml,
    identity: &Identity,
    attachment: &Attachment,
) {
    let Attachment { id, index, time, delete_on_termination } = attachment;
    xml.text("attachTime", rfc3339(*time));
    xml.text("attachmentId", id);
    xml.text("deleteOnTermination", delete_on_termination);
    xml.text("deviceIndex", index);
    xml.text("networkCardIndex", 0);
    xml.text("instanceId", instance::id());
    xml.text("instanceOwnerId", identity.account);
    xml.text("status", "attached");
}

fn mac_of(id: &InterfaceId) -> String {
    // The last ten of its digits; one of the old form has eight.
    let digits = format!("{:0>10}", id.digits());
    let digits = &digits[digits.len() - 10..];
    let octets = [0, 2, 4, 6, 8].map(|at| &digits[at..at + 2]);
    format!("02:{}", octets.join(":"))
}
