//! The network ACLs of a document.

use std::collections::BTreeMap;

use firewall_ebpf::abi::interface::Direction;

use super::{Error, Findings, WantedPeer, read_end, read_id, read_network, read_tags, required};
use crate::model::check::acl_entry_number;
use crate::model::document::{NetworkAcl, NetworkAclAssociation, NetworkAclEntry};
use crate::model::{
    AclId, Action, DEFAULT_ACL, End, Error as ModelError, Family, InterfaceId, LAST_V4, LAST_V6,
    Moment, SubnetId, Traffic, VpcId, acl_name, tags,
};

/// Ids, each with its place.
type Placed<T> = Vec<(String, T)>;

/// A network ACL of a document.
pub(crate) struct WantedAcl {
    pub(crate) path: String,
    pub(crate) id: Option<AclId>,
    /// The VPC it is from; `None`: the default one of this host.
    pub(crate) vpc: Option<VpcId>,
    /// `None`: as it is on this host, or the id.
    pub(crate) name: Option<String>,
    pub(crate) is_default: bool,
    /// Without the name; `None`: not to be changed.
    pub(crate) tags: Option<BTreeMap<String, String>>,
    pub(crate) entries: Vec<WantedAclEntry>,
    /// The interfaces that it has where it was printed, each with its place.
    pub(crate) interfaces: Placed<InterfaceId>,
    /// The subnets that it has, each with its place.
    pub(crate) subnets: Placed<SubnetId>,
}

/// An entry of a network ACL of a document.
pub(crate) struct WantedAclEntry {
    pub(crate) path: String,
    pub(crate) direction: Direction,
    pub(crate) number: u16,
    pub(crate) action: Action,
    pub(crate) traffic: Traffic,
    pub(crate) peer: WantedPeer,
    pub(crate) end: Option<End>,
}

/// The value of the tag that is the name.
pub(super) fn name_tag(acl: &NetworkAcl) -> Option<&str> {
    let mut tags = acl.tags.iter().flatten();
    let name = tags.find(|tag| tag.key.as_deref() == Some(tags::NAME))?;
    name.value.as_deref().filter(|name| !name.is_empty())
}

pub(super) fn read_acl(
    findings: &mut Findings,
    path: String,
    acl: &NetworkAcl,
    now: Moment,
) -> Option<WantedAcl> {
    let place = |key: &str| format!("{path}.{key}");
    let id = findings.ok(read_id::<AclId>(&acl.network_acl_id, &place("NetworkAclId")));
    let vpc = findings.ok(read_id::<VpcId>(&acl.vpc_id, &place("VpcId")));
    let is_default = acl.is_default.unwrap_or_default();
    let name = match name_tag(acl) {
        Some(name) if is_default => {
            if !name.eq_ignore_ascii_case(DEFAULT_ACL) {
                let text = format!(
                    "the default network ACL has the name {DEFAULT_ACL} on this host, not {name:?}"
                );
                findings.warn(&place("Tags"), text);
            }
            Some(None)
        }
        // What AWS prints without a name has its id as its name.
        Some(name) if acl.network_acl_id.as_deref() == Some(name) => Some(None),
        Some(name) => findings.ok(acl_name(name).map_err(Error::at(&place("Tags")))).map(Some),
        None if !is_default && acl.network_acl_id.is_none() => {
            findings.error(Error::Missing {
                path: place("NetworkAclId"),
                hint: "name the network ACL by its id, or by the tag Name",
            });
            None
        }
        None => Some(None),
    };
    let tags = findings.ok(read_tags(&acl.tags, &path)).map(|tags| {
        tags.map(|mut tags| {
            tags.remove(tags::NAME);
            tags
        })
    });
    // A document whose key is misspelt must not remove every entry.
    let hint = r#"write "Entries": [] for the last entries alone, which deny everything"#;
    let given = findings.ok(required(&acl.entries, place("Entries"), hint));
    let mut entries = Vec::new();
    for (index, entry) in given.into_iter().flatten().enumerate() {
        entries.extend(read_entry(findings, place(&format!("Entries[{index}]")), entry, now));
    }
    let associations = acl.associations.as_deref().unwrap_or_default();
    let (interfaces, subnets) = read_associations(findings, &place("Associations"), associations);
    Some(WantedAcl {
        id: id?,
        vpc: vpc?,
        name: name?,
        is_default,
        tags: tags?,
        entries,
        interfaces,
        subnets,
        path,
    })
}

/// An entry; `None` also for one that has ended, and for the last ones, which every network ACL has.
fn read_entry(
    findings: &mut Findings,
    path: String,
    entry: &NetworkAclEntry,
    now: Moment,
) -> Option<WantedAclEntry> {
    let place = |key: &str| format!("{path}.{key}");
    let egress = required(&entry.egress, place("Egress"), r#"write "Egress": true or false"#);
    let direction = findings
        .ok(egress)
        .map(|is_egress| if *is_egress { Direction::Egress } else { Direction::Ingress });
    let action = findings.ok(read_action(&entry.rule_action, place("RuleAction")));
    let hint = "the entry with the lowest number that matches a packet decides: write 1 to 32766";
    let number = findings.ok(required(&entry.rule_number, place("RuleNumber"), hint)).copied();
    let keys = ["Protocol", "PortRange", "IcmpTypeCode"];
    // Without a value that cannot be read, the others do not fit the protocol.
    let is_unread = findings.left_out(&path, &keys)
        || ["From", "To"].iter().any(|key| findings.left_out(&place("PortRange"), &[key]))
        || ["Type", "Code"].iter().any(|key| findings.left_out(&place("IcmpTypeCode"), &[key]));
    let traffic = read_traffic(&path, entry);
    let traffic = if is_unread { traffic.ok() } else { findings.ok(traffic) };
    let peer = read_peer(findings, &path, entry);
    if let Some(number) = number
        && is_last(number)
    {
        if (action, traffic, &peer) != (Some(Action::Deny), Some(Traffic::All), &last_peer(number))
        {
            findings.ok(acl_entry_number(number).map_err(Error::at(&path)));
        }
        return None;
    }
    let end = read_end(findings, &entry.ends_at, &path, now);
    let number = findings.ok(acl_entry_number(number?).map_err(Error::at(&place("RuleNumber"))));
    Some(WantedAclEntry {
        direction: direction?,
        number: number?,
        action: action?,
        traffic: traffic?,
        peer: peer?,
        end: end?,
        path,
    })
}

/// Whether an entry is one of those that cannot be changed.
fn is_last(number: i64) -> bool {
    [LAST_V4, LAST_V6].into_iter().any(|last| i64::from(last) == number)
}

/// The peer of a last entry.
fn last_peer(number: i64) -> Option<WantedPeer> {
    let everything = if number == i64::from(LAST_V4) { "0.0.0.0/0" } else { "::/0" };
    everything.parse().ok().map(WantedPeer::Network)
}

fn read_action(text: &Option<String>, path: String) -> Result<Action, Error> {
    let hint = r#"write "RuleAction": "allow" or "deny""#;
    let text = required(text, path.clone(), hint)?;
    Action::ALL.into_iter().find(|action| action.name() == text).ok_or_else(|| {
        let reason = format!("unknown action {text:?}");
        Error::Foreign { path, reason, hint }
    })
}

fn read_traffic(path: &str, entry: &NetworkAclEntry) -> Result<Traffic, Error> {
    let place = format!("{path}.Protocol");
    let hint = r#"write "Protocol": "-1" for every protocol"#;
    let protocol = required(&entry.protocol, place.clone(), hint)?;
    let ports = entry.port_range.as_ref().map(|ports| (ports.from, ports.to));
    let icmp = entry.icmp_type_code.as_ref().map(|icmp| (icmp.kind, icmp.code));
    let is_icmp = matches!(protocol.to_ascii_lowercase().as_str(), "1" | "icmp" | "58" | "icmpv6");
    let (from, to) = if is_icmp { icmp } else { ports }.unwrap_or_default();
    Traffic::from_ec2(protocol, from, to).map_err(|error| match error {
        ModelError::Protocol { .. } => Error::at(&place)(error),
        error => Error::at(path)(error),
    })
}

fn read_peer(findings: &mut Findings, path: &str, entry: &NetworkAclEntry) -> Option<WantedPeer> {
    let NetworkAclEntry { cidr_block, ipv6_cidr_block, prefix_list_id, .. } = entry;
    let place = |key: &str| format!("{path}.{key}");
    match (cidr_block, ipv6_cidr_block, prefix_list_id) {
        (Some(_), None, None) => {
            read_network(findings, cidr_block, &place("CidrBlock"), Family::Ipv4)
                .map(WantedPeer::Network)
        }
        (None, Some(_), None) => {
            read_network(findings, ipv6_cidr_block, &place("Ipv6CidrBlock"), Family::Ipv6)
                .map(WantedPeer::Network)
        }
        (None, None, Some(_)) => {
            let id = findings.ok(read_id(prefix_list_id, &place("PrefixListId"))).flatten();
            id.map(WantedPeer::PrefixList)
        }
        (None, None, None) => {
            let keys = ["CidrBlock", "Ipv6CidrBlock", "PrefixListId"];
            if !findings.left_out(path, &keys) {
                findings.error(Error::Missing {
                    path: format!("{path}{}", super::A_PEER),
                    hint: "name one in CidrBlock, Ipv6CidrBlock or PrefixListId",
                });
            }
            None
        }
        _ => {
            findings.error(Error::Foreign {
                path: path.to_owned(),
                reason: "the entry has more than one peer".to_owned(),
                hint: "write an entry with a number of its own for each",
            });
            None
        }
    }
}

fn read_associations(
    findings: &mut Findings,
    path: &str,
    associations: &[NetworkAclAssociation],
) -> (Placed<InterfaceId>, Placed<SubnetId>) {
    let (mut interfaces, mut subnets) = (Vec::new(), Vec::new());
    for (index, one) in associations.iter().enumerate() {
        let place = format!("{path}[{index}].NetworkInterfaceId");
        let id = findings.ok(read_id(&one.network_interface_id, &place)).flatten();
        interfaces.extend(id.map(|id| (place, id)));
        let place = format!("{path}[{index}].SubnetId");
        let id = findings.ok(read_id(&one.subnet_id, &place)).flatten();
        subnets.extend(id.map(|id| (place, id)));
    }
    (interfaces, subnets)
}
