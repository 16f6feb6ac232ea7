//! Rules of groups.

use firewall_ebpf::abi::interface::Direction;
use firewall_ec2::Xml;

use super::tags;
use crate::model::{Ec2Traffic, ForeignGroup, Group, Identity, Peer, Rule};

/// An item of `securityGroupRuleSet`.
pub(in crate::api) fn rule(xml: &mut Xml, group: &Group, rule: &Rule, identity: &Identity) {
    xml.text("securityGroupRuleId", &rule.id);
    xml.text("groupId", &group.id);
    xml.text("groupOwnerId", identity.account);
    traffic(xml, rule);
    network(xml, &rule.spec.peer);
    if let Some(account) = account(&rule.spec.peer, identity) {
        xml.node("referencedGroupInfo", |xml| {
            xml.text("groupId", &rule.spec.peer);
            xml.text("userId", account);
            if let Peer::Foreign(foreign) = &rule.spec.peer {
                let ForeignGroup { vpc, peering, .. } = &**foreign;
                xml.option("vpcId", vpc.as_ref());
                xml.option("vpcPeeringConnectionId", peering.as_ref());
            }
        });
    }
    xml.option("description", description(rule));
    tags::set(xml, &rule.tags);
    xml.text("securityGroupRuleArn", identity.arn("security-group-rule", rule.id.as_str()));
}

/// An item of `revokedSecurityGroupRuleSet`.
pub(in crate::api) fn revoked(xml: &mut Xml, group: &Group, rule: &Rule) {
    xml.text("securityGroupRuleId", &rule.id);
    xml.text("groupId", &group.id);
    traffic(xml, rule);
    network(xml, &rule.spec.peer);
    if let peer @ (Peer::Group(_) | Peer::Foreign(_)) = &rule.spec.peer {
        xml.text("referencedGroupId", peer);
    }
    xml.option("description", description(rule));
}

/// Direction, protocol and ports. Unlike in groups, -1 where the protocol has no ports.
fn traffic(xml: &mut Xml, rule: &Rule) {
    let Ec2Traffic { protocol, from, to } = rule.spec.traffic.to_ec2();
    xml.text("isEgress", rule.spec.direction == Direction::Egress);
    xml.text("ipProtocol", protocol);
    xml.text("fromPort", from.unwrap_or(-1));
    xml.text("toPort", to.unwrap_or(-1));
}

/// A peer that is no group.
fn network(xml: &mut Xml, peer: &Peer) {
    match peer {
        Peer::Ipv4(network) => xml.text("cidrIpv4", network),
        Peer::Ipv6(network) => xml.text("cidrIpv6", network),
        Peer::PrefixList(id) => xml.text("prefixListId", id),
        Peer::Group(_) | Peer::Foreign(_) => {}
    }
}

/// The description, if there is one.
pub(super) fn description(rule: &Rule) -> Option<&str> {
    Some(rule.description.as_str()).filter(|text| !text.is_empty())
}

/// The account of a group as the peer.
pub(in crate::api) fn account<'a>(peer: &'a Peer, identity: &'a Identity) -> Option<&'a str> {
    match peer {
        Peer::Group(_) => Some(identity.account.as_str()),
        Peer::Foreign(foreign) => {
            Some(foreign.account.as_deref().unwrap_or(identity.account.as_str()))
        }
        Peer::Ipv4(_) | Peer::Ipv6(_) | Peer::PrefixList(_) => None,
    }
}
