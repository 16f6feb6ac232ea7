//! A rule before it has an id, and rules as text.

use std::fmt;

use firewall_ebpf::abi::interface::Direction;

use super::{AclEntry, End, Error, Family, Peer, RuleSpec, Traffic, rule_description};

/// A rule to be added.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NewRule {
    /// What it allows.
    pub spec: RuleSpec,
    /// Free text, may be empty.
    pub description: String,
    /// When it ends by itself.
    pub end: Option<End>,
}

impl NewRule {
    /// A rule with its description checked.
    ///
    /// # Errors
    /// EC2 would refuse the description.
    pub fn new(spec: RuleSpec, description: &str) -> Result<Self, Error> {
        Ok(Self { spec, description: rule_description(description)?, end: None })
    }
}

impl RuleSpec {
    /// A specification whose traffic exists in the family of the peer.
    ///
    /// # Errors
    /// The traffic is the ICMP of one family, and the peer a network of the other.
    pub fn new(direction: Direction, traffic: Traffic, peer: Peer) -> Result<Self, Error> {
        let family = match &peer {
            Peer::Ipv4(_) => Some(Family::Ipv4),
            Peer::Ipv6(_) => Some(Family::Ipv6),
            Peer::PrefixList(_) | Peer::Group(_) | Peer::Foreign(_) => None,
        };
        if let Some(family) = family {
            traffic.check_family(family, || peer.to_string())?;
        }
        Ok(Self { direction, traffic, peer })
    }

    /// The specification with this text for the peer.
    pub(super) fn text(&self, peer: &str) -> String {
        let Self { direction, traffic, peer: _ } = self;
        format!("{} {traffic} {} {peer}", direction.name(), preposition(*direction))
    }
}

impl AclEntry {
    /// The entry with this text for the peer, without its direction.
    pub(super) fn text(&self, direction: Direction, peer: &str) -> String {
        format!("{} {} {} {peer}", self.action.name(), self.traffic, preposition(direction))
    }
}

/// The word between traffic and peer.
const fn preposition(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    }
}

impl Traffic {
    /// Refuses the ICMP of the other family, and extension headers of IPv6, which no packet has as its
    /// protocol: the one after them decides. `peer` is the text of the peer, for the error.
    pub(super) fn check_family(
        self,
        family: Family,
        peer: impl FnOnce() -> String,
    ) -> Result<(), Error> {
        match (self, family) {
            (Self::Icmp(_), Family::Ipv6) => {
                Err(Error::IcmpFamily { protocol: "icmp", family, peer: peer() })
            }
            (Self::Icmpv6(_), Family::Ipv4) => {
                Err(Error::IcmpFamily { protocol: "icmpv6", family, peer: peer() })
            }
            (Self::Other(number), Family::Ipv6) if is_extension_header(number) => {
                Err(Error::ExtensionHeader { number, peer: peer() })
            }
            _ => Ok(()),
        }
    }
}

/// Hop-by-hop options, routing, fragment, authentication, no next header, destination options, shim6.
/// Not mobility (135) and HIP (139): nothing follows these.
const fn is_extension_header(number: u8) -> bool {
    matches!(number, 0 | 43 | 44 | 51 | 59 | 60 | 140)
}

impl fmt::Display for Peer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ipv4(network) => network.fmt(out),
            Self::Ipv6(network) => network.fmt(out),
            Self::PrefixList(id) => id.fmt(out),
            Self::Group(id) => id.fmt(out),
            Self::Foreign(foreign) => foreign.group.fmt(out),
        }
    }
}

impl fmt::Display for RuleSpec {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text(&self.peer.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{IcmpMatch, PortRange, parse_cidr};

    fn spec(traffic: Traffic, cidr: &str) -> Result<RuleSpec, Error> {
        RuleSpec::new(Direction::Ingress, traffic, parse_cidr(cidr).unwrap().into())
    }

    #[test]
    fn a_rule_as_text_names_direction_traffic_and_peer() {
        let http = Traffic::Tcp(PortRange { from: 80, to: 80 });
        assert_eq!(spec(http, "10.0.0.0/8").unwrap().to_string(), "ingress tcp 80 from 10.0.0.0/8");
        let egress = RuleSpec {
            direction: Direction::Egress,
            traffic: Traffic::Other(47),
            peer: Peer::Group("sg-00000001".parse().unwrap()),
        };
        assert_eq!(egress.to_string(), "egress protocol 47 to sg-00000001");
    }

    #[test]
    fn icmp_is_of_one_family() {
        let (v4, v6) = (Traffic::Icmp(IcmpMatch::Any), Traffic::Icmpv6(IcmpMatch::Any));
        assert!(spec(v4, "0.0.0.0/0").is_ok() && spec(v6, "::/0").is_ok());
        let error = spec(v4, "::/0").unwrap_err();
        assert_eq!(error.to_string(), "icmp does not exist in IPv6, and ::/0 is IPv6");
        assert_eq!(error.hint().unwrap(), "use icmpv6 for IPv6 peers");
        let error = spec(v6, "0.0.0.0/0").unwrap_err();
        assert_eq!(error.hint().unwrap(), "use icmp for IPv4 peers");
    }

    #[test]
    fn an_extension_header_is_no_protocol_in_ipv6() {
        let error = spec(Traffic::Other(51), "2001:db8::/32").unwrap_err();
        assert_eq!(
            error.to_string(),
            "protocol 51 is an extension header in IPv6, and 2001:db8::/32 is IPv6"
        );
        assert!(error.hint().unwrap().contains("the protocol after"));
        assert!(spec(Traffic::Other(51), "192.0.2.0/24").is_ok());
        assert!(spec(Traffic::Other(135), "::/0").is_ok());
        assert!(spec(Traffic::Other(139), "::/0").is_ok());
    }
}
