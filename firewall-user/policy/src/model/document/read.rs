//! The items of a document, parsed, each with its place in the document. [`crate::model::apply`] checks
//! whether this host can have them.

use std::collections::BTreeMap;
use std::str::FromStr;

use firewall_ebpf::abi::interface::Direction;
use ipnet::IpNet;

use super::{
    Document, Error, IpPermission, ManagedPrefixList, SecurityGroup, Tag, UserIdGroupPair,
};
use crate::model::{
    Error as ModelError, Family, GroupId, Peer, PrefixListId, RuleSpec, Traffic, group_description,
    group_name, parse_cidr, parse_entry, prefix_list_name, rule_description, tags,
};

/// All items of a document.
pub(crate) struct Wanted {
    pub(crate) lists: Vec<WantedList>,
    pub(crate) groups: Vec<WantedGroup>,
}

/// A prefix list of a document.
pub(crate) struct WantedList {
    pub(crate) path: String,
    pub(crate) id: Option<PrefixListId>,
    pub(crate) name: String,
    pub(crate) family: Family,
    pub(crate) version: u64,
    /// `None`: not to be changed.
    pub(crate) tags: Option<BTreeMap<String, String>>,
    pub(crate) entries: BTreeMap<IpNet, String>,
}

/// A group of a document.
pub(crate) struct WantedGroup {
    pub(crate) path: String,
    pub(crate) id: Option<GroupId>,
    pub(crate) name: String,
    pub(crate) description: String,
    /// The VPC it is from, for the message about two groups of one name.
    pub(crate) vpc: Option<String>,
    /// `None`: not to be changed.
    pub(crate) tags: Option<BTreeMap<String, String>>,
    pub(crate) rules: Vec<WantedRule>,
}

/// A rule of a document.
pub(crate) struct WantedRule {
    pub(crate) path: String,
    pub(crate) direction: Direction,
    pub(crate) traffic: Traffic,
    pub(crate) peer: WantedPeer,
    pub(crate) description: String,
}

/// A peer as the document names it.
pub(crate) enum WantedPeer {
    Network(IpNet),
    PrefixList(PrefixListId),
    GroupId(GroupId),
    GroupName(String),
}

impl Document {
    /// Parses the items.
    pub(crate) fn wanted(&self) -> Result<Wanted, Error> {
        let lists = self.prefix_lists.iter().flatten().enumerate();
        let groups = self.security_groups.iter().flatten().enumerate();
        Ok(Wanted {
            lists: lists
                .map(|(index, list)| read_list(format!("PrefixLists[{index}]"), list))
                .collect::<Result<_, _>>()?,
            groups: groups
                .map(|(index, group)| read_group(format!("SecurityGroups[{index}]"), group))
                .collect::<Result<_, _>>()?,
        })
    }
}

fn read_list(path: String, list: &ManagedPrefixList) -> Result<WantedList, Error> {
    let place = |key: &str| format!("{path}.{key}");
    let name = required(&list.prefix_list_name, place("PrefixListName"), "name the prefix list")?;
    let name = prefix_list_name(name).map_err(Error::at(&place("PrefixListName")))?;
    let hint = r#"write "AddressFamily": "IPv4" or "IPv6""#;
    let family = match required(&list.address_family, place("AddressFamily"), hint)?.as_str() {
        "IPv4" => Family::Ipv4,
        "IPv6" => Family::Ipv6,
        other => {
            let reason = format!("unknown address family {other:?}");
            return Err(Error::Foreign { path: place("AddressFamily"), reason, hint });
        }
    };
    let hint = "AWS prints the entries with aws ec2 get-managed-prefix-list-entries: \
                add its Entries array here";
    let mut entries = BTreeMap::new();
    for (index, entry) in required(&list.entries, place("Entries"), hint)?.iter().enumerate() {
        let at = place(&format!("Entries[{index}]"));
        let cidr = required(&entry.cidr, format!("{at}.Cidr"), "name a network")?;
        let network = parse_entry(cidr, family).map_err(Error::at(&format!("{at}.Cidr")))?;
        let description = read_description(&entry.description, &at)?;
        if entries.insert(network, description).is_some() {
            return Err(Error::at(&at)(ModelError::EntryRepeated(network)));
        }
    }
    Ok(WantedList {
        id: read_id(&list.prefix_list_id, &place("PrefixListId"))?,
        name,
        family,
        version: list.version.unwrap_or(1).max(1),
        tags: read_tags(&list.tags, &path)?,
        entries,
        path,
    })
}

fn read_group(path: String, group: &SecurityGroup) -> Result<WantedGroup, Error> {
    let place = |key: &str| format!("{path}.{key}");
    let name = required(&group.group_name, place("GroupName"), "name the group")?;
    let name = group_name(name).map_err(Error::at(&place("GroupName")))?;
    let description = required(&group.description, place("Description"), "describe the group")?;
    let description = group_description(description).map_err(Error::at(&place("Description")))?;
    let mut rules = Vec::new();
    for (key, permissions, direction, hint) in [
        (
            "IpPermissions",
            &group.ip_permissions,
            Direction::Ingress,
            // A group whose key is misspelt must not lose its rules.
            r#"write "IpPermissions": [] to let nothing in"#,
        ),
        (
            "IpPermissionsEgress",
            &group.ip_permissions_egress,
            Direction::Egress,
            r#"write "IpPermissionsEgress": [] to let nothing out"#,
        ),
    ] {
        for (index, permission) in required(permissions, place(key), hint)?.iter().enumerate() {
            let at = place(&format!("{key}[{index}]"));
            read_permission(&at, group, permission, direction, &mut rules)?;
        }
    }
    Ok(WantedGroup {
        id: read_id(&group.group_id, &place("GroupId"))?,
        name,
        description,
        vpc: group.vpc_id.clone(),
        tags: read_tags(&group.tags, &path)?,
        rules,
        path,
    })
}

fn read_permission(
    path: &str,
    group: &SecurityGroup,
    permission: &IpPermission,
    direction: Direction,
    rules: &mut Vec<WantedRule>,
) -> Result<(), Error> {
    let place = format!("{path}.IpProtocol");
    let hint = r#"write "IpProtocol": "-1" for every protocol"#;
    let protocol = required(&permission.ip_protocol, place.clone(), hint)?;
    let traffic =
        Traffic::from_ec2(protocol, permission.from_port, permission.to_port).map_err(|error| {
            match error {
                ModelError::Protocol { .. } => Error::at(&place)(error),
                error => Error::at(path)(error),
            }
        })?;
    let before = rules.len();
    let mut add = |path: String, peer, description: &Option<String>| {
        let description = read_description(description, &path)?;
        if let WantedPeer::Network(network) = &peer {
            RuleSpec::new(direction, traffic, Peer::from(*network)).map_err(Error::at(&path))?;
        }
        rules.push(WantedRule { path, direction, traffic, peer, description });
        Ok(())
    };
    for (index, range) in permission.ip_ranges.iter().flatten().enumerate() {
        let at = format!("{path}.IpRanges[{index}]");
        let network = read_network(&range.cidr_ip, format!("{at}.CidrIp"), Family::Ipv4)?;
        add(at, WantedPeer::Network(network), &range.description)?;
    }
    for (index, range) in permission.ipv6_ranges.iter().flatten().enumerate() {
        let at = format!("{path}.Ipv6Ranges[{index}]");
        let network = read_network(&range.cidr_ipv6, format!("{at}.CidrIpv6"), Family::Ipv6)?;
        add(at, WantedPeer::Network(network), &range.description)?;
    }
    for (index, list) in permission.prefix_list_ids.iter().flatten().enumerate() {
        let at = format!("{path}.PrefixListIds[{index}]");
        let place = format!("{at}.PrefixListId");
        let id = read_id(&list.prefix_list_id, &place)?
            .ok_or(Error::Missing { path: place, hint: "name a prefix list" })?;
        add(at, WantedPeer::PrefixList(id), &list.description)?;
    }
    for (index, pair) in permission.user_id_group_pairs.iter().flatten().enumerate() {
        let at = format!("{path}.UserIdGroupPairs[{index}]");
        let peer = read_pair(&at, group, pair)?;
        add(at, peer, &pair.description)?;
    }
    if rules.len() == before {
        return Err(Error::Missing {
            path: format!("{path}: a peer"),
            hint: "name at least one in IpRanges, Ipv6Ranges, PrefixListIds or UserIdGroupPairs",
        });
    }
    Ok(())
}

fn read_network(text: &Option<String>, path: String, family: Family) -> Result<IpNet, Error> {
    let text = required(text, path.clone(), "name a network")?;
    let network = parse_cidr(text).map_err(Error::at(&path))?;
    if Family::of(&network) == family {
        return Ok(network);
    }
    Err(Error::Foreign {
        path,
        reason: format!("{network} is not an {} network", family.document_name()),
        hint: "IPv4 networks go into IpRanges as CidrIp, IPv6 networks into Ipv6Ranges as CidrIpv6",
    })
}

/// A group as a peer. The addresses in groups of other accounts and VPCs are not known here.
fn read_pair(
    path: &str,
    group: &SecurityGroup,
    pair: &UserIdGroupPair,
) -> Result<WantedPeer, Error> {
    let foreign = |reason| {
        Err(Error::Foreign {
            path: path.to_owned(),
            reason,
            hint: "the addresses in it are not known on this host: name its networks instead",
        })
    };
    let differ = |one: &Option<String>, two: &Option<String>| matches!((one, two), (Some(one), Some(two)) if one != two);
    if let Some(peering) = &pair.vpc_peering_connection_id {
        return foreign(format!("the group is reached through the VPC peering {peering:?}"));
    }
    if differ(&pair.user_id, &group.owner_id) {
        let account = pair.user_id.as_deref().unwrap_or_default();
        return foreign(format!("the group belongs to another account, {account:?}"));
    }
    if differ(&pair.vpc_id, &group.vpc_id) {
        let vpc = pair.vpc_id.as_deref().unwrap_or_default();
        return foreign(format!("the group belongs to another VPC, {vpc:?}"));
    }
    match (read_id(&pair.group_id, &format!("{path}.GroupId"))?, &pair.group_name) {
        (Some(id), _) => Ok(WantedPeer::GroupId(id)),
        (None, Some(name)) => Ok(WantedPeer::GroupName(name.clone())),
        (None, None) => {
            Err(Error::Missing { path: format!("{path}.GroupId"), hint: "name a group" })
        }
    }
}

fn read_id<T: FromStr<Err = ModelError>>(
    text: &Option<String>,
    path: &str,
) -> Result<Option<T>, Error> {
    text.as_deref().map(|text| text.parse().map_err(Error::at(path))).transpose()
}

fn read_description(text: &Option<String>, path: &str) -> Result<String, Error> {
    rule_description(text.as_deref().unwrap_or_default())
        .map_err(Error::at(&format!("{path}.Description")))
}

fn read_tags(
    list: &Option<Vec<Tag>>,
    path: &str,
) -> Result<Option<BTreeMap<String, String>>, Error> {
    let Some(list) = list else { return Ok(None) };
    let mut pairs = Vec::new();
    for (index, tag) in list.iter().enumerate() {
        let hint = "a tag has a Key and a Value";
        let key = required(&tag.key, format!("{path}.Tags[{index}].Key"), hint)?;
        // Reserved tags name the AWS service that created the group.
        if !key.starts_with(tags::RESERVED) {
            pairs.push((key.clone(), tag.value.clone().unwrap_or_default()));
        }
    }
    tags::collect(pairs).map(Some).map_err(Error::at(&format!("{path}.Tags")))
}

fn required<'a, T>(field: &'a Option<T>, path: String, hint: &'static str) -> Result<&'a T, Error> {
    field.as_ref().ok_or(Error::Missing { path, hint })
}
