//! EC2's form of protocol and ports, read and written.
//!
//! EC2 has a protocol and two numbers: a port range for TCP and UDP, type and code for ICMP, nothing for
//! other protocols, and -1 for "any".

use std::fmt;

use super::{Error, IcmpMatch, PortRange, Traffic};

/// Protocol and ports as in the documents of EC2.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ec2Traffic {
    /// `tcp`, `udp`, `icmp`, `icmpv6`, `-1` or a number.
    pub protocol: String,
    /// First port or ICMP type; absent where the protocol has none.
    pub from: Option<i64>,
    /// Last port or ICMP code; absent where the protocol has none.
    pub to: Option<i64>,
}

/// Names of `/etc/protocols` that EC2 does not accept, with what to write instead.
const NAMES: &[(&str, &str)] = &[
    ("ah", "51"),
    ("esp", "50"),
    ("gre", "47"),
    ("icmp6", "icmpv6"),
    ("igmp", "2"),
    ("ipip", "4"),
    ("ipv6-icmp", "icmpv6"),
    ("ospf", "89"),
    ("sctp", "132"),
    ("vrrp", "112"),
];

impl Traffic {
    /// Parses EC2's three fields.
    ///
    /// # Errors
    /// The protocol is unknown, or the numbers do not fit it.
    pub fn from_ec2(protocol: &str, from: Option<i64>, to: Option<i64>) -> Result<Self, Error> {
        Ok(match protocol.to_ascii_lowercase().as_str() {
            // EC2 ignores ports here, and `describe` prints some for older rules.
            "-1" => Self::All,
            "tcp" | "6" => Self::Tcp(PortRange::from_ec2("tcp", from, to)?),
            "udp" | "17" => Self::Udp(PortRange::from_ec2("udp", from, to)?),
            "icmp" | "1" => Self::Icmp(IcmpMatch::from_ec2("icmp", from, to)?),
            // EC2 lets both be absent for ICMPv6 only.
            "icmpv6" | "58" if (from, to) == (None, None) => Self::Icmpv6(IcmpMatch::Any),
            "icmpv6" | "58" => Self::Icmpv6(IcmpMatch::from_ec2("icmpv6", from, to)?),
            number => Self::Other(other(number)?),
        })
    }

    /// EC2's three fields, with the well-known protocols by name.
    #[must_use]
    pub fn to_ec2(self) -> Ec2Traffic {
        let (from, to) = match self {
            Self::All | Self::Other(_) => (None, None),
            Self::Tcp(ports) | Self::Udp(ports) => (Some(ports.from.into()), Some(ports.to.into())),
            Self::Icmp(icmp) | Self::Icmpv6(icmp) => match icmp {
                IcmpMatch::Any => (Some(-1), Some(-1)),
                IcmpMatch::Type(kind) => (Some(kind.into()), Some(-1)),
                IcmpMatch::TypeCode(kind, code) => (Some(kind.into()), Some(code.into())),
            },
        };
        Ec2Traffic { protocol: self.protocol(), from, to }
    }

    /// The protocol as EC2 writes it: `tcp`, `udp`, `icmp`, `icmpv6`, `-1` or a number.
    #[must_use]
    pub fn protocol(self) -> String {
        match self {
            Self::All => "-1".to_owned(),
            Self::Tcp(_) => "tcp".to_owned(),
            Self::Udp(_) => "udp".to_owned(),
            Self::Icmp(_) => "icmp".to_owned(),
            Self::Icmpv6(_) => "icmpv6".to_owned(),
            Self::Other(number) => number.to_string(),
        }
    }

    /// The protocol as on the command line; `all` for all of them.
    #[must_use]
    pub fn protocol_word(self) -> String {
        if self == Self::All { "all".to_owned() } else { self.protocol() }
    }

    /// The protocol as EC2 writes it in network ACLs: by number, `-1` for all.
    #[must_use]
    pub fn protocol_number(self) -> String {
        let number = match self {
            Self::All => return "-1".to_owned(),
            Self::Tcp(_) => 6,
            Self::Udp(_) => 17,
            Self::Icmp(_) => 1,
            Self::Icmpv6(_) => 58,
            Self::Other(number) => number,
        };
        number.to_string()
    }

    /// The ports, or the ICMP type and code, as on the command line; `all` for all of them.
    #[must_use]
    pub fn ports(self) -> String {
        match self {
            Self::All | Self::Other(_) => "all".to_owned(),
            Self::Tcp(ports) | Self::Udp(ports) => ports.to_string(),
            Self::Icmp(icmp) | Self::Icmpv6(icmp) => icmp.to_string(),
        }
    }
}

impl PortRange {
    /// Every port.
    pub const ALL: Self = Self { from: 0, to: u16::MAX };

    fn from_ec2(protocol: &'static str, from: Option<i64>, to: Option<i64>) -> Result<Self, Error> {
        let (Some(from), Some(to)) = (from, to) else {
            return Err(Error::PortsMissing { protocol });
        };
        let port = |port| u16::try_from(port).map_err(|_| Error::Port { port });
        let range = Self { from: port(from)?, to: port(to)? };
        if range.from > range.to {
            return Err(Error::PortsReversed { from: range.from, to: range.to });
        }
        Ok(range)
    }
}

impl IcmpMatch {
    fn from_ec2(
        protocol: &'static str,
        kind: Option<i64>,
        code: Option<i64>,
    ) -> Result<Self, Error> {
        let (Some(kind), Some(code)) = (kind, code) else {
            return Err(Error::IcmpMissing { protocol });
        };
        let number =
            |what, value| u8::try_from(value).map_err(|_| Error::IcmpNumber { what, value });
        match (kind, code) {
            (-1, -1) => Ok(Self::Any),
            (-1, code) => Err(Error::IcmpCodeOfAny { code }),
            (kind, -1) => Ok(Self::Type(number("type", kind)?)),
            (kind, code) => Ok(Self::TypeCode(number("type", kind)?, number("code", code)?)),
        }
    }
}

fn other(protocol: &str) -> Result<u8, Error> {
    let number = Some(protocol)
        .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok());
    match number {
        // "06" and the like: one protocol must not have two forms.
        Some(1 | 6 | 17 | 58) | None => Err(Error::Protocol {
            text: protocol.to_owned(),
            instead: NAMES.iter().find(|(name, _)| *name == protocol).map(|(_, number)| *number),
        }),
        Some(number) => Ok(number),
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.from == self.to {
            write!(out, "{}", self.from)
        } else {
            write!(out, "{}-{}", self.from, self.to)
        }
    }
}

impl fmt::Display for IcmpMatch {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => out.write_str("all"),
            Self::Type(kind) => write!(out, "{kind}"),
            Self::TypeCode(kind, code) => write!(out, "{kind}/{code}"),
        }
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => out.write_str("all"),
            Self::Other(number) => write!(out, "protocol {number}"),
            Self::Tcp(_) | Self::Udp(_) | Self::Icmp(_) | Self::Icmpv6(_) => {
                write!(out, "{} {}", self.protocol(), self.ports())
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn icmp() -> impl Strategy<Value = IcmpMatch> {
        prop_oneof![
            Just(IcmpMatch::Any),
            any::<u8>().prop_map(IcmpMatch::Type),
            any::<(u8, u8)>().prop_map(|(kind, code)| IcmpMatch::TypeCode(kind, code)),
        ]
    }

    /// Any traffic that a rule may name.
    pub(in crate::model) fn traffic() -> impl Strategy<Value = Traffic> {
        let ports = any::<(u16, u16)>()
            .prop_map(|(one, two)| PortRange { from: one.min(two), to: one.max(two) });
        prop_oneof![
            Just(Traffic::All),
            ports.clone().prop_map(Traffic::Tcp),
            ports.prop_map(Traffic::Udp),
            icmp().prop_map(Traffic::Icmp),
            icmp().prop_map(Traffic::Icmpv6),
            any::<u8>()
                .prop_filter("named", |number| ![1, 6, 17, 58].contains(number))
                .prop_map(Traffic::Other),
        ]
    }

    #[test]
    fn names_in_any_case_and_numbers_become_names() {
        for (protocols, name) in [
            (["tcp", "TCP", "Tcp", "6"], "tcp"),
            (["udp", "UDP", "uDp", "17"], "udp"),
            (["icmp", "ICMP", "Icmp", "1"], "icmp"),
            (["icmpv6", "ICMPV6", "ICMPv6", "58"], "icmpv6"),
        ] {
            for protocol in protocols {
                let traffic = Traffic::from_ec2(protocol, Some(3), Some(4)).unwrap();
                assert_eq!(
                    traffic.to_ec2(),
                    Ec2Traffic { protocol: name.to_owned(), from: Some(3), to: Some(4) }
                );
            }
        }
    }

    #[test]
    fn protocols_without_ports_ignore_them() {
        assert_eq!(Traffic::from_ec2("-1", Some(0), Some(70_000)).unwrap(), Traffic::All);
        for number in [0_u8, 2, 47, 132, 255] {
            let traffic = Traffic::from_ec2(&number.to_string(), Some(-1), None).unwrap();
            assert_eq!(traffic, Traffic::Other(number));
        }
    }

    #[test]
    fn icmp_has_a_type_and_a_code_or_any() {
        let icmp = |from, to| Traffic::from_ec2("icmp", from, to);
        assert_eq!(icmp(Some(-1), Some(-1)).unwrap(), Traffic::Icmp(IcmpMatch::Any));
        assert_eq!(icmp(Some(8), Some(-1)).unwrap(), Traffic::Icmp(IcmpMatch::Type(8)));
        assert_eq!(icmp(Some(8), Some(8)).unwrap(), Traffic::Icmp(IcmpMatch::TypeCode(8, 8)));
        assert_eq!(
            Traffic::from_ec2("icmpv6", None, None).unwrap(),
            Traffic::Icmpv6(IcmpMatch::Any)
        );
    }

    #[test]
    fn malformed_protocols_and_ports_are_refused_with_a_hint() {
        for (protocol, from, to, message) in [
            ("all", None, None, r#"unknown protocol "all""#),
            ("gre", None, None, r#"unknown protocol "gre""#),
            ("256", None, None, r#"unknown protocol "256""#),
            ("-2", None, None, r#"unknown protocol "-2""#),
            ("+47", None, None, r#"unknown protocol "+47""#),
            ("06", Some(1), Some(1), r#"unknown protocol "06""#),
            ("", None, None, r#"unknown protocol """#),
            ("tcp", None, None, "tcp needs a first and a last port"),
            ("udp", Some(1), None, "udp needs a first and a last port"),
            ("tcp", Some(-1), Some(-1), "port -1 is not 0 to 65535"),
            ("tcp", Some(0), Some(65_536), "port 65536 is not 0 to 65535"),
            ("tcp", Some(2), Some(1), "port range 2-1 ends before it begins"),
            ("icmp", None, None, "icmp needs a type and a code"),
            ("icmpv6", Some(1), None, "icmpv6 needs a type and a code"),
            ("icmp", Some(-1), Some(3), "ICMP code 3 needs a type"),
            ("icmp", Some(256), Some(-1), "ICMP type 256 is not 0 to 255"),
            ("icmp", Some(3), Some(65_535), "ICMP code 65535 is not 0 to 255"),
            ("icmp", Some(-2), Some(-1), "ICMP type -2 is not 0 to 255"),
        ] {
            let error = Traffic::from_ec2(protocol, from, to).unwrap_err();
            assert_eq!(error.to_string(), message);
            assert!(error.hint().is_some(), "{message}");
        }
        let hint = |protocol| Traffic::from_ec2(protocol, None, None).unwrap_err().hint().unwrap();
        assert_eq!(hint("gre"), "write 47 instead of gre");
        assert_eq!(hint("GRE"), "write 47 instead of gre");
        assert_eq!(hint("all"), "write -1 for every protocol");
    }

    proptest! {
        #[test]
        fn the_ec2_form_is_lossless(traffic in traffic()) {
            let Ec2Traffic { protocol, from, to } = traffic.to_ec2();
            prop_assert_eq!(Traffic::from_ec2(&protocol, from, to).unwrap(), traffic);
        }

        #[test]
        fn no_input_panics(protocol in "\\PC{0,8}|[0-9]{1,4}|tcp|icmp", from: Option<i64>, to: Option<i64>) {
            let _ = Traffic::from_ec2(&protocol, from, to);
        }
    }
}
