//! Errors of the model: one line that names the object, EC2's code, and a hint.

use std::net::IpAddr;

use firewall_ebpf::abi::interface::Direction;
use ipnet::IpNet;

use super::{AclId, Family, GroupId, LAST_V4, PrefixListId, RuleId, RuleSpec, SubnetId, VpcId};

mod code;
mod hint;
mod users;

pub use users::User;
use users::Users;

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
    #[error("group {group} has no staged change of rule {rule}")]
    StagedNotFound { group: String, rule: RuleId },
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
    #[error("group {group} has staged rule {rule}: {spec}")]
    StagedDuplicate { group: String, rule: RuleId, spec: RuleSpec },
    #[error("group {group} has the removal of rule {rule} staged already")]
    RemovalDuplicate { group: String, rule: RuleId },
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
