//! Network ACLs: ordered entries that allow or deny packets of both directions, whatever flow they belong to.

use std::collections::BTreeMap;

use firewall_ebpf::abi::interface::Direction;
use ipnet::{Ipv4Net, Ipv6Net};

use super::{AclId, End, Error, Peer, Traffic, VpcId, tags};

/// The highest number of an entry that can be added or removed.
pub const MAX_ENTRY: u16 = 32_766;

/// The number of the last entry for IPv4, which denies what no other entry matches.
pub const LAST_V4: u16 = 32_767;

/// The number of the last entry for IPv6.
pub const LAST_V6: u16 = 32_768;

/// The name of the ACL of interfaces that have no other one.
pub const DEFAULT_ACL: &str = "default";

/// A network ACL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acl {
    /// `acl-…`.
    pub id: AclId,
    /// Its VPC.
    pub vpc: VpcId,
    /// In EC2 the value of its tag `Name`; without one its id. Several may have one name, because EC2's clients
    /// may give them one: then only the ids stand for them. Of the default one always [`DEFAULT_ACL`], and its
    /// tag `Name` is among [`Self::tags`].
    pub name: String,
    /// Whether it is that of subnets without another one. Each VPC has one, which is never deleted.
    pub is_default: bool,
    /// By direction and number; among them the last ones, which cannot be changed.
    pub entries: BTreeMap<(Direction, u16), AclEntry>,
    /// User tags.
    pub tags: BTreeMap<String, String>,
}

/// An entry of a network ACL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AclEntry {
    /// The entry's number in the kernel's counters: unique in the store among rules, entries and blocks,
    /// never reused; 0 until the entry is stored.
    pub number: u32,
    /// What happens to packets that the entry is the first to match.
    pub action: Action,
    /// Protocol with its destination ports or ICMP type and code.
    pub traffic: Traffic,
    /// The outside networks; never a group.
    pub peer: Peer,
    /// When it ends by itself.
    pub end: Option<End>,
}

/// What an entry does with the packets that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Action {
    /// They pass the ACL.
    Allow,
    /// They are dropped.
    Deny,
}

impl Acl {
    /// An ACL that denies everything, as EC2 creates them.
    #[must_use]
    pub fn deny_all(id: AclId, vpc: VpcId, name: &str, tags: BTreeMap<String, String>) -> Self {
        let mut entries = BTreeMap::new();
        for direction in Direction::ALL {
            let [v4, v6] = everything();
            entries.insert((direction, LAST_V4), AclEntry::of_all(Action::Deny, v4));
            entries.insert((direction, LAST_V6), AclEntry::of_all(Action::Deny, v6));
        }
        Self { id, vpc, name: name.to_owned(), is_default: false, entries, tags }
    }

    /// The default ACL of a VPC, which allows everything, as EC2 creates it.
    ///
    /// # Errors
    /// The kernel gives no random bytes for its id.
    pub fn new_default(vpc: VpcId) -> Result<Self, Error> {
        let mut acl = Self::deny_all(AclId::random()?, vpc, DEFAULT_ACL, BTreeMap::new());
        acl.is_default = true;
        for direction in Direction::ALL {
            for (number, peer) in [100, 101].into_iter().zip(everything()) {
                acl.entries.insert((direction, number), AclEntry::of_all(Action::Allow, peer));
            }
        }
        Ok(acl)
    }

    /// Whether it allows every packet by its first entries: all traffic of both families, in both
    /// directions. Then nothing is looked up for it, and its entries count nothing.
    #[must_use]
    pub fn allows_everything(&self) -> bool {
        Direction::ALL.into_iter().all(|direction| {
            everything().into_iter().all(|everything| {
                let is_of_family = |entry: &&AclEntry| {
                    let families = (&entry.peer, &everything);
                    !matches!(
                        families,
                        (Peer::Ipv4(_), Peer::Ipv6(_)) | (Peer::Ipv6(_), Peer::Ipv4(_))
                    )
                };
                let first = self.entries_of(direction).map(|(_, entry)| entry).find(is_of_family);
                first.is_some_and(|first| {
                    let AclEntry { action, traffic, peer, end, .. } = first;
                    *action == Action::Allow
                        && *traffic == Traffic::All
                        && *peer == everything
                        && end.is_none()
                })
            })
        })
    }

    /// Its tags as EC2 has them: with `Name`, if it has one.
    #[must_use]
    pub fn all_tags(&self) -> BTreeMap<String, String> {
        let mut all = self.tags.clone();
        if !self.is_default && self.name != self.id.as_str() {
            all.insert(tags::NAME.to_owned(), self.name.clone());
        }
        all
    }

    /// The name and the other tags of a network ACL that has these tags in EC2.
    #[must_use]
    pub fn split_tags(
        &self,
        mut all: BTreeMap<String, String>,
    ) -> (String, BTreeMap<String, String>) {
        if self.is_default {
            return (self.name.clone(), all);
        }
        let name = all.remove(tags::NAME).filter(|name| !name.is_empty());
        (name.unwrap_or_else(|| self.id.to_string()), all)
    }

    /// The entries of a direction with their numbers, in the order in which they are evaluated.
    pub fn entries_of(&self, direction: Direction) -> impl Iterator<Item = (u16, &AclEntry)> {
        let range = (direction, 0)..=(direction, u16::MAX);
        self.entries.range(range).map(|((_, number), entry)| (*number, entry))
    }
}

impl AclEntry {
    /// Whether both do the same with the same packets, until either ends.
    #[must_use]
    pub fn says_the_same(&self, other: &Self) -> bool {
        let Self { number: _, action, traffic, peer, end: _ } = self;
        (action, traffic, peer) == (&other.action, &other.traffic, &other.peer)
    }

    /// An entry about all traffic of a peer.
    const fn of_all(action: Action, peer: Peer) -> Self {
        Self { number: 0, action, traffic: Traffic::All, peer, end: None }
    }
}

/// All addresses of each family.
fn everything() -> [Peer; 2] {
    [Peer::Ipv4(Ipv4Net::default()), Peer::Ipv6(Ipv6Net::default())]
}
