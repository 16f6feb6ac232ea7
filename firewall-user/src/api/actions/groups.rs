//! Security groups.

use firewall_ec2::{Error, Xml};

use super::Action;
use crate::api::call::Call;
use crate::api::view::tags;
use crate::model::{Group, VpcId, group_description, group_name};
use crate::store::NewGroup;

pub(super) const ACTIONS: &[Action] =
    &[Action::changing("CreateSecurityGroup", create_security_group)];

fn create_security_group(call: &Call<'_>) -> Result<Xml, Error> {
    let params = call.params;
    let name = params.required("GroupName")?;
    let description = params.required("GroupDescription")?;
    let vpc = params.text("VpcId");
    let tags = call.tags("security-group")?;
    let new_tags = tags.clone().unwrap_or_default();
    let id = call.change(|change| {
        let vpc: VpcId = vpc.map_or_else(|| Ok(VpcId::default_vpc()), str::parse)?;
        let rules = Group::default_rules(change.model().vpc_by_id(&vpc)?.families());
        let (name, description) = (group_name(name)?, group_description(description)?);
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
