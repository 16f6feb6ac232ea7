//! Groups.

use firewall_ebpf::abi::interface::Direction;
use firewall_ec2::Xml;

use super::{rules, tags};
use crate::model::{ForeignGroup, Group, Identity, Peer, Permission, Rule, Traffic};

/// An item of `securityGroupInfo`.
pub(in crate::api) fn group(xml: &mut Xml, group: &Group, identity: &Identity) {
    xml.text("groupId", &group.id);
    permissions(xml, "ipPermissionsEgress", group, Direction::Egress, identity);
    tags::set(xml, &group.tags);
    xml.text("vpcId", &group.vpc);
    xml.text("securityGroupArn", identity.arn("security-group", group.id.as_str()));
    xml.text("ownerId", identity.account);
    xml.text("groupName", &group.name);
    xml.text("groupDescription", &group.description);
    permissions(xml, "ipPermissions", group, Direction::Ingress, identity);
}

/// An item of `securityGroupForVpcSet`.
pub(in crate::api) fn group_for_vpc(xml: &mut Xml, group: &Group, identity: &Identity) {
    xml.text("description", &group.description);
    xml.text("groupName", &group.name);
    xml.text("ownerId", identity.account);
    xml.text("groupId", &group.id);
    tags::set(xml, &group.tags);
    xml.text("primaryVpcId", &group.vpc);
}

/// An item of `staleSecurityGroupSet`: the rules whose peers are groups that are not here.
pub(in crate::api) fn stale_group(xml: &mut Xml, group: &Group, identity: &Identity) {
    xml.text("description", &group.description);
    xml.text("groupId", &group.id);
    xml.text("groupName", &group.name);
    for (name, direction) in [
        ("staleIpPermissions", Direction::Ingress),
        ("staleIpPermissionsEgress", Direction::Egress),
    ] {
        let mut stale = group.permissions(direction);
        let is_stale = |rule: &&Rule| matches!(rule.spec.peer, Peer::Foreign(_));
        stale.iter_mut().for_each(|permission| permission.rules.retain(is_stale));
        stale.retain(|permission| !permission.rules.is_empty());
        xml.list(name, stale, |xml, Permission { traffic, rules }| {
            xml.option("fromPort", traffic.from);
            xml.text("ipProtocol", &traffic.protocol);
            xml.list("ipRanges", [(); 0], |_, ()| {});
            xml.list("prefixListIds", [(); 0], |_, ()| {});
            xml.option("toPort", traffic.to);
            xml.list("groups", rules, |xml, rule| pair(xml, rule, identity, true));
        });
    }
    xml.text("vpcId", &group.vpc);
}

/// The rules of a direction, those of all protocols last.
fn permissions(
    xml: &mut Xml,
    name: &str,
    group: &Group,
    direction: Direction,
    identity: &Identity,
) {
    let mut permissions = group.permissions(direction);
    let is_of_all = |one: &Permission<'_>| {
        one.rules.first().is_some_and(|rule| rule.spec.traffic == Traffic::All)
    };
    permissions.sort_by_key(is_of_all);
    xml.list(name, permissions, |xml, Permission { traffic, rules }| {
        xml.text("ipProtocol", &traffic.protocol);
        xml.option("fromPort", traffic.from);
        xml.option("toPort", traffic.to);
        let of = |is_kind: fn(&Peer) -> bool| {
            rules.iter().copied().filter(move |rule| is_kind(&rule.spec.peer))
        };
        let is_group = |peer: &Peer| matches!(peer, Peer::Group(_) | Peer::Foreign(_));
        xml.list("groups", of(is_group), |xml, rule| pair(xml, rule, identity, false));
        for (list, item, is_kind) in KINDS {
            xml.list(list, of(*is_kind), |xml, rule| {
                xml.option("description", rules::description(rule));
                xml.text(item, &rule.spec.peer);
            });
        }
    });
}

/// A list of peers other than groups: its name, the name of the peer's element, and which peers are in it.
type Kind = (&'static str, &'static str, fn(&Peer) -> bool);

const KINDS: &[Kind] = &[
    ("ipRanges", "cidrIp", |peer| matches!(peer, Peer::Ipv4(_))),
    ("ipv6Ranges", "cidrIpv6", |peer| matches!(peer, Peer::Ipv6(_))),
    ("prefixListIds", "prefixListId", |peer| matches!(peer, Peer::PrefixList(_))),
];

/// A group as the peer of a rule. A peering is not known here to be active.
fn pair(xml: &mut Xml, rule: &Rule, identity: &Identity, is_stale: bool) {
    let peer = &rule.spec.peer;
    xml.option("description", rules::description(rule));
    xml.option("userId", rules::account(peer, identity));
    xml.text("groupId", peer);
    if let Peer::Foreign(foreign) = peer {
        let ForeignGroup { vpc, peering, .. } = &**foreign;
        xml.option("vpcId", vpc.as_ref());
        xml.option("vpcPeeringConnectionId", peering.as_ref());
        xml.option("peeringStatus", peering.as_ref().filter(|_| is_stale).map(|_| "deleted"));
    }
}
