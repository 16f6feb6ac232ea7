//! VPCs and subnets.

use firewall_ec2::Xml;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::tags;
use crate::model::{Identity, Model, Subnet, SubnetId, Vpc, VpcId};

/// The prefix of the id of a VPC's association with a network.
pub(in crate::api) const VPC_ASSOCIATION: &str = "vpc-cidr-assoc-";

/// That of a subnet's one.
pub(in crate::api) const SUBNET_ASSOCIATION: &str = "subnet-cidr-assoc-";

/// The state of all associations: they are made at once.
pub(in crate::api) const ASSOCIATED: &str = "associated";

/// The pool that AWS takes IPv6 networks from.
pub(in crate::api) const POOL: &str = "Amazon";

/// What EC2 shows where a VPC has no DHCP options of its own.
pub(in crate::api) const DHCP_OPTIONS: &str = "default";

/// Addresses of an IPv4 subnet that EC2 keeps for itself.
const RESERVED: u32 = 5;

/// The elements of a `Vpc`.
pub(in crate::api) fn vpc(xml: &mut Xml, identity: &Identity, vpc: &Vpc) {
    let settings = &vpc.settings;
    xml.text("ownerId", identity.account);
    xml.text("instanceTenancy", &settings.tenancy);
    xml.list("ipv6CidrBlockAssociationSet", &settings.ipv6_cidrs, |xml, network| {
        vpc_ipv6(xml, identity, &vpc.id, network, ASSOCIATED);
    });
    xml.list("cidrBlockAssociationSet", &settings.cidrs, |xml, network| {
        vpc_ipv4(xml, &vpc.id, network, ASSOCIATED);
    });
    xml.text("isDefault", vpc.is_default);
    tags::set(xml, &vpc.tags);
    public_access(xml);
    xml.empty_list("networkFirewallAssociationSet");
    xml.text("vpcId", &vpc.id);
    xml.text("state", "available");
    xml.option("cidrBlock", settings.cidrs.first());
    xml.text("dhcpOptionsId", DHCP_OPTIONS);
}

/// The elements of a `VpcCidrBlockAssociation`.
pub(in crate::api) fn vpc_ipv4(xml: &mut Xml, vpc: &VpcId, network: &Ipv4Net, state: &str) {
    xml.text("associationId", vpc_association(vpc, &(*network).into()));
    xml.text("cidrBlock", network);
    xml.node("cidrBlockState", |xml| xml.text("state", state));
}

/// The elements of a `VpcIpv6CidrBlockAssociation`.
pub(in crate::api) fn vpc_ipv6(
    xml: &mut Xml,
    identity: &Identity,
    vpc: &VpcId,
    network: &Ipv6Net,
    state: &str,
) {
    xml.text("associationId", vpc_association(vpc, &(*network).into()));
    xml.text("ipv6CidrBlock", network);
    xml.node("ipv6CidrBlockState", |xml| xml.text("state", state));
    xml.text("networkBorderGroup", identity.region);
    xml.text("ipv6Pool", POOL);
}

/// The elements of a `Subnet`.
pub(in crate::api) fn subnet(xml: &mut Xml, identity: &Identity, model: &Model, subnet: &Subnet) {
    let settings = &subnet.settings;
    let zone = zone(identity, subnet);
    xml.text("availabilityZoneId", identity.zone_id(&zone));
    xml.text("mapCustomerOwnedIpOnLaunch", false);
    xml.text("ownerId", identity.account);
    xml.text("assignIpv6AddressOnCreation", settings.assign_ipv6);
    xml.list("ipv6CidrBlockAssociationSet", settings.ipv6_cidr, |xml, network| {
        subnet_ipv6(xml, &subnet.id, &network, ASSOCIATED);
    });
    tags::set(xml, &subnet.tags);
    xml.text("subnetArn", identity.arn("subnet", subnet.id.as_str()));
    xml.text("enableDns64", false);
    xml.text("ipv6Native", settings.cidr.is_none());
    xml.node("privateDnsNameOptionsOnLaunch", |xml| {
        xml.text("hostnameType", "ip-name");
        xml.text("enableResourceNameDnsARecord", false);
        xml.text("enableResourceNameDnsAAAARecord", false);
    });
    public_access(xml);
    xml.text("subnetId", &subnet.id);
    xml.text("state", "available");
    xml.text("vpcId", &subnet.vpc);
    xml.option("cidrBlock", settings.cidr);
    xml.text("availableIpAddressCount", available(model, subnet));
    xml.text("availabilityZone", zone);
    xml.text("defaultForAz", subnet.is_default);
    xml.text("mapPublicIpOnLaunch", settings.map_public_ip);
}

/// The elements of a `SubnetIpv6CidrBlockAssociation`.
pub(in crate::api) fn subnet_ipv6(xml: &mut Xml, id: &SubnetId, network: &Ipv6Net, state: &str) {
    xml.text("associationId", subnet_association(id, network));
    xml.text("ipv6CidrBlock", network);
    xml.node("ipv6CidrBlockState", |xml| xml.text("state", state));
}

fn public_access(xml: &mut Xml) {
    xml.node("blockPublicAccessStates", |xml| xml.text("internetGatewayBlockMode", "off"));
}

/// The zone of a subnet.
pub(in crate::api) fn zone(identity: &Identity, subnet: &Subnet) -> String {
    subnet.settings.zone.clone().unwrap_or_else(|| identity.zone())
}

/// The addresses of a subnet that nothing has, as far as it is known here.
pub(in crate::api) fn available(model: &Model, subnet: &Subnet) -> u32 {
    let Some(network) = subnet.settings.cidr else { return 0 };
    let interfaces = model.network_interfaces().filter(|one| one.subnet == subnet.id);
    let taken = interfaces
        .flat_map(|one| {
            let declared = one.addresses.iter().map(IpNet::addr);
            declared.chain(one.details.chosen.iter().copied())
        })
        .filter(|address| IpNet::V4(network).contains(address))
        .count();
    let all = 2_u32.saturating_pow(u32::from(32 - network.prefix_len()));
    let taken = u32::try_from(taken).unwrap_or(u32::MAX);
    all.saturating_sub(RESERVED).saturating_sub(taken)
}

/// The id of a VPC's association with a network.
pub(in crate::api) fn vpc_association(vpc: &VpcId, network: &IpNet) -> String {
    format!("{VPC_ASSOCIATION}{}", digits(&format!("{vpc} {network}")))
}

/// The id of a subnet's association with a network.
pub(in crate::api) fn subnet_association(subnet: &SubnetId, network: &Ipv6Net) -> String {
    format!("{SUBNET_ASSOCIATION}{}", digits(&format!("{subnet} {network}")))
}

/// The digits of an id that follows from a text: FNV-1a of 64 bits.
pub(in crate::api) fn digits(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("0{hash:016x}")
}
