//! EtherTypes that an interface can allow by name or number.

use std::fmt;
use std::str::FromStr;

use super::Error;

/// The EtherType of frames that are neither IP nor ARP (IEEE 802.3, 3.2.6), in host byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EtherType(u16);

/// The lowest number that is a type; a lower one is the length of an 802.3 frame.
const FIRST: u16 = 0x0600;

/// Names of the IEEE's registry and of Linux's `linux/if_ether.h`, in lower case.
const NAMES: [(&str, u16); 14] = [
    ("batman", 0x4305),
    ("cfm", 0x8902),
    ("eapol", 0x888e),
    ("ethercat", 0x88a4),
    ("fcoe", 0x8906),
    ("fip", 0x8914),
    ("lldp", 0x88cc),
    ("macsec", 0x88e5),
    ("mrp", 0x88e3),
    ("mvrp", 0x88f5),
    ("profinet", 0x8892),
    ("ptp", 0x88f7),
    ("rarp", 0x8035),
    ("trill", 0x22f3),
];

/// Types that are decided in another way: IPv4, ARP, IPv6, and the tags of 802.1Q and 802.1ad, behind which
/// the type of the frame is.
const DECIDED: [u16; 5] = [0x0800, 0x0806, 0x86dd, 0x8100, 0x88a8];

impl EtherType {
    /// The number, in host byte order.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }

    /// Every name, in alphabetical order.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(name, _)| *name)
    }
}

impl FromStr for EtherType {
    type Err = Error;

    /// A name, or a number of four hexadecimal digits as in `0x88f7`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let unknown = || Error::EtherType(text.to_owned());
        let word = text.to_ascii_lowercase();
        if let Some((_, number)) = NAMES.iter().find(|(name, _)| *name == word) {
            return Ok(Self(*number));
        }
        let digits = word.strip_prefix("0x").filter(|digits| digits.len() <= 4);
        let digits = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let number = u16::from_str_radix(digits.ok_or_else(unknown)?, 16).map_err(|_| unknown())?;
        if number < FIRST {
            return Err(unknown());
        }
        if DECIDED.contains(&number) {
            return Err(Error::EtherTypeDecided(text.to_owned()));
        }
        Ok(Self(number))
    }
}

impl fmt::Display for EtherType {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => out.write_str(name),
            None => write!(out, "{:#06x}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_the_same_types() {
        for (name, number) in NAMES {
            let by_name: EtherType = name.parse().unwrap();
            assert_eq!(by_name, format!("{number:#06X}").to_lowercase().parse().unwrap());
            assert_eq!((by_name.number(), by_name.to_string().as_str()), (number, name));
        }
        assert!(NAMES.is_sorted());
        assert_eq!("PTP".parse::<EtherType>().unwrap().number(), 0x88f7);
        assert_eq!("0xffff".parse::<EtherType>().unwrap().to_string(), "0xffff");
        assert_eq!("0x600".parse::<EtherType>().unwrap().to_string(), "0x0600");
    }

    #[test]
    fn lengths_and_types_that_are_decided_otherwise_are_refused() {
        for text in
            ["", "0x", "88f7", "35063", "0x5ff", "0x0", "0x188f7", "0x-8f7", "0x+8f7", "ipx"]
        {
            let error = text.parse::<EtherType>().unwrap_err();
            assert!(matches!(error, Error::EtherType(_)), "{text}: {error}");
        }
        for text in ["0x0800", "0x86DD", "0x806", "0x8100", "0x88a8"] {
            let error = text.parse::<EtherType>().unwrap_err();
            assert!(matches!(error, Error::EtherTypeDecided(_)), "{text}: {error}");
        }
    }
}
