//! Groups across VPCs: what refers to a group from another VPC, and rules that refer to groups that are not here.

use std::collections::BTreeSet;

use firewall_ec2::filter::Filters;
use firewall_ec2::page::Page;
use firewall_ec2::{Error, Xml};

use crate::api::call::Call;
use crate::api::refusal::of_model;
use crate::api::view::groups as view;
use crate::model::{Group, GroupId, Peer, VpcId};

/// The most groups of one request, as in EC2.
const MAX_GROUPS: usize = 200;

/// The rules of other VPCs of this host that refer to a group.
pub(super) fn describe_references(call: &Call<'_>) -> Result<Xml, Error> {
    let ids = call.params.texts("GroupId")?.into_iter().map(str::parse);
    let ids = ids.collect::<Result<Vec<GroupId>, _>>().map_err(|error| of_model(&error))?;
    if ids.is_empty() {
        return Err(Error::missing("GroupId"));
    }
    if ids.len() > MAX_GROUPS {
        let text =
            format!("The number of resources allowed for this request ({MAX_GROUPS}) is exceeded");
        return Err(Error::new("ResourceCountExceeded", text));
    }
    let model = call.read()?;
    for id in &ids {
        model.group_by_id(id).map_err(|error| of_model(&error))?;
    }
    let ids: BTreeSet<&GroupId> = ids.iter().collect();
    let mut references = BTreeSet::new();
    for group in model.groups_by_id() {
        for rule in &group.rules {
            if let Peer::Foreign(foreign) = &rule.spec.peer
                && ids.contains(&foreign.group)
            {
                references.insert((&foreign.group, &group.vpc, &foreign.peering));
            }
        }
    }
    let mut xml = Xml::new();
    xml.list("securityGroupReferenceSet", references, |xml, (group, vpc, peering)| {
        xml.text("groupId", group);
        xml.text("referencingVpcId", vpc);
        xml.option("vpcPeeringConnectionId", peering.as_ref());
    });
    Ok(xml)
}

/// Groups with rules whose peers are groups that are not here: these rules match nothing.
pub(super) fn describe_stale(call: &Call<'_>) -> Result<Xml, Error> {
    let vpc: VpcId = call.params.required("VpcId")?.parse().map_err(|error| of_model(&error))?;
    let page = Page::parse(call.params, 5..=255)?;
    let model = call.read()?;
    model.vpc_by_id(&vpc).map_err(|error| of_model(&error))?;
    let is_stale = |group: &&Group| {
        group.vpc == vpc
            && group.rules.iter().any(|rule| matches!(rule.spec.peer, Peer::Foreign(_)))
    };
    let groups: Vec<_> = model.groups_by_id().filter(is_stale).collect();
    let (groups, next) = page.cut(groups, |group| group.id.to_string());
    let mut xml = Xml::new();
    xml.option("nextToken", next);
    xml.list("staleSecurityGroupSet", groups, |xml, group| {
        view::stale_group(xml, group, call.identity());
    });
    Ok(xml)
}

/// No group is associated with another VPC than its own.
pub(super) fn describe_associations(call: &Call<'_>) -> Result<Xml, Error> {
    const FILTERS: &[&str] = &["group-id", "group-owner-id", "state", "vpc-id", "vpc-owner-id"];
    Filters::parse(call.params, FILTERS)?;
    Page::parse(call.params, 5..=1000)?;
    call.read()?;
    let mut xml = Xml::new();
    xml.list("securityGroupVpcAssociationSet", [(); 0], |_, ()| {});
    Ok(xml)
}
