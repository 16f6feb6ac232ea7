//! Edits of VPCs and subnets.

use std::collections::BTreeMap;

use super::{Error, Transaction};
use crate::model::{
    Acl, Change, Group, Subnet, SubnetId, SubnetSettings, Vpc, VpcId, VpcSettings, check,
};

impl Transaction<'_> {
    /// Creates a VPC with its default group and its default network ACL.
    ///
    /// # Errors
    /// A limit is reached.
    pub fn create_vpc(
        &mut self,
        settings: VpcSettings,
        tags: BTreeMap<String, String>,
    ) -> Result<VpcId, Error> {
        let id = VpcId::random()?;
        check::check_tags(&format!("VPC {id}"), &tags, &self.limits)?;
        let vpc = Vpc { id: id.clone(), is_default: false, settings, tags };
        let contents = Group::new_default(&vpc)?;
        let acl = Acl::new_default(id.clone())?;
        self.write(Change::PutVpc(vpc))?;
        self.write(Change::CreateAcl(acl))?;
        contents.into_iter().try_for_each(|change| self.write(change))?;
        Ok(id)
    }

    /// Replaces what clients have said about a VPC.
    ///
    /// # Errors
    /// It does not exist, or there are too many tags.
    pub fn put_vpc(&mut self, vpc: Vpc) -> Result<(), Error> {
        let here = self.model.vpc_by_id(&vpc.id)?;
        if *here == vpc {
            return Ok(());
        }
        check::check_tags(&format!("VPC {}", vpc.id), &vpc.tags, &self.limits)?;
        self.write(Change::PutVpc(vpc))
    }

    /// Deletes a VPC with its default group and its default network ACL.
    ///
    /// # Errors
    /// It is the default one, has other groups, network ACLs or subnets, or does not exist.
    pub fn delete_vpc(&mut self, id: &VpcId) -> Result<(), Error> {
        let (groups, acls) = self.model.check_vpc_unused(self.model.vpc_by_id(id)?)?;
        groups.into_iter().try_for_each(|group| self.write(Change::DeleteGroup(group)))?;
        acls.into_iter().try_for_each(|acl| self.write(Change::DeleteAcl(acl)))?;
        self.write(Change::DeleteVpc(id.clone()))
    }

    /// Creates a subnet of a VPC.
    ///
    /// # Errors
    /// The VPC does not exist, or a limit is reached.
    pub fn create_subnet(
        &mut self,
        vpc: VpcId,
        settings: SubnetSettings,
        tags: BTreeMap<String, String>,
    ) -> Result<SubnetId, Error> {
        self.model.vpc_by_id(&vpc)?;
        let id = SubnetId::random()?;
        check::check_tags(&format!("subnet {id}"), &tags, &self.limits)?;
        let subnet = Subnet { id: id.clone(), vpc, acl: None, is_default: false, settings, tags };
        self.write(Change::PutSubnet(subnet))?;
        Ok(id)
    }

    /// Replaces the network ACL of a subnet, and what clients have said about it.
    ///
    /// # Errors
    /// It or its network ACL does not exist, or the network ACL is of another VPC.
    pub fn put_subnet(&mut self, subnet: Subnet) -> Result<(), Error> {
        let here = self.model.subnet_by_id(&subnet.id)?;
        if *here == subnet {
            return Ok(());
        }
        self.model.check_subnet(&subnet)?;
        check::check_tags(&format!("subnet {}", subnet.id), &subnet.tags, &self.limits)?;
        self.write(Change::PutSubnet(subnet))
    }

    /// Deletes a subnet without interfaces.
    ///
    /// # Errors
    /// It has interfaces, is the default one, or does not exist.
    pub fn delete_subnet(&mut self, id: &SubnetId) -> Result<(), Error> {
        self.model.check_subnet_unused(self.model.subnet_by_id(id)?)?;
        self.write(Change::DeleteSubnet(id.clone()))
    }
}
