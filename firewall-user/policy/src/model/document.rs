//! Groups, prefix lists and network ACLs as AWS prints them: `aws ec2 describe-security-groups`,
//! `describe-security-group-rules`, `describe-managed-prefix-lists`, `describe-network-acls`.
//!
//! A document is one object with `SecurityGroups`, `NetworkAcls` or both, and, so that it is
//! self-contained, `PrefixLists` with an `Entries` array in each, which AWS prints with another command. A
//! rule or an entry of a network ACL that ends by itself has the key `EndsAt`. Unknown keys are ignored, because
//! AWS adds some every year; a key that restricts a rule and is not supported is refused.

use serde::{Deserialize, Serialize};

mod errors;
mod parse;
mod read;
mod write;

pub(crate) use errors::Findings;
pub use errors::{Errors, Located, Place, Warning};
pub(crate) use read::{
    Broken, Wanted, WantedAcl, WantedAclEntry, WantedGroup, WantedList, WantedPeer, WantedRule,
};
pub use write::{acls, groups, prefix_lists, rules};

use super::{Error as ModelError, Moment};

/// The account id of this host's groups: clients of AWS expect one in every document.
pub const OWNER: &str = "000000000000";

/// The owner of prefix lists that AWS manages.
pub const AWS_OWNER: &str = "AWS";

/// A document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase", default, expecting = "an object with SecurityGroups")]
pub struct Document {
    /// Groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_groups: Option<Vec<SecurityGroup>>,
    /// Prefix lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_lists: Option<Vec<ManagedPrefixList>>,
    /// Network ACLs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_acls: Option<Vec<NetworkAcl>>,
    /// Rules as separate items; written, never read.
    #[serde(skip_serializing_if = "Option::is_none", skip_deserializing)]
    pub security_group_rules: Option<Vec<SecurityGroupRule>>,
    /// Both clocks when it is read: what has ended then is left out.
    #[serde(skip)]
    pub now: Moment,
    /// The values that were left out when it was read.
    #[serde(skip)]
    pub mistyped: Errors,
}

macro_rules! wire {
    ($($(#[$meta:meta])* $name:ident { $($(#[$attr:meta])* $field:ident: $kind:ty,)* })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
        #[serde(rename_all = "PascalCase", default, expecting = "an object")]
        pub struct $name {
            $($(#[$attr])* #[serde(skip_serializing_if = "absent")] pub $field: Option<$kind>,)*
        }
    )*};
}

wire! {
    /// An item of `SecurityGroups`.
    SecurityGroup {
        /// Id, `sg-…`.
        group_id: String,
        /// Egress rules.
        ip_permissions_egress: Vec<IpPermission>,
        /// Tags.
        tags: Vec<Tag>,
        /// VPC; `vpc-00000000000000000` is the default one.
        vpc_id: String,
        /// ARN, with the partition `aws` and the region `local`.
        security_group_arn: String,
        /// Always `000000000000`: this host's groups belong to one account.
        owner_id: String,
        /// Name.
        group_name: String,
        /// Purpose of the group.
        description: String,
        /// Ingress rules.
        ip_permissions: Vec<IpPermission>,
    }
    /// The rules of one direction, protocol and port range.
    IpPermission {
        /// `tcp`, `udp`, `icmp`, `icmpv6`, a protocol number, or `-1` for all.
        ip_protocol: String,
        /// First port, or ICMP type, -1 for every type; absent for other protocols.
        from_port: i64,
        /// Last port, or ICMP code, -1 for every code; absent for other protocols.
        to_port: i64,
        /// Groups as peers.
        user_id_group_pairs: Vec<UserIdGroupPair>,
        /// IPv4 networks as peers.
        ip_ranges: Vec<IpRange>,
        /// IPv6 networks as peers.
        ipv6_ranges: Vec<Ipv6Range>,
        /// Prefix lists as peers.
        prefix_list_ids: Vec<PrefixListReference>,
    }
    /// A group as the peer of a rule.
    UserIdGroupPair {
        /// Purpose of the rule; absent if empty.
        description: String,
        /// Account of the group, always `000000000000`.
        user_id: String,
        /// When the rule ends by itself (RFC 3339); absent if it does not. AWS does not have this key.
        ends_at: String,
        /// Id of the group, `sg-…`.
        group_id: String,
        /// Name of the group; read, never printed.
        group_name: String,
        /// Network of the group; read, never printed.
        vpc_id: String,
        /// Refused when read, never printed.
        vpc_peering_connection_id: String,
        /// Ignored when read, never printed.
        peering_status: String,
    }
    /// An IPv4 network as the peer of a rule.
    IpRange {
        /// Purpose of the rule; absent if empty.
        description: String,
        /// When the rule ends by itself (RFC 3339); absent if it does not. AWS does not have this key.
        ends_at: String,
        /// Network, ADDRESS/LENGTH.
        cidr_ip: String,
    }
    /// An IPv6 network as the peer of a rule.
    Ipv6Range {
        /// Purpose of the rule; absent if empty.
        description: String,
        /// When the rule ends by itself (RFC 3339); absent if it does not. AWS does not have this key.
        ends_at: String,
        /// Network, ADDRESS/LENGTH.
        cidr_ipv6: String,
    }
    /// A prefix list as the peer of a rule.
    PrefixListReference {
        /// Purpose of the rule; absent if empty.
        description: String,
        /// When the rule ends by itself (RFC 3339); absent if it does not. AWS does not have this key.
        ends_at: String,
        /// Id of the prefix list, `pl-…`.
        prefix_list_id: String,
    }
    /// A tag.
    Tag {
        /// Key.
        key: String,
        /// Value.
        value: String,
    }
    /// An item of `PrefixLists`; AWS has no `Entries` in it.
    ManagedPrefixList {
        /// Id, `pl-…`.
        prefix_list_id: String,
        /// `IPv4` or `IPv6`.
        address_family: String,
        /// Always `create-complete`.
        state: String,
        /// ARN, with the partition `aws` and the region `local`.
        prefix_list_arn: String,
        /// Name.
        prefix_list_name: String,
        /// Number of entries, and at least 1.
        max_entries: u64,
        /// Number of the version: 1, and one more with every change of the entries.
        version: u64,
        /// Tags.
        tags: Vec<Tag>,
        /// Always `000000000000`.
        owner_id: String,
        /// Networks of the list; AWS prints them with another command.
        entries: Vec<Entry>,
    }
    /// An entry of a prefix list, as `aws ec2 get-managed-prefix-list-entries` prints it.
    Entry {
        /// Network, ADDRESS/LENGTH.
        cidr: String,
        /// Purpose of the entry; absent if empty.
        description: String,
    }
    /// An item of `SecurityGroupRules`.
    SecurityGroupRule {
        /// Id, `sgr-…`.
        security_group_rule_id: String,
        /// Id of its group, `sg-…`.
        group_id: String,
        /// Always `000000000000`.
        group_owner_id: String,
        /// Whether it is an egress rule.
        is_egress: bool,
        /// `tcp`, `udp`, `icmp`, `icmpv6`, a protocol number, or `-1` for all.
        ip_protocol: String,
        /// First port, or ICMP type; -1 for every one and for other protocols.
        from_port: i64,
        /// Last port, or ICMP code; -1 for every one and for other protocols.
        to_port: i64,
        /// Peer, if it is an IPv4 network.
        cidr_ipv4: String,
        /// Peer, if it is an IPv6 network.
        cidr_ipv6: String,
        /// Peer, if it is a prefix list: its id.
        prefix_list_id: String,
        /// Peer, if it is a group.
        referenced_group_info: ReferencedGroup,
        /// Purpose of the rule; absent if empty.
        description: String,
        /// When the rule ends by itself (RFC 3339); absent if it does not. AWS does not have this key.
        ends_at: String,
        /// Tags.
        tags: Vec<Tag>,
        /// ARN, with the partition `aws` and the region `local`.
        security_group_rule_arn: String,
    }
    /// An item of `NetworkAcls`.
    NetworkAcl {
        /// Interfaces that have it; in EC2 subnets, which are ignored when read.
        associations: Vec<NetworkAclAssociation>,
        /// Entries of both directions, with the last ones (32767, 32768), which cannot be changed.
        entries: Vec<NetworkAclEntry>,
        /// Whether it is that of interfaces without another one.
        is_default: bool,
        /// Id, `acl-…`.
        network_acl_id: String,
        /// Tags; `Name` is the name.
        tags: Vec<Tag>,
        /// VPC.
        vpc_id: String,
        /// Always `000000000000`.
        owner_id: String,
    }
    /// What has a network ACL.
    NetworkAclAssociation {
        /// Id of the association, with the digits of the interface's id.
        network_acl_association_id: String,
        /// Id of the network ACL.
        network_acl_id: String,
        /// Id of the interface; AWS has `SubnetId` in its place.
        network_interface_id: String,
        /// Ignored when read, never printed.
        subnet_id: String,
    }
    /// An entry of a network ACL. It has one of `CidrBlock`, `Ipv6CidrBlock` and `PrefixListId`.
    NetworkAclEntry {
        /// Peer, if it is an IPv4 network.
        cidr_block: String,
        /// Whether it is about egress.
        egress: bool,
        /// Type and code of protocols 1 and 58.
        icmp_type_code: IcmpTypeCode,
        /// Peer, if it is an IPv6 network.
        ipv6_cidr_block: String,
        /// Ports of protocols 6 and 17.
        port_range: AclPorts,
        /// Peer, if it is a prefix list: its id. AWS has no such entries.
        prefix_list_id: String,
        /// Number of the protocol, or `-1` for all.
        protocol: String,
        /// `allow` or `deny`.
        rule_action: String,
        /// When the entry ends by itself (RFC 3339); absent if it does not. AWS has no such entries.
        ends_at: String,
        /// Place in the order, 1 to 32766; 32767 and 32768 are the last ones.
        rule_number: i64,
    }
    /// Type and code of ICMP or ICMPv6.
    IcmpTypeCode {
        /// Code, -1 for every code.
        code: i64,
        /// Type, -1 for every type.
        #[serde(rename = "Type")] kind: i64,
    }
    /// Ports of an entry of a network ACL.
    AclPorts {
        /// First port.
        from: i64,
        /// Last port.
        to: i64,
    }
    /// A group as the peer of one rule.
    ReferencedGroup {
        /// Id of the group, `sg-…`.
        group_id: String,
        /// Account of the group, always `000000000000`.
        user_id: String,
    }
}

/// serde needs the path of a function, and `Option::is_none` is none inside the macro.
fn absent<T>(field: &Option<T>) -> bool {
    field.is_none()
}

impl Document {
    /// The document as the AWS command line prints it: indented by four spaces.
    ///
    /// # Errors
    /// `out` cannot be written.
    pub fn write(&self, out: &mut impl std::io::Write) -> std::io::Result<()> {
        let format = serde_json::ser::PrettyFormatter::with_indent(b"    ");
        let mut writer = serde_json::Serializer::with_formatter(&mut *out, format);
        self.serialize(&mut writer)?;
        writeln!(out)
    }
}

/// What the place of a permission without a peer ends with.
const A_PEER: &str = ": a peer";

/// An error in a document, with its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text is not JSON.
    #[error("line {line}, column {column}: {message}")]
    Syntax {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// The text is in UTF-16.
    #[error("the document is in UTF-16, and JSON is in UTF-8")]
    Utf16,
    /// An object has a key twice.
    #[error("{path}: the key is there twice")]
    Repeated {
        /// Its place.
        path: String,
    },
    /// A value has the wrong type.
    #[error("{path}: {message}")]
    Type {
        /// Its place.
        path: String,
        /// What is wrong.
        message: String,
    },
    /// The text is empty.
    #[error("the document is empty")]
    Blank,
    /// It has neither groups nor prefix lists nor network ACLs.
    #[error("the document has none of SecurityGroups, PrefixLists and NetworkAcls")]
    Empty,
    /// Every group of this host would be removed.
    #[error("the document has no group, and --prune would remove every group of this host")]
    NothingStays,
    /// A required key is missing.
    #[error("{path} is missing")]
    Missing {
        /// The key's place.
        path: String,
        /// What to write.
        hint: &'static str,
    },
    /// Something that this host cannot represent.
    #[error("{path}: {reason}")]
    Foreign {
        /// Its place.
        path: String,
        /// What it is.
        reason: String,
        /// What to do instead.
        hint: &'static str,
    },
    /// Something that the model refuses.
    #[error("{path}: {error}")]
    Refused {
        /// Its place.
        path: String,
        /// Why.
        error: ModelError,
    },
}

impl Error {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Syntax { .. } | Self::Type { .. } | Self::Empty => Some(
                "apply reads what aws ec2 describe-security-groups, aws ec2 describe-network-acls or \
                 secgroup export prints"
                    .to_owned(),
            ),
            Self::Utf16 => Some("convert it: iconv -f UTF-16 -t UTF-8".to_owned()),
            Self::NothingStays => {
                Some("`secgroup group delete` removes the groups that are meant".to_owned())
            }
            Self::Blank => Some("see whether the command that wrote it failed".to_owned()),
            Self::Repeated { .. } => Some("keep one of the two".to_owned()),
            Self::Missing { hint, .. } | Self::Foreign { hint, .. } => Some((*hint).to_owned()),
            Self::Refused { error, .. } => error.hint(),
        }
    }

    /// The place in the document, such as `SecurityGroups[0].GroupName`.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::Syntax { .. } | Self::Utf16 | Self::Blank | Self::Empty | Self::NothingStays => {
                None
            }
            Self::Missing { path, .. }
            | Self::Repeated { path }
            | Self::Type { path, .. }
            | Self::Foreign { path, .. }
            | Self::Refused { path, .. } => {
                // Of what is not in the document there is no place but that of what should contain it.
                Some(path.strip_suffix(A_PEER).unwrap_or(path))
            }
        }
    }

    /// Adds a place to an error of the model.
    pub(crate) fn at(path: &str) -> impl FnOnce(ModelError) -> Self {
        move |error| Self::Refused { path: path.to_owned(), error }
    }
}
