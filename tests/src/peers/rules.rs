//! The same rules for every firewall, each in its own syntax.

use std::fmt;
use std::fmt::Write as _;
use std::io::Write as _;

use crate::decision::Family;
use crate::{Pair, Secgroup};

/// The UDP port that packets are generated for, and the first of the TCP ports of the bench.
pub const PORT: u16 = 5000;
/// The hosts of the flood, as the generator has them.
const HOSTS: u32 = 8192;
/// From this number of blocked networks on, they are single addresses.
const SINGLE: u32 = 100_000;
/// The TCP ports of the bench.
const TCP_PORTS: [u16; 2] = [PORT, 5299];

/// The client's network.
const fn client(family: Family) -> &'static str {
    match family {
        Family::V4 => "10.77.0.0/25",
        Family::V6 => "fd77::/65",
    }
}

/// The rules of a firewall. Each network may send UDP to [`PORT`]; the last one is the client's,
/// which may also open TCP connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rules {
    /// A rule for each of this number of networks.
    Each(u32),
    /// This number of networks in a set of nftables, or in a prefix list of secgroup.
    Set(u32),
    /// One rule, and this number of blocked networks, among them all that the flood comes from: in a set that
    /// nftables searches at the ingress hook, or a blocked prefix list of secgroup.
    Blocked(u32),
}

impl Rules {
    /// The measured rules.
    pub const ALL: [Self; 4] = [Self::Each(1), Self::Each(100), Self::Each(1000), Self::SET];
    /// Not possible with iptables.
    pub const SET: Self = Self::Set(10_000);
    /// The measured block lists.
    pub const BLOCKED: [Self; 3] =
        [Self::Blocked(1), Self::Blocked(1000), Self::Blocked(1_000_000)];

    fn networks(self, family: Family) -> impl Iterator<Item = String> {
        let count = match self {
            Self::Each(count) | Self::Set(count) => count,
            Self::Blocked(_) => 1,
        };
        // With gaps, so that networks cannot be merged; the flood comes from the gaps. Not /24,
        // whose three bytes nftables loads more slowly.
        let others = (1..count).map(move |number| {
            let [_, _, high, low] = (number * 2).to_be_bytes();
            match family {
                Family::V4 => format!("20.{high}.{low}.0/25"),
                Family::V6 => format!("2001:db8:0:{:x}::/65", number * 2),
            }
        });
        others.chain([client(family).to_owned()])
    }

    /// The blocked networks, as a file has them: those of the flood's hosts, of the fewest and shortest
    /// prefixes that the number allows, then others.
    #[must_use]
    pub fn blocked(self, family: Family) -> Vec<String> {
        let Self::Blocked(count) = self else { return Vec::new() };
        let flood: Vec<String> = match (count, family) {
            (1, Family::V4) => vec!["20.0.0.0/8".to_owned()],
            (1, Family::V6) => vec!["2001:db8::/48".to_owned()],
            (..SINGLE, Family::V4) => (0..64).map(|middle| format!("20.{middle}.0.0/16")).collect(),
            (..SINGLE, Family::V6) => {
                (0..64).map(|high| format!("2001:db8:0:{:x}::/56", high << 8)).collect()
            }
            (_, Family::V4) => (0..HOSTS)
                .map(|host| format!("20.{}.{}.9", host & 63, host >> 6 << 1 | 1))
                .collect(),
            (_, Family::V6) => {
                (0..HOSTS).map(|host| format!("2001:db8:0:{:x}::9", host << 1 | 1)).collect()
            }
        };
        let others = (0..count).map(|number| {
            // The factor is odd, so that each comes once, and successive ones are far apart.
            let [a, b, c, d] =
                (number.wrapping_mul(0x9e37_79b1) & 0x1fff_ffff | 0x4000_0000).to_be_bytes();
            match family {
                Family::V4 => format!("{a}.{b}.{c}.{d}"),
                Family::V6 => format!("2001:db9:{a:02x}{b:02x}:{c:02x}{d:02x}::1"),
            }
        });
        let fitting = usize::try_from(count).unwrap_or(usize::MAX);
        flood.into_iter().chain(others).take(fitting).collect()
    }

    /// A ruleset for `nft -f`.
    #[must_use]
    pub fn nftables(self, family: Family) -> String {
        if let Self::Blocked(count) = self {
            return Self::Each(1).nftables(family) + &self.nftables_blocked(count, family);
        }
        let [first, last] = TCP_PORTS;
        let client = client(family);
        let (ip, address) = match family {
            Family::V4 => ("ip", "ipv4_addr"),
            Family::V6 => ("ip6", "ipv6_addr"),
        };
        let mut set = String::new();
        let mut rules = String::new();
        match self {
            Self::Each(_) | Self::Blocked(_) => {
                for network in self.networks(family) {
                    let _ = writeln!(rules, "{ip} saddr {network} udp dport {PORT} accept");
                }
                let _ = writeln!(rules, "{ip} saddr {client} tcp dport {first}-{last} accept");
            }
            Self::Set(_) => {
                let elements: Vec<String> = self.networks(family).collect();
                let elements = elements.join(", ");
                let _ = writeln!(
                    set,
                    "set allowed {{ type {address}; flags interval; elements = {{ {elements} }} }}"
                );
                for ports in [format!("udp dport {PORT}"), format!("tcp dport {first}-{last}")] {
                    let _ = writeln!(rules, "{ports} {ip} saddr @allowed accept");
                }
            }
        }
        format!(
            "table inet bench {{\ncounter dropped {{ }}\n{set}chain input {{\n\
             type filter hook input priority filter; policy drop;\n\
             ct state established,related accept\n{rules}counter name dropped drop\n}}\n}}\n"
        )
    }

    /// The table that drops blocked sources where nftables can do it first. Single addresses are in a hash,
    /// networks in a tree.
    fn nftables_blocked(self, count: u32, family: Family) -> String {
        let (ip, address) = match family {
            Family::V4 => ("ip", "ipv4_addr"),
            Family::V6 => ("ip6", "ipv6_addr"),
        };
        let flags = if count < SINGLE { "flags interval; " } else { "" };
        let elements = self.blocked(family).join(", ");
        format!(
            "table netdev bench {{\ncounter dropped {{ }}\nset blocked {{ type {address}; {flags}\
             elements = {{ {elements} }} }}\nchain ingress {{\n\
             type filter hook ingress device \"{}\" priority filter; policy accept;\n\
             {ip} saddr @blocked counter name dropped drop\n}}\n}}\n",
            Pair::DEVICE
        )
    }

    /// A table for `iptables-restore`; the policy of INPUT counts drops.
    #[must_use]
    pub fn iptables(self) -> String {
        let mut text = String::from(
            "*filter\n:INPUT DROP [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n\
             -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT\n",
        );
        for network in self.networks(Family::V4) {
            let _ = writeln!(text, "-A INPUT -s {network} -p udp --dport {PORT} -j ACCEPT");
        }
        let [first, last] = TCP_PORTS;
        let client = client(Family::V4);
        let _ = writeln!(text, "-A INPUT -s {client} -p tcp --dport {first}:{last} -j ACCEPT");
        text + "COMMIT\n"
    }

    /// Creates the group `bench`.
    pub fn secgroup(self, secgroup: &Secgroup<'_>, family: Family) {
        secgroup.configure(
            "[limits]\nrules_per_group = 20200\ngroups_per_interface = 1\n\
             rules_per_interface = 20200\nentries_per_prefix_list = 1000000\n",
        );
        secgroup.ok("group create bench --description bench");
        let [first, last] = TCP_PORTS;
        let allow = |protocol: &str, peers: &str| {
            secgroup.ok(&format!("rule add bench ingress --protocol {protocol} {peers}"));
        };
        let repeated = |option: &str| -> String {
            self.networks(family).map(|network| format!(" {option} {network}")).collect()
        };
        let (udp, tcp) = (format!("udp --port {PORT}"), format!("tcp --port {first}-{last}"));
        match self {
            Self::Each(_) | Self::Blocked(_) => {
                allow(&udp, &repeated("--cidr"));
                allow(&tcp, &format!("--cidr {}", client(family)));
            }
            Self::Set(_) => {
                let entries = repeated("--entry");
                let family = if family == Family::V4 { "ipv4" } else { "ipv6" };
                secgroup.ok(&format!("prefix-list create allowed --family {family}{entries}"));
                for traffic in [udp, tcp] {
                    allow(&traffic, "--prefix-list allowed");
                }
            }
        }
        if let Self::Blocked(_) = self {
            let mut file = tempfile::NamedTempFile::new().expect("create a file for networks");
            for network in self.blocked(family) {
                writeln!(file, "{network}").expect("write a network");
            }
            secgroup.ok(&format!("prefix-list load blocked {} --create", file.path().display()));
            secgroup.ok("block --prefix-list blocked");
        }
    }
}

impl fmt::Display for Rules {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Each(count) | Self::Set(count) | Self::Blocked(count)) = *self;
        let number = match (count / 1_000_000, count / 1000 % 1000, count % 1000) {
            (0, 0, small) => small.to_string(),
            (0, thousands, rest) => format!("{thousands},{rest:03}"),
            (millions, thousands, rest) => format!("{millions},{thousands:03},{rest:03}"),
        };
        match self {
            Self::Each(1) => write!(out, "1 rule"),
            Self::Each(_) => write!(out, "{number} rules"),
            Self::Set(_) => write!(out, "set of {number}"),
            Self::Blocked(_) => write!(out, "{number} blocked"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_block_list_has_as_many_networks_as_it_says_each_once() {
        for rules in Rules::BLOCKED {
            let Rules::Blocked(count) = rules else { panic!("{rules} is no block list") };
            for family in [Family::V4, Family::V6] {
                let distinct: BTreeSet<_> = rules.blocked(family).into_iter().collect();
                assert_eq!(u32::try_from(distinct.len()), Ok(count), "{rules}");
            }
        }
    }
}
