//! The items of a document, parsed, each with its place in the document. [`crate::model::apply`] checks
//! whether this host can have them.

use std::collections::{BTreeMap, HashSet};
use std::str::FromStr;

use firewall_ebpf::abi::interface::Direction;
use ipnet::IpNet;

use super::{
    A_PEER, AWS_OWNER, Document, Error, Findings, IpPermission, ManagedPrefixList, SecurityGroup,
    Tag, UserIdGroupPair,
};
use crate::model::{
    End, Entries, Error as ModelError, Family, ForeignGroup, GroupId, Moment, PrefixListId, RuleId,
    Traffic, VpcId, aws_list_name, canonicalised, group_description, group_name, is_owner,
    is_peering, parse_cidr, parse_entry, parse_rfc3339, prefix_list_name, rule_description, tags,
};

mod acl;
mod items;
mod vpc;

pub(crate) use acl::{WantedAcl, WantedAclEntry};
use acl::{name_tag, read_acl};
pub(crate) use vpc::{WantedSubnet, WantedVpc};
use vpc::{read_subnet, read_vpc};

/// All items of a document that can be read.
pub(crate) struct Wanted {
    pub(crate) lists: Vec<WantedList>,
    pub(crate) groups: Vec<WantedGroup>,
    pub(crate) acls: Vec<WantedAcl>,
    pub(crate) vpcs: Vec<WantedVpc>,
    pub(crate) subnets: Vec<WantedSubnet>,
    pub(crate) broken: Broken,
}

/// What items that cannot be read, or are refused, are called in the document: that another item refers to
/// one of them is no error of its own.
#[derive(Debug, Default)]
pub(crate) struct Broken {
    words: HashSet<String>,
}

impl Broken {
    pub(crate) fn insert(&mut self, words: [Option<&str>; 2]) {
        self.words.extend(words.into_iter().flatten().map(str::to_ascii_lowercase));
    }

    pub(crate) fn contains(&self, word: &str) -> bool {
        self.words.contains(&word.to_ascii_lowercase())
    }
}

/// A prefix list of a document.
pub(crate) struct WantedList {
    pub(crate) path: String,
    pub(crate) id: Option<PrefixListId>,
    pub(crate) name: String,
    pub(crate) family: Family,
    pub(crate) version: u64,
    /// Whether AWS manages it.
    pub(crate) is_aws: bool,
    /// What the document has as `MaxEntries`.
    pub(crate) weight: Option<u64>,
    /// As in [`crate::model::PrefixList`].
    pub(crate) max_entries: Option<u32>,
    /// `None`: not to be changed.
    pub(crate) tags: Option<BTreeMap<String, String>>,
    /// `None`: not in the document.
    pub(crate) entries: Option<Entries>,
}

/// A group of a document.
pub(crate) struct WantedGroup {
    pub(crate) path: String,
    pub(crate) id: Option<GroupId>,
    pub(crate) name: String,
    pub(crate) description: String,
    /// The VPC it is from; `None`: the default one of this host.
    pub(crate) vpc: Option<VpcId>,
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
    pub(crate) end: Option<End>,
    /// `None`: not in the document.
    pub(crate) id: Option<RuleId>,
    /// `None`: not to be changed.
    pub(crate) tags: Option<BTreeMap<String, String>>,
}

/// A peer as the document names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WantedPeer {
    Network(IpNet),
    PrefixList(PrefixListId),
    /// A group by id, with what is said about it in case that it is not on this host.
    Group(ForeignGroup),
    GroupName(String),
}

impl Document {
    /// Parses the items; what is wrong with any of them is in the findings.
    pub(crate) fn wanted(&self, findings: &mut Findings) -> Wanted {
        findings.errors = self.mistyped.clone();
        let mut broken = Broken::default();
        let mut lists = Vec::new();
        for (index, list) in self.prefix_lists.iter().flatten().enumerate() {
            match read_list(findings, format!("PrefixLists[{index}]"), list) {
                Some(list) => lists.push(list),
                None => broken.insert([list.prefix_list_id.as_deref(), None]),
            }
        }
        let mut groups = Vec::new();
        for (index, group) in self.security_groups.iter().flatten().enumerate() {
            match read_group(findings, format!("SecurityGroups[{index}]"), group, self.now) {
                Some(group) => groups.push(group),
                None => broken.insert([group.group_id.as_deref(), group.group_name.as_deref()]),
            }
        }
        let items = self.security_group_rules.as_deref().unwrap_or_default();
        items::add_items(findings, items, &mut groups);
        let mut vpcs = Vec::new();
        for (index, vpc) in self.vpcs.iter().flatten().enumerate() {
            vpcs.extend(read_vpc(findings, format!("Vpcs[{index}]"), vpc));
        }
        let mut subnets = Vec::new();
        for (index, subnet) in self.subnets.iter().flatten().enumerate() {
            subnets.extend(read_subnet(findings, format!("Subnets[{index}]"), subnet));
        }
        let mut acls = Vec::new();
        for (index, acl) in self.network_acls.iter().flatten().enumerate() {
            match read_acl(findings, format!("NetworkAcls[{index}]"), acl, self.now) {
                Some(acl) => acls.push(acl),
                None => broken.insert([acl.network_acl_id.as_deref(), name_tag(acl)]),
            }
        }
        Wanted { lists, groups, acls, vpcs, subnets, broken }
    }
}

fn read_list(
    findings: &mut Findings,
    path: String,
    list: &ManagedPrefixList,
) -> Option<WantedList> {
    let place = |key: &str| format!("{path}.{key}");
    let is_aws = list.owner_id.as_deref() == Some(AWS_OWNER);
    let checked = if is_aws { aws_list_name } else { prefix_list_name };
    let name = required(&list.prefix_list_name, place("PrefixListName"), "name the prefix list")
        .and_then(|name| checked(name).map_err(Error::at(&place("PrefixListName"))));
    let name = findings.ok(name);
    let family = findings.ok(read_family(&list.address_family, place("AddressFamily")));
    let id = findings.ok(read_id(&list.prefix_list_id, &place("PrefixListId")));
    let tags = findings.ok(read_tags(&list.tags, &path));
    let mut entries = BTreeMap::new();
    for (index, entry) in list.entries.iter().flatten().enumerate() {
        let at = place(&format!("Entries[{index}]"));
        let place = format!("{at}.Cidr");
        let cidr = findings.ok(required(&entry.cidr, place.clone(), "name a network"));
        let description = findings.ok(read_description(&entry.description, &at));
        let network = cidr.and_then(|cidr| {
            warn_of_host_bits(findings, &place, cidr);
            let network = match family {
                Some(family) => parse_entry(cidr, family),
                None => parse_cidr(cidr),
            };
            findings.ok(network.map_err(Error::at(&place)))
        });
        if let (Some(network), Some(description)) = (network, description)
            && entries.insert(network, description).is_some()
        {
            findings.refuse(&at, ModelError::EntryRepeated(network));
        }
    }
    Some(WantedList {
        id: id?,
        name: name?,
        family: family?,
        version: list.version.unwrap_or(1).max(1),
        is_aws,
        weight: list.max_entries,
        max_entries: max_entries(list).map(|max| u32::try_from(max).unwrap_or(u32::MAX)),
        tags: tags?,
        entries: list.entries.is_some().then(|| entries.into_iter().collect()),
        path,
    })
}

/// The size that a list was given. A list of this host that was not given one has as many as it has entries in
/// its document, which has them in it.
fn max_entries(list: &ManagedPrefixList) -> Option<u64> {
    let is_separate = list.has_separate_entries.unwrap_or_default();
    let own = list.entries.as_ref().filter(|_| !is_separate);
    let least = own.map_or(0, |entries| entries.len().max(1) as u64);
    list.max_entries.filter(|max| *max > least)
}

fn read_family(text: &Option<String>, path: String) -> Result<Family, Error> {
    let hint = r#"write "AddressFamily": "IPv4" or "IPv6""#;
    match required(text, path.clone(), hint)?.as_str() {
        "IPv4" => Ok(Family::Ipv4),
        "IPv6" => Ok(Family::Ipv6),
        other => {
            let reason = format!("unknown address family {other:?}");
            Err(Error::Foreign { path, reason, hint })
        }
    }
}

fn read_group(
    findings: &mut Findings,
    path: String,
    group: &SecurityGroup,
    now: Moment,
) -> Option<WantedGroup> {
    let place = |key: &str| format!("{path}.{key}");
    let name = required(&group.group_name, place("GroupName"), "name the group")
        .and_then(|name| group_name(name).map_err(Error::at(&place("GroupName"))));
    let name = findings.ok(name);
    let description = required(&group.description, place("Description"), "describe the group")
        .and_then(|text| group_description(text).map_err(Error::at(&place("Description"))));
    let description = findings.ok(description);
    let id = findings.ok(read_id(&group.group_id, &place("GroupId")));
    let vpc = findings.ok(read_id(&group.vpc_id, &place("VpcId")));
    let tags = findings.ok(read_tags(&group.tags, &path));
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
        let permissions = findings.ok(required(permissions, place(key), hint));
        for (index, permission) in permissions.into_iter().flatten().enumerate() {
            let at = place(&format!("{key}[{index}]"));
            read_permission(findings, &at, group, permission, direction, now, &mut rules);
        }
    }
    Some(WantedGroup {
        id: id?,
        name: name?,
        description: description?,
        vpc: vpc?,
        tags: tags?,
        rules,
        path,
    })
}

fn read_permission(
    findings: &mut Findings,
    path: &str,
    group: &SecurityGroup,
    permission: &IpPermission,
    direction: Direction,
    now: Moment,
    rules: &mut Vec<WantedRule>,
) {
    // Without a port that cannot be read, the others do not fit the protocol.
    let is_unread = findings.left_out(path, &["IpProtocol", "FromPort", "ToPort"]);
    let traffic = read_traffic(path, permission);
    let traffic = if is_unread { traffic.ok() } else { findings.ok(traffic) };
    let mut peers = Vec::new();
    for (index, range) in permission.ip_ranges.iter().flatten().enumerate() {
        let at = format!("{path}.IpRanges[{index}]");
        let place = format!("{at}.CidrIp");
        let network = read_network(findings, &range.cidr_ip, &place, Family::Ipv4);
        peers.push((at, network.map(WantedPeer::Network), &range.description, &range.ends_at));
    }
    for (index, range) in permission.ipv6_ranges.iter().flatten().enumerate() {
        let at = format!("{path}.Ipv6Ranges[{index}]");
        let place = format!("{at}.CidrIpv6");
        let network = read_network(findings, &range.cidr_ipv6, &place, Family::Ipv6);
        peers.push((at, network.map(WantedPeer::Network), &range.description, &range.ends_at));
    }
    for (index, list) in permission.prefix_list_ids.iter().flatten().enumerate() {
        let at = format!("{path}.PrefixListIds[{index}]");
        let place = format!("{at}.PrefixListId");
        let id = read_id(&list.prefix_list_id, &place)
            .and_then(|id| id.ok_or(Error::Missing { path: place, hint: "name a prefix list" }));
        peers.push((
            at,
            findings.ok(id).map(WantedPeer::PrefixList),
            &list.description,
            &list.ends_at,
        ));
    }
    for (index, pair) in permission.user_id_group_pairs.iter().flatten().enumerate() {
        let at = format!("{path}.UserIdGroupPairs[{index}]");
        let peer = findings.ok(read_pair(&at, group, pair));
        peers.push((at, peer, &pair.description, &pair.ends_at));
    }
    let keys = ["IpRanges", "Ipv6Ranges", "PrefixListIds", "UserIdGroupPairs"];
    if peers.is_empty() && !findings.left_out(path, &keys) {
        findings.error(Error::Missing {
            path: format!("{path}{A_PEER}"),
            hint: "name at least one in IpRanges, Ipv6Ranges, PrefixListIds or UserIdGroupPairs",
        });
    }
    for (path, peer, description, ends_at) in peers {
        let description = findings.ok(read_description(description, &path));
        let end = read_end(findings, ends_at, &path, now);
        if let (Some(traffic), Some(peer), Some(description), Some(end)) =
            (traffic, peer, description, end)
        {
            let (id, tags) = (None, None);
            rules.push(WantedRule { path, direction, traffic, peer, description, end, id, tags });
        }
    }
}

fn read_traffic(path: &str, permission: &IpPermission) -> Result<Traffic, Error> {
    let place = format!("{path}.IpProtocol");
    let hint = r#"write "IpProtocol": "-1" for every protocol"#;
    let protocol = required(&permission.ip_protocol, place.clone(), hint)?;
    Traffic::from_ec2(protocol, permission.from_port, permission.to_port).map_err(|error| {
        match error {
            ModelError::Protocol { .. } => Error::at(&place)(error),
            error => Error::at(path)(error),
        }
    })
}

fn read_network(
    findings: &mut Findings,
    text: &Option<String>,
    path: &str,
    family: Family,
) -> Option<IpNet> {
    let text = findings.ok(required(text, path.to_owned(), "name a network"))?;
    warn_of_host_bits(findings, path, text);
    let network = findings.ok(parse_cidr(text).map_err(Error::at(path)))?;
    if Family::of(&network) == family {
        return Some(network);
    }
    findings.error(Error::Foreign {
        path: path.to_owned(),
        reason: format!("{network} is not an {} network", family.document_name()),
        hint: if path.ends_with("Block") {
            "IPv4 networks are a CidrBlock, IPv6 networks an Ipv6CidrBlock"
        } else {
            "IPv4 networks go into IpRanges as CidrIp, IPv6 networks into Ipv6Ranges as CidrIpv6"
        },
    });
    None
}

/// EC2 makes the same network of it.
fn warn_of_host_bits(findings: &mut Findings, path: &str, text: &str) {
    if let Some(network) = canonicalised(text) {
        findings.warn(path, format!("{text} is stored as {network}"));
    }
}

/// A group as a peer: with its account and VPC where these are not those of `group`.
fn read_pair(
    path: &str,
    group: &SecurityGroup,
    pair: &UserIdGroupPair,
) -> Result<WantedPeer, Error> {
    let place = |key: &str| format!("{path}.{key}");
    let other = |one: &Option<String>, two: &Option<String>| {
        one.clone().filter(|one| two.as_ref().is_some_and(|two| one != two))
    };
    let account = other(&pair.user_id, &group.owner_id);
    let vpc = other(&pair.vpc_id, &group.vpc_id);
    let peering = pair.vpc_peering_connection_id.clone();
    for (key, text, is_well_formed, hint) in [
        ("UserId", &account, is_owner as fn(&str) -> bool, "an account has 12 digits"),
        (
            "VpcPeeringConnectionId",
            &peering,
            is_peering,
            "a VPC peering has an id of the form pcx-… with 17 hexadecimal digits",
        ),
    ] {
        if let Some(text) = text.as_deref().filter(|text| !is_well_formed(text)) {
            let reason = format!("{text:?} is malformed");
            return Err(Error::Foreign { path: place(key), reason, hint });
        }
    }
    let vpc = read_id(&vpc, &place("VpcId"))?;
    match (read_id(&pair.group_id, &place("GroupId"))?, &pair.group_name) {
        (Some(group), _) => Ok(WantedPeer::Group(ForeignGroup { group, account, vpc, peering })),
        (None, Some(name)) => Ok(WantedPeer::GroupName(name.clone())),
        (None, None) => Err(Error::Missing { path: place("GroupId"), hint: "name a group" }),
    }
}

/// The id of an item that must have one.
fn own_id<T>(findings: &mut Findings, text: &Option<String>, path: String) -> Option<T>
where
    T: FromStr<Err = ModelError>,
{
    let id = required(text, path.clone(), "name it by its id");
    findings.ok(id)?;
    findings.ok(read_id(text, &path)).flatten()
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

/// The end of an item, or of something else that has a key `EndsAt`: `None` if it cannot be read, or is over,
/// so that the item is left out.
pub(crate) fn read_end(
    findings: &mut Findings,
    text: &Option<String>,
    path: &str,
    now: Moment,
) -> Option<Option<End>> {
    let Some(text) = text else { return Some(None) };
    let place = format!("{path}.EndsAt");
    let wall = findings.ok(parse_rfc3339(text).map_err(Error::at(&place)))?;
    match End::at(wall, now) {
        Ok(end) => Some(Some(end)),
        Err(ModelError::EndOver(time)) => {
            findings.warn(path, format!("it ended at {time} and is left out"));
            None
        }
        Err(error) => findings.ok(Err(Error::at(&place)(error))),
    }
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
