//! Rules as a request names them, before groups are looked up.

use firewall_ec2::{Error, Params};

use crate::api::refusal::of_model;
use crate::model::{GroupId, IcmpMatch, Peer, PortRange, Traffic, VpcId, is_account, parse_cidr};

/// A rule that a request names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked<'a> {
    pub(super) traffic: Traffic,
    pub(super) peer: AskedPeer<'a>,
    /// Not empty.
    pub(super) description: Option<&'a str>,
}

/// The peer of such a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AskedPeer<'a> {
    /// A network or a prefix list.
    Known(Peer),
    Group(GroupReference<'a>),
}

/// A group as a request names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct GroupReference<'a> {
    pub(super) id: Option<GroupId>,
    /// A group of the default VPC; only read without an id.
    pub(super) name: Option<&'a str>,
    /// 12 digits.
    pub(super) account: Option<&'a str>,
    pub(super) vpc: Option<VpcId>,
    /// `pcx-…`, well-formed.
    pub(super) peering: Option<&'a str>,
}

/// `IpPermissions.N`: each peer is a rule.
pub(super) fn permissions(params: &Params) -> Result<Vec<Asked<'_>>, Error> {
    let mut asked = Vec::new();
    for permission in params.list("IpPermissions")? {
        let traffic = traffic(permission)?;
        let peers = peers(permission)?;
        if peers.is_empty() {
            return Err(Error::invalid(
                "missing mandatory parameter: exactly one of remote-security-group, \
                 remote-ip-range, remote-ipv6-range, or prefix-list-id must be present",
            ));
        }
        let rule = |(peer, description)| Asked { traffic, peer, description };
        asked.extend(peers.into_iter().map(rule));
    }
    Ok(asked)
}

/// The parameters of one ingress rule without a list, if there are any.
///
/// # Errors
/// One is malformed, or there is a list too.
pub(super) fn or_one_rule<'a>(
    params: &'a Params,
    asked: Vec<Asked<'a>>,
) -> Result<Vec<Asked<'a>>, Error> {
    const NAMES: [&str; 6] = [
        "IpProtocol",
        "FromPort",
        "ToPort",
        "CidrIp",
        "SourceSecurityGroupName",
        "SourceSecurityGroupOwnerId",
    ];
    // What is there and empty is known, too.
    let given: Vec<_> = NAMES.into_iter().filter(|name| params.text(name).is_some()).collect();
    let Some(first) = given.first() else { return Ok(asked) };
    if !asked.is_empty() {
        return Err(exclusive(first, "IpPermissions"));
    }
    let group = GroupReference {
        name: params.text("SourceSecurityGroupName"),
        account: account(params, "SourceSecurityGroupOwnerId")?,
        ..GroupReference::default()
    };
    let peer = match (params.text("CidrIp"), group.name) {
        (Some(_), Some(_)) => return Err(exclusive("CidrIp", "SourceSecurityGroupName")),
        (Some(cidr), None) => AskedPeer::Known(cidr_v4(cidr)?),
        (None, Some(_)) => AskedPeer::Group(group),
        (None, None) => {
            return Err(Error::new(
                "MissingParameter",
                "Missing source specification: include source security group or CIDR information",
            ));
        }
    };
    let is_whole_group =
        ["IpProtocol", "FromPort", "ToPort"].into_iter().all(|name| params.text(name).is_none());
    let traffics = if is_whole_group && matches!(peer, AskedPeer::Group(_)) {
        // "Full ICMP, UDP, and TCP access", as EC2 documents it.
        vec![
            Traffic::Tcp(PortRange::ALL),
            Traffic::Udp(PortRange::ALL),
            Traffic::Icmp(IcmpMatch::Any),
        ]
    } else {
        vec![traffic(params)?]
    };
    let rule = |traffic| Asked { traffic, peer: peer.clone(), description: None };
    Ok(traffics.into_iter().map(rule).collect())
}

fn exclusive(one: &str, other: &str) -> Error {
    let text = format!("The parameter {one} cannot be used with the parameter {other}");
    Error::new("InvalidParameterCombination", text)
}

/// `IpProtocol`, `FromPort` and `ToPort`.
fn traffic(params: &Params) -> Result<Traffic, Error> {
    let (protocol, from, to) = protocol(params)?;
    Traffic::from_ec2(protocol, from, to).map_err(|error| of_model(&error))
}

/// `IpProtocol`, which is required, `FromPort` and `ToPort`.
pub(super) fn protocol(params: &Params) -> Result<(&str, Option<i64>, Option<i64>), Error> {
    let (from, to) = (params.number("FromPort")?, params.number("ToPort")?);
    let protocol = params.text("IpProtocol").ok_or_else(|| {
        Error::invalid(
            "Invalid value 'null' for protocol. VPC security group rules must specify protocols \
             explicitly.",
        )
    })?;
    Ok((protocol, from, to))
}

/// The peers of a permission, each with its description.
fn peers(permission: &Params) -> Result<Vec<(AskedPeer<'_>, Option<&str>)>, Error> {
    let mut peers = Vec::new();
    for range in permission.list("IpRanges")? {
        let peer = cidr_v4(range.required("CidrIp")?)?;
        peers.push((AskedPeer::Known(peer), range.text("Description")));
    }
    for range in permission.list("Ipv6Ranges")? {
        let peer = cidr_v6(range.required("CidrIpv6")?)?;
        peers.push((AskedPeer::Known(peer), range.text("Description")));
    }
    for list in permission.list("PrefixListIds")? {
        let peer = prefix_list(list.required("PrefixListId")?)?;
        peers.push((AskedPeer::Known(peer), list.text("Description")));
    }
    for pair in permission.list("Groups")? {
        peers.push((AskedPeer::Group(group(pair)?), pair.text("Description")));
    }
    Ok(peers)
}

/// An item of `Groups`.
fn group(pair: &Params) -> Result<GroupReference<'_>, Error> {
    // What a client read before.
    let _ = pair.text("PeeringStatus");
    let id = pair.text("GroupId").map(str::parse).transpose();
    let vpc = pair.text("VpcId").map(str::parse).transpose();
    let group = GroupReference {
        id: id.map_err(|error| of_model(&error))?,
        name: pair.text("GroupName"),
        account: account(pair, "UserId")?,
        vpc: vpc.map_err(|error| of_model(&error))?,
        peering: peering(pair)?,
    };
    if group.id.is_none() && group.name.is_none() {
        return Err(Error::new("MissingParameter", "Source group ID missing."));
    }
    Ok(group)
}

fn account<'a>(params: &'a Params, name: &str) -> Result<Option<&'a str>, Error> {
    let account = params.text(name);
    match account.filter(|account| !is_account(account)) {
        None => Ok(account),
        Some(text) => Err(Error::invalid(format!(
            "Value ({text}) for parameter {} is invalid. An account is 12 digits.",
            params.path_of(name)
        ))),
    }
}

/// The id of a VPC peering connection. There are none here, so it is only kept.
fn peering(pair: &Params) -> Result<Option<&str>, Error> {
    const PREFIX: &str = "pcx-";
    let Some(id) = pair.text("VpcPeeringConnectionId") else { return Ok(None) };
    // The digits are those of any other id.
    let digits = id.strip_prefix(PREFIX).map(|digits| format!("{}{digits}", VpcId::PREFIX));
    if digits.is_some_and(|id| id.parse::<VpcId>().is_ok()) {
        return Ok(Some(id));
    }
    let text = format!("Invalid id: \"{id}\" (expecting \"{PREFIX}...\")");
    Err(Error::new("InvalidVpcPeeringConnectionId.Malformed", text))
}

/// An IPv4 network.
pub(super) fn cidr_v4(text: &str) -> Result<Peer, Error> {
    cidr(text, |peer| matches!(peer, Peer::Ipv4(_)))
}

/// An IPv6 network.
pub(super) fn cidr_v6(text: &str) -> Result<Peer, Error> {
    cidr(text, |peer| matches!(peer, Peer::Ipv6(_)))
}

fn cidr(text: &str, is_family: fn(&Peer) -> bool) -> Result<Peer, Error> {
    let peer = parse_cidr(text).ok().map(Peer::from).filter(is_family);
    peer.ok_or_else(|| Error::invalid(format!("CIDR block {text} is malformed")))
}

/// The id of a prefix list.
pub(super) fn prefix_list(id: &str) -> Result<Peer, Error> {
    id.parse().map(Peer::PrefixList).map_err(|error| of_model(&error))
}
