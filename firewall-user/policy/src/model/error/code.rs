//! EC2's codes, and the kinds that decide exit codes.

use super::{Error, Kind};
use crate::model::{
    AclId, AssociationId, AttachmentId, FlowLogId, GroupId, PrefixListId, RuleId, SubnetId, VpcId,
};

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
            Self::RuleNotFound { .. } | Self::StagedNotFound { .. } | Self::RuleUnknown(_) => {
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
            Self::RuleDuplicate { .. }
            | Self::StagedDuplicate { .. }
            | Self::RemovalDuplicate { .. } => "InvalidPermission.Duplicate",
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
            | Self::StagedNotFound { .. }
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
