//! The items of documents, with the keys that AWS prints.

use serde::{Deserialize, Serialize};

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
        /// ARN, with the account and the region of the settings `[ec2]`.
        security_group_arn: String,
        /// Account, that of the settings `[ec2]`; read to tell which peers are of another one.
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
        /// Account of the group.
        user_id: String,
        /// When the rule ends by itself (RFC 3339); absent if it does not. AWS does not have this key.
        ends_at: String,
        /// Id of the group, `sg-…`.
        group_id: String,
        /// Name of the group; read, never printed.
        group_name: String,
        /// VPC of a group that is not on this host, if it is known.
        vpc_id: String,
        /// VPC peering to a group that is not on this host, if there is one.
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
        /// ARN, with the account and the region of the settings `[ec2]`.
        prefix_list_arn: String,
        /// Name.
        prefix_list_name: String,
        /// How many entries it may have, which a rule with it counts as; absent for lists that AWS manages.
        max_entries: u64,
        /// Number of the version: 1, and one more with every change of the entries.
        version: u64,
        /// Tags.
        tags: Vec<Tag>,
        /// Account, that of the settings `[ec2]`, or `AWS`.
        owner_id: String,
        /// Networks of the list; AWS prints them with another command.
        entries: Vec<Entry>,
        /// Whether the entries are from a document of their own, as AWS prints them.
        #[serde(skip)] has_separate_entries: bool,
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
        /// Account, that of the settings `[ec2]`.
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
        /// ARN, with the account and the region of the settings `[ec2]`.
        security_group_rule_arn: String,
    }
    /// An item of `NetworkAcls`.
    NetworkAcl {
        /// Interfaces and subnets that have it.
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
        /// Account, that of the settings `[ec2]`.
        owner_id: String,
    }
    /// What has a network ACL.
    NetworkAclAssociation {
        /// Id of the association; that of an interface has the digits of the interface's id.
        network_acl_association_id: String,
        /// Id of the network ACL.
        network_acl_id: String,
        /// Id of the interface; AWS has only `SubnetId`.
        network_interface_id: String,
        /// Id of the subnet.
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
        /// Account of the group.
        user_id: String,
        /// VPC of a group that is not on this host, if it is known.
        vpc_id: String,
        /// VPC peering to a group that is not on this host, if there is one.
        vpc_peering_connection_id: String,
    }
    /// An item of `Vpcs`.
    DescribedVpc {
        /// Account, that of the settings `[ec2]`.
        owner_id: String,
        /// `default` or `dedicated`.
        instance_tenancy: String,
        /// IPv6 networks.
        ipv6_cidr_block_association_set: Vec<Ipv6CidrAssociation>,
        /// IPv4 networks.
        cidr_block_association_set: Vec<CidrAssociation>,
        /// Whether it is that of what names none; ignored when read.
        is_default: bool,
        /// Tags.
        tags: Vec<Tag>,
        /// Id, `vpc-…`.
        vpc_id: String,
        /// Always `available`.
        state: String,
        /// First IPv4 network.
        cidr_block: String,
    }
    /// An IPv4 network of a VPC.
    CidrAssociation {
        /// Network, ADDRESS/LENGTH.
        cidr_block: String,
        /// Whether it is in use.
        cidr_block_state: CidrState,
    }
    /// An IPv6 network of a VPC or subnet.
    Ipv6CidrAssociation {
        /// Network, ADDRESS/LENGTH.
        ipv6_cidr_block: String,
        /// Whether it is in use.
        ipv6_cidr_block_state: CidrState,
    }
    /// Whether a network is in use.
    CidrState {
        /// `associated`; networks of another state are left out when read.
        state: String,
    }
    /// An item of `Subnets`.
    DescribedSubnet {
        /// Account, that of the settings `[ec2]`.
        owner_id: String,
        /// Whether a new interface gets an IPv6 address; nothing here does.
        assign_ipv6_address_on_creation: bool,
        /// IPv6 network.
        ipv6_cidr_block_association_set: Vec<Ipv6CidrAssociation>,
        /// Tags.
        tags: Vec<Tag>,
        /// ARN, with the account and the region of the settings `[ec2]`.
        subnet_arn: String,
        /// Id, `subnet-…`.
        subnet_id: String,
        /// Always `available`.
        state: String,
        /// Id of its VPC.
        vpc_id: String,
        /// IPv4 network.
        cidr_block: String,
        /// Name of the availability zone.
        availability_zone: String,
        /// Whether it is that of what names none; ignored when read.
        default_for_az: bool,
        /// Whether a new interface gets a public address; nothing here does.
        map_public_ip_on_launch: bool,
    }
}

/// serde needs the path of a function, and `Option::is_none` is none inside the macro.
fn absent<T>(field: &Option<T>) -> bool {
    field.is_none()
}
