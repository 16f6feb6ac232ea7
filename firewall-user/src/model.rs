//! Groups, rules, peers and interfaces: what a user says, validated. Pure: no I/O, no kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use firewall_ebpf::exempt::NonIp;
use firewall_ebpf::interface::{Direction, Orientation, State, TcpChecks};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

pub mod apply;
mod change;
pub(crate) mod check;
mod cidr;
pub mod document;
mod error;
pub mod ids;
mod limits;
mod lookup;
mod spec;
pub mod tags;
mod text;
mod traffic;

pub use change::Change;
pub use cidr::{parse_cidr, parse_entry};
pub use error::{Error, Kind, User};
pub use ids::{GroupId, InterfaceId, PrefixListId, RuleId};
pub use limits::{GROUPS_PER_INTERFACE_MAX, Limits};
pub use spec::NewRule;
pub use text::{group_description, group_name, prefix_list_name, rule_description};
pub use traffic::Ec2Traffic;

/// A security group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// `sg-…`.
    pub id: GroupId,
    /// Unique on this host, ignoring case; immutable.
    pub name: String,
    /// Required and immutable, as EC2 has it.
    pub description: String,
    /// Rules of both directions, in the order of their ids' creation.
    pub rules: Vec<Rule>,
    /// User tags.
    pub tags: BTreeMap<String, String>,
}

/// A rule of a group. Rules only allow, and have no order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// `sgr-…`.
    pub id: RuleId,
    /// The number by which the kernel names the rule in flows and counters: unique for the life
    /// of the store, never reused, never 0.
    pub number: u32,
    /// What the rule allows; its identity.
    pub spec: RuleSpec,
    /// Free text, may be empty.
    pub description: String,
}

/// The identity of a rule within its group: two rules with the same spec are duplicates.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleSpec {
    /// Which packets the rule speaks of.
    pub direction: Direction,
    /// Protocol with its ports or ICMP type and code.
    pub traffic: Traffic,
    /// The other end.
    pub peer: Peer,
}

/// Protocol with what EC2 lets a rule say about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Traffic {
    /// `-1`: every protocol, every port.
    All,
    /// TCP by destination port.
    Tcp(PortRange),
    /// UDP by destination port.
    Udp(PortRange),
    /// ICMP (IPv4).
    Icmp(IcmpMatch),
    /// ICMPv6.
    Icmpv6(IcmpMatch),
    /// Any other protocol by its number; never 1, 6, 17 or 58.
    Other(u8),
}

/// Destination ports, both ends included; `from <= to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortRange {
    /// First port.
    pub from: u16,
    /// Last port.
    pub to: u16,
}

/// ICMP type and code; EC2 writes -1 for "any".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IcmpMatch {
    /// Every type and code.
    Any,
    /// Every code of one type.
    Type(u8),
    /// One type and code.
    TypeCode(u8, u8),
}

/// The other end of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Peer {
    /// An IPv4 network, canonical: no host bits set.
    Ipv4(Ipv4Net),
    /// An IPv6 network, canonical.
    Ipv6(Ipv6Net),
    /// A prefix list of this host.
    PrefixList(PrefixListId),
    /// The addresses of the interfaces in a group of this host.
    Group(GroupId),
}

/// Address family of a prefix list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// A customer-managed prefix list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrefixList {
    /// `pl-…`.
    pub id: PrefixListId,
    /// Unique on this host.
    pub name: String,
    /// Every entry is of this family.
    pub family: Family,
    /// Starts at 1; a change of entries makes a new one.
    pub version: u64,
    /// Canonical networks with their descriptions, sorted by network.
    pub entries: BTreeMap<IpNet, String>,
    /// User tags.
    pub tags: BTreeMap<String, String>,
}

/// Where the user wants the receive program to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum HookChoice {
    /// Native XDP on a hardware NIC whose driver has it, else TCX, else clsact.
    Auto,
    /// Native XDP: the cheapest drops; on veth, tap and virtio it switches receive offload off.
    Xdp,
    /// Generic XDP: any driver, no faster than TCX.
    XdpGeneric,
    /// TCX (Linux 6.6): any driver, keeps every offload.
    Tcx,
    /// Filters of a clsact qdisc: as TCX, on older kernels.
    Clsact,
}

/// Which traffic is tracked in flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Tracking {
    /// All but TCP and UDP that rules allow from anywhere together with every answer, as in EC2.
    #[default]
    Auto,
    /// All traffic.
    Always,
}

/// Whether drops are enforced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Mode {
    /// Drop the packets whose verdict is to drop.
    #[default]
    Enforce,
    /// Count them as dropped, and pass them.
    Audit,
}

/// One attachment of groups to a network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// `eni-…`.
    pub id: InterfaceId,
    /// The attachment number: part of every flow key, index of the policy; unique among the
    /// attached.
    pub slot: u16,
    /// The device's name.
    pub device: String,
    /// The named network namespace that the device lives in; `None`: the one secgroup runs in.
    pub netns: Option<String>,
    /// At least one group, without repeats.
    pub groups: Vec<GroupId>,
    /// As asked for; what it came to is a fact of the kernel.
    pub hook: HookChoice,
    /// Which end of the device is protected.
    pub orientation: Orientation,
    /// Which frames that are not IP pass.
    pub non_ip: NonIp,
    /// How closely TCP is followed.
    pub tcp: TcpChecks,
    /// Whether a segment in the middle of a connection may open a flow (mid-stream pickup), as
    /// configured; see [`Self::is_tcp_loose`].
    pub tcp_loose: bool,
    /// Which traffic is remembered in flows.
    pub tracking: Tracking,
    /// Whether what is to be dropped is.
    pub mode: Mode,
    /// Whether the rules are asked about a flow again after they have changed; EC2 does not.
    pub revalidate: bool,
    /// Idle timeouts in seconds that differ from [`State::default_timeout`].
    pub timeouts: BTreeMap<State, u32>,
    /// Inside addresses the user declared, for a device that does not carry them itself (guest).
    pub addresses: Vec<IpAddr>,
}

impl Interface {
    /// The device's name, with its namespace where that is not ours: `eth0`, `blue/eth0`.
    #[must_use]
    pub fn label(&self) -> String {
        label(&self.device, self.netns.as_deref())
    }

    /// Whether a segment in the middle of a connection may open a flow. The windows of such a connection
    /// are not known, so strict TCP never does.
    #[must_use]
    pub const fn is_tcp_loose(&self) -> bool {
        self.tcp_loose && matches!(self.tcp, TcpChecks::Guard)
    }

    /// The idle timeout of a state in seconds.
    #[must_use]
    pub fn timeout(&self, state: State) -> u32 {
        self.timeouts.get(&state).copied().unwrap_or(state.default_timeout())
    }
}

/// What a device is called, with the namespace that it is named with.
#[must_use]
pub fn label(device: &str, netns: Option<&str>) -> String {
    netns.map_or_else(|| device.to_owned(), |netns| format!("{netns}/{device}"))
}

/// Everything a user said, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    /// By id.
    pub groups: BTreeMap<GroupId, Group>,
    /// By id.
    pub prefix_lists: BTreeMap<PrefixListId, PrefixList>,
    /// By slot.
    pub interfaces: BTreeMap<u16, Interface>,
    /// The networks that this host is managed from.
    pub management: BTreeSet<IpNet>,
    /// Nothing but the management networks passes, whatever the groups say.
    pub is_panicking: bool,
}

impl Group {
    /// The allow-all egress rules, one of each family, that a new group starts with.
    #[must_use]
    pub fn default_rules() -> Vec<NewRule> {
        [Peer::Ipv4(Ipv4Net::default()), Peer::Ipv6(Ipv6Net::default())]
            .into_iter()
            .map(|peer| NewRule {
                spec: RuleSpec { direction: Direction::Egress, traffic: Traffic::All, peer },
                description: String::new(),
            })
            .collect()
    }
}

impl Family {
    /// The word used on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        }
    }

    /// The word used in AWS documents.
    #[must_use]
    pub const fn document_name(self) -> &'static str {
        match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        }
    }

    /// The family of a network.
    #[must_use]
    pub const fn of(network: &IpNet) -> Self {
        match network {
            IpNet::V4(_) => Self::Ipv4,
            IpNet::V6(_) => Self::Ipv6,
        }
    }
}

impl HookChoice {
    /// Every choice.
    pub const ALL: [Self; 5] = [Self::Auto, Self::Xdp, Self::XdpGeneric, Self::Tcx, Self::Clsact];

    /// The word used on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Xdp => "xdp",
            Self::XdpGeneric => "xdp-generic",
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

impl Mode {
    /// Both choices.
    pub const ALL: [Self; 2] = [Self::Enforce, Self::Audit];

    /// The word used on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Audit => "audit",
        }
    }
}

impl Tracking {
    /// Both choices.
    pub const ALL: [Self; 2] = [Self::Auto, Self::Always];

    /// The word used on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Always => "always",
        }
    }
}
