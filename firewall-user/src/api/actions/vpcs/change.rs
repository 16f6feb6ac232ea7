//! Creates, changes and deletes VPCs.

use firewall_ec2::{Error, Params, Xml};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{done, network};
use crate::api::call::Call;
use crate::api::view::vpcs as view;
use crate::model::{Vpc, VpcId, VpcSettings};

/// `CreateVpc`.
pub(super) fn create(call: &Call<'_>) -> Result<Xml, Error> {
    let params = call.params;
    let cidr = ipv4(params, "CidrBlock")?.ok_or_else(|| Error::missing("CidrBlock"))?;
    let ipv6 = new_ipv6(params)?;
    let tenancy = params.text("InstanceTenancy").unwrap_or("default");
    if !["default", "dedicated"].contains(&tenancy) {
        return Err(Error::invalid(format!(
            "Value ({tenancy}) for parameter instanceTenancy is invalid. Must be default or dedicated."
        )));
    }
    let tags = call.tags("vpc")?.unwrap_or_default();
    let settings = VpcSettings {
        cidrs: vec![cidr],
        ipv6_cidrs: ipv6.into_iter().collect(),
        tenancy: tenancy.to_owned(),
        dns_support: true,
        dns_hostnames: false,
        usage_metrics: false,
    };
    call.change(|change| {
        let id = change.create_vpc(settings, tags)?;
        let vpc = change.model().vpc_by_id(&id)?;
        let mut xml = Xml::new();
        xml.node("vpc", |xml| view::vpc(xml, call.identity(), vpc));
        Ok(xml)
    })
}

/// `DeleteVpc`.
pub(super) fn delete(call: &Call<'_>) -> Result<Xml, Error> {
    let id: VpcId = call.id("VpcId")?;
    call.change(|change| Ok(change.delete_vpc(&id)?))?;
    Ok(done())
}

/// `ModifyVpcAttribute`.
pub(super) fn modify_attribute(call: &Call<'_>) -> Result<Xml, Error> {
    let id: VpcId = call.id("VpcId")?;
    let attribute = |name: &str| match call.params.node(name) {
        Some(node) => node.flag("Value"),
        None => Ok(None),
    };
    let hostnames = attribute("EnableDnsHostnames")?;
    let support = attribute("EnableDnsSupport")?;
    let metrics = attribute("EnableNetworkAddressUsageMetrics")?;
    match [hostnames, support, metrics].into_iter().flatten().count() {
        1 => {}
        0 => return Err(Error::missing("Attribute")),
        _ => {
            let text = "Only one attribute can be modified at a time.";
            return Err(Error::new("InvalidParameterCombination", text));
        }
    }
    call.change(|change| {
        let mut vpc: Vpc = change.model().vpc_by_id(&id)?.clone();
        let settings = &mut vpc.settings;
        settings.dns_hostnames = hostnames.unwrap_or(settings.dns_hostnames);
        settings.dns_support = support.unwrap_or(settings.dns_support);
        settings.usage_metrics = metrics.unwrap_or(settings.usage_metrics);
        Ok(change.put_vpc(vpc)?)
    })?;
    Ok(done())
}

/// The IPv4 network of a parameter.
///
/// # Errors
/// It is not an IPv4 network.
pub(super) fn ipv4(params: &Params, name: &str) -> Result<Option<Ipv4Net>, Error> {
    let Some(text) = params.text(name) else { return Ok(None) };
    match network(name, text)? {
        IpNet::V4(network) => Ok(Some(network)),
        IpNet::V6(_) => Err(Error::invalid(format!(
            "Value ({text}) for parameter {name} is invalid. This is not a valid IPv4 CIDR block."
        ))),
    }
}

/// The IPv6 network of a parameter.
///
/// # Errors
/// It is not an IPv6 network.
pub(super) fn ipv6(params: &Params, name: &str) -> Result<Option<Ipv6Net>, Error> {
    let Some(text) = params.text(name) else { return Ok(None) };
    match network(name, text)? {
        IpNet::V6(network) => Ok(Some(network)),
        IpNet::V4(_) => Err(Error::invalid(format!(
            "Value ({text}) for parameter {name} is invalid. This is not a valid IPv6 CIDR block."
        ))),
    }
}

/// The IPv6 network that a request asks for: one that it names, or with `AmazonProvidedIpv6CidrBlock` a random
/// one of /56 of the unique local addresses (RFC 4193), because there is no AWS here to give a public one.
///
/// # Errors
/// It is not an IPv6 network, or the kernel gives no random bytes.
pub(super) fn new_ipv6(params: &Params) -> Result<Option<Ipv6Net>, Error> {
    let is_provided = params.flag("AmazonProvidedIpv6CidrBlock")?.unwrap_or(false);
    params.accept("Ipv6CidrBlockNetworkBorderGroup");
    let named = ipv6(params, "Ipv6CidrBlock")?;
    match (named, is_provided) {
        (Some(_), true) => {
            let text = "Only one of AmazonProvidedIpv6CidrBlock and Ipv6CidrBlock can be specified";
            Err(Error::new("InvalidParameterCombination", text))
        }
        (Some(network), false) => {
            // From a pool of addresses that the account has brought: any is as good here.
            params.accept("Ipv6Pool");
            Ok(Some(network))
        }
        (None, false) => Ok(None),
        (None, true) => random_ipv6().map(Some),
    }
}

fn random_ipv6() -> Result<Ipv6Net, Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Error::new("InternalError", error.to_string()))?;
    bytes[0] = 0xfd;
    let network = Ipv6Net::new(bytes.into(), 56);
    network
        .map(|network| network.trunc())
        .map_err(|error| Error::new("InternalError", error.to_string()))
}
