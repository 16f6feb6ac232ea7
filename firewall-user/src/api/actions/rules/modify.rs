//! Changing rules in place: they keep their ids, and here their counters.

use firewall_ec2::{Error, Params, Xml};

use super::asked::{self, AskedPeer, GroupReference};
use super::{describe, done, peer, require_different};
use crate::api::actions::groups::target::Target;
use crate::api::call::Call;
use crate::api::refusal::of_model;
use crate::model::{self, Group, Identity, Model, Peer, RuleId, RuleSpec, Traffic};

/// What a rule is to be.
struct Update<'a> {
    id: RuleId,
    traffic: Traffic,
    peer: AskedPeer<'a>,
    description: Option<&'a str>,
}

/// Replaces rules of a group, all or none. Each is given as a whole: without a description it has none afterwards.
pub(super) fn modify_security_group_rules(call: &Call<'_>) -> Result<Xml, Error> {
    let target = Target::parse_id(call.params)?;
    let items = call.params.list("SecurityGroupRule")?;
    if items.is_empty() {
        return Err(Error::missing("SecurityGroupRule"));
    }
    let updates = items.into_iter().map(update).collect::<Result<Vec<_>, _>>()?;
    require_different(updates.iter().map(|update| &update.id))?;
    call.change(|change| {
        let model = change.model();
        let group = target.find(model)?.clone();
        let mut specs = Vec::new();
        for update in &updates {
            specs.push((update.id.clone(), spec(model, &group, update, call.identity())?));
        }
        change.modify_rules(&group.id, specs)?;
        for Update { id, description, .. } in &updates {
            describe(change, &group, id, *description)?;
        }
        Ok(())
    })?;
    Ok(done())
}

/// An item of `SecurityGroupRule`.
fn update(item: &Params) -> Result<Update<'_>, Error> {
    let id = item.required("SecurityGroupRuleId")?.parse().map_err(|error| of_model(&error))?;
    let Some(rule) = item.node("SecurityGroupRule") else {
        return Err(Error::missing(&item.path_of("SecurityGroupRule")));
    };
    let peer = only_peer(rule)?;
    let (protocol, from, to) = asked::protocol(rule)?;
    let traffic = Traffic::from_ec2(protocol, from, to).map_err(|error| match error {
        // This action has a text of its own for it.
        model::Error::PortsMissing { .. } => Error::invalid(
            "Invalid value for portRange. Must specify both from and to ports with TCP/UDP.",
        ),
        _ => of_model(&error),
    })?;
    // Unlike when a rule is added.
    let has_ports = [from, to].into_iter().flatten().any(|port| port != -1);
    if traffic == Traffic::All && has_ports {
        return Err(Error::invalid(
            "You may not specify all protocols and specific ports. Please specify each protocol and \
             port range combination individually, or all protocols and no port range.",
        ));
    }
    Ok(Update { id, traffic, peer, description: rule.text("Description") })
}

/// The one peer of a rule.
fn only_peer(rule: &Params) -> Result<AskedPeer<'_>, Error> {
    const NAMES: [&str; 4] = ["CidrIpv4", "CidrIpv6", "PrefixListId", "ReferencedGroupId"];
    let mut given = NAMES.into_iter().filter_map(|name| Some((name, rule.text(name)?)));
    let Some((name, text)) = given.next() else {
        return Err(Error::new(
            "MissingParameter",
            "The request must contain exactly one of: cidrIp, cidrIpv6, prefixListId, or \
             referencedGroupId",
        ));
    };
    if given.next().is_some() {
        return Err(Error::new(
            "InvalidParameterCombination",
            "Only one of cidrIp, cidrIpv6, prefixListId, or referencedGroupId can be specified",
        ));
    }
    Ok(match name {
        "CidrIpv4" => AskedPeer::Known(asked::cidr_v4(text)?),
        "CidrIpv6" => AskedPeer::Known(asked::cidr_v6(text)?),
        "PrefixListId" => AskedPeer::Known(asked::prefix_list(text)?),
        _ => {
            let id = Some(text.parse().map_err(|error| of_model(&error))?);
            AskedPeer::Group(GroupReference { id, ..GroupReference::default() })
        }
    })
}

/// The new specification of a rule.
fn spec(
    model: &Model,
    group: &Group,
    Update { id, traffic, peer, .. }: &Update<'_>,
    identity: &Identity,
) -> anyhow::Result<RuleSpec> {
    let old = &group.rule(id)?.spec;
    let peer = match (peer, &old.peer) {
        // The group that the rule has already, wherever it is.
        (AskedPeer::Group(reference), Peer::Foreign(foreign))
            if reference.id.as_ref() == Some(&foreign.group) =>
        {
            old.peer.clone()
        }
        (asked, _) => {
            let (have, want) = (kind(&old.peer), asked_kind(asked));
            if have != want {
                return Err(Error::invalid(format!(
                    "Invalid rule type for security group rule '{id}'. You may not specify {} for an \
                     existing {} rule.",
                    want.0, have.1
                ))
                .into());
            }
            peer::resolve(model, group, asked, identity)?
        }
    };
    let spec = RuleSpec { direction: old.direction, traffic: *traffic, peer };
    if let Some(rule) = peer::same_group(group, &spec)
        && rule.id != *id
        && rule.spec != spec
    {
        let (group, rule) = (group.name.clone(), rule.id.clone());
        return Err(model::Error::RuleDuplicate { group, rule, spec, ends: false }.into());
    }
    Ok(spec)
}

/// The parameter of a kind of peer, and its name in EC2's text.
const fn kind(peer: &Peer) -> (&'static str, &'static str) {
    match peer {
        Peer::Ipv4(_) => ("CidrIpv4", "IPv4 CIDR"),
        Peer::Ipv6(_) => ("CidrIpv6", "IPv6 CIDR"),
        Peer::PrefixList(_) => ("PrefixListId", "prefix list"),
        Peer::Group(_) | Peer::Foreign(_) => ("ReferencedGroupId", "referenced group"),
    }
}

const fn asked_kind(asked: &AskedPeer<'_>) -> (&'static str, &'static str) {
    match asked {
        AskedPeer::Known(peer) => kind(peer),
        AskedPeer::Group(_) => ("ReferencedGroupId", "referenced group"),
    }
}
