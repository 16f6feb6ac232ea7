//! Edits of network ACLs.

use std::collections::BTreeMap;

use firewall_ebpf::abi::interface::Direction;

use super::Transaction;
use crate::model::{Acl, AclEntry, AclId, Change, VpcId, check};
use crate::store::Error;

/// A network ACL to create; its only entries are the last ones, which deny everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAcl {
    /// Its VPC.
    pub vpc: VpcId,
    /// As [`crate::model::acl_name`] returned it.
    pub name: String,
    /// As [`crate::model::tags::collect`] returned them.
    pub tags: BTreeMap<String, String>,
}

impl Transaction<'_> {
    /// Creates a network ACL that denies everything.
    ///
    /// # Errors
    /// The name is taken, or a limit is reached.
    pub fn create_acl(&mut self, new: NewAcl) -> Result<AclId, Error> {
        let NewAcl { vpc, name, tags } = new;
        self.model.check_acl_name(&vpc, &name)?;
        self.model.check_new_acl(&vpc, &name, &tags, &self.limits)?;
        let id = AclId::random()?;
        self.write(Change::CreateAcl(Acl::deny_all(id.clone(), vpc, &name, tags)))?;
        Ok(id)
    }

    /// Creates a network ACL that denies everything, with tags as in EC2: its name is one of them, if it has one,
    /// and may be that of another one.
    ///
    /// # Errors
    /// A limit is reached.
    pub fn create_tagged_acl(
        &mut self,
        vpc: VpcId,
        tags: BTreeMap<String, String>,
    ) -> Result<AclId, Error> {
        let id = AclId::random()?;
        let mut acl = Acl::deny_all(id.clone(), vpc, id.as_str(), BTreeMap::new());
        (acl.name, acl.tags) = acl.split_tags(tags.clone());
        self.model.check_new_acl(&acl.vpc, &acl.name, &tags, &self.limits)?;
        self.write(Change::CreateAcl(acl))?;
        Ok(id)
    }

    /// Replaces the tags of a network ACL as they are in EC2, with its name.
    ///
    /// # Errors
    /// There are too many, or it does not exist.
    pub fn set_acl_tags(
        &mut self,
        id: &AclId,
        tags: BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let (name, tags) = self.model.acl_by_id(id)?.split_tags(tags);
        self.tag_acl(id, name, tags)
    }

    /// Deletes a network ACL that no interface and no subnet has.
    ///
    /// # Errors
    /// An interface has it, it is the default one, or it does not exist.
    pub fn delete_acl(&mut self, id: &AclId) -> Result<(), Error> {
        self.model.check_acl_unused(self.model.acl_by_id(id)?)?;
        self.write(Change::DeleteAcl(id.clone()))
    }

    /// Replaces the name and the tags of a network ACL.
    ///
    /// # Errors
    /// There are too many tags, it is the default one and would have another name, or it
    /// does not exist.
    pub fn tag_acl(
        &mut self,
        id: &AclId,
        name: String,
        tags: BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let acl = self.model.acl_by_id(id)?;
        self.model.check_acl_tags(acl, &name, &tags, &self.limits)?;
        self.write(Change::TagAcl { acl: id.clone(), name, tags })
    }

    /// Adds an entry to a network ACL.
    ///
    /// # Errors
    /// The number is taken or is not 1 to 32766, the entry matches nothing or has a group or an unknown
    /// prefix list as its peer, a limit is reached, or the ACL does not exist.
    pub fn add_acl_entry(
        &mut self,
        id: &AclId,
        place: (Direction, u16),
        entry: AclEntry,
    ) -> Result<(), Error> {
        let acl = self.model.acl_by_id(id)?;
        self.model.check_new_acl_entry(acl, place, &entry, &self.limits)?;
        let (direction, number) = place;
        self.write(Change::PutAclEntry { acl: id.clone(), direction, number, entry })
    }

    /// Replaces an entry of a network ACL. One that stays the same, but perhaps ends at another time, keeps its
    /// counter.
    ///
    /// # Errors
    /// As [`Self::add_acl_entry`], but the ACL must have an entry with the number.
    pub fn replace_acl_entry(
        &mut self,
        id: &AclId,
        place: (Direction, u16),
        mut entry: AclEntry,
    ) -> Result<(), Error> {
        let acl = self.model.acl_by_id(id)?;
        self.model.check_replaced_acl_entry(acl, place, &entry)?;
        let (direction, number) = place;
        let here = acl.entry(direction, number)?;
        if here.says_the_same(&entry) {
            if here.end == entry.end {
                return Ok(());
            }
            entry.number = here.number;
        }
        self.write(Change::PutAclEntry { acl: id.clone(), direction, number, entry })
    }

    /// Removes an entry of a network ACL.
    ///
    /// # Errors
    /// The ACL has no such entry, or only the last one, or does not exist.
    pub fn remove_acl_entry(&mut self, id: &AclId, place: (Direction, u16)) -> Result<(), Error> {
        let (direction, number) = place;
        check::acl_entry_number(number.into())?;
        self.model.acl_by_id(id)?.entry(direction, number)?;
        self.write(Change::RemoveAclEntry { acl: id.clone(), direction, number })
    }
}
