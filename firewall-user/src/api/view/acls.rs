//! Network ACLs.

use firewall_ebpf::abi::interface::Direction;
use firewall_ec2::Xml;

use super::tags;
use crate::model::{Acl, AclEntry, Ec2Traffic, Identity, Model, Peer, Subnet, Traffic};

/// The subnets that have a network ACL.
pub(in crate::api) fn subnets<'a>(
    model: &'a Model,
    acl: &'a Acl,
) -> impl Iterator<Item = &'a Subnet> {
    let all = model.subnets.values();
    all.filter(|subnet| model.acl_of_subnet(subnet).is_some_and(|of_it| of_it.id == acl.id))
}

/// The entries of a network ACL with their directions and numbers, those of ingress first.
pub(in crate::api) fn entries(acl: &Acl) -> impl Iterator<Item = (Direction, u16, &AclEntry)> {
    Direction::ALL.into_iter().flat_map(|direction| {
        acl.entries_of(direction).map(move |(number, entry)| (direction, number, entry))
    })
}

/// The contents of an element that is a network ACL.
pub(in crate::api) fn write(xml: &mut Xml, model: &Model, identity: &Identity, acl: &Acl) {
    xml.list("associationSet", subnets(model, acl), |xml, subnet| {
        xml.text("networkAclAssociationId", &subnet.association);
        xml.text("networkAclId", &acl.id);
        xml.text("subnetId", &subnet.id);
    });
    xml.list("entrySet", entries(acl), |xml, (direction, number, entry)| {
        write_entry(xml, direction, number, entry);
    });
    xml.text("default", acl.is_default);
    xml.text("networkAclId", &acl.id);
    tags::set(xml, &acl.all_tags());
    xml.text("vpcId", &acl.vpc);
    xml.text("ownerId", identity.account);
}

/// EC2 has no element for a prefix list: an entry with one has no network, so that its number and action are seen.
fn write_entry(xml: &mut Xml, direction: Direction, number: u16, entry: &AclEntry) {
    let AclEntry { action, traffic, peer, .. } = entry;
    let Ec2Traffic { from, to, .. } = traffic.to_ec2();
    if let Peer::Ipv4(network) = peer {
        xml.text("cidrBlock", network);
    }
    xml.text("egress", direction == Direction::Egress);
    if matches!(traffic, Traffic::Icmp(_) | Traffic::Icmpv6(_)) {
        xml.node("icmpTypeCode", |xml| {
            xml.option("code", to);
            xml.option("type", from);
        });
    }
    if let Peer::Ipv6(network) = peer {
        xml.text("ipv6CidrBlock", network);
    }
    if matches!(traffic, Traffic::Tcp(_) | Traffic::Udp(_)) {
        xml.node("portRange", |xml| {
            xml.option("from", from);
            xml.option("to", to);
        });
    }
    xml.text("protocol", traffic.protocol_number());
    xml.text("ruleAction", action.name());
    xml.text("ruleNumber", number);
}
