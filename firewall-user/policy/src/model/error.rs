//! Errors of the model: one line that names the object, EC2's code, and a hint.

use std::fmt;
use std::net::IpAddr;

use firewall_ebpf::abi::interface::Direction;
use ipnet::IpNet;

use super::{
    AclId, AssociationId, AttachmentId, EtherType, Family, FlowLogId, GroupId, Interface, LAST_V4,
    PrefixListId, RuleId, RuleSpec, SubnetId, VpcId, label,
};

/// Why input or an edit is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message is its documentation")]
#[rustfmt::skip]
pub enum Error {
    // Malformed text.
    #[error("{text:?} is not an id of the form {prefix}… with 17 hexadecimal digits")]
    IdMalformed { prefix: &'static str, text: String },
    #[error("{what} {text:?} contains {odd:?}")]
    TextCharacter { what: &'static str, text: String, odd: char },
    #[error("{what} has {length} characters")]
    TextLength { what: &'static str, length: usize },
    #[error("{what} {text:?} starts with {prefix}")]
    NameReserved { what: &'static str, text: String, prefix: &'static str },
    #[error("tag {text:?} {reason}")]
    Tag { text: String, reason: String },
    #[error("CIDR {text:?} {reason}")]
    Cidr { text: String, reason: String },
    #[error("CIDR {0} has no prefix length")]
    CidrWithoutLength(IpAddr),
    #[error("{address} is not the first address of {network}")]
    HostBits { address: IpAddr, network: IpNet },
    #[error("{0:?} is not a time with an offset from UTC")]
    Time(String),
    #[error("{0} is over")]
    EndOver(String),
    #[error("an end is one second to ten years away")]
    EndTooFar,
    #[error("{0:?} is not an IP address or network")]
    Target(String),
    #[error("no packet on a network has an address of {0}")]
    NotOnNetwork(IpNet),
    #[error("a group cannot be blocked, and {0} is one")]
    BlockOfGroup(GroupId),
    #[error("{0} is not an address that a guest can have")]
    NotUnicast(IpNet),
    #[error("{0} is not a network of an interface")]
    AddressOfAll(IpNet),
    #[error("{0:?} is not the MAC address of a device")]
    Mac(String),
    #[error("unknown EtherType {0:?}")]
    EtherType(String),
    #[error("frames of EtherType {0} are decided by rules, or always pass")]
    EtherTypeDecided(String),
    #[error("{device} would have {count} EtherTypes, and the limit is {limit}")]
    EtherTypesLimit { device: String, count: usize, limit: usize },
    #[error("{network} is not an {} network", family.document_name())]
    EntryFamily { network: IpNet, family: Family },
    #[error("unknown protocol {text:?}")]
    Protocol { text: String, instead: Option<&'static str> },
    #[error("{protocol} needs a first and a last port")]
    PortsMissing { protocol: &'static str },
    #[error("port {port} is not 0 to 65535")]
    Port { port: i64 },
    #[error("port range {from}-{to} ends before it begins")]
    PortsReversed { from: u16, to: u16 },
    #[error("{protocol} needs a type and a code")]
    IcmpMissing { protocol: &'static str },
    #[error("ICMP {what} {value} is not 0 to 255")]
    IcmpNumber { what: &'static str, value: i64 },
    #[error("ICMP code {code} needs a type")]
    IcmpCodeOfAny { code: i64 },
    #[error("{protocol} does not exist in {0}, and {peer} is {0}", family.document_name())]
    IcmpFamily { protocol: &'static str, family: Family, peer: String },
    #[error("protocol {number} is an extension header in IPv6, and {peer} is IPv6")]
    ExtensionHeader { number: u8, peer: String },
    #[error("entry number {0} is not 1 to 32766")]
    AclEntryNumber(i64),
    #[error("entry {entry} is the last one for {}, which denies what no other entry matches and cannot be changed", family_of_last(*entry).document_name())]
    AclEntryLast { entry: u16 },
    #[error("{} entry {entry} is given twice", direction.name())]
    AclEntryRepeated { direction: Direction, entry: u16 },
    #[error("{0} cannot be the peer of an entry of a network ACL")]
    AclEntryGroup(String),
    #[error("tag Name={0:?}: the name of a network ACL is its tag Name")]
    AclNameTag(String),

    #[error("{0:?} is not a group of another account or VPC")]
    ForeignGroup(String),
    #[error("{what} {name:?} is the name of several: {}", ids.join(", "))]
    NameAmbiguous { what: &'static str, name: String, ids: Vec<String> },

    // Objects that do not exist.
    #[error("there is no VPC {0:?}")]
    VpcNotFound(String),
    #[error("there is no subnet {0:?}")]
    SubnetNotFound(String),
    #[error("there is no group {0:?}")]
    GroupNotFound(String),
    #[error("there is no prefix list {0:?}")]
    PrefixListNotFound(String),
    #[error("prefix list {list} has no version {version}, or it is not kept")]
    ListVersionNotFound { list: String, version: u64 },
    #[error("there is no flow log {0:?}")]
    FlowLogNotFound(String),
    #[error("group {group} has no rule {rule}")]
    RuleNotFound { group: String, rule: RuleId },
    #[error("there never was a rule {0}")]
    RuleUnknown(RuleId),
    #[error("group {group} has no rule: {spec}")]
    PermissionNotFound { group: String, spec: RuleSpec },
    #[error("prefix list {list} has no entry {network}")]
    EntryNotFound { list: String, network: IpNet },
    #[error("{target} is not blocked{}", by_itself(target, within.as_deref()))]
    BlockNotFound { target: String, within: Option<String> },
    #[error("there is no network ACL {0:?}")]
    AclNotFound(String),
    #[error("network ACL {acl} has no {} entry {entry}", direction.name())]
    AclEntryNotFound { acl: String, direction: Direction, entry: u16 },
    #[error("{interface} does not have network ACL {acl}")]
    AclNotAssociated { interface: String, acl: String },
    #[error("there is no attached interface {0:?}")]
    InterfaceNotFound(String),

    // Duplicates, and objects in use.
    #[error("group {name} exists already: {id}")]
    GroupDuplicate { name: String, id: GroupId, vpc: VpcId },
    #[error("on this host {id} is the group {name}")]
    GroupIdTaken { name: String, id: GroupId },
    #[error("prefix list {name} exists already: {id}")]
    PrefixListDuplicate { name: String, id: PrefixListId },
    #[error("on this host {id} is the prefix list {name}")]
    PrefixListIdTaken { name: String, id: PrefixListId },
    #[error("group {group} has the rule already, as {rule}: {spec}")]
    RuleDuplicate { group: String, rule: RuleId, spec: RuleSpec, ends: bool },
    #[error("the rule is given twice: {0}")]
    RuleRepeated(RuleSpec),
    #[error("prefix list {list} has the entry {network} already")]
    EntryDuplicate { list: String, network: IpNet },
    #[error("the entry {0} is given twice")]
    EntryRepeated(IpNet),
    #[error("network ACL {name} exists already: {id}")]
    AclDuplicate { name: String, id: AclId },
    #[error("network ACL {acl} has an {} entry {entry} already: {text}", direction.name())]
    AclEntryDuplicate { acl: String, direction: Direction, entry: u16, text: String },
    #[error("network ACL {name} is used by {}", Users(users))]
    AclInUse { name: String, id: AclId, users: Vec<User> },
    #[error("network ACL {name} is the default one, and cannot be {what}")]
    AclDefault { name: String, id: AclId, what: &'static str },
    #[error("VPC {0} is the default one, and cannot be deleted")]
    VpcDefault(String),
    #[error("prefix list {0} is managed by AWS, and only a document changes it")]
    PrefixListOfAws(String),
    #[error("VPC {id} has {}", Users(users))]
    VpcInUse { id: String, users: Vec<User> },
    #[error("subnet {0} is the default one, and cannot be deleted")]
    SubnetDefault(String),
    #[error("subnet {id} has {}", Users(users))]
    SubnetInUse { id: String, users: Vec<User> },
    #[error("{what} {name} belongs to {vpc}, not to {wanted}")]
    OtherVpc { what: &'static str, name: String, vpc: String, wanted: String },
    #[error("network interface {interface} is attached to {device}")]
    InterfaceInUse { interface: String, device: String },
    #[error("the CIDR of a VPC cannot be {0}")]
    VpcRange(IpNet),
    #[error("{network} overlaps with {of}")]
    VpcConflict { network: IpNet, of: String },
    #[error("the CIDR of a subnet cannot be {0}")]
    SubnetRange(IpNet),
    #[error("{network} overlaps with subnet {id}")]
    SubnetConflict { network: IpNet, id: SubnetId },
    #[error("group {0} is the default one of its VPC, and cannot be deleted")]
    GroupDefault(String),
    #[error("group {name} is used by {}", Users(users))]
    GroupInUse { name: String, id: GroupId, users: Vec<User> },
    #[error("prefix list {name} is used by {}", Users(users))]
    PrefixListInUse { name: String, id: PrefixListId, users: Vec<User> },
    #[error("the description of group {name} is {here:?}, not {wanted:?}")]
    DescriptionFixed { name: String, here: String, wanted: String },
    #[error("prefix list {name} is {}, not {}", here.document_name(), wanted.document_name())]
    FamilyFixed { name: String, here: Family, wanted: Family },
    #[error("{object} exists already, and its {what} is {here}, not {wanted}")]
    Differs { object: String, what: &'static str, here: String, wanted: String },
    #[error("device {device} is attached already, in slot {slot}")]
    DeviceDuplicate { device: String, slot: u16 },
    #[error("group {0} is given twice")]
    InterfaceGroupRepeated(String),
    #[error("an interface needs at least one group")]
    InterfaceWithoutGroup,

    // Exceeded limits.
    #[error("group {group} would have {count} {direction} rules for {}{}, and the limit is {limit}", family.document_name(), of_lists(*entries))]
    RulesLimit { group: String, direction: &'static str, family: Family, count: usize, entries: usize, limit: usize },
    #[error("there would be {count} groups, and the limit is {limit}")]
    GroupsLimit { count: usize, limit: usize },
    #[error("there would be {count} prefix lists, and the limit is {limit}")]
    PrefixListsLimit { count: usize, limit: usize },
    #[error("prefix list {list} would have {count} entries, and the limit is {limit}")]
    EntriesLimit { list: String, count: usize, limit: usize },
    #[error("MaxEntries {max} is not 1 to {limit}")]
    MaxEntriesRange { max: i64, limit: usize },
    #[error("prefix list {list} would have {count} entries, and its MaxEntries is {max}")]
    MaxEntriesExceeded { list: String, count: usize, max: u32 },
    #[error("there would be {count} VPCs, and the limit is {limit}")]
    VpcsLimit { count: usize, limit: usize },
    #[error("VPC {vpc} would have {count} CIDRs, and the limit is {limit}")]
    VpcCidrsLimit { vpc: String, count: usize, limit: usize },
    #[error("VPC {vpc} would have {count} subnets, and the limit is {limit}")]
    SubnetsLimit { vpc: String, count: usize, limit: usize },
    #[error("{resource} would have {count} flow logs, and the limit is {limit}")]
    FlowLogsLimit { resource: String, count: usize, limit: usize },
    #[error("there would be {count} network ACLs, and the limit is {limit}")]
    AclsLimit { count: usize, limit: usize },
    #[error("network ACL {acl} would have {count} {direction} entries, and the limit is {limit}")]
    AclEntriesLimit { acl: String, direction: &'static str, count: usize, limit: usize },
    #[error("{object} would have {count} tags, and the limit is {limit}")]
    TagsLimit { object: String, count: usize, limit: usize },
    #[error("interface {device} would have {count} groups, and the limit is {limit}")]
    InterfaceGroupsLimit { device: String, count: usize, limit: usize },
    #[error("guest {device} would have {count} {} addresses and networks, and the limit is {limit}", family.document_name())]
    AddressesLimit { device: String, family: Family, count: usize, limit: usize },
    #[error("there would be {count} network interfaces, and the limit is {limit}")]
    NetworkInterfacesLimit { count: usize, limit: usize },
    #[error("there would be {count} attached interfaces, and the limit is {limit}")]
    InterfacesLimit { count: usize, limit: usize },
    #[error("all rule numbers have been used")]
    RuleNumbersUsedUp,

    // Invalid limits.
    #[error("network_interfaces = {0} is more than 65000")]
    LimitsInterfaces(usize),
    #[error("groups_per_interface = {0} is not 1 to 16")]
    LimitsGroups(usize),
    #[error("rules_per_group = {rules_per_group} times groups_per_interface = {groups_per_interface} exceeds rules_per_interface = {rules_per_interface}")]
    LimitsProduct { rules_per_group: usize, groups_per_interface: usize, rules_per_interface: usize },

    #[error("the kernel gave no random bytes: {0}")]
    NoRandomness(String),
}

/// What uses a group, a prefix list or a network ACL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum User {
    /// An interface that has the group or network ACL.
    Interface {
        /// Its device.
        device: String,
        /// The namespace of the device.
        netns: Option<String>,
    },
    /// Rules of another group that name it as their peer.
    Rules {
        /// The name of the group that has the rules.
        group: String,
        /// The rules.
        rules: Vec<RuleId>,
    },
    /// Entries of a network ACL that name the prefix list.
    AclEntries {
        /// The name of the network ACL.
        acl: String,
        /// The entries.
        entries: Vec<(Direction, u16)>,
    },
    /// Another object.
    Object {
        /// Its kind.
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// A subnet that is associated with the network ACL.
    Subnet {
        /// The subnet.
        id: SubnetId,
    },
    /// A block of the prefix list.
    Block {
        /// The name of the prefix list.
        list: String,
    },
}

impl User {
    /// An interface as a user.
    pub(super) fn of_interface(interface: &Interface) -> Self {
        if !interface.is_attached() {
            return Self::Object { what: "network interface", id: interface.id.to_string() };
        }
        let Interface { device, netns, .. } = interface;
        Self::Interface { device: device.clone(), netns: netns.clone() }
    }
}

/// The kind of an error, which decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The text is invalid, whatever the state of the host.
    Malformed,
    /// A named object does not exist.
    NotFound,
    /// The state of the host, or a limit, forbids it.
    Refused,
}

impl Error {
    /// EC2's error code, which clients of the EC2 API compare.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::IdMalformed { prefix, .. } => match *prefix {
                GroupId::PREFIX => "InvalidGroupId.Malformed",
                RuleId::PREFIX => "InvalidSecurityGroupRuleId.Malformed",
                PrefixListId::PREFIX => "InvalidPrefixListId.Malformed",
                AclId::PREFIX => "InvalidNetworkAclId.Malformed",
                VpcId::PREFIX => "InvalidVpcId.Malformed",
                SubnetId::PREFIX => "InvalidSubnetId.Malformed",
                AssociationId::PREFIX => "InvalidAssociationID.Malformed",
                AttachmentId::PREFIX => "InvalidAttachmentID.Malformed",
                FlowLogId::PREFIX => "InvalidFlowLogId.Malformed",
                _ => "InvalidNetworkInterfaceId.Malformed",
            },
            Self::Port { .. } => "InvalidPermission.Malformed",
            Self::TextCharacter { .. }
            | Self::TextLength { .. }
            | Self::NameReserved { .. }
            | Self::Tag { .. }
            | Self::Cidr { .. }
            | Self::CidrWithoutLength(_)
            | Self::HostBits { .. }
            | Self::Time(_)
            | Self::EndOver(_)
            | Self::EndTooFar
            | Self::Target(_)
            | Self::NotOnNetwork(_)
            | Self::BlockOfGroup(_)
            | Self::BlockNotFound { .. }
            | Self::NotUnicast(_)
            | Self::AddressOfAll(_)
            | Self::Mac(_)
            | Self::EtherType(_)
            | Self::EtherTypeDecided(_)
            | Self::EntryFamily { .. }
            | Self::Protocol { .. }
            | Self::PortsMissing { .. }
            | Self::PortsReversed { .. }
            | Self::IcmpMissing { .. }
            | Self::IcmpNumber { .. }
            | Self::IcmpCodeOfAny { .. }
            | Self::IcmpFamily { .. }
            | Self::ExtensionHeader { .. }
            | Self::EntryNotFound { .. }
            | Self::PrefixListDuplicate { .. }
            | Self::PrefixListIdTaken { .. }
            | Self::RuleRepeated(_)
            | Self::EntryDuplicate { .. }
            | Self::EntryRepeated(_)
            | Self::DescriptionFixed { .. }
            | Self::FamilyFixed { .. }
            | Self::Differs { .. }
            | Self::InterfaceGroupRepeated(_)
            | Self::AclEntryNumber(_)
            | Self::AclEntryLast { .. }
            | Self::AclEntryRepeated { .. }
            | Self::AclEntryGroup(_)
            | Self::AclNameTag(_)
            | Self::ForeignGroup(_)
            | Self::NameAmbiguous { .. }
            | Self::AclDuplicate { .. }
            | Self::AclDefault { .. }
            | Self::LimitsInterfaces(_)
            | Self::LimitsGroups(_)
            | Self::LimitsProduct { .. }
            | Self::ListVersionNotFound { .. }
            | Self::MaxEntriesRange { .. } => "InvalidParameterValue",
            Self::InterfaceWithoutGroup => "MissingParameter",
            Self::GroupNotFound(_) => "InvalidGroup.NotFound",
            Self::VpcNotFound(_) => "InvalidVpcID.NotFound",
            Self::SubnetNotFound(_) => "InvalidSubnetID.NotFound",
            Self::PrefixListNotFound(_) => "InvalidPrefixListID.NotFound",
            Self::FlowLogNotFound(_) => "InvalidFlowLogId.NotFound",
            Self::RuleNotFound { .. } | Self::RuleUnknown(_) => {
                "InvalidSecurityGroupRuleId.NotFound"
            }
            Self::PermissionNotFound { .. } => "InvalidPermission.NotFound",
            Self::InterfaceNotFound(_) => "InvalidNetworkInterfaceID.NotFound",
            Self::AclNotFound(_) => "InvalidNetworkAclID.NotFound",
            Self::AclEntryNotFound { .. } => "InvalidNetworkAclEntry.NotFound",
            Self::AclNotAssociated { .. } => "InvalidAssociationID.NotFound",
            Self::AclEntryDuplicate { .. } => "NetworkAclEntryAlreadyExists",
            Self::AclsLimit { .. } => "NetworkAclLimitExceeded",
            Self::AclEntriesLimit { .. } => "NetworkAclEntryLimitExceeded",
            Self::GroupDuplicate { .. } | Self::GroupIdTaken { .. } => "InvalidGroup.Duplicate",
            Self::RuleDuplicate { .. } => "InvalidPermission.Duplicate",
            Self::GroupDefault(_) => "CannotDelete",
            Self::OtherVpc { what: "group", .. } => "InvalidGroup.NotFound",
            Self::OtherVpc { .. } | Self::InterfaceInUse { .. } => "InvalidParameterValue",
            Self::NetworkInterfacesLimit { .. } => "NetworkInterfaceLimitExceeded",
            Self::VpcDefault(_) | Self::SubnetDefault(_) | Self::PrefixListOfAws(_) => {
                "OperationNotPermitted"
            }
            Self::VpcRange(_) => "InvalidVpc.Range",
            Self::VpcConflict { .. } => "CidrConflict",
            Self::SubnetRange(_) => "InvalidSubnet.Range",
            Self::SubnetConflict { .. } => "InvalidSubnet.Conflict",
            Self::MaxEntriesExceeded { .. } => "PrefixListMaxEntriesExceeded",
            Self::VpcsLimit { .. } | Self::VpcCidrsLimit { .. } => "VpcLimitExceeded",
            Self::SubnetsLimit { .. } => "SubnetLimitExceeded",
            Self::FlowLogsLimit { .. } => "FlowLogsLimitExceeded",
            Self::VpcInUse { .. }
            | Self::SubnetInUse { .. }
            | Self::GroupInUse { .. }
            | Self::PrefixListInUse { .. }
            | Self::AclInUse { .. } => "DependencyViolation",
            Self::DeviceDuplicate { .. } => "InvalidNetworkInterface.InUse",
            Self::RulesLimit { .. } => "RulesPerSecurityGroupLimitExceeded",
            Self::GroupsLimit { .. } => "SecurityGroupLimitExceeded",
            Self::InterfaceGroupsLimit { .. } => "SecurityGroupsPerInterfaceLimitExceeded",
            Self::TagsLimit { .. } => "TagLimitExceeded",
            Self::PrefixListsLimit { .. }
            | Self::EntriesLimit { .. }
            | Self::AddressesLimit { .. }
            | Self::EtherTypesLimit { .. }
            | Self::InterfacesLimit { .. } => "ResourceLimitExceeded",
            Self::RuleNumbersUsedUp | Self::NoRandomness(_) => "InternalError",
        }
    }

    /// What to do about it, if that does not follow from the message.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::IdMalformed { prefix, .. } => match *prefix {
                GroupId::PREFIX => "`secgroup group list` shows the ids".to_owned(),
                RuleId::PREFIX => "`secgroup rule list` shows the ids".to_owned(),
                PrefixListId::PREFIX => "`secgroup prefix-list list` shows the ids".to_owned(),
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
            | Self::FlowLogNotFound(_)
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

    /// The kind of the error.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::IdMalformed { .. }
            | Self::TextCharacter { .. }
            | Self::TextLength { .. }
            | Self::NameReserved { .. }
            | Self::Tag { .. }
            | Self::Cidr { .. }
            | Self::CidrWithoutLength(_)
            | Self::HostBits { .. }
            | Self::Time(_)
            | Self::EndOver(_)
            | Self::EndTooFar
            | Self::Target(_)
            | Self::NotOnNetwork(_)
            | Self::BlockOfGroup(_)
            | Self::NotUnicast(_)
            | Self::AddressOfAll(_)
            | Self::Mac(_)
            | Self::EtherType(_)
            | Self::EtherTypeDecided(_)
            | Self::EntryFamily { .. }
            | Self::Protocol { .. }
            | Self::PortsMissing { .. }
            | Self::Port { .. }
            | Self::PortsReversed { .. }
            | Self::IcmpMissing { .. }
            | Self::IcmpNumber { .. }
            | Self::IcmpCodeOfAny { .. }
            | Self::IcmpFamily { .. }
            | Self::ExtensionHeader { .. }
            | Self::MaxEntriesRange { .. }
            | Self::VpcRange(_)
            | Self::SubnetRange(_)
            | Self::RuleRepeated(_)
            | Self::EntryRepeated(_)
            | Self::InterfaceGroupRepeated(_)
            | Self::AclEntryNumber(_)
            | Self::AclEntryLast { .. }
            | Self::AclEntryRepeated { .. }
            | Self::AclEntryGroup(_)
            | Self::AclNameTag(_)
            | Self::ForeignGroup(_)
            | Self::NameAmbiguous { .. }
            | Self::InterfaceWithoutGroup => Kind::Malformed,
            Self::GroupNotFound(_)
            | Self::VpcNotFound(_)
            | Self::SubnetNotFound(_)
            | Self::PrefixListNotFound(_)
            | Self::ListVersionNotFound { .. }
            | Self::FlowLogNotFound(_)
            | Self::RuleNotFound { .. }
            | Self::RuleUnknown(_)
            | Self::PermissionNotFound { .. }
            | Self::EntryNotFound { .. }
            | Self::BlockNotFound { .. }
            | Self::AclNotFound(_)
            | Self::AclEntryNotFound { .. }
            | Self::AclNotAssociated { .. }
            | Self::InterfaceNotFound(_) => Kind::NotFound,
            _ => Kind::Refused,
        }
    }
}

/// The family of the last entry with this number.
const fn family_of_last(number: u16) -> Family {
    if number == LAST_V4 { Family::Ipv4 } else { Family::Ipv6 }
}

/// How many of the counted rules are entries of prefix lists.
fn of_lists(entries: usize) -> String {
    match entries {
        0 => String::new(),
        1 => " (1 of them an entry of a prefix list)".to_owned(),
        _ => format!(" ({entries} of them entries of prefix lists)"),
    }
}

/// What blocks a target that has no block of its own.
fn by_itself(target: &str, within: Option<&str>) -> String {
    match within {
        None => String::new(),
        Some(within) if within == target => {
            " on that interface alone: it is blocked on every interface".to_owned()
        }
        Some(within) => format!(" by itself: the block of {within} contains it"),
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

/// Users as a list in a sentence.
struct Users<'a>(&'a [User]);

impl fmt::Display for Users<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, user) in self.0.iter().enumerate() {
            if index > 0 {
                out.write_str(", ")?;
            }
            match user {
                User::Interface { device, netns: None } => write!(out, "interface {device}")?,
                User::Interface { device, netns: Some(netns) } => {
                    write!(out, "interface {device} in namespace {netns}")?;
                }
                User::Rules { group, rules } => {
                    let rules: Vec<_> = rules.iter().map(RuleId::as_str).collect();
                    write!(out, "group {group} ({})", rules.join(", "))?;
                }
                User::AclEntries { acl, entries } => {
                    let entries: Vec<_> = entries
                        .iter()
                        .map(|(direction, entry)| format!("{} {entry}", direction.name()))
                        .collect();
                    write!(out, "network ACL {acl} ({})", entries.join(", "))?;
                }
                User::Object { what, id } => write!(out, "{what} {id}")?,
                User::Subnet { id } => write!(out, "subnet {id}")?,
                User::Block { .. } => out.write_str("a block")?,
            }
        }
        Ok(())
    }
}
