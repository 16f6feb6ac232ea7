//! Peers of rules that a request names: which group is meant, and which rule of a group.

use firewall_ebpf::abi::interface::Direction;
use firewall_ec2::Error;

use super::asked::{Asked, AskedPeer, GroupReference};
use crate::api::actions::groups::target::named;
use crate::api::refusal::of_model;
use crate::model::{
    self, ForeignGroup, Group, GroupId, Identity, Model, Peer, Rule, RuleSpec, Traffic, VpcId,
};

/// The peer of a new rule of a group. A group of another account, or one that is said to be of another VPC, is kept
/// as it is named: such a rule matches nothing, as EC2's stale rules.
///
/// # Errors
/// There is no such group, or it is of another VPC.
pub(super) fn resolve(
    model: &Model,
    group: &Group,
    asked: &AskedPeer<'_>,
    identity: &Identity,
) -> Result<Peer, Error> {
    let reference = match asked {
        AskedPeer::Known(peer) => return Ok(peer.clone()),
        AskedPeer::Group(reference) => reference,
    };
    let id = id(model, group, reference, identity)?;
    let GroupReference { account, vpc, peering, .. } = reference;
    let account = account.filter(|account| *account != identity.account.as_str());
    let here = model.groups.get(&id).filter(|_| account.is_none());
    if here.is_some_and(|peer| peer.vpc == group.vpc) {
        return Ok(Peer::Group(id));
    }
    let is_elsewhere =
        account.is_some() || peering.is_some() || vpc.as_ref().is_some_and(|vpc| *vpc != group.vpc);
    if is_elsewhere {
        return Ok(Peer::Foreign(Box::new(ForeignGroup {
            group: id,
            account: account.map(str::to_owned),
            vpc: vpc.clone().or_else(|| here.map(|peer| peer.vpc.clone())),
            peering: peering.map(str::to_owned),
        })));
    }
    Err(match here {
        None => of_model(&model::Error::GroupNotFound(id.to_string())),
        Some(_) => other_network(),
    })
}

/// The error about groups of two VPCs.
pub(super) fn other_network() -> Error {
    Error::new(
        "InvalidGroup.NotFound",
        "You have specified two resources that belong to different networks.",
    )
}

/// The id of a group that a request names; that of a name in the default VPC.
fn id(
    model: &Model,
    group: &Group,
    reference: &GroupReference<'_>,
    identity: &Identity,
) -> Result<GroupId, Error> {
    let GroupReference { id, name, account, .. } = reference;
    if let Some(id) = id {
        return Ok(id.clone());
    }
    let name = name.unwrap_or_default();
    let is_ours = account.is_none_or(|account| account == identity.account.as_str());
    if group.vpc != VpcId::default_vpc() || !is_ours {
        return Err(Error::invalid(format!(
            "Invalid value '{name}' for groupName. You may not reference Amazon VPC security groups \
             by name. Please use the corresponding id for this operation."
        )));
    }
    named(model, name).map(|group| group.id.clone())
}

/// The rule of a group that a request names by what it allows.
///
/// # Errors
/// The group has no such rule, or it has another description than the one that is given.
pub(super) fn find<'m>(
    model: &Model,
    group: &'m Group,
    direction: Direction,
    asked: &Asked<'_>,
    identity: &Identity,
) -> Result<&'m Rule, Error> {
    let rule = find_any_description(model, group, direction, asked, identity)?;
    if asked.description.is_some_and(|text| text != rule.description) {
        return Err(missing(group, &rule.spec));
    }
    Ok(rule)
}

/// As [`find`], whatever its description.
///
/// # Errors
/// The group has no such rule.
pub(super) fn find_any_description<'m>(
    model: &Model,
    group: &'m Group,
    direction: Direction,
    Asked { traffic, peer, .. }: &Asked<'_>,
    identity: &Identity,
) -> Result<&'m Rule, Error> {
    let spec = |peer| RuleSpec { direction, traffic: *traffic, peer };
    let reference = match peer {
        AskedPeer::Known(peer) => {
            return group.rule_with(&spec(peer.clone())).map_err(|error| of_model(&error));
        }
        AskedPeer::Group(reference) => reference,
    };
    let id = id(model, group, reference, identity)?;
    let spec = spec(Peer::Group(id.clone()));
    let rule = same_group(group, &spec).filter(|rule| is_account_of(rule, reference, identity));
    rule.ok_or_else(|| {
        let is_known = model.groups.contains_key(&id) || reference.account.is_some();
        if is_known {
            missing(group, &spec)
        } else {
            of_model(&model::Error::GroupNotFound(id.to_string()))
        }
    })
}

fn missing(group: &Group, spec: &RuleSpec) -> Error {
    let (group, spec) = (group.name.clone(), spec.clone());
    of_model(&model::Error::PermissionNotFound { group, spec })
}

/// Whether the peer of a rule is of the account that a request names.
fn is_account_of(rule: &Rule, reference: &GroupReference<'_>, identity: &Identity) -> bool {
    let account = crate::api::view::rules::account(&rule.spec.peer, identity);
    reference.account.is_none_or(|asked| account == Some(asked))
}

/// The rule of a group with the same direction, traffic and group as peer, wherever that group is said to be.
pub(super) fn same_group<'m>(group: &'m Group, spec: &RuleSpec) -> Option<&'m Rule> {
    group.rules.iter().find(|rule| are_of_one_group(&rule.spec, spec))
}

/// Whether both have the same direction, traffic and group as peer, wherever that group is said to be.
fn are_of_one_group(one: &RuleSpec, other: &RuleSpec) -> bool {
    of_group(one).is_some_and(|one| of_group(other) == Some(one))
}

/// Direction, traffic and the group that is the peer, wherever it is said to be: what two rules of a group must not
/// have in common. `None` if the peer is no group.
pub(super) fn of_group(spec: &RuleSpec) -> Option<(Direction, Traffic, &GroupId)> {
    group_of(&spec.peer).map(|group| (spec.direction, spec.traffic, group))
}

/// The group that is a peer.
const fn group_of(peer: &Peer) -> Option<&GroupId> {
    match peer {
        Peer::Group(id) => Some(id),
        Peer::Foreign(foreign) => Some(&foreign.group),
        Peer::Ipv4(_) | Peer::Ipv6(_) | Peer::PrefixList(_) => None,
    }
}
