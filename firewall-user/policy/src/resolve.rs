//! An interface's rules with every peer turned into networks.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use firewall_ebpf::abi::interface::Direction;
use ipnet::IpNet;

use crate::model::{GroupId, Interface, Model, Networks, Peer, Traffic};

/// The inside addresses and networks of each attached interface, by slot.
pub type Addresses = BTreeMap<u16, Vec<IpNet>>;

/// A rule of an interface's groups, with its peer as networks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedRule {
    /// The rule's number.
    pub number: u32,
    /// Which packets it applies to.
    pub direction: Direction,
    /// Protocol with its ports or ICMP type and code.
    pub traffic: Traffic,
    /// The outside networks it allows; none for a group without members.
    pub networks: Networks,
    /// When it ends, in nanoseconds since the boot (`CLOCK_BOOTTIME`).
    pub end: Option<u64>,
}

/// The rules of all groups of an interface, in the order of their numbers.
///
/// A peer that no longer exists matches nothing (EC2's "stale" rules).
#[must_use]
pub fn resolve(model: &Model, addresses: &Addresses, interface: &Interface) -> Vec<ResolvedRule> {
    resolve_groups(model, addresses, &interface.groups)
}

/// As [`resolve()`], of some groups.
#[must_use]
pub fn resolve_groups(
    model: &Model,
    addresses: &Addresses,
    groups: &[GroupId],
) -> Vec<ResolvedRule> {
    let groups = groups.iter().filter_map(|id| model.groups.get(id));
    let mut rules: Vec<_> = groups
        .flat_map(|group| &group.rules)
        .map(|rule| ResolvedRule {
            number: rule.number,
            direction: rule.spec.direction,
            traffic: rule.spec.traffic,
            networks: networks(model, addresses, &rule.spec.peer),
            end: rule.end.map(|end| end.boottime),
        })
        .collect();
    rules.sort_by_key(|rule| rule.number);
    rules
}

fn networks(model: &Model, addresses: &Addresses, peer: &Peer) -> Networks {
    match peer {
        Peer::Group(id) => members(model, addresses, id),
        _ => networks_of(model, peer),
    }
}

/// The networks of a peer that is no group.
pub(crate) fn networks_of(model: &Model, peer: &Peer) -> Networks {
    match peer {
        Peer::Ipv4(network) => (*network).into(),
        Peer::Ipv6(network) => (*network).into(),
        Peer::PrefixList(id) => {
            let list = model.prefix_lists.get(id);
            list.map_or_else(Networks::default, |list| list.entries.networks().clone())
        }
        // EC2's stale rules.
        Peer::Group(_) | Peer::Foreign(_) => Networks::default(),
    }
}

/// The addresses of the interfaces in a group, as networks.
fn members(model: &Model, addresses: &Addresses, group: &GroupId) -> Networks {
    model
        .interfaces
        .values()
        .filter(|interface| interface.groups.contains(group))
        .filter_map(|interface| addresses.get(&interface.slot))
        .flatten()
        .copied()
        .collect()
}

/// The difference between two sets of rules, each in the order of their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference<'a> {
    /// The rules of one set only: a rule that differs between the two is here in both forms.
    pub(crate) changed: Vec<&'a ResolvedRule>,
    /// The rules of both sets.
    pub(crate) unchanged: Vec<&'a ResolvedRule>,
}

impl<'a> Difference<'a> {
    pub(crate) fn new(old: &'a [ResolvedRule], new: &'a [ResolvedRule]) -> Self {
        let mut difference = Self::default();
        let (mut olds, mut news) = (old.iter().peekable(), new.iter().peekable());
        while let (Some(was), Some(is)) = (olds.peek(), news.peek()) {
            let order = was.number.cmp(&is.number);
            if order == Ordering::Equal && was == is {
                difference.unchanged.push(is);
                olds.next();
                news.next();
                continue;
            }
            if order != Ordering::Greater {
                difference.changed.extend(olds.next());
            }
            if order != Ordering::Less {
                difference.changed.extend(news.next());
            }
        }
        difference.changed.extend(olds.chain(news));
        difference
    }
}
