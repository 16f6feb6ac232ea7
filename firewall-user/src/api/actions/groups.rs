//! Security groups.

use firewall_ec2::{Error, Xml};

use super::Action;
use crate::api::call::Call;
use crate::api::view::tags;
use crate::model::apply::DEFAULT_GROUP;
use crate::model::{Group, VpcId, group_description, group_name};
use crate::store::NewGroup;
use target::Target;

mod describe;
mod references;
pub(super) mod target;

pub(super) const ACTIONS: &[Action] = &[
    Action::changing("CreateSecurityGroup", create_security_group),
    Action::changing("DeleteSecurityGroup", delete_security_group),
    Action::reading("DescribeSecurityGroups", describe::describe_security_groups),
    Action::reading("GetSecurityGroupsForVpc", describe::get_security_groups_for_vpc),
    Action::reading("DescribeSecurityGroupReferences", references::describe_references),
    Action::reading("DescribeSecurityGroupVpcAssociations", references::describe_associations),
    Action::reading("DescribeStaleSecurityGroups", references::describe_stale),
];

fn create_security_group(call: &Call<'_>) -> Result<Xml, Error> {
    let params = call.params;
    let name = params.required("GroupName")?;
    let description = params.required("GroupDescription")?;
    let vpc = params.text("VpcId");
    let tags = call.tags("security-group")?;
    let new_tags = tags.clone().unwrap_or_default();
    let id = call.change(|change| {
        let vpc: VpcId = vpc.map_or_else(|| Ok(VpcId::default_vpc()), str::parse)?;
        let (name, description) = (group_name(name)?, group_description(description)?);
        if name.eq_ignore_ascii_case(DEFAULT_GROUP) {
            let text = format!("Cannot use reserved security group name: {DEFAULT_GROUP}");
            return Err(Error::invalid(text).into());
        }
        let rules = Group::default_rules(change.model().vpc_by_id(&vpc)?.families());
        Ok(change.create_group(NewGroup { vpc, name, description, tags: new_tags, rules })?)
    })?;
    let mut xml = Xml::new();
    xml.text("return", true);
    xml.text("groupId", &id);
    if let Some(tags) = &tags {
        tags::set(&mut xml, tags);
    }
    xml.text("securityGroupArn", call.identity().arn("security-group", id.as_str()));
    Ok(xml)
}

fn delete_security_group(call: &Call<'_>) -> Result<Xml, Error> {
    let target = Target::parse(call.params)?;
    let id = call.change(|change| {
        let id = target.find(change.model())?.id.clone();
        change.delete_group(&id)?;
        Ok(id)
    })?;
    let mut xml = Xml::new();
    xml.text("return", true);
    xml.text("groupId", &id);
    Ok(xml)
}
