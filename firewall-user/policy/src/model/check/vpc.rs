//! Checks of edits of VPCs and subnets.

use crate::model::apply::DEFAULT_GROUP;
use crate::model::{AclId, Error, GroupId, Model, Subnet, User, Vpc};

impl Model {
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
        let interfaces = self.interfaces.values().filter(|one| one.subnet == subnet.id);
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
                object: format!("network ACL {id}"),
                vpc: acl.vpc.to_string(),
                wanted: subnet.vpc.to_string(),
            });
        }
        Ok(())
    }
}
