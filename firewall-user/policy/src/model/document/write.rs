//! The model as AWS would print it.

use std::collections::BTreeMap;

use firewall_ebpf::abi::interface::Direction;

use super::{
    AWS_OWNER, AclPorts, Document, Entry, IcmpTypeCode, IpPermission, IpRange, Ipv6Range,
    ManagedPrefixList, NetworkAcl, NetworkAclAssociation, NetworkAclEntry, PrefixListReference,
    ReferencedGroup, SecurityGroup, SecurityGroupRule, Tag, UserIdGroupPair,
};
use crate::model::tags::NAME as NAME_TAG;
use crate::model::{
    Acl, AclEntry, Ec2Traffic, ForeignGroup, Group, Identity, Interface, Model, Peer, Permission,
    PrefixList, Rule, Traffic,
};

mod vpc;

pub use vpc::vpcs;

/// What `aws ec2 describe-security-groups` would print.
pub fn groups<'a>(identity: &Identity, groups: impl IntoIterator<Item = &'a Group>) -> Document {
    Document {
        security_groups: Some(groups.into_iter().map(|one| group(identity, one)).collect()),
        ..Document::default()
    }
}

/// What `aws ec2 describe-managed-prefix-lists` would print, with the entries.
pub fn prefix_lists<'a>(
    identity: &Identity,
    lists: impl IntoIterator<Item = &'a PrefixList>,
) -> Document {
    Document {
        prefix_lists: Some(lists.into_iter().map(|one| prefix_list(identity, one)).collect()),
        ..Document::default()
    }
}

/// What `aws ec2 describe-security-group-rules` would print.
pub fn rules<'a>(
    identity: &Identity,
    rules: impl IntoIterator<Item = (&'a Group, &'a Rule)>,
) -> Document {
    Document {
        security_group_rules: Some(
            rules.into_iter().map(|(group, one)| rule(identity, group, one)).collect(),
        ),
        ..Document::default()
    }
}

/// What `aws ec2 describe-network-acls` would print, with interfaces beside the subnets that have one of their
/// own.
pub fn acls<'a>(
    identity: &Identity,
    model: &Model,
    acls: impl IntoIterator<Item = &'a Acl>,
) -> Document {
    Document {
        network_acls: Some(acls.into_iter().map(|one| acl(identity, model, one)).collect()),
        ..Document::default()
    }
}

fn acl(identity: &Identity, model: &Model, acl: &Acl) -> NetworkAcl {
    let is_own =
        |one: &&Interface| model.acl_of(one).is_some_and(|of_interface| of_interface.id == acl.id);
    let interfaces = model.interfaces.values().filter(is_own).map(|one| NetworkAclAssociation {
        network_acl_association_id: Some(format!("aclassoc-{}", one.id.digits())),
        network_acl_id: Some(acl.id.to_string()),
        network_interface_id: Some(one.id.to_string()),
        subnet_id: None,
    });
    let associated = model.subnets.values().filter(|subnet| subnet.acl.as_ref() == Some(&acl.id));
    let subnets = associated.map(|one| NetworkAclAssociation {
        network_acl_association_id: Some(one.association.to_string()),
        network_acl_id: Some(acl.id.to_string()),
        network_interface_id: None,
        subnet_id: Some(one.id.to_string()),
    });
    // Without a name of its own it has that of its id, as in AWS.
    let name = (acl.name != acl.id.as_str())
        .then(|| Tag { key: Some(NAME_TAG.to_owned()), value: Some(acl.name.clone()) });
    let entries = [Direction::Egress, Direction::Ingress].into_iter().flat_map(|direction| {
        let entries = acl.entries_of(direction);
        entries.map(move |(number, entry)| acl_entry(direction, number, entry))
    });
    NetworkAcl {
        associations: Some(interfaces.chain(subnets).collect()),
        entries: Some(entries.collect()),
        is_default: Some(acl.is_default),
        network_acl_id: Some(acl.id.to_string()),
        tags: Some(name.into_iter().chain(tags(&acl.tags)).collect()),
        vpc_id: Some(acl.vpc.to_string()),
        owner_id: Some(identity.account.to_string()),
    }
}

fn acl_entry(direction: Direction, number: u16, entry: &AclEntry) -> NetworkAclEntry {
    let AclEntry { number: _, action, traffic, peer, end } = entry;
    let Ec2Traffic { protocol: _, from, to } = traffic.to_ec2();
    let is_icmp = matches!(traffic, Traffic::Icmp(_) | Traffic::Icmpv6(_));
    let has_ports = matches!(traffic, Traffic::Tcp(_) | Traffic::Udp(_));
    let mut item = NetworkAclEntry {
        egress: Some(direction == Direction::Egress),
        icmp_type_code: is_icmp.then_some(IcmpTypeCode { code: to, kind: from }),
        port_range: has_ports.then_some(AclPorts { from, to }),
        protocol: Some(traffic.protocol_number()),
        rule_action: Some(action.name().to_owned()),
        ends_at: end.map(|end| end.text()),
        rule_number: Some(number.into()),
        ..NetworkAclEntry::default()
    };
    match peer {
        Peer::Ipv4(network) => item.cidr_block = Some(network.to_string()),
        Peer::Ipv6(network) => item.ipv6_cidr_block = Some(network.to_string()),
        Peer::PrefixList(id) => item.prefix_list_id = Some(id.to_string()),
        // The model refuses them.
        Peer::Group(_) | Peer::Foreign(_) => {}
    }
    item
}

fn group(identity: &Identity, group: &Group) -> SecurityGroup {
    SecurityGroup {
        group_id: Some(group.id.to_string()),
        ip_permissions_egress: Some(permissions(identity, group, Direction::Egress)),
        tags: Some(tags(&group.tags)),
        vpc_id: Some(group.vpc.to_string()),
        security_group_arn: Some(identity.arn("security-group", group.id.as_str())),
        owner_id: Some(identity.account.to_string()),
        group_name: Some(group.name.clone()),
        description: Some(group.description.clone()),
        ip_permissions: Some(permissions(identity, group, Direction::Ingress)),
    }
}

/// The rules of one direction, those of one protocol and port range together, in an order that
/// depends on nothing but the rules.
fn permissions(identity: &Identity, group: &Group, direction: Direction) -> Vec<IpPermission> {
    let permission = |Permission { traffic, rules }| {
        let mut permission = IpPermission {
            ip_protocol: Some(traffic.protocol),
            from_port: traffic.from,
            to_port: traffic.to,
            user_id_group_pairs: Some(Vec::new()),
            ip_ranges: Some(Vec::new()),
            ipv6_ranges: Some(Vec::new()),
            prefix_list_ids: Some(Vec::new()),
        };
        rules.into_iter().for_each(|rule| add_peer(identity, &mut permission, rule));
        permission
    };
    group.permissions(direction).into_iter().map(permission).collect()
}

fn add_peer(identity: &Identity, permission: &mut IpPermission, rule: &Rule) {
    let (description, ends_at) = (some_text(&rule.description), rule.end.map(|end| end.text()));
    match &rule.spec.peer {
        Peer::Ipv4(network) => {
            let cidr_ip = Some(network.to_string());
            let range = IpRange { description, ends_at, cidr_ip };
            permission.ip_ranges.get_or_insert_default().push(range);
        }
        Peer::Ipv6(network) => {
            let cidr_ipv6 = Some(network.to_string());
            let range = Ipv6Range { description, ends_at, cidr_ipv6 };
            permission.ipv6_ranges.get_or_insert_default().push(range);
        }
        Peer::PrefixList(id) => {
            let prefix_list_id = Some(id.to_string());
            let list = PrefixListReference { description, ends_at, prefix_list_id };
            permission.prefix_list_ids.get_or_insert_default().push(list);
        }
        Peer::Group(id) => {
            permission.user_id_group_pairs.get_or_insert_default().push(UserIdGroupPair {
                description,
                ends_at,
                user_id: Some(identity.account.to_string()),
                group_id: Some(id.to_string()),
                ..UserIdGroupPair::default()
            });
        }
        Peer::Foreign(foreign) => {
            let ForeignGroup { group, account, vpc, peering } = &**foreign;
            permission.user_id_group_pairs.get_or_insert_default().push(UserIdGroupPair {
                description,
                ends_at,
                user_id: Some(owner_of(identity, account)),
                group_id: Some(group.to_string()),
                vpc_id: vpc.as_ref().map(ToString::to_string),
                vpc_peering_connection_id: peering.clone(),
                ..UserIdGroupPair::default()
            });
        }
    }
}

/// The account of a group: its own, or that of this host.
fn owner_of(identity: &Identity, account: &Option<String>) -> String {
    account.clone().unwrap_or_else(|| identity.account.to_string())
}

fn rule(identity: &Identity, group: &Group, rule: &Rule) -> SecurityGroupRule {
    let Ec2Traffic { protocol, from, to } = rule.spec.traffic.to_ec2();
    let mut item = SecurityGroupRule {
        security_group_rule_id: Some(rule.id.to_string()),
        group_id: Some(group.id.to_string()),
        group_owner_id: Some(identity.account.to_string()),
        is_egress: Some(rule.spec.direction == Direction::Egress),
        ip_protocol: Some(protocol),
        // Unlike in the document of groups, -1 where the protocol has no ports.
        from_port: Some(from.unwrap_or(-1)),
        to_port: Some(to.unwrap_or(-1)),
        description: some_text(&rule.description),
        ends_at: rule.end.map(|end| end.text()),
        tags: Some(tags(&rule.tags)),
        security_group_rule_arn: Some(identity.arn("security-group-rule", rule.id.as_str())),
        ..SecurityGroupRule::default()
    };
    match &rule.spec.peer {
        Peer::Ipv4(network) => item.cidr_ipv4 = Some(network.to_string()),
        Peer::Ipv6(network) => item.cidr_ipv6 = Some(network.to_string()),
        Peer::PrefixList(id) => item.prefix_list_id = Some(id.to_string()),
        Peer::Group(id) => {
            item.referenced_group_info = Some(ReferencedGroup {
                group_id: Some(id.to_string()),
                user_id: Some(identity.account.to_string()),
                ..ReferencedGroup::default()
            });
        }
        Peer::Foreign(foreign) => {
            let ForeignGroup { group, account, vpc, peering } = &**foreign;
            item.referenced_group_info = Some(ReferencedGroup {
                group_id: Some(group.to_string()),
                user_id: Some(owner_of(identity, account)),
                vpc_id: vpc.as_ref().map(ToString::to_string),
                vpc_peering_connection_id: peering.clone(),
            });
        }
    }
    item
}

fn prefix_list(identity: &Identity, list: &PrefixList) -> ManagedPrefixList {
    let entries = list.entries.iter().map(|(network, description)| Entry {
        cidr: Some(network.to_string()),
        description: some_text(description),
    });
    // AWS prints neither of its own lists.
    let max_entries =
        if list.is_aws { list.max_entries.map(u64::from) } else { Some(list.weight() as u64) };
    let version = (!list.is_aws || list.version > 1).then_some(list.version);
    let owner = if list.is_aws { AWS_OWNER.to_owned() } else { identity.account.to_string() };
    let arn = match list.is_aws {
        true => format!("arn:aws:ec2:{}:aws:prefix-list/{}", identity.region, list.id),
        false => identity.arn("prefix-list", list.id.as_str()),
    };
    ManagedPrefixList {
        prefix_list_id: Some(list.id.to_string()),
        address_family: Some(list.family.document_name().to_owned()),
        state: Some("create-complete".to_owned()),
        prefix_list_arn: Some(arn),
        prefix_list_name: Some(list.name.clone()),
        max_entries,
        version,
        tags: Some(tags(&list.tags)),
        owner_id: Some(owner),
        entries: Some(entries.collect()),
        has_separate_entries: None,
    }
}

fn tags(tags: &BTreeMap<String, String>) -> Vec<Tag> {
    tags.iter()
        .map(|(key, value)| Tag { key: Some(key.clone()), value: Some(value.clone()) })
        .collect()
}

fn some_text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}
