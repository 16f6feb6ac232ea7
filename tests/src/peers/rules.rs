//! The same rules for every firewall, each in its own syntax.

use std::fmt::{self, Write as _};

use crate::Secgroup;
use crate::decision::Family;

/// The UDP port that packets are generated for, and the first of the TCP ports of the bench.
pub const PORT: u16 = 5000;
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
}

impl Rules {
    /// The measured rules.
    pub const ALL: [Self; 4] = [Self::Each(1), Self::Each(100), Self::Each(1000), Self::SET];
    /// Not possible with iptables.
    pub const SET: Self = Self::Set(10_000);

    fn networks(self, family: Family) -> impl Iterator<Item = String> {
        let (Self::Each(count) | Self::Set(count)) = self;
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

    /// A ruleset for `nft -f`.
    #[must_use]
    pub fn nftables(self, family: Family) -> String {
        let [first, last] = TCP_PORTS;
        let client = client(family);
        let (ip, address) = match family {
            Family::V4 => ("ip", "ipv4_addr"),
            Family::V6 => ("ip6", "ipv6_addr"),
        };
        let mut set = String::new();
        let mut rules = String::new();
        match self {
            Self::Each(_) => {
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
             rules_per_interface = 20200\nentries_per_prefix_list = 10000\n",
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
            Self::Each(_) => {
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
    }
}

impl fmt::Display for Rules {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Each(count) | Self::Set(count)) = *self;
        let number = match (count / 1000, count % 1000) {
            (0, small) => small.to_string(),
            (thousands, rest) => format!("{thousands},{rest:03}"),
        };
        match self {
            Self::Each(1) => write!(out, "1 rule"),
            Self::Each(_) => write!(out, "{number} rules"),
            Self::Set(_) => write!(out, "set of {number}"),
        }
    }
}
