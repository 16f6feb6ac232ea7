//! Networks in canonical form, without host bits, so that every spelling of a network is the same rule.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Error, Family, Peer};

/// A network in canonical form: `100.68.0.18/18` is `100.68.0.0/18`.
///
/// # Errors
/// The text is not an address and a prefix length.
pub fn parse_cidr(text: &str) -> Result<IpNet, Error> {
    let malformed = |reason| Error::Cidr { text: text.to_owned(), reason };
    let Some((address, length)) = text.split_once('/') else {
        return Err(match text.parse::<IpAddr>() {
            Ok(address) => Error::CidrWithoutLength(address),
            Err(_) => malformed("is not ADDRESS/LENGTH".to_owned()),
        });
    };
    let address: IpAddr = address
        .parse()
        .map_err(|_| malformed(format!("has no IP address before the slash: {address:?}")))?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    // `u8` would also parse "+8".
    let length = Some(length)
        .filter(|length| length.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|length| length.parse::<u8>().ok())
        .filter(|length| *length <= longest)
        .ok_or_else(|| malformed(format!("has a prefix length that is not 0 to {longest}")))?;
    let network = IpNet::new(address, length).map_err(|error| malformed(error.to_string()))?;
    Ok(network.trunc())
}

/// What [`parse_cidr`] makes of an address and length with host bits: `None` if the text has none, or is no
/// network.
#[must_use]
pub fn canonicalised(text: &str) -> Option<IpNet> {
    let network = parse_cidr(text).ok()?;
    let address: IpAddr = text.split_once('/')?.0.parse().ok()?;
    (address != network.addr()).then_some(network)
}

/// A network as an entry of a prefix list of this family.
///
/// # Errors
/// As [`parse_cidr`], or the network is of the other family.
pub fn parse_entry(text: &str, family: Family) -> Result<IpNet, Error> {
    let network = parse_cidr(text)?;
    if Family::of(&network) == family {
        Ok(network)
    } else {
        Err(Error::EntryFamily { network, family })
    }
}

impl From<IpNet> for Peer {
    fn from(network: IpNet) -> Self {
        match network.trunc() {
            IpNet::V4(network) => Self::Ipv4(network),
            IpNet::V6(network) => Self::Ipv6(network),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_spelling_of_a_network_has_one_canonical_form() {
        for (text, canonical) in [
            ("100.68.0.18/18", "100.68.0.0/18"),
            ("10.0.0.1/32", "10.0.0.1/32"),
            ("203.0.113.9/0", "0.0.0.0/0"),
            ("2001:DB8:0:0::1/64", "2001:db8::/64"),
            ("::1/0", "::/0"),
        ] {
            assert_eq!(parse_cidr(text).unwrap().to_string(), canonical);
        }
    }

    #[test]
    fn only_host_bits_make_another_network_of_a_text() {
        let made = |text: &str| canonicalised(text).map(|network| network.to_string());
        assert_eq!(made("10.0.0.1/8").as_deref(), Some("10.0.0.0/8"));
        assert_eq!(made("2001:db8::1/64").as_deref(), Some("2001:db8::/64"));
        for text in ["10.0.0.0/8", "10.0.0.1/32", "2001:DB8:0:0::/64", "::1/128", "10.0.0.1", "x/8"]
        {
            assert_eq!(made(text), None, "{text}");
        }
    }

    #[test]
    fn a_bare_address_gets_the_hint() {
        let v4 = parse_cidr("10.0.0.1").unwrap_err();
        assert_eq!(v4.to_string(), "CIDR 10.0.0.1 has no prefix length");
        assert_eq!(v4.hint().unwrap(), "write 10.0.0.1/32 for this one address");
        let v6 = parse_cidr("::1").unwrap_err();
        assert_eq!(v6.hint().unwrap(), "write ::1/128 for this one address");
    }

    #[test]
    fn text_that_is_not_a_network_is_refused() {
        for text in [
            "",
            "/",
            "10.0.0.0/",
            "/8",
            "10.0.0/8",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0.0/8/8",
            "010.0.0.0/8",
            "::/129",
            "fe80::1%eth0/64",
            "10.0.0.0/8 ",
            "x/8",
            "10.0.0.0/255.0.0.0",
        ] {
            assert!(matches!(parse_cidr(text), Err(Error::Cidr { .. })), "{text:?}");
        }
    }

    #[test]
    fn an_entry_must_be_of_the_family_of_its_list() {
        assert!(parse_entry("10.0.0.0/8", Family::Ipv4).is_ok());
        let error = parse_entry("10.0.0.0/8", Family::Ipv6).unwrap_err();
        assert_eq!(error.to_string(), "10.0.0.0/8 is not an IPv6 network");
    }

    proptest! {
        #[test]
        fn canonical_form_is_stable(address: [u8; 4], v6: [u8; 16], short in 0u8..=32, long in 0u8..=128) {
            for net in [
                IpNet::new(IpAddr::from(address), short).unwrap(),
                IpNet::new(IpAddr::from(v6), long).unwrap(),
            ] {
                let once = parse_cidr(&net.to_string()).unwrap();
                prop_assert_eq!(once, net.trunc());
                prop_assert_eq!(parse_cidr(&once.to_string()).unwrap(), once);
            }
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,24}") {
            let _ = parse_cidr(&text);
        }
    }
}
