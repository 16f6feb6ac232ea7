//! Checks of edits of VPCs and subnets.

use std::ops::RangeInclusive;

use ipnet::IpNet;

use crate::model::apply::DEFAULT_GROUP;
use crate::model::{AclId, Error, GroupId, Limits, Model, Subnet, User, Vpc};

/// The lengths of IPv4 prefixes that a VPC or subnet can have, as in EC2.
const LENGTHS_V4: RangeInclusive<u8> = 16..=28;

/// Those of IPv6 prefixes; clients ask for 56 and 64.
const LENGTHS_V6: RangeInclusive<u8> = 44..=64;

/// The most networks of a family that a VPC can have, as EC2 has it by default.
const NETWORKS_MAX: usize = 5;

fn has_length(network: &IpNet) -> bool {
    let lengths = match network {
        IpNet::V4(_) => LENGTHS_V4,
        IpNet::V6(_) => LENGTHS_V6,
    };
    lengths.contains(&network.prefix_len())
}

fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

impl Vpc {
    /// Its networks, those of IPv4 first.
    pub fn networks(&self) -> impl Iterator<Item = IpNet> {
        let v4 = self.settings.cidrs.iter().copied().map(IpNet::V4);
        v4.chain(self.settings.ipv6_cidrs.iter().copied().map(IpNet::V6))
    }
}

impl Subnet {
    /// Its networks, that of IPv4 first.
    pub fn networks(&self) -> impl Iterator<Item = IpNet> {
        let v4 = self.settings.cidr.map(IpNet::V4);
        v4.into_iter().chain(self.settings.ipv6_cidr.map(IpNet::V6))
    }
}

impl Model {
    /// Checks that another VPC may be created.
    ///
    /// # Errors
    /// They are too many.
    pub fn check_vpc_count(&self, limits: &Limits) -> Result<(), Error> {
        let (count, limit) = (self.vpcs.len() + 1, limits.vpcs);
        if count > limit { Err(Error::VpcsLimit { count, limit }) } else { Ok(()) }
    }

    /// Checks that a VPC may have its networks.
    ///
    /// # Errors
    /// They are too many, too large or too small, or two of them overlap.
    pub fn check_vpc_networks(&self, vpc: &Vpc) -> Result<(), Error> {
        let all: Vec<_> = vpc.networks().collect();
        for count in [vpc.settings.cidrs.len(), vpc.settings.ipv6_cidrs.len()] {
            if count > NETWORKS_MAX {
                let (vpc, limit) = (vpc.id.to_string(), NETWORKS_MAX);
                return Err(Error::VpcCidrsLimit { vpc, count, limit });
            }
        }
        for (place, network) in all.iter().enumerate() {
            if !has_length(network) {
                return Err(Error::VpcRange(*network));
            }
            if let Some(other) = all[..place].iter().find(|other| overlap(other, network)) {
                return Err(Error::VpcConflict { network: *network, of: other.to_string() });
            }
        }
        Ok(())
    }

    /// Checks that a subnet may be created.
    ///
    /// # Errors
    /// The VPC does not exist or has too many subnets, or as [`Self::check_subnet_networks`].
    pub fn check_new_subnet(&self, subnet: &Subnet, limits: &Limits) -> Result<(), Error> {
        let vpc = subnet.vpc.to_string();
        let here = self.subnets.values().filter(|other| other.vpc == subnet.vpc);
        let (count, limit) = (here.count() + 1, limits.subnets_per_vpc);
        if count > limit {
            return Err(Error::SubnetsLimit { vpc, count, limit });
        }
        self.check_subnet_networks(subnet)
    }

    /// Checks that a subnet may have its networks.
    ///
    /// # Errors
    /// The VPC does not exist, one is not in those of the VPC, is too large or too small, or overlaps with that of
    /// another subnet of the VPC. A VPC without an IPv6 network does not limit those of its subnets: EC2 chooses
    /// such networks, while here they are those of this host's links.
    pub fn check_subnet_networks(&self, subnet: &Subnet) -> Result<(), Error> {
        let vpc = self.vpc_by_id(&subnet.vpc)?;
        for network in subnet.networks() {
            let is_v6 = matches!(network, IpNet::V6(_));
            let is_within = vpc.networks().any(|whole| whole.contains(&network))
                || is_v6 && vpc.settings.ipv6_cidrs.is_empty();
            if !has_length(&network) || !is_within {
                return Err(Error::SubnetRange(network));
            }
            let others = self.subnets.values();
            let mut others = others.filter(|one| one.vpc == subnet.vpc && one.id != subnet.id);
            if let Some(other) =
                others.find(|one| one.networks().any(|other| overlap(&other, &network)))
            {
                return Err(Error::SubnetConflict { network, id: other.id.clone() });
            }
        }
        Ok(())
    }

    /// Checks that a VPC may be deleted; returns its default group and its default network ACL, which go
    /// with it.
    ///
    /// # Errors
    /// It is the default one, or has other groups, network ACLs or subnets, or its group is used.
    pub fn check_vpc_unused(&self, vpc: &Vpc) -> Result<(Vec<GroupId>, Vec<AclId>), Error> {
        if vpc.is_default {
            return Err(Error::VpcDefault(vpc.id.to_string()));
        }
        let (mut groups, mut acls, mut users) = (Vec::new(), Vec::new(), Vec::new());
        for group in self.groups_by_id().filter(|group| group.vpc == vpc.id) {
            if group.name == DEFAULT_GROUP {
                self.check_group_unused(group)?;
                groups.push(group.id.clone());
            } else {
                users.push(User::Object { what: "group", id: group.id.to_string() });
            }
        }
        for acl in self.acls.values().filter(|acl| acl.vpc == vpc.id) {
            if acl.is_default {
                acls.push(acl.id.clone());
            } else {
                users.push(User::Object { what: "network ACL", id: acl.id.to_string() });
            }
        }
        let subnets = self.subnets.values().filter(|subnet| subnet.vpc == vpc.id);
        users.extend(subnets.map(|subnet| User::Subnet { id: subnet.id.clone() }));
        if users.is_empty() {
            Ok((groups, acls))
        } else {
            Err(Error::VpcInUse { id: vpc.id.to_string(), users })
        }
    }

    /// Checks that a subnet may be deleted.
    ///
    /// # Errors
    /// It is the default one, or has interfaces.
    pub fn check_subnet_unused(&self, subnet: &Subnet) -> Result<(), Error> {
        let interfaces = self.network_interfaces().filter(|one| one.subnet == subnet.id);
        let users: Vec<_> = interfaces.map(User::of_interface).collect();
        if !users.is_empty() {
            return Err(Error::SubnetInUse { id: subnet.id.to_string(), users });
        }
        if subnet.is_default {
            return Err(Error::SubnetDefault(subnet.id.to_string()));
        }
        Ok(())
    }

    /// Checks that a subnet may have its network ACL.
    ///
    /// # Errors
    /// The VPC or the network ACL does not exist, or the latter is of another VPC.
    pub fn check_subnet(&self, subnet: &Subnet) -> Result<(), Error> {
        self.vpc_by_id(&subnet.vpc)?;
        let Some(id) = &subnet.acl else { return Ok(()) };
        let acl = self.acl_by_id(id)?;
        if acl.vpc != subnet.vpc {
            return Err(Error::OtherVpc {
                what: "network ACL",
                name: id.to_string(),
                vpc: acl.vpc.to_string(),
                wanted: subnet.vpc.to_string(),
            });
        }
        Ok(())
    }
}
