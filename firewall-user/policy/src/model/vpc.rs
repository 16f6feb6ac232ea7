//! VPCs and subnets: names that group interfaces, groups and network ACLs, as EC2's clients expect them. No
//! packet is decided by them alone.

use std::collections::BTreeMap;

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::{AclId, AssociationId, Error, Family, Interface, Model, SubnetId, VpcId};

/// The digits of the default VPC and of its subnet, the same on every host.
const DEFAULT_DIGITS: &str = "00000000000000000";

/// The network of the default VPC, as EC2 has it.
const DEFAULT_CIDR: (std::net::Ipv4Addr, u8) = (std::net::Ipv4Addr::new(172, 31, 0, 0), 16);

/// The length of the default subnet's network, as in EC2.
const DEFAULT_SUBNET_LENGTH: u8 = 20;

/// A VPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vpc {
    /// `vpc-…`.
    pub id: VpcId,
    /// The one of what names none; it is never deleted.
    pub is_default: bool,
    /// What its clients have said about it.
    pub settings: VpcSettings,
    /// User tags.
    pub tags: BTreeMap<String, String>,
}

/// What clients say about a VPC and read again; nothing of it is enforced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VpcSettings {
    /// IPv4 networks, the first one first.
    pub cidrs: Vec<Ipv4Net>,
    /// IPv6 networks. A new group allows all IPv6 egress where there is one.
    pub ipv6_cidrs: Vec<Ipv6Net>,
    /// `default` or `dedicated`.
    pub tenancy: String,
    /// The attribute `enableDnsSupport`.
    pub dns_support: bool,
    /// The attribute `enableDnsHostnames`.
    pub dns_hostnames: bool,
    /// The attribute `enableNetworkAddressUsageMetrics`.
    pub usage_metrics: bool,
}

/// A subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// `subnet-…`.
    pub id: SubnetId,
    /// Its VPC.
    pub vpc: VpcId,
    /// The network ACL of its interfaces that have none of their own; `None`: the default one of the VPC.
    pub acl: Option<AclId>,
    /// Of the subnet with its network ACL; another one after each change of the latter.
    pub association: AssociationId,
    /// The one of what names none.
    pub is_default: bool,
    /// What its clients have said about it.
    pub settings: SubnetSettings,
    /// User tags.
    pub tags: BTreeMap<String, String>,
}

/// What clients say about a subnet and read again; nothing of it is enforced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubnetSettings {
    /// IPv4 network.
    pub cidr: Option<Ipv4Net>,
    /// IPv6 network.
    pub ipv6_cidr: Option<Ipv6Net>,
    /// Name of the availability zone.
    pub zone: Option<String>,
    /// The attribute `mapPublicIpOnLaunch`.
    pub map_public_ip: bool,
    /// The attribute `assignIpv6AddressOnCreation`.
    pub assign_ipv6: bool,
}

impl VpcId {
    /// The default VPC, which every store has.
    #[must_use]
    pub fn default_vpc() -> Self {
        // The digits are well-formed.
        Self::of_digits(DEFAULT_DIGITS)
    }
}

impl SubnetId {
    /// The default VPC's subnet, which every store has.
    #[must_use]
    pub fn default_subnet() -> Self {
        Self::of_digits(DEFAULT_DIGITS)
    }
}

impl Vpc {
    /// The families of its networks: a new group allows all egress of these, as in EC2.
    #[must_use]
    pub fn families(&self) -> &'static [Family] {
        if self.settings.ipv6_cidrs.is_empty() { &[Family::Ipv4] } else { &Family::ALL }
    }

    /// The default VPC.
    #[must_use]
    pub fn new_default() -> Self {
        let (address, length) = DEFAULT_CIDR;
        Self {
            id: VpcId::default_vpc(),
            is_default: true,
            settings: VpcSettings {
                cidrs: vec![Ipv4Net::new_assert(address, length)],
                ipv6_cidrs: Vec::new(),
                tenancy: "default".to_owned(),
                dns_support: true,
                dns_hostnames: true,
                usage_metrics: false,
            },
            tags: BTreeMap::new(),
        }
    }
}

impl Subnet {
    /// The default VPC's subnet.
    #[must_use]
    pub fn new_default() -> Self {
        let (address, _) = DEFAULT_CIDR;
        Self {
            id: SubnetId::default_subnet(),
            vpc: VpcId::default_vpc(),
            acl: None,
            association: AssociationId::of_digits(DEFAULT_DIGITS),
            is_default: true,
            settings: SubnetSettings {
                cidr: Some(Ipv4Net::new_assert(address, DEFAULT_SUBNET_LENGTH)),
                ipv6_cidr: None,
                zone: None,
                map_public_ip: true,
                assign_ipv6: false,
            },
            tags: BTreeMap::new(),
        }
    }
}

impl Model {
    /// The VPC with this id.
    ///
    /// # Errors
    /// There is none.
    pub fn vpc_by_id(&self, id: &VpcId) -> Result<&Vpc, Error> {
        self.vpcs.get(id).ok_or_else(|| Error::VpcNotFound(id.to_string()))
    }

    /// The subnet with this id.
    ///
    /// # Errors
    /// There is none.
    pub fn subnet_by_id(&self, id: &SubnetId) -> Result<&Subnet, Error> {
        self.subnets.get(id).ok_or_else(|| Error::SubnetNotFound(id.to_string()))
    }

    /// The VPC of an interface.
    #[must_use]
    pub fn vpc_of(&self, interface: &Interface) -> VpcId {
        let subnet = self.subnets.get(&interface.subnet);
        subnet.map_or_else(VpcId::default_vpc, |subnet| subnet.vpc.clone())
    }
}
