//! Groups, rules, peers and interfaces: what the user configures, validated.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use firewall_ebpf::abi::interface::Direction;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

mod acl;
pub mod apply;
mod aws_list;
mod block;
mod change;
pub mod check;
mod cidr;
pub mod document;
mod end;
mod ended;
mod entries;
mod error;
mod ether_type;
mod flow_log;
mod foreign;
mod identity;
pub mod ids;
mod interface;
mod limits;
pub mod list_file;
mod lookup;
pub mod networks;
mod permission;
mod port;
mod same;
mod spec;
mod staged;
pub mod tags;
mod text;
mod traffic;
mod vpc;

pub use acl::{Acl, AclEntry, Action, DEFAULT_ACL, LAST_V4, LAST_V6, MAX_ENTRY};
pub use block::{Block, NewBlock, block_reason, parse_target};
pub use change::Change;
pub use cidr::{canonicalised, parse_cidr, parse_entry};
pub use end::{End, EndKind, LONGEST, Moment, parse_rfc3339, rfc3339};
pub use ended::{Ended, EndedKind};
pub use entries::{Entries, EntryChange};
pub use error::{Error, Kind, User};
pub use ether_type::EtherType;
pub use flow_log::{FlowLog, FlowLogSettings, Logged, RecordFiles};
pub use foreign::{ForeignGroup, is_account, is_owner, is_peering};
pub use identity::Identity;
pub use ids::{
    AclId, AssociationId, AttachmentId, FlowLogId, GroupId, InterfaceId, PrefixListId, RuleId,
    SubnetId, VpcId,
};
pub use interface::{Attachment, Interface, InterfaceDetails, label};
pub use limits::{GROUPS_PER_INTERFACE_MAX, Limits};
pub use networks::Networks;
pub use permission::{Permission, sorted_rules};
pub use port::{MacAddress, PortSettings, is_one_address, parse_own};
pub use spec::NewRule;
pub use staged::{Staged, StagedChange};
pub use text::{
    acl_name, aws_list_name, group_description, group_name, prefix_list_name, rule_description,
};
pub use traffic::Ec2Traffic;
pub use vpc::{Subnet, SubnetSettings, Vpc, VpcSettings};

/// A security group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// `sg-…`.
    pub id: GroupId,
    /// Its VPC; immutable.
    pub vpc: VpcId,
    /// Unique in its VPC, ignoring case; immutable.
    pub name: String,
    /// Required and immutable, as EC2 has it.
    pub description: String,
    /// Rules of both directions, in the order of their creation.
    pub rules: Vec<Rule>,
    /// User tags.
    pub tags: BTreeMap<String, String>,
}

/// A rule of a group. Rules only allow, and have no order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// `sgr-…`.
    pub id: RuleId,
    /// The rule's number in the kernel's flows and counters: unique in the store, never reused,
    /// never 0.
    pub number: u32,
    /// What the rule allows; its identity.
    pub spec: RuleSpec,
    /// Free text, may be empty.
    pub description: String,
    /// When it ends by itself.
    pub end: Option<End>,
    /// User tags.
    pub tags: BTreeMap<String, String>,
}

/// The identity of a rule within its group: two rules with the same specification are duplicates.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleSpec {
    /// Which packets the rule applies to.
    pub direction: Direction,
    /// Protocol with its ports or ICMP type and code.
    pub traffic: Traffic,
    /// The other end.
    pub peer: Peer,
}

/// A protocol, with the ports or ICMP types that EC2 lets a rule match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Traffic {
    /// Every protocol and port; EC2 writes -1.
    All,
    /// TCP by destination port.
    Tcp(PortRange),
    /// UDP by destination port.
    Udp(PortRange),
    /// ICMP (IPv4).
    Icmp(IcmpMatch),
    /// ICMPv6.
    Icmpv6(IcmpMatch),
    /// Any other protocol by its IP protocol number; never 1, 6, 17 or 58.
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
    /// A group that is not on this host: matches nothing.
    Foreign(Box<ForeignGroup>),
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
    /// From 1; each change of the entries increments it.
    pub version: u64,
    /// Canonical networks with their descriptions.
    pub entries: Entries,
    /// EC2's `MaxEntries`; `None`: as many as it has.
    pub max_entries: Option<u32>,
    /// Whether AWS manages it: its owner is `AWS`, and only a document changes it.
    pub is_aws: bool,
    /// What was done to it last.
    pub state: ListState,
    /// User tags.
    pub tags: BTreeMap<String, String>,
}

/// What was done to a prefix list last, which EC2's clients wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ListState {
    /// It was created.
    #[default]
    Created,
    /// Its entries, its name or its size were changed.
    Modified,
    /// It got the entries of an earlier version again.
    Restored,
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
    /// All but TCP and UDP that rules allow from anywhere together with every reply, as in EC2.
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

/// The whole configuration of this host, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// By id.
    pub vpcs: BTreeMap<VpcId, Vpc>,
    /// By id.
    pub subnets: BTreeMap<SubnetId, Subnet>,
    /// By id. Shared: a copy of the model costs little, whatever the number of rules.
    pub groups: BTreeMap<GroupId, Arc<Group>>,
    /// Changes of rules that are not in force yet, by the id of the rule.
    pub staged: BTreeMap<RuleId, Staged>,
    /// By id.
    pub prefix_lists: BTreeMap<PrefixListId, PrefixList>,
    /// By id.
    pub acls: BTreeMap<AclId, Acl>,
    /// By number.
    pub blocks: BTreeMap<u32, Block>,
    /// The attached ones, by slot.
    pub interfaces: BTreeMap<u16, Interface>,
    /// Those that no device has, by slot: from [`FIRST_UNATTACHED`](Interface::FIRST_UNATTACHED) on.
    pub unattached: BTreeMap<u16, Interface>,
    /// By id.
    pub flow_logs: BTreeMap<FlowLogId, FlowLog>,
    /// The management networks, which stay reachable in emergency mode.
    pub management: BTreeSet<IpNet>,
    /// Emergency mode: only traffic of the management networks passes, regardless of the groups' rules.
    pub is_panicking: bool,
}

impl Group {
    /// The allow-all egress rules, one of each of these families, that a new group starts with.
    #[must_use]
    pub fn default_rules(families: &[Family]) -> Vec<NewRule> {
        let everything = |family: &Family| match family {
            Family::Ipv4 => Peer::Ipv4(Ipv4Net::default()),
            Family::Ipv6 => Peer::Ipv6(Ipv6Net::default()),
        };
        families
            .iter()
            .map(everything)
            .map(|peer| NewRule {
                spec: RuleSpec { direction: Direction::Egress, traffic: Traffic::All, peer },
                description: String::new(),
                end: None,
            })
            .collect()
    }
}

impl Group {
    /// The edits that create the default group of a VPC, as EC2 has it: all ingress from the group itself, and
    /// all egress.
    ///
    /// # Errors
    /// The kernel gives no random bytes for ids.
    pub fn new_default(vpc: &Vpc) -> Result<Vec<Change>, Error> {
        let id = GroupId::random()?;
        let itself = RuleSpec {
            direction: Direction::Ingress,
            traffic: Traffic::All,
            peer: Peer::Group(id.clone()),
        };
        let itself = NewRule { spec: itself, description: String::new(), end: None };
        let group = Self {
            id: id.clone(),
            vpc: vpc.id.clone(),
            name: apply::DEFAULT_GROUP.to_owned(),
            description: "default VPC security group".to_owned(),
            rules: Vec::new(),
            tags: BTreeMap::new(),
        };
        let mut changes = vec![Change::CreateGroup(group)];
        for NewRule { spec, description, end } in
            [itself].into_iter().chain(Self::default_rules(vpc.families()))
        {
            let (number, tags) = (0, BTreeMap::new());
            let rule = Rule { id: RuleId::random()?, number, spec, description, end, tags };
            changes.push(Change::AddRule { group: id.clone(), rule });
        }
        Ok(changes)
    }
}

/// One table for the choices of an enum and their names.
macro_rules! choices {
    ($choice:ident { $($variant:ident = $name:literal,)* }) => {
        impl $choice {
            /// Every choice, in the order of the enum.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            /// The name of the choice, on the command line, in the store and in JSON.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

choices!(Action { Allow = "allow", Deny = "deny", });
choices!(EndKind { For = "for", Until = "until", });
choices!(EndedKind { Rule = "rule", AclEntry = "acl-entry", Block = "block", });
choices!(Family { Ipv4 = "ipv4", Ipv6 = "ipv6", });
choices!(HookChoice {
    Auto = "auto",
    Xdp = "xdp",
    XdpGeneric = "xdp-generic",
    Tcx = "tcx",
    Clsact = "clsact",
});
choices!(ListState {
    Created = "create-complete",
    Modified = "modify-complete",
    Restored = "restore-complete",
});
choices!(Mode { Enforce = "enforce", Audit = "audit", });
choices!(Tracking { Auto = "auto", Always = "always", });

impl Family {
    /// The name in AWS documents.
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

/// With the default VPC and its subnet, as every store has them, and nothing else.
impl Default for Model {
    fn default() -> Self {
        let (vpc, subnet) = (Vpc::new_default(), Subnet::new_default());
        Self {
            vpcs: [(vpc.id.clone(), vpc)].into(),
            subnets: [(subnet.id.clone(), subnet)].into(),
            groups: BTreeMap::new(),
            staged: BTreeMap::new(),
            prefix_lists: BTreeMap::new(),
            acls: BTreeMap::new(),
            blocks: BTreeMap::new(),
            interfaces: BTreeMap::new(),
            unattached: BTreeMap::new(),
            flow_logs: BTreeMap::new(),
            management: BTreeSet::new(),
            is_panicking: false,
        }
    }
}
