//! The objects that have tags, by their ids.

use std::borrow::Cow;
use std::collections::BTreeMap;

use firewall_ec2::Error;

use super::refusal::of_model;
use crate::model::{
    self, AclId, FlowLogId, GroupId, InterfaceId, Model, PrefixListId, RuleId, SubnetId, VpcId,
};
use crate::store::{self, Transaction};

/// Tags: values by key.
pub(super) type Tags = BTreeMap<String, String>;

/// An object that has tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    Group(GroupId),
    Rule(GroupId, RuleId),
    PrefixList(PrefixListId),
    Acl(AclId),
    Vpc(VpcId),
    Subnet(SubnetId),
    Interface(InterfaceId),
    FlowLog(FlowLogId),
}

/// An object with its tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tagged<'a> {
    /// EC2's name of the kind.
    pub(super) kind: &'static str,
    /// The object's id.
    pub(super) id: &'a str,
    /// Its tags.
    pub(super) tags: Cow<'a, Tags>,
}

impl Resource {
    /// The object with this id.
    ///
    /// # Errors
    /// There is none, or objects with such an id have no tags here.
    pub(super) fn find(model: &Model, id: &str) -> Result<Self, Error> {
        let kind = id.split_once('-').map_or("", |(kind, _)| kind);
        let found = match kind {
            "sg" => id.parse().map(Self::Group),
            "sgr" => id.parse().and_then(|rule: RuleId| {
                let mut groups = model.groups_by_id();
                let group = groups.find(|group| group.rules.iter().any(|one| one.id == rule));
                let group = group.ok_or_else(|| model::Error::RuleUnknown(rule.clone()))?;
                Ok(Self::Rule(group.id.clone(), rule))
            }),
            "pl" => id.parse().map(Self::PrefixList),
            "acl" => id.parse().map(Self::Acl),
            "vpc" => id.parse().map(Self::Vpc),
            "subnet" => id.parse().map(Self::Subnet),
            "eni" => id.parse().map(Self::Interface),
            "fl" => id.parse().map(Self::FlowLog),
            _ => return Err(Error::new("InvalidID", format!("The ID '{id}' is not valid"))),
        };
        let found = found.map_err(|error| of_model(&error))?;
        found.tags(model).map_err(|error| of_model(&error))?;
        Ok(found)
    }

    /// The tags of the object, as EC2 has them.
    ///
    /// # Errors
    /// There is no such object.
    pub(super) fn tags<'a>(&self, model: &'a Model) -> Result<Cow<'a, Tags>, model::Error> {
        Ok(Cow::Borrowed(match self {
            Self::Group(id) => &model.group_by_id(id)?.tags,
            Self::Rule(group, rule) => &model.group_by_id(group)?.rule(rule)?.tags,
            Self::PrefixList(id) => &model.prefix_list_by_id(id)?.tags,
            Self::Acl(id) => return Ok(Cow::Owned(model.acl_by_id(id)?.all_tags())),
            Self::Vpc(id) => &model.vpc_by_id(id)?.tags,
            Self::Subnet(id) => &model.subnet_by_id(id)?.tags,
            Self::Interface(id) => &model.interface_by_id(id)?.tags,
            Self::FlowLog(id) => &model.flow_log_by_id(id)?.tags,
        }))
    }

    /// Replaces the tags of the object.
    ///
    /// # Errors
    /// There are too many.
    pub(super) fn set_tags(
        &self,
        change: &mut Transaction<'_>,
        tags: Tags,
    ) -> Result<(), store::Error> {
        match self {
            Self::Group(id) => change.tag_group(id, tags),
            Self::Rule(group, rule) => change.tag_rule(group, rule, tags),
            Self::PrefixList(id) => change.tag_prefix_list(id, tags),
            Self::Acl(id) => change.set_acl_tags(id, tags),
            Self::Vpc(id) => change.tag_vpc(id, tags),
            Self::Subnet(id) => change.tag_subnet(id, tags),
            Self::Interface(id) => change.tag_interface(id, tags),
            Self::FlowLog(id) => change.tag_flow_log(id, tags),
        }
    }
}

/// Everything that has tags.
pub(super) fn tagged(model: &Model) -> Vec<Tagged<'_>> {
    let of = |kind, id, tags| Tagged { kind, id, tags };
    let borrowed = |kind, id, tags| of(kind, id, Cow::Borrowed(tags));
    let mut all = Vec::new();
    for group in model.groups_by_id() {
        all.push(borrowed("security-group", group.id.as_str(), &group.tags));
        let rules = group.rules.iter();
        all.extend(rules.map(|it| borrowed("security-group-rule", it.id.as_str(), &it.tags)));
    }
    let lists = model.prefix_lists.values();
    all.extend(lists.map(|it| borrowed("prefix-list", it.id.as_str(), &it.tags)));
    let acls = model.acls.values();
    all.extend(acls.map(|it| of("network-acl", it.id.as_str(), Cow::Owned(it.all_tags()))));
    all.extend(model.vpcs.values().map(|it| borrowed("vpc", it.id.as_str(), &it.tags)));
    all.extend(model.subnets.values().map(|it| borrowed("subnet", it.id.as_str(), &it.tags)));
    let interfaces = model.network_interfaces();
    all.extend(interfaces.map(|it| borrowed("network-interface", it.id.as_str(), &it.tags)));
    let logs = model.flow_logs.values();
    all.extend(logs.map(|it| borrowed("vpc-flow-log", it.id.as_str(), &it.tags)));
    all
}
