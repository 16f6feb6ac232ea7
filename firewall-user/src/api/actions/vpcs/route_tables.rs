//! Route tables: each VPC has a main one, whose routes are those within the VPC. None can be created: the routes
//! of packets are the host's.

use std::borrow::Cow;
use std::collections::BTreeMap;

use firewall_ec2::filter::Filters;
use firewall_ec2::page::Page;
use firewall_ec2::{Error, Xml};
use ipnet::IpNet;

use crate::api::call::Call;
use crate::api::view::tags;
use crate::model::{Identity, Vpc};

const FILTERS: [&str; 19] = [
    "association.gateway-id",
    "association.main",
    "association.route-table-association-id",
    "association.route-table-id",
    "association.subnet-id",
    "owner-id",
    "route-table-id",
    "route.destination-cidr-block",
    "route.destination-ipv6-cidr-block",
    "route.destination-prefix-list-id",
    "route.egress-only-internet-gateway-id",
    "route.gateway-id",
    "route.instance-id",
    "route.nat-gateway-id",
    "route.origin",
    "route.state",
    "route.transit-gateway-id",
    "route.vpc-peering-connection-id",
    "vpc-id",
];

/// `DescribeRouteTables`.
pub(super) fn describe(call: &Call<'_>) -> Result<Xml, Error> {
    let ids = call.params.texts("RouteTableId")?;
    let filters = Filters::parse(call.params, &[&FILTERS[..], &["tag"]].concat())?;
    let page = Page::parse(call.params, 5..=100)?;
    let model = call.read()?;
    let identity = call.identity();
    let vpcs = model.vpcs.values();
    if let Some(missing) = ids.iter().find(|id| vpcs.clone().all(|vpc| table(vpc) != **id)) {
        let text = format!("The routeTable ID '{missing}' does not exist");
        return Err(Error::new("InvalidRouteTableID.NotFound", text));
    }
    let of_ids = vpcs.filter(|vpc| ids.is_empty() || ids.contains(&&*table(vpc)));
    let none = BTreeMap::new();
    let found = of_ids.filter(|vpc| filters.matches(&none, |name| values(identity, vpc, name)));
    let (found, next) = page.cut(found.collect(), |vpc| vpc.id.to_string());
    let mut xml = Xml::new();
    xml.list("routeTableSet", found, |xml, vpc| write(xml, identity, vpc));
    xml.option("nextToken", next);
    Ok(xml)
}

fn table(vpc: &Vpc) -> String {
    format!("rtb-{}", vpc.id.digits())
}

fn association(vpc: &Vpc) -> String {
    format!("rtbassoc-{}", vpc.id.digits())
}

fn write(xml: &mut Xml, identity: &Identity, vpc: &Vpc) {
    xml.list("associationSet", [vpc], |xml, vpc| {
        xml.text("main", true);
        xml.text("routeTableAssociationId", association(vpc));
        xml.text("routeTableId", table(vpc));
        xml.node("associationState", |xml| xml.text("state", "associated"));
    });
    xml.empty_list("propagatingVgwSet");
    xml.text("routeTableId", table(vpc));
    xml.list("routeSet", vpc.networks(), |xml, network| {
        match network {
            IpNet::V4(network) => xml.text("destinationCidrBlock", network),
            IpNet::V6(network) => xml.text("destinationIpv6CidrBlock", network),
        }
        xml.text("gatewayId", "local");
        xml.text("origin", "CreateRouteTable");
        xml.text("state", "active");
    });
    tags::set(xml, &BTreeMap::new());
    xml.text("vpcId", &vpc.id);
    xml.text("ownerId", identity.account);
}

fn values<'a>(identity: &'a Identity, vpc: &'a Vpc, name: &str) -> Vec<Cow<'a, str>> {
    let cidrs = |is_v4: bool| {
        let networks = vpc.networks().filter(|it| matches!(it, IpNet::V4(_)) == is_v4);
        networks.map(|network| network.to_string().into()).collect()
    };
    match name {
        "association.main" => vec!["true".into()],
        "association.route-table-association-id" => vec![association(vpc).into()],
        "association.route-table-id" | "route-table-id" => vec![table(vpc).into()],
        "owner-id" => vec![identity.account.as_str().into()],
        "route.destination-cidr-block" => cidrs(true),
        "route.destination-ipv6-cidr-block" => cidrs(false),
        "route.gateway-id" => vec!["local".into()],
        "route.origin" => vec!["CreateRouteTable".into()],
        "route.state" => vec!["active".into()],
        "vpc-id" => vec![vpc.id.as_str().into()],
        // What no main table has here.
        _ => Vec::new(),
    }
}
