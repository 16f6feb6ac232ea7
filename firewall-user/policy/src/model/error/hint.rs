//! What to do about an error.

use super::{Error, User};
use crate::model::{
    AclId, EtherType, Family, FlowLogId, GroupId, PrefixListId, RuleId, SubnetId, VpcId, label,
};

impl Error {
    /// What to do about it, if that does not follow from the message.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::IdMalformed { prefix, .. } => match *prefix {
                GroupId::PREFIX => "`secgroup group list` shows the ids".to_owned(),
                RuleId::PREFIX => "`secgroup rule list` shows the ids".to_owned(),
                PrefixListId::PREFIX => "`secgroup prefix-list list` shows the ids".to_owned(),
                FlowLogId::PREFIX => "`secgroup flow-log list` shows the ids".to_owned(),
                AclId::PREFIX => "`secgroup acl list` shows the ids".to_owned(),
                VpcId::PREFIX | SubnetId::PREFIX => "`secgroup vpc list` shows the ids".to_owned(),
                _ => "`secgroup status --output json` shows the ids".to_owned(),
            },
            Self::TextCharacter { .. } => {
                "use letters, digits, spaces and ._-:/()#,@[]+=&;{}!$*".to_owned()
            }
            Self::TextLength { what: "rule description" | "reason", .. } => "use at most 255".to_owned(),
            Self::TextLength { .. } => "use 1 to 255".to_owned(),
            Self::NameReserved { what, .. } => format!("choose another {what}"),
            Self::Tag { .. } => "write KEY=VALUE, each KEY once".to_owned(),
            Self::Cidr { .. } => "write for example 10.0.0.0/8 or 2001:db8::/32".to_owned(),
            Self::CidrWithoutLength(address) => {
                let length = if address.is_ipv4() { 32 } else { 128 };
                format!("write {address}/{length} for this one address")
            }
            Self::HostBits { address, network } => {
                format!("write {address} for this one address, or {network} for the network")
            }
            Self::PrefixListOfAws(_) => "`secgroup apply` reads it from a document of AWS".to_owned(),
            Self::MaxEntriesRange { .. } => setting("entries_per_prefix_list"),
            Self::MaxEntriesExceeded { .. } => {
                "`aws ec2 modify-managed-prefix-list --max-entries` raises it".to_owned()
            }
            Self::VpcsLimit { .. } => setting("vpcs"),
            Self::SubnetsLimit { .. } => setting("subnets_per_vpc"),
            Self::VpcRange(_) => "the length of a VPC's prefix is /16 to /28".to_owned(),
            Self::SubnetRange(_) => {
                "a subnet is in its VPC, and the length of its prefix is /16 to /28".to_owned()
            }
            Self::ListVersionNotFound { .. }
            | Self::VpcConflict { .. }
            | Self::SubnetConflict { .. }
            | Self::VpcCidrsLimit { .. }
            | Self::FlowLogsLimit { .. } => return None,
            Self::VpcDefault(_)
            | Self::VpcInUse { .. }
            | Self::SubnetDefault(_)
            | Self::SubnetInUse { .. }
            | Self::GroupDefault(_) => return None,
            Self::OtherVpc { .. } => {
                "an interface has groups and a network ACL of the VPC of its subnet".to_owned()
            }
            Self::InterfaceInUse { device, .. } => format!("`secgroup detach {device}` detaches it"),
            Self::NetworkInterfacesLimit { .. } => setting("network_interfaces"),
            Self::ForeignGroup(_) => "write ACCOUNT/VPC/PEERING/GROUP, each `-` if it is not known".to_owned(),
            Self::NameAmbiguous { .. } => "use one of the ids".to_owned(),
            Self::FlowLogNotFound(_) => {
                "`secgroup flow-log list` shows the flow logs".to_owned()
            }
            Self::VpcNotFound(_) => "`secgroup vpc list` shows the VPCs".to_owned(),
            Self::SubnetNotFound(_) => "`secgroup vpc list` shows the subnets".to_owned(),
            Self::Time(_) => "write for example 2026-11-30T18:00:00+01:00".to_owned(),
            Self::EndOver(_) => "compare it with the clock, which `date` shows".to_owned(),
            Self::EndTooFar => "leave the end out for something that stays".to_owned(),
            Self::Target(_) => "write for example 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32; \
                                --prefix-list names a prefix list"
                .to_owned(),
            Self::NotOnNetwork(_) => {
                "name the address that packets have: `secgroup flows list` shows those of flows"
                    .to_owned()
            }
            Self::BlockOfGroup(_) => "name addresses, networks or a prefix list".to_owned(),
            Self::BlockNotFound { .. } => "`secgroup block list` shows what is blocked".to_owned(),
            Self::NotUnicast(_) => "every guest may use multicast and broadcast".to_owned(),
            Self::AddressOfAll(network) => {
                format!("--allow-address {network} lets a guest use every address")
            }
            Self::Mac(_) => "write for example 52:54:00:12:34:56".to_owned(),
            Self::EtherType(_) => {
                let names: Vec<_> = EtherType::names().collect();
                format!(
                    "write a number as in 0x88f7, at least 0x0600, or one of {}",
                    names.join(", ")
                )
            }
            Self::EtherTypeDecided(_) => {
                "name only types other than IPv4, IPv6, ARP and VLAN tags".to_owned()
            }
            Self::EtherTypesLimit { .. } => "--non-ip all passes every type".to_owned(),
            Self::EntryFamily { .. } => "a prefix list holds one family: make a second".to_owned(),
            Self::Protocol { text, .. } if text == "all" => {
                "write -1 for every protocol".to_owned()
            }
            Self::Protocol { text, instead: Some(instead) } => {
                format!("write {instead} instead of {text}")
            }
            Self::Protocol { .. } => {
                "use tcp, udp, icmp, icmpv6, -1 for all, or the protocol's number (0 to 255, \
                 see /etc/protocols)"
                    .to_owned()
            }
            Self::PortsMissing { .. } => "name a port, or 0-65535 for every port".to_owned(),
            Self::Port { .. } => "write 0-65535 for every port".to_owned(),
            Self::PortsReversed { from, to } => format!("write {to}-{from}"),
            Self::IcmpMissing { .. } => "-1 and -1 mean every type and code".to_owned(),
            Self::IcmpNumber { .. } => "use 0 to 255, or -1 for all".to_owned(),
            Self::IcmpCodeOfAny { .. } => "name the type, or write -1 for the code too".to_owned(),
            Self::IcmpFamily { family: Family::Ipv6, .. } => "use icmpv6 for IPv6 peers".to_owned(),
            Self::IcmpFamily { family: Family::Ipv4, .. } => "use icmp for IPv4 peers".to_owned(),
            Self::ExtensionHeader { .. } => {
                "rules match the protocol after the IPv6 extension headers: name that one"
                    .to_owned()
            }
            Self::GroupNotFound(_) => "`secgroup group list` shows the groups".to_owned(),
            Self::PrefixListNotFound(_) => {
                "`secgroup prefix-list list` shows the prefix lists".to_owned()
            }
            Self::RuleNotFound { group, .. } | Self::PermissionNotFound { group, .. } => {
                format!("`secgroup rule list {}` shows its rules", shell_word(group))
            }
            Self::StagedNotFound { group, .. } => {
                format!("`secgroup rule list {} --staged` shows its staged changes", shell_word(group))
            }
            Self::StagedDuplicate { group, rule, .. } => format!(
                "`secgroup rule enforce {0} {rule}` makes it a rule, `secgroup rule unstage {0} {rule}` drops it",
                shell_word(group)
            ),
            Self::RemovalDuplicate { group, rule } => format!(
                "`secgroup rule enforce {0} {rule}` removes the rule, `secgroup rule unstage {0} {rule}` keeps it",
                shell_word(group)
            ),
            Self::RuleUnknown(_) => "`secgroup rule list` shows the rules".to_owned(),
            Self::EntryNotFound { list, .. } => {
                format!("`secgroup prefix-list show {}` shows its entries", shell_word(list))
            }
            Self::InterfaceNotFound(_) => "`secgroup status` shows the interfaces".to_owned(),
            Self::AclEntryNumber(_) | Self::AclEntryLast { .. } => {
                "use 1 to 32766: of the entries that match a packet, that with the lowest number decides"
                    .to_owned()
            }
            Self::AclEntryGroup(_) => "name networks, or a prefix list".to_owned(),
            Self::AclNameTag(_) => "leave the tag out, and name the network ACL so".to_owned(),
            Self::AclNotFound(_) => "`secgroup acl list` shows the network ACLs".to_owned(),
            Self::AclEntryNotFound { acl, .. } => {
                format!("`secgroup acl show {}` shows its entries", shell_word(acl))
            }
            Self::AclEntryDuplicate { .. } => {
                "choose another number, or change the entry with `secgroup acl entry replace`"
                    .to_owned()
            }
            Self::AclNotAssociated { .. } => {
                "`secgroup acl list` shows which interfaces have which network ACL".to_owned()
            }
            Self::AclDefault { what: "disassociated", .. } => {
                "`secgroup acl associate` gives an interface another one in its place".to_owned()
            }
            Self::AclDefault { name, .. } => {
                let name = shell_word(name);
                format!("its entries can be changed: `secgroup acl show {name}` shows them")
            }
            Self::AclsLimit { .. } => setting("acls"),
            Self::AclEntriesLimit { .. } => {
                "an entry with a prefix list counts once; entries_per_acl in the configuration's \
                 [limits] sets the limit"
                    .to_owned()
            }
            Self::AclInUse { name, users, .. } => acl_remedy(name, users),
            Self::GroupDuplicate { .. }
            | Self::PrefixListDuplicate { .. }
            | Self::AclDuplicate { .. } => {
                "choose another name; upper and lower case make no difference".to_owned()
            }
            Self::GroupIdTaken { .. } | Self::PrefixListIdTaken { .. } => {
                "names are fixed: use the name it has on this host, or leave the id out".to_owned()
            }
            Self::GroupInUse { users, .. } | Self::PrefixListInUse { users, .. } => remedy(users),
            Self::DescriptionFixed { .. } => {
                "descriptions of groups are fixed: keep it, or make a group of another name"
                    .to_owned()
            }
            Self::FamilyFixed { .. } => {
                "the family is fixed: make a prefix list of another name".to_owned()
            }
            Self::Differs { .. } => {
                "--if-not-exists accepts what exists only if it is the same".to_owned()
            }
            Self::DeviceDuplicate { device, .. } => format!("detach {device} first"),
            Self::RulesLimit { .. } => {
                "a prefix list counts as its entries (in EC2 as its MaxEntries), a group peer in both \
                 families; rules_per_group in the configuration's [limits] sets the limit"
                    .to_owned()
            }
            Self::GroupsLimit { .. } => setting("groups"),
            Self::PrefixListsLimit { .. } => setting("prefix_lists"),
            Self::EntriesLimit { .. } => setting("entries_per_prefix_list"),
            Self::TagsLimit { .. } => setting("tags"),
            Self::InterfaceGroupsLimit { .. } => setting("groups_per_interface"),
            Self::AddressesLimit { .. } => {
                "name networks instead of addresses, or use --source-dest-check off".to_owned()
            }
            Self::InterfacesLimit { .. } => {
                "interfaces in the configuration's [maps] sets the limit".to_owned()
            }
            Self::LimitsProduct { .. } => "lower one of the two, or raise the third".to_owned(),
            Self::RuleDuplicate { group, rule, ends: true, .. } => format!(
                "`secgroup rule set-end {} {rule}` with --for, --until or --never changes its end",
                shell_word(group)
            ),
            Self::RuleDuplicate { .. }
            | Self::RuleRepeated(_)
            | Self::EntryDuplicate { .. }
            | Self::EntryRepeated(_)
            | Self::InterfaceGroupRepeated(_)
            | Self::AclEntryRepeated { .. }
            | Self::InterfaceWithoutGroup
            | Self::RuleNumbersUsedUp
            | Self::LimitsInterfaces(_)
            | Self::LimitsGroups(_)
            | Self::NoRandomness(_) => return None,
        })
    }
}

fn setting(name: &str) -> String {
    format!("{name} in the configuration's [limits] sets the limit")
}

/// A name as it can be pasted into a shell; no name contains a single quote.
fn shell_word(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.bytes().all(plain) { name.to_owned() } else { format!("'{name}'") }
}

/// The commands that free what is used.
fn remedy(users: &[User]) -> String {
    let mut steps = Vec::new();
    if users.iter().any(|user| matches!(user, User::Interface { .. })) {
        steps.push("attach other groups to the interfaces".to_owned());
    }
    for user in users {
        match user {
            User::Interface { .. } => {}
            User::Object { what, id } => steps.push(format!("delete {what} {id}")),
            User::Subnet { id } => steps.push(format!(
                "associate subnet {id} with another one (aws ec2 replace-network-acl-association)"
            )),
            User::Rules { group, rules } => {
                let rules: Vec<_> = rules.iter().map(RuleId::as_str).collect();
                let group = shell_word(group);
                steps.push(format!("secgroup rule remove {group} {}", rules.join(" ")));
            }
            User::AclEntries { acl, entries } => {
                let acl = shell_word(acl);
                steps.extend(entries.iter().map(|(direction, entry)| {
                    format!("secgroup acl entry remove {acl} {} {entry}", direction.name())
                }));
            }
            User::Block { list } => {
                steps.push(format!("secgroup unblock --prefix-list {}", shell_word(list)));
            }
        }
    }
    format!("first: {}", steps.join("; "))
}

/// The command that frees a network ACL.
fn acl_remedy(name: &str, users: &[User]) -> String {
    let interfaces: Vec<_> = users
        .iter()
        .filter_map(|user| match user {
            User::Interface { device, netns } => Some(label(device, netns.as_deref())),
            _ => None,
        })
        .collect();
    let others: Vec<_> =
        users.iter().filter(|user| !matches!(user, User::Interface { .. })).cloned().collect();
    let name = shell_word(name);
    match (interfaces.is_empty(), others.is_empty()) {
        (true, _) => remedy(&others),
        (false, true) => {
            format!("first: secgroup acl disassociate {name} {}", interfaces.join(" "))
        }
        (false, false) => {
            let interfaces = interfaces.join(" ");
            format!("{}; secgroup acl disassociate {name} {interfaces}", remedy(&others))
        }
    }
}
