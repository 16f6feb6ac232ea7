//! The VPCs and subnets of a document.

use std::collections::BTreeMap;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Findings, own_id, read_network, read_tags};
use crate::model::document::{CidrState, DescribedSubnet, DescribedVpc, Ipv6CidrAssociation};
use crate::model::{Family, SubnetId, VpcId};

/// A VPC of a document. What is `None` is not to be changed.
pub(crate) struct WantedVpc {
    pub(crate) path: String,
    pub(crate) id: VpcId,
    pub(crate) cidrs: Option<Vec<Ipv4Net>>,
    pub(crate) ipv6_cidrs: Option<Vec<Ipv6Net>>,
    pub(crate) tenancy: Option<String>,
    pub(crate) tags: Option<BTreeMap<String, String>>,
}

/// A subnet of a document. What is `None` is not to be changed.
pub(crate) struct WantedSubnet {
    pub(crate) path: String,
    pub(crate) id: SubnetId,
    pub(crate) vpc: VpcId,
    pub(crate) cidr: Option<Ipv4Net>,
    pub(crate) ipv6_cidrs: Option<Vec<Ipv6Net>>,
    pub(crate) zone: Option<String>,
    pub(crate) map_public_ip: Option<bool>,
    pub(crate) assign_ipv6: Option<bool>,
    pub(crate) tags: Option<BTreeMap<String, String>>,
}

pub(super) fn read_vpc(
    findings: &mut Findings,
    path: String,
    vpc: &DescribedVpc,
) -> Option<WantedVpc> {
    let id = own_id(findings, &vpc.vpc_id, format!("{path}.VpcId"))?;
    let tags = findings.ok(read_tags(&vpc.tags, &path))?;
    let set = vpc.cidr_block_association_set.as_ref();
    let cidrs = match (set, &vpc.cidr_block) {
        (None, None) => None,
        (None, cidr) => Some(ipv4(findings, cidr, &format!("{path}.CidrBlock"))),
        (Some(set), _) => {
            let mut cidrs = Vec::new();
            for (index, one) in set.iter().enumerate() {
                let place = format!("{path}.CidrBlockAssociationSet[{index}].CidrBlock");
                if is_associated(&one.cidr_block_state) {
                    cidrs.extend(ipv4(findings, &one.cidr_block, &place));
                }
            }
            Some(cidrs)
        }
    };
    let ipv6_cidrs = read_ipv6(findings, &vpc.ipv6_cidr_block_association_set, &path);
    Some(WantedVpc { id, cidrs, ipv6_cidrs, tenancy: vpc.instance_tenancy.clone(), tags, path })
}

pub(super) fn read_subnet(
    findings: &mut Findings,
    path: String,
    subnet: &DescribedSubnet,
) -> Option<WantedSubnet> {
    let id = own_id(findings, &subnet.subnet_id, format!("{path}.SubnetId"));
    let vpc = own_id(findings, &subnet.vpc_id, format!("{path}.VpcId"));
    let tags = findings.ok(read_tags(&subnet.tags, &path))?;
    let cidr = match &subnet.cidr_block {
        None => None,
        cidr => ipv4(findings, cidr, &format!("{path}.CidrBlock")).pop(),
    };
    let ipv6_cidrs = read_ipv6(findings, &subnet.ipv6_cidr_block_association_set, &path);
    Some(WantedSubnet {
        id: id?,
        vpc: vpc?,
        cidr,
        ipv6_cidrs,
        zone: subnet.availability_zone.clone(),
        map_public_ip: subnet.map_public_ip_on_launch,
        assign_ipv6: subnet.assign_ipv6_address_on_creation,
        tags,
        path,
    })
}

fn ipv4(findings: &mut Findings, text: &Option<String>, path: &str) -> Vec<Ipv4Net> {
    match read_network(findings, text, path, Family::Ipv4) {
        Some(IpNet::V4(network)) => vec![network],
        _ => Vec::new(),
    }
}

fn read_ipv6(
    findings: &mut Findings,
    set: &Option<Vec<Ipv6CidrAssociation>>,
    path: &str,
) -> Option<Vec<Ipv6Net>> {
    let mut networks = Vec::new();
    for (index, one) in set.as_ref()?.iter().enumerate() {
        let place = format!("{path}.Ipv6CidrBlockAssociationSet[{index}].Ipv6CidrBlock");
        if is_associated(&one.ipv6_cidr_block_state)
            && let Some(IpNet::V6(network)) =
                read_network(findings, &one.ipv6_cidr_block, &place, Family::Ipv6)
        {
            networks.push(network);
        }
    }
    Some(networks)
}

/// Whether a network is in use: AWS prints some that were until recently.
fn is_associated(state: &Option<CidrState>) -> bool {
    let state = state.as_ref().and_then(|state| state.state.as_deref());
    matches!(state, None | Some("associated"))
}
