//! Edits of VPCs and subnets.

use std::collections::BTreeMap;

use super::{Error, Transaction};
use crate::model::{
    Acl, AclId, AssociationId, Change, Group, Subnet, SubnetId, SubnetSettings, Vpc, VpcId,
    VpcSettings, check,
};

impl Transaction<'_> {
    /// Creates a VPC with its default group and its default network ACL.
    ///
    /// # Errors
    /// A limit is reached, or it cannot have these networks.
    pub fn create_vpc(
        &mut self,
        settings: VpcSettings,
        tags: BTreeMap<String, String>,
    ) -> Result<VpcId, Error> {
        let id = VpcId::random()?;
        check::check_tags(&format!("VPC {id}"), &tags, &self.limits)?;
        self.model.check_vpc_count(&self.limits)?;
        let vpc = Vpc { id: id.clone(), is_default: false, settings, tags };
        self.model.check_vpc_networks(&vpc)?;
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
    /// It does not exist, cannot have these networks, or there are too many tags.
    pub fn put_vpc(&mut self, vpc: Vpc) -> Result<(), Error> {
        let here = self.model.vpc_by_id(&vpc.id)?;
        if *here == vpc {
            return Ok(());
        }
        if !here.networks().eq(vpc.networks()) {
            self.model.check_vpc_networks(&vpc)?;
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
    /// The VPC does not exist, it cannot have these networks, or a limit is reached.
    pub fn create_subnet(
        &mut self,
        vpc: VpcId,
        settings: SubnetSettings,
        tags: BTreeMap<String, String>,
    ) -> Result<SubnetId, Error> {
        let id = SubnetId::random()?;
        check::check_tags(&format!("subnet {id}"), &tags, &self.limits)?;
        let association = AssociationId::of_digits(id.digits());
        let subnet = Subnet {
            id: id.clone(),
            vpc,
            acl: None,
            association,
            is_default: false,
            settings,
            tags,
        };
        self.model.check_new_subnet(&subnet, &self.limits)?;
        self.write(Change::PutSubnet(subnet))?;
        Ok(id)
    }

    /// Replaces the network ACL of a subnet, and what clients have said about it.
    ///
    /// # Errors
    /// It or its network ACL does not exist, the network ACL is of another VPC, or it cannot have these networks.
    pub fn put_subnet(&mut self, subnet: Subnet) -> Result<(), Error> {
        let here = self.model.subnet_by_id(&subnet.id)?;
        if *here == subnet {
            return Ok(());
        }
        self.model.check_subnet(&subnet)?;
        if !here.networks().eq(subnet.networks()) {
            self.model.check_subnet_networks(&subnet)?;
        }
        check::check_tags(&format!("subnet {}", subnet.id), &subnet.tags, &self.limits)?;
        self.write(Change::PutSubnet(subnet))
    }

    /// Gives a subnet another network ACL; returns the id of the new association.
    ///
    /// # Errors
    /// One of them does not exist, they are of two VPCs, or the kernel gives no random bytes.
    pub fn associate_acl(&mut self, id: &SubnetId, acl: &AclId) -> Result<AssociationId, Error> {
        let acl = self.model.acl_by_id(acl)?;
        let subnet = self.model.subnet_by_id(id)?;
        let wanted = Subnet { acl: Some(acl.id.clone()), ..subnet.clone() };
        self.model.check_subnet(&wanted)?;
        let association = AssociationId::random()?;
        let subnet = Subnet { acl: acl.association(), association: association.clone(), ..wanted };
        self.write(Change::PutSubnet(subnet))?;
        Ok(association)
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
