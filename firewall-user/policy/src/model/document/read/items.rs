//! Rules as separate items (`SecurityGroupRules`), which have what the rules of groups do not: ids and tags.

use std::collections::{BTreeMap, HashMap, HashSet};

use firewall_ebpf::abi::interface::Direction;

use super::{Error, Findings, WantedGroup, WantedPeer, own_id, read_id, read_tags, required};
use crate::model::document::SecurityGroupRule;
use crate::model::{GroupId, PrefixListId, RuleId, Traffic, parse_cidr};

/// What a rule is found by.
type Place = (GroupId, Direction, Traffic, ItemPeer);

/// A peer, without what is said about a group besides its id.
#[derive(PartialEq, Eq, Hash)]
enum ItemPeer {
    Network(ipnet::IpNet),
    PrefixList(PrefixListId),
    Group(GroupId),
}

struct Item {
    path: String,
    id: RuleId,
    tags: Option<BTreeMap<String, String>>,
    /// Whether it may be left out of its group because it has ended.
    ends: bool,
}

/// Gives the rules of groups their ids and tags.
pub(super) fn add_items(
    findings: &mut Findings,
    items: &[SecurityGroupRule],
    groups: &mut [WantedGroup],
) {
    let mut by_place = HashMap::new();
    let mut ids = HashSet::new();
    for (index, item) in items.iter().enumerate() {
        let path = format!("SecurityGroupRules[{index}]");
        let Some((place, item)) = read_item(findings, path, item) else { continue };
        if ids.insert(item.id.clone()) {
            by_place.insert(place, item);
        } else {
            findings.error(Error::Foreign {
                path: item.path,
                reason: format!("rule {} is in the document twice", item.id),
                hint: "keep one of the two",
            });
        }
    }
    for group in &mut *groups {
        let Some(id) = &group.id else { continue };
        for rule in &mut group.rules {
            let peer = match &rule.peer {
                WantedPeer::Network(network) => ItemPeer::Network(*network),
                WantedPeer::PrefixList(list) => ItemPeer::PrefixList(list.clone()),
                WantedPeer::Group(peer) => ItemPeer::Group(peer.group.clone()),
                WantedPeer::GroupName(_) => continue,
            };
            let place = (id.clone(), rule.direction, rule.traffic, peer);
            if let Some(item) = by_place.remove(&place) {
                (rule.id, rule.tags) = (Some(item.id), item.tags);
            }
        }
    }
    let here: HashSet<_> = groups.iter().filter_map(|group| group.id.as_ref()).collect();
    let mut left: Vec<_> = by_place
        .into_iter()
        .filter(|((group, ..), item)| here.contains(group) && !item.ends)
        .map(|(_, item)| item)
        .collect();
    left.sort_by(|one, two| one.path.cmp(&two.path));
    for item in left {
        let text = format!("rule {} is not among the permissions of its group: ignored", item.id);
        findings.warn(&item.path, text);
    }
}

fn read_item(
    findings: &mut Findings,
    path: String,
    item: &SecurityGroupRule,
) -> Option<(Place, Item)> {
    let place = |key: &str| format!("{path}.{key}");
    let group = own_id(findings, &item.group_id, place("GroupId"));
    let id = own_id(findings, &item.security_group_rule_id, place("SecurityGroupRuleId"));
    let hint = r#"write "IsEgress": true or false"#;
    let is_egress = findings.ok(required(&item.is_egress, place("IsEgress"), hint)).copied();
    let hint = r#"write "IpProtocol": "-1" for every protocol"#;
    let protocol = findings.ok(required(&item.ip_protocol, place("IpProtocol"), hint));
    let tags = findings.ok(read_tags(&item.tags, &path));
    let traffic = protocol.and_then(|protocol| {
        let traffic = Traffic::from_ec2(protocol, item.from_port, item.to_port);
        findings.ok(traffic.map_err(Error::at(&path)))
    });
    let peer = read_peer(findings, &path, item);
    let direction = is_egress.map(|is| if is { Direction::Egress } else { Direction::Ingress });
    let ends = item.ends_at.is_some();
    Some(((group?, direction?, traffic?, peer?), Item { id: id?, tags: tags?, ends, path }))
}

fn read_peer(findings: &mut Findings, path: &str, item: &SecurityGroupRule) -> Option<ItemPeer> {
    let network = item.cidr_ipv4.as_ref().or(item.cidr_ipv6.as_ref());
    let referenced = item.referenced_group_info.as_ref();
    let group = referenced.and_then(|group| group.group_id.as_ref());
    if let Some(network) = network {
        let network = findings.ok(parse_cidr(network).map_err(Error::at(path)));
        return network.map(ItemPeer::Network);
    }
    if item.prefix_list_id.is_some() {
        let id = read_id(&item.prefix_list_id, &format!("{path}.PrefixListId"));
        return findings.ok(id).flatten().map(ItemPeer::PrefixList);
    }
    let place = format!("{path}.ReferencedGroupInfo.GroupId");
    let hint = "name one in CidrIpv4, CidrIpv6, PrefixListId or ReferencedGroupInfo";
    findings.ok(required(&group, place.clone(), hint))?;
    findings.ok(read_id(&group.cloned(), &place)).flatten().map(ItemPeer::Group)
}
