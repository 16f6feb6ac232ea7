//! Further networks of VPCs and subnets.

use firewall_ec2::{Error, Xml};
use ipnet::IpNet;

use super::change::{ipv4, ipv6, new_ipv6};
use crate::api::call::Call;
use crate::api::view::vpcs as view;
use crate::model::{Model, SubnetId, VpcId};

/// `AssociateVpcCidrBlock`.
pub(super) fn associate_vpc(call: &Call<'_>) -> Result<Xml, Error> {
    let id: VpcId = call.id("VpcId")?;
    let (v4, v6) = (ipv4(call.params, "CidrBlock")?, new_ipv6(call.params)?);
    let network = match (v4, v6) {
        (Some(network), None) => IpNet::V4(network),
        (None, Some(network)) => IpNet::V6(network),
        (None, None) => return Err(Error::missing("CidrBlock")),
        (Some(_), Some(_)) => {
            let text = "Only one of CidrBlock and an IPv6 CIDR block can be specified";
            return Err(Error::new("InvalidParameterCombination", text));
        }
    };
    call.change(|change| {
        let mut vpc = change.model().vpc_by_id(&id)?.clone();
        match network {
            IpNet::V4(network) => vpc.settings.cidrs.push(network),
            IpNet::V6(network) => vpc.settings.ipv6_cidrs.push(network),
        }
        Ok(change.put_vpc(vpc)?)
    })?;
    Ok(of_vpc(call, &id, &network, "associating"))
}

/// `DisassociateVpcCidrBlock`.
pub(super) fn disassociate_vpc(call: &Call<'_>) -> Result<Xml, Error> {
    let association = call.params.required("AssociationId")?;
    let (id, network) = call.change(|change| {
        let model = change.model();
        let (vpc, network) = model
            .vpcs
            .values()
            .find_map(|vpc| {
                let is_it = |it: &IpNet| view::vpc_association(&vpc.id, it) == association;
                vpc.networks().find(is_it).map(|network| (vpc, network))
            })
            .ok_or_else(|| not_found("InvalidVpcCidrBlockAssociationID.NotFound", association))?;
        if vpc.settings.cidrs.first().is_some_and(|first| IpNet::V4(*first) == network) {
            let text = format!(
                "The vpc CIDR block with association ID {association} may not be disassociated. It is the \
                 primary IPv4 CIDR block of the VPC"
            );
            return Err(Error::new("OperationNotPermitted", text).into());
        }
        require_unused(model, &vpc.id, &network, association)?;
        let mut vpc = vpc.clone();
        vpc.settings.cidrs.retain(|one| IpNet::V4(*one) != network);
        vpc.settings.ipv6_cidrs.retain(|one| IpNet::V6(*one) != network);
        let id = vpc.id.clone();
        change.put_vpc(vpc)?;
        Ok((id, network))
    })?;
    Ok(of_vpc(call, &id, &network, "disassociating"))
}

fn require_unused(
    model: &Model,
    vpc: &VpcId,
    network: &IpNet,
    association: &str,
) -> Result<(), Error> {
    let subnets = model.subnets.values().filter(|subnet| subnet.vpc == *vpc);
    let users: Vec<_> = subnets
        .filter(|subnet| subnet.networks().any(|inside| network.contains(&inside)))
        .map(|subnet| subnet.id.to_string())
        .collect();
    if users.is_empty() {
        return Ok(());
    }
    let text = format!(
        "The vpc CIDR block with association ID {association} may not be disassociated. It is used by {}",
        users.join(", ")
    );
    Err(Error::new("InvalidCidrBlock.InUse", text))
}

fn of_vpc(call: &Call<'_>, id: &VpcId, network: &IpNet, state: &str) -> Xml {
    let mut xml = Xml::new();
    match network {
        IpNet::V6(network) => xml.node("ipv6CidrBlockAssociation", |xml| {
            view::vpc_ipv6(xml, call.identity(), id, network, state);
        }),
        IpNet::V4(network) => {
            xml.node("cidrBlockAssociation", |xml| view::vpc_ipv4(xml, id, network, state));
        }
    }
    xml.text("vpcId", id);
    xml
}

/// `AssociateSubnetCidrBlock`.
pub(super) fn associate_subnet(call: &Call<'_>) -> Result<Xml, Error> {
    let id: SubnetId = call.id("SubnetId")?;
    let network =
        ipv6(call.params, "Ipv6CidrBlock")?.ok_or_else(|| Error::missing("Ipv6CidrBlock"))?;
    call.change(|change| {
        let mut subnet = change.model().subnet_by_id(&id)?.clone();
        if let Some(here) = subnet.settings.ipv6_cidr {
            let text =
                format!("The subnet '{id}' has the IPv6 CIDR block {here}, and can have one");
            return Err(Error::new("SubnetLimitExceeded", text).into());
        }
        subnet.settings.ipv6_cidr = Some(network);
        Ok(change.put_subnet(subnet)?)
    })?;
    let mut xml = Xml::new();
    xml.node("ipv6CidrBlockAssociation", |xml| {
        view::subnet_ipv6(xml, &id, &network, "associating");
    });
    xml.text("subnetId", &id);
    Ok(xml)
}

/// `DisassociateSubnetCidrBlock`.
pub(super) fn disassociate_subnet(call: &Call<'_>) -> Result<Xml, Error> {
    let association = call.params.required("AssociationId")?;
    let (id, network) = call.change(|change| {
        let mut subnets = change.model().subnets.values();
        let found = subnets.find_map(|subnet| {
            let network = subnet.settings.ipv6_cidr?;
            let is_it = view::subnet_association(&subnet.id, &network) == association;
            is_it.then(|| (subnet.clone(), network))
        });
        let missing = || not_found("InvalidSubnetCidrBlockAssociationID.NotFound", association);
        let (mut subnet, network) = found.ok_or_else(missing)?;
        subnet.settings.ipv6_cidr = None;
        let id = subnet.id.clone();
        change.put_subnet(subnet)?;
        Ok((id, network))
    })?;
    let mut xml = Xml::new();
    xml.node("ipv6CidrBlockAssociation", |xml| {
        view::subnet_ipv6(xml, &id, &network, "disassociating");
    });
    xml.text("subnetId", &id);
    Ok(xml)
}

fn not_found(code: &str, association: &str) -> Error {
    Error::new(code, format!("The association ID '{association}' does not exist"))
}
