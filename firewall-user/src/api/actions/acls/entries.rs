//! Entries of network ACLs.

use firewall_ebpf::abi::interface::Direction;
use firewall_ec2::{Error, Params, Xml};

use super::{done, required_id};
use crate::api::call::Call;
use crate::api::refusal::of_model;
use crate::model::check::acl_entry_number;
use crate::model::{AclEntry, Action, Family, Peer, Traffic, parse_cidr};

/// The names and numbers of protocols that have types and codes in place of ports.
const ICMP: [&str; 4] = ["icmp", "1", "icmpv6", "58"];

pub(super) fn create_network_acl_entry(call: &Call<'_>) -> Result<Xml, Error> {
    let (id, place, entry) = (required_id(call)?, place(call.params)?, entry(call.params)?);
    call.change(|change| Ok(change.add_acl_entry(&id, place, entry)?))?;
    Ok(done())
}

pub(super) fn replace_network_acl_entry(call: &Call<'_>) -> Result<Xml, Error> {
    let (id, place, entry) = (required_id(call)?, place(call.params)?, entry(call.params)?);
    call.change(|change| Ok(change.replace_acl_entry(&id, place, entry)?))?;
    Ok(done())
}

pub(super) fn delete_network_acl_entry(call: &Call<'_>) -> Result<Xml, Error> {
    let (id, place) = (required_id(call)?, place(call.params)?);
    call.change(|change| Ok(change.remove_acl_entry(&id, place)?))?;
    Ok(done())
}

/// Direction and number.
fn place(params: &Params) -> Result<(Direction, u16), Error> {
    let number = params.number::<i64>("RuleNumber")?;
    let number = number.ok_or_else(|| Error::missing("ruleNumber"))?;
    let is_egress = params.flag("Egress")?.ok_or_else(|| Error::missing("egress"))?;
    let number = acl_entry_number(number).map_err(|error| of_model(&error))?;
    Ok((if is_egress { Direction::Egress } else { Direction::Ingress }, number))
}

fn entry(params: &Params) -> Result<AclEntry, Error> {
    let action = params.required("RuleAction")?;
    // In any case, as clients write it.
    let named = |one: &Action| one.name().eq_ignore_ascii_case(action);
    let action = Action::ALL.into_iter().find(named).ok_or_else(|| {
        Error::invalid(format!("Value ({action}) for parameter ruleAction is invalid."))
    })?;
    let (traffic, peer) = (traffic(params)?, peer(params)?);
    Ok(AclEntry { number: 0, action, traffic, peer, end: None })
}

/// Clients send ports with every protocol; EC2 reads them only of TCP and UDP.
fn traffic(params: &Params) -> Result<Traffic, Error> {
    let protocol = params.required("Protocol")?;
    let pair = |name: &str, [from, to]: [&str; 2]| {
        let Some(node) = params.node(name) else { return Ok::<_, Error>((None, None)) };
        Ok((node.number::<i64>(from)?, node.number::<i64>(to)?))
    };
    let ports = pair("PortRange", ["From", "To"])?;
    let icmp = pair("Icmp", ["Type", "Code"])?;
    let is_icmp = ICMP.contains(&protocol.to_ascii_lowercase().as_str());
    let (from, to) = if is_icmp { icmp } else { ports };
    Traffic::from_ec2(protocol, from, to).map_err(|error| of_model(&error))
}

fn peer(params: &Params) -> Result<Peer, Error> {
    let (text, family) = match (params.text("CidrBlock"), params.text("Ipv6CidrBlock")) {
        (Some(text), None) => (text, Family::Ipv4),
        (None, Some(text)) => (text, Family::Ipv6),
        (None, None) => return Err(Error::missing("cidrBlock or ipv6CidrBlock")),
        (Some(_), Some(_)) => {
            let text = "Only one of cidrBlock and ipv6CidrBlock can be specified";
            return Err(Error::new("InvalidParameterCombination", text));
        }
    };
    let network = parse_cidr(text).map_err(|error| of_model(&error))?;
    if Family::of(&network) != family {
        let family = family.document_name();
        return Err(Error::invalid(format!("CIDR block {text} is not an {family} network")));
    }
    Ok(network.into())
}
