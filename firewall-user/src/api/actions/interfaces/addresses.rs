//! Addresses of network interfaces. They are those that the CLI declares with `--address`: a guest is held to
//! them, and they are a member's for rules that have its group as their peer.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv6Addr};

use firewall_ec2::{Error, Params, Xml};
use ipnet::{IpNet, Ipv6Net};

use super::create::add;
use super::{done, required_id};
use crate::api::call::Call;
use crate::api::refusal::of_model;
use crate::model::{Interface, InterfaceId, Model, is_one_address, parse_own};

/// The first addresses of a network, which EC2 gives to nobody.
const RESERVED: usize = 4;

/// The most addresses of a network that are tried.
const TRIED: usize = 70_000;

/// The most addresses that a client may ask for at once.
const COUNT_MAX: usize = 256;

/// The most addresses and networks of one family that clients may give to an interface, as in EC2.
pub(super) const LIMIT: usize = 50;

/// The addresses of one family that a client asks for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) is_v4: bool,
    /// Named, the primary one first.
    pub(super) addresses: Vec<IpAddr>,
    /// To be chosen from the network of the subnet.
    pub(super) count: usize,
    /// Whole networks.
    pub(super) networks: Vec<IpNet>,
}

impl Asked {
    pub(super) const fn is_nothing(&self) -> bool {
        self.addresses.is_empty() && self.count == 0 && self.networks.is_empty()
    }
}

/// The parameters of `CreateNetworkInterface`.
pub(super) fn asked(params: &Params, is_v4: bool) -> Result<Asked, Error> {
    let mut texts = Vec::new();
    if is_v4 {
        texts.extend(params.text("PrivateIpAddress"));
        let mut primaries = usize::from(!texts.is_empty());
        for one in params.list("PrivateIpAddresses")? {
            let text = one.required("PrivateIpAddress")?;
            if one.flag("Primary")?.unwrap_or(false) {
                primaries += 1;
                texts.insert(0, text);
            } else {
                texts.push(text);
            }
        }
        if primaries > 1 {
            let text = "Only one primary private IP address can be specified.";
            return Err(Error::new("InvalidParameterCombination", text));
        }
    } else {
        for one in params.list("Ipv6Addresses")? {
            texts.push(one.required("Ipv6Address")?);
            one.flag("IsPrimaryIpv6")?;
        }
    }
    let (count, prefix) = if is_v4 {
        ("SecondaryPrivateIpAddressCount", "Ipv4Prefix")
    } else {
        ("Ipv6AddressCount", "Ipv6Prefix")
    };
    let mut networks = Vec::new();
    for one in params.list(prefix)? {
        networks.push(one.required(prefix)?);
    }
    let mut count = number(params, count)?;
    if is_v4 && count > 0 && texts.is_empty() {
        // They are beside the primary one.
        count += 1;
    }
    read(params, is_v4, texts, count, networks)
}

fn read(
    params: &Params,
    is_v4: bool,
    texts: Vec<&str>,
    count: usize,
    networks: Vec<&str>,
) -> Result<Asked, Error> {
    super::refuse_unsupported(params, &["Ipv4PrefixCount", "Ipv6PrefixCount"])?;
    let mut addresses = Vec::new();
    let mut seen = HashSet::new();
    for text in texts {
        let address = address(text, is_v4)?;
        if seen.insert(address) {
            addresses.push(address);
        }
    }
    let network = |text: &&str| {
        let network = parse_own(text).map_err(|error| of_model(&error))?;
        if network.addr().is_ipv4() == is_v4 {
            Ok(network)
        } else {
            Err(Error::invalid(format!("Invalid prefix: {text}")))
        }
    };
    let networks = networks.iter().map(network).collect::<Result<_, _>>()?;
    Ok(Asked { is_v4, addresses, count, networks })
}

fn number(params: &Params, name: &str) -> Result<usize, Error> {
    let count = params.number::<i64>(name)?.unwrap_or(0);
    let within = usize::try_from(count).ok().filter(|count| *count <= COUNT_MAX);
    within.ok_or_else(|| {
        let text = format!("Value ( {count} ) for parameter {name} is invalid.");
        Error::invalid(text)
    })
}

fn address(text: &str, is_v4: bool) -> Result<IpAddr, Error> {
    let address = text.parse::<IpAddr>().ok().filter(|address| address.is_ipv4() == is_v4);
    // What no guest can have is refused too.
    let address = address.filter(|_| parse_own(text).is_ok());
    address
        .ok_or_else(|| Error::invalid(format!("Value ({text}) for parameter address is invalid.")))
}

/// Refuses more addresses than an interface can have of a family.
pub(super) fn require_few(interface: &Interface, asked: &Asked) -> Result<(), Error> {
    let is_of_family = |address: IpAddr| address.is_ipv4() == asked.is_v4;
    let here = interface.addresses.iter().filter(|network| is_of_family(network.addr())).count();
    let here = here + usize::from(interface.details.chosen.is_some_and(is_of_family));
    if here + asked.addresses.len() + asked.count + asked.networks.len() <= LIMIT {
        return Ok(());
    }
    let kind = if asked.is_v4 { "private" } else { "IPv6" };
    let text = format!("Number of {kind} addresses will exceed limit.");
    Err(Error::new("PrivateIpAddressLimitExceeded", text))
}

/// Refuses an address that another interface of the VPC has.
pub(super) fn require_free(
    model: &Model,
    interface: &Interface,
    address: IpAddr,
) -> Result<(), Error> {
    let is_taken = interface.addresses.contains(&address.into())
        || others(model, interface).any(|one| has(one, address));
    if is_taken {
        let text = format!("Address {address} is in use.");
        return Err(Error::new("InvalidIPAddress.InUse", text));
    }
    Ok(())
}

fn others<'a>(model: &'a Model, of: &'a Interface) -> impl Iterator<Item = &'a Interface> {
    let vpc = model.vpc_of(of);
    let all = model.network_interfaces();
    all.filter(move |one| one.id != of.id && model.vpc_of(one) == vpc)
}

fn has(interface: &Interface, address: IpAddr) -> bool {
    interface.addresses.contains(&address.into()) || interface.details.chosen == Some(address)
}

/// Addresses of the subnet's network that no interface of its VPC has.
pub(super) fn choose(
    model: &Model,
    interface: &Interface,
    is_v4: bool,
    count: usize,
) -> Result<Vec<IpAddr>, Error> {
    let settings = &model.subnet_by_id(&interface.subnet).map_err(|e| of_model(&e))?.settings;
    let every = others(model, interface).chain([interface]);
    let taken: HashSet<IpAddr> = every
        .flat_map(|one| {
            let given = one.addresses.iter().filter(|network| is_one_address(network));
            given.map(IpNet::addr).chain(one.details.chosen)
        })
        .collect();
    let is_free = |address: &IpAddr| !taken.contains(address);
    let found: Vec<IpAddr> = if is_v4 {
        // Without the network's own address and the broadcast address.
        let hosts = settings.cidr.into_iter().flat_map(|network| network.hosts());
        let hosts = hosts.skip(RESERVED - 1).take(TRIED).map(IpAddr::from);
        hosts.filter(is_free).take(count).collect()
    } else {
        let hosts = settings.ipv6_cidr.into_iter().flat_map(hosts_v6).map(IpAddr::from);
        hosts.filter(is_free).take(count).collect()
    };
    if found.len() < count {
        let text =
            "The specified subnet does not have enough free addresses to satisfy the request.";
        return Err(Error::new("InsufficientFreeAddressesInSubnet", text));
    }
    Ok(found)
}

/// The addresses of an IPv6 network that are tried.
fn hosts_v6(network: Ipv6Net) -> impl Iterator<Item = Ipv6Addr> {
    let first = network.network().to_bits();
    let size = 1_u128.checked_shl(u32::from(128 - network.prefix_len())).unwrap_or(u128::MAX);
    let end = size.min(TRIED as u128);
    (RESERVED as u128..end).map(move |at| Ipv6Addr::from_bits(first + at))
}

pub(super) fn assign_private_ip_addresses(call: &Call<'_>) -> Result<Xml, Error> {
    let params = call.params;
    // An address that another interface has is refused, whatever this says.
    params.flag("AllowReassignment")?;
    let texts = params.texts("PrivateIpAddress")?;
    let count = number(params, "SecondaryPrivateIpAddressCount")?;
    let asked = read(params, true, texts, count, params.texts("Ipv4Prefix")?)?;
    let (id, new) = assign(call, &asked)?;
    let mut xml = Xml::new();
    xml.text("networkInterfaceId", id);
    xml.list("assignedPrivateIpAddressesSet", new, |xml, address| {
        xml.text("privateIpAddress", address);
    });
    xml.list("assignedIpv4PrefixSet", asked.networks, |xml, network| {
        xml.text("ipv4Prefix", network);
    });
    Ok(xml)
}

pub(super) fn assign_ipv6_addresses(call: &Call<'_>) -> Result<Xml, Error> {
    let params = call.params;
    let texts = params.texts("Ipv6Addresses")?;
    let count = number(params, "Ipv6AddressCount")?;
    let asked = read(params, false, texts, count, params.texts("Ipv6Prefix")?)?;
    let (id, new) = assign(call, &asked)?;
    let mut xml = Xml::new();
    xml.texts("assignedIpv6Addresses", new);
    xml.texts("assignedIpv6PrefixSet", asked.networks);
    xml.text("networkInterfaceId", id);
    Ok(xml)
}

fn assign(call: &Call<'_>, asked: &Asked) -> Result<(InterfaceId, Vec<IpAddr>), Error> {
    let id = required_id(call.params)?;
    if asked.is_nothing() {
        let names = if asked.is_v4 {
            "PrivateIpAddress or SecondaryPrivateIpAddressCount"
        } else {
            "Ipv6Addresses or Ipv6AddressCount"
        };
        return Err(Error::missing(names));
    }
    let mut new = Vec::new();
    call.reattach(&id, |change| {
        let mut wanted = change.model().interface_by_id(&id)?.clone();
        new = add(change.model(), &mut wanted, asked)?;
        Ok(change.edit_interface(&id, |one| one.addresses = wanted.addresses)?)
    })?;
    Ok((id, new))
}

pub(super) fn unassign_private_ip_addresses(call: &Call<'_>) -> Result<Xml, Error> {
    let params = call.params;
    let texts = params.texts("PrivateIpAddress")?;
    let asked = read(params, true, texts, 0, params.texts("Ipv4Prefix")?)?;
    unassign(call, &asked)?;
    Ok(done())
}

pub(super) fn unassign_ipv6_addresses(call: &Call<'_>) -> Result<Xml, Error> {
    let params = call.params;
    let texts = params.texts("Ipv6Addresses")?;
    let asked = read(params, false, texts, 0, params.texts("Ipv6Prefix")?)?;
    let id = unassign(call, &asked)?;
    let mut xml = Xml::new();
    xml.text("networkInterfaceId", id);
    xml.texts("unassignedIpv6Addresses", asked.addresses);
    xml.texts("unassignedIpv6PrefixSet", asked.networks);
    Ok(xml)
}

fn unassign(call: &Call<'_>, asked: &Asked) -> Result<InterfaceId, Error> {
    let id = required_id(call.params)?;
    if asked.is_nothing() {
        return Err(Error::missing(if asked.is_v4 { "PrivateIpAddress" } else { "Ipv6Addresses" }));
    }
    let addresses = asked.addresses.iter().copied().map(IpNet::from);
    let gone: Vec<IpNet> = addresses.chain(asked.networks.iter().copied()).collect();
    call.reattach(&id, |change| {
        let interface = change.model().interface_by_id(&id)?;
        if let Some(missing) = gone.iter().find(|one| !interface.addresses.contains(one)) {
            let text = format!(
                "Some of the specified addresses are not assigned to interface {id}: {}",
                missing.addr()
            );
            return Err(Error::invalid(text).into());
        }
        if let Some(address) = primary(interface).filter(|address| gone.contains(address)) {
            let text = format!("The primary IP address {} cannot be unassigned.", address.addr());
            return Err(Error::invalid(text).into());
        }
        let mut without = interface.clone();
        without.addresses.retain(|network| !gone.contains(network));
        // A guest without addresses may use every one.
        if interface.checks_addresses() && !without.checks_addresses() {
            let text = format!(
                "Network interface {id} is of a guest whose addresses are checked: the last one cannot be \
                 unassigned."
            );
            return Err(Error::invalid(text).into());
        }
        Ok(change.edit_interface(&id, |one| one.addresses = without.addresses)?)
    })?;
    Ok(id)
}

/// The primary IPv4 address, if it is one that was given.
fn primary(interface: &Interface) -> Option<IpNet> {
    let chosen = interface.details.chosen.filter(IpAddr::is_ipv4);
    let is_v4 = |network: &&IpNet| network.addr().is_ipv4() && is_one_address(network);
    interface.addresses.iter().find(is_v4).copied().filter(|_| chosen.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_a_small_ipv6_network_are_its_own() {
        let hosts = |network: &str| hosts_v6(network.parse().unwrap());
        let all: Vec<_> = hosts("2001:db8::10/125").map(|address| address.to_string()).collect();
        assert_eq!(all, ["2001:db8::14", "2001:db8::15", "2001:db8::16", "2001:db8::17"]);
        assert_eq!(hosts("2001:db8::/128").count(), 0);
        assert_eq!(hosts("2001:db8::/64").count(), TRIED - RESERVED);
        assert_eq!(hosts("::/0").count(), TRIED - RESERVED);
    }
}
