//! VPCs and subnets as AWS would print them.

use ipnet::Ipv6Net;

use super::super::{
    CidrAssociation, CidrState, DescribedSubnet, DescribedVpc, Document, Ipv6CidrAssociation,
};
use super::tags;
use crate::model::{Identity, Subnet, Vpc};

/// What `aws ec2 describe-vpcs` and `aws ec2 describe-subnets` would print.
pub fn vpcs<'a>(
    identity: &Identity,
    vpcs: impl IntoIterator<Item = &'a Vpc>,
    subnets: impl IntoIterator<Item = &'a Subnet>,
) -> Document {
    Document {
        vpcs: Some(vpcs.into_iter().map(|one| vpc(identity, one)).collect()),
        subnets: Some(subnets.into_iter().map(|one| subnet(identity, one)).collect()),
        ..Document::default()
    }
}

fn vpc(identity: &Identity, vpc: &Vpc) -> DescribedVpc {
    let cidrs = vpc.settings.cidrs.iter().map(|network| CidrAssociation {
        cidr_block: Some(network.to_string()),
        cidr_block_state: associated(),
    });
    DescribedVpc {
        owner_id: Some(identity.account.to_string()),
        instance_tenancy: Some(vpc.settings.tenancy.clone()),
        ipv6_cidr_block_association_set: Some(ipv6(&vpc.settings.ipv6_cidrs)),
        cidr_block_association_set: Some(cidrs.collect()),
        is_default: Some(vpc.is_default),
        tags: Some(tags(&vpc.tags)),
        vpc_id: Some(vpc.id.to_string()),
        state: Some("available".to_owned()),
        cidr_block: vpc.settings.cidrs.first().map(ToString::to_string),
    }
}

fn subnet(identity: &Identity, subnet: &Subnet) -> DescribedSubnet {
    let settings = &subnet.settings;
    DescribedSubnet {
        owner_id: Some(identity.account.to_string()),
        assign_ipv6_address_on_creation: Some(settings.assign_ipv6),
        ipv6_cidr_block_association_set: Some(ipv6(settings.ipv6_cidr.as_slice())),
        tags: Some(tags(&subnet.tags)),
        subnet_arn: Some(identity.arn("subnet", subnet.id.as_str())),
        subnet_id: Some(subnet.id.to_string()),
        state: Some("available".to_owned()),
        vpc_id: Some(subnet.vpc.to_string()),
        cidr_block: settings.cidr.as_ref().map(ToString::to_string),
        availability_zone: settings.zone.clone(),
        default_for_az: Some(subnet.is_default),
        map_public_ip_on_launch: Some(settings.map_public_ip),
    }
}

fn ipv6(networks: &[Ipv6Net]) -> Vec<Ipv6CidrAssociation> {
    let item = |network: &Ipv6Net| Ipv6CidrAssociation {
        ipv6_cidr_block: Some(network.to_string()),
        ipv6_cidr_block_state: associated(),
    };
    networks.iter().map(item).collect()
}

fn associated() -> Option<CidrState> {
    Some(CidrState { state: Some("associated".to_owned()) })
}
