//! Kinds of objects of EC2 of which this host has none: clients that ask for all of them get an empty list.

use std::ops::RangeInclusive;

use firewall_ec2::filter::Filters;
use firewall_ec2::page::Page;
use firewall_ec2::{Error, Xml};

use crate::api::call::Call;

/// A kind of objects.
struct Kind {
    /// The element that has the list.
    set: &'static str,
    /// The parameters of ids, and the error of one that does not exist.
    ids: &'static [(&'static str, &'static str)],
    /// The documented filters.
    filters: &'static [&'static str],
    /// The bounds of `MaxResults`.
    results: RangeInclusive<usize>,
}

fn none(call: &Call<'_>, kind: &Kind) -> Result<Xml, Error> {
    let Kind { set, ids, filters, results } = kind;
    Filters::parse(call.params, filters)?;
    Page::parse(call.params, results.clone())?;
    let mut missing = None;
    for (name, code) in *ids {
        let first = call.params.texts(name)?.first().copied();
        missing = missing.or_else(|| {
            first.map(|id| Error::new(*code, format!("The {name} '{id}' does not exist")))
        });
    }
    call.read()?;
    if let Some(missing) = missing {
        return Err(missing);
    }
    let mut xml = Xml::new();
    xml.empty_list(set);
    Ok(xml)
}

/// `DescribeInternetGateways`.
pub(super) fn internet_gateways(call: &Call<'_>) -> Result<Xml, Error> {
    none(
        call,
        &Kind {
            set: "internetGatewaySet",
            ids: &[("InternetGatewayId", "InvalidInternetGatewayID.NotFound")],
            filters: &[
                "attachment.state",
                "attachment.vpc-id",
                "internet-gateway-id",
                "owner-id",
                "tag",
            ],
            results: 5..=1000,
        },
    )
}

/// `DescribeEgressOnlyInternetGateways`.
pub(super) fn egress_only_gateways(call: &Call<'_>) -> Result<Xml, Error> {
    none(
        call,
        &Kind {
            set: "egressOnlyInternetGatewaySet",
            ids: &[("EgressOnlyInternetGatewayId", "InvalidGatewayID.NotFound")],
            filters: &["tag"],
            results: 5..=255,
        },
    )
}

/// `DescribeNatGateways`.
pub(super) fn nat_gateways(call: &Call<'_>) -> Result<Xml, Error> {
    none(
        call,
        &Kind {
            set: "natGatewaySet",
            ids: &[("NatGatewayId", "NatGatewayNotFound")],
            filters: &["nat-gateway-id", "state", "subnet-id", "tag", "vpc-id"],
            results: 5..=1000,
        },
    )
}

/// `DescribeVpcEndpoints`.
pub(super) fn endpoints(call: &Call<'_>) -> Result<Xml, Error> {
    none(
        call,
        &Kind {
            set: "vpcEndpointSet",
            ids: &[("VpcEndpointId", "InvalidVpcEndpointId.NotFound")],
            filters: &[
                "ip-address-type",
                "service-name",
                "service-region",
                "tag",
                "vpc-id",
                "vpc-endpoint-id",
                "vpc-endpoint-state",
                "vpc-endpoint-type",
            ],
            results: 1..=1000,
        },
    )
}

/// `DescribeVpcPeeringConnections`.
pub(super) fn peering_connections(call: &Call<'_>) -> Result<Xml, Error> {
    none(
        call,
        &Kind {
            set: "vpcPeeringConnectionSet",
            ids: &[("VpcPeeringConnectionId", "InvalidVpcPeeringConnectionID.NotFound")],
            filters: &[
                "accepter-vpc-info.cidr-block",
                "accepter-vpc-info.owner-id",
                "accepter-vpc-info.vpc-id",
                "expiration-time",
                "requester-vpc-info.cidr-block",
                "requester-vpc-info.owner-id",
                "requester-vpc-info.vpc-id",
                "status-code",
                "status-message",
                "tag",
                "vpc-peering-connection-id",
            ],
            results: 5..=1000,
        },
    )
}

/// `DescribeAddresses`: Elastic IP addresses.
pub(super) fn addresses(call: &Call<'_>) -> Result<Xml, Error> {
    none(
        call,
        &Kind {
            set: "addressesSet",
            ids: &[
                ("AllocationId", "InvalidAllocationID.NotFound"),
                ("PublicIp", "InvalidAddress.NotFound"),
            ],
            filters: &[
                "allocation-id",
                "association-id",
                "domain",
                "instance-id",
                "network-border-group",
                "network-interface-id",
                "network-interface-owner-id",
                "private-ip-address",
                "public-ip",
                "tag",
            ],
            results: 5..=1000,
        },
    )
}

/// `DescribeVpnGateways`.
pub(super) fn vpn_gateways(call: &Call<'_>) -> Result<Xml, Error> {
    none(
        call,
        &Kind {
            set: "vpnGatewaySet",
            ids: &[("VpnGatewayId", "InvalidVpnGatewayID.NotFound")],
            filters: &[
                "amazon-side-asn",
                "attachment.state",
                "attachment.vpc-id",
                "availability-zone",
                "state",
                "tag",
                "type",
                "vpn-gateway-id",
            ],
            results: 5..=1000,
        },
    )
}
