//! Creating and deleting network interfaces.

use std::collections::BTreeSet;
use std::net::IpAddr;

use firewall_ebpf::abi::state::State;
use firewall_ec2::{Error, Params, Xml};
use ipnet::IpNet;

use super::addresses::{Asked, asked, choose};
use super::{done, refuse_unsupported, required_id};
use crate::api::call::Call;
use crate::api::refusal::of_model;
use crate::api::view::interfaces::View;
use crate::model::apply::DEFAULT_GROUP;
use crate::model::{
    Error as ModelError, GroupId, Interface, InterfaceDetails, InterfaceId, Model, SubnetId, VpcId,
};
use crate::store::Transaction;

/// The timeouts that a client may set: parameter, state, least and most seconds.
const TIMEOUTS: [(&str, State, u32, u32); 3] = [
    ("TcpEstablishedTimeout", State::Established, 60, 432_000),
    ("UdpTimeout", State::Udp, 30, 60),
    ("UdpStreamTimeout", State::UdpStream, 60, 180),
];

/// The longest description in characters.
const DESCRIPTION_MAX: usize = 255;

pub(super) fn create_network_interface(call: &Call<'_>) -> Result<Xml, Error> {
    let params = call.params;
    let subnet: SubnetId = call.id("SubnetId")?;
    let groups = groups(params)?;
    let description = description(params.text("Description").unwrap_or_default())?;
    let v4 = asked(params, true)?;
    let v6 = asked(params, false)?;
    let timeouts = timeouts(params)?;
    let tags = call.tags("network-interface")?;
    params.flag("EnablePrimaryIpv6")?;
    match params.text("InterfaceType") {
        None | Some("interface") => {}
        Some(other) => {
            let text = format!("The interface type {other} is not supported on this host.");
            return Err(Error::new("UnsupportedOperation", text));
        }
    }
    refuse_unsupported(params, &["Operator"])?;
    let token = params.text("ClientToken");
    let create = |change: &mut Transaction<'_>| {
        let model = change.model();
        let vpc = model.subnet_by_id(&subnet)?.vpc.clone();
        let limit = change.limits().groups_per_interface;
        if groups.len() > limit {
            return Err(Error::invalid(format!(
                "user {} exceeded limit {limit} on the number of interface security group memberships",
                call.identity().account
            ))
            .into());
        }
        let mut interface = Interface {
            subnet: subnet.clone(),
            groups: if groups.is_empty() { vec![default_group(model, &vpc)?] } else { groups },
            details: InterfaceDetails { description, ..InterfaceDetails::default() },
            tags: tags.unwrap_or_default(),
            ..Interface::new(InterfaceId::random()?, Interface::FIRST_UNATTACHED, "", None)
        };
        set_timeouts(&mut interface, &timeouts);
        add(model, &mut interface, &v4)?;
        add(model, &mut interface, &v6)?;
        if v4.is_nothing() {
            interface.details.chosen = match choose(model, &interface, true, 1) {
                Ok(chosen) => chosen.first().copied(),
                // A subnet need not have a network here.
                Err(_) if model.subnet_by_id(&subnet)?.settings.cidr.is_none() => None,
                Err(error) => return Err(error.into()),
            };
        }
        let id = interface.id.clone();
        change.create_interface(interface)?;
        Ok(id.to_string())
    };
    call.change_once(create, |model, id| {
        let interface = model.interface_by_id(&id.parse()?)?;
        // It has no device yet, and a repeated request is answered as the first one.
        let view = View { model, identity: call.identity(), interface, seen: None };
        let mut xml = Xml::new();
        xml.node("networkInterface", |xml| view.write(xml));
        xml.option("clientToken", token);
        Ok(xml)
    })
}

pub(super) fn delete_network_interface(call: &Call<'_>) -> Result<Xml, Error> {
    let id = required_id(call.params)?;
    call.change(|change| {
        let interface = change.model().interface_by_id(&id)?;
        if interface.is_attached() {
            let (interface, device) = (id.to_string(), interface.label());
            return Err(ModelError::InterfaceInUse { interface, device }.into());
        }
        let slot = interface.slot;
        Ok(change.delete_interface(slot)?)
    })?;
    Ok(done())
}

/// Adds the addresses that a client asks for to those of an interface; returns those that are new.
pub(super) fn add(
    model: &Model,
    interface: &mut Interface,
    asked: &Asked,
) -> Result<Vec<IpAddr>, Error> {
    super::addresses::require_few(interface, asked)?;
    let mut new = asked.addresses.clone();
    for address in &new {
        super::addresses::require_free(model, interface, *address)?;
    }
    interface.addresses.extend(new.iter().copied().map(IpNet::from));
    if asked.count > 0 {
        let chosen = choose(model, interface, asked.is_v4, asked.count)?;
        interface.addresses.extend(chosen.iter().copied().map(IpNet::from));
        new.extend(chosen);
    }
    for network in &asked.networks {
        if !interface.addresses.contains(network) {
            interface.addresses.push(*network);
        }
    }
    Ok(new)
}

/// The parameters `SecurityGroupId.N`; EC2 ignores repeats.
pub(super) fn groups(params: &Params) -> Result<Vec<GroupId>, Error> {
    let mut groups = Vec::new();
    let mut seen = BTreeSet::new();
    for text in params.texts("SecurityGroupId")? {
        let id: GroupId = text.parse().map_err(|error| of_model(&error))?;
        if seen.insert(id.clone()) {
            groups.push(id);
        }
    }
    Ok(groups)
}

fn default_group(model: &Model, vpc: &VpcId) -> Result<GroupId, ModelError> {
    let group = model.group_named(vpc, DEFAULT_GROUP);
    group.map(|group| group.id.clone()).ok_or(ModelError::InterfaceWithoutGroup)
}

/// The structure `ConnectionTrackingSpecification`, where it has values.
pub(super) fn timeouts(params: &Params) -> Result<Vec<(State, u32)>, Error> {
    let Some(specification) = params.node("ConnectionTrackingSpecification") else {
        return Ok(Vec::new());
    };
    let mut timeouts = Vec::new();
    for (name, state, least, most) in TIMEOUTS {
        let Some(seconds) = specification.number::<i64>(name)? else { continue };
        let within = u32::try_from(seconds).ok().filter(|it| (least..=most).contains(it));
        let seconds = within.ok_or_else(|| {
            Error::invalid(format!(
                "Value ( {seconds} ) for parameter {name} is invalid. Expecting a value from {least} to \
                 {most}."
            ))
        })?;
        timeouts.push((state, seconds));
    }
    Ok(timeouts)
}

pub(super) fn set_timeouts(interface: &mut Interface, timeouts: &[(State, u32)]) {
    interface.timeouts.extend(timeouts.iter().copied());
    interface.timeouts.retain(|state, seconds| *seconds != state.default_timeout());
}

pub(super) fn description(text: &str) -> Result<String, Error> {
    if text.chars().count() > DESCRIPTION_MAX || text.chars().any(char::is_control) {
        return Err(Error::invalid(format!(
            "Invalid network interface description. It has at most {DESCRIPTION_MAX} characters, and no \
             control characters."
        )));
    }
    Ok(text.to_owned())
}
