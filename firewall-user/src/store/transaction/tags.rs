//! Edits of tags that are not those of a single kind of object.

use std::collections::BTreeMap;

use super::Transaction;
use crate::model::{Change, GroupId, RuleId, Subnet, SubnetId, Vpc, VpcId, check};
use crate::store::Error;

impl Transaction<'_> {
    /// Replaces the tags of a rule.
    ///
    /// # Errors
    /// There are too many, or the group has no such rule.
    pub fn tag_rule(
        &mut self,
        group: &GroupId,
        rule: &RuleId,
        tags: BTreeMap<String, String>,
    ) -> Result<(), Error> {
        self.model.group_by_id(group)?.rule(rule)?;
        check::check_tags(&format!("rule {rule}"), &tags, &self.limits)?;
        self.write(Change::TagRule { group: group.clone(), rule: rule.clone(), tags })
    }

    /// Replaces the tags of a VPC.
    ///
    /// # Errors
    /// There are too many, or it does not exist.
    pub fn tag_vpc(&mut self, id: &VpcId, tags: BTreeMap<String, String>) -> Result<(), Error> {
        let vpc = self.model.vpc_by_id(id)?.clone();
        self.put_vpc(Vpc { tags, ..vpc })
    }

    /// Replaces the tags of a subnet.
    ///
    /// # Errors
    /// There are too many, or it does not exist.
    pub fn tag_subnet(
        &mut self,
        id: &SubnetId,
        tags: BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let subnet = self.model.subnet_by_id(id)?.clone();
        self.put_subnet(Subnet { tags, ..subnet })
    }
}
