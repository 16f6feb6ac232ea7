//! Cases name a client and a server; a scenario defines which of them is protected, and the
//! addresses of both.

use std::fmt;
use std::net::IpAddr;

use firewall_ebpf::interface::Direction;
use ipnet::IpNet;

/// Address family of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both families.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    fn pick<T>(self, v4: T, v6: T) -> T {
        match self {
            Self::V4 => v4,
            Self::V6 => v6,
        }
    }
}

/// The end that a packet comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The initiator of connections.
    Client,
    /// The responder.
    Server,
}

/// A host outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outside {
    /// The host in the network of most rules.
    Near,
    /// Another host in the near network.
    Neighbour,
    /// A host in another network.
    Far,
    /// Any address of the scenario's family.
    At(IpAddr),
}

/// One variant in which a case runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// The address family of both ends.
    pub family: Family,
    /// The direction of the client's packets: ingress if the server is protected.
    pub client: Direction,
}

impl Scenario {
    /// Every scenario.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let pairs = Family::ALL.into_iter().flat_map(|f| Direction::ALL.map(|d| (f, d)));
        pairs.map(|(family, client)| Self { family, client }).collect()
    }

    /// The direction of a packet from this end.
    #[must_use]
    pub const fn direction(&self, from: Role) -> Direction {
        match from {
            Role::Client => self.client,
            Role::Server => self.client.opposite(),
        }
    }

    /// The protected host.
    #[must_use]
    pub fn inside(&self) -> IpAddr {
        address(self.family.pick("192.0.2.10", "2001:db8:1::10"))
    }

    /// A host outside.
    #[must_use]
    pub fn outside(&self, host: Outside) -> IpAddr {
        address(match host {
            Outside::At(address) => return address,
            Outside::Near => self.family.pick("198.51.100.7", "2001:db8:2::7"),
            Outside::Neighbour => self.family.pick("198.51.100.8", "2001:db8:2::8"),
            Outside::Far => self.family.pick("203.0.113.9", "2001:db8:3::9"),
        })
    }

    /// The network of the near host.
    #[must_use]
    pub fn near(&self) -> IpNet {
        network(self.family.pick("198.51.100.0/24", "2001:db8:2::/64"))
    }

    /// A network that contains the near one, but neither the far nor the inside host.
    #[must_use]
    pub fn wide(&self) -> IpNet {
        network(self.family.pick("198.0.0.0/8", "2001:db8:2::/48"))
    }

    /// The network of the far host.
    #[must_use]
    pub fn far(&self) -> IpNet {
        network(self.family.pick("203.0.113.0/24", "2001:db8:3::/64"))
    }

    /// Every address of the family.
    #[must_use]
    pub fn any(&self) -> IpNet {
        network(self.family.pick("0.0.0.0/0", "::/0"))
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = self.family.pick("IPv4", "IPv6");
        write!(f, "{family}, the client's packets are {}", self.client.name())
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn network(text: &str) -> IpNet {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}
