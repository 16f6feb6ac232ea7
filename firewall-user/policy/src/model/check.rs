//! Checks of an edit before the store writes it: what it refers to exists, nothing is duplicated,
//! nothing in use is removed, and no limit is exceeded.

use std::collections::{BTreeMap, BTreeSet};

use firewall_ebpf::abi::interface::{Direction, MAX_ETHER_TYPES};
use firewall_ebpf::abi::port::MAX_OWN;
use hashbrown::{HashMap, HashSet};
use ipnet::IpNet;

use super::apply::DEFAULT_GROUP;
use super::{
    Entries, Error, Family, Group, GroupId, Interface, Limits, Model, NewRule, Peer, PrefixList,
    PrefixListId, RuleId, RuleSpec, StagedChange, Traffic, User, VpcId,
};

mod acl;
mod vpc;

pub use acl::{acl_entry_number, check_acl_count};

impl Model {
    /// Checks that a group may be created with this name and these tags.
    ///
    /// # Errors
    /// The VPC does not exist, the name is taken in it, or a limit is exceeded.
    pub fn check_new_group(
        &self,
        vpc: &VpcId,
        name: &str,
        tags: &BTreeMap<String, String>,
        limits: &Limits,
    ) -> Result<(), Error> {
        self.vpc_by_id(vpc)?;
        if let Some(Group { name, id, .. }) = self.group_named(vpc, name) {
            let (name, id, vpc) = (name.clone(), id.clone(), vpc.clone());
            return Err(Error::GroupDuplicate { name, id, vpc });
        }
        let count = self.groups.len() + 1;
        if count > limits.groups {
            return Err(Error::GroupsLimit { count, limit: limits.groups });
        }
        check_tags(&format!("group {name}"), tags, limits)
    }

    /// Checks that a group may be deleted: nothing but the group itself uses it.
    ///
    /// # Errors
    /// It is the default one of its VPC.
    pub fn check_group_deletable(&self, group: &Group) -> Result<(), Error> {
        if group.name == DEFAULT_GROUP {
            return Err(Error::GroupDefault(group.id.to_string()));
        }
        self.check_group_unused(group)
    }

    /// Checks that nothing but the group itself uses it.
    ///
    /// # Errors
    /// An interface or a rule of another group uses it.
    pub fn check_group_unused(&self, group: &Group) -> Result<(), Error> {
        let members = self.network_interfaces().filter(|one| one.groups.contains(&group.id));
        let interfaces = members.map(User::of_interface);
        let peer = Peer::Group(group.id.clone());
        let rules = self.rules_with(&peer, Some(&group.id));
        let users: Vec<_> = interfaces.chain(rules).collect();
        if users.is_empty() {
            Ok(())
        } else {
            Err(Error::GroupInUse { name: group.name.clone(), id: group.id.clone(), users })
        }
    }

    /// Checks that no rule, entry of a network ACL or block uses the prefix list.
    ///
    /// # Errors
    /// One of them uses it.
    pub fn check_prefix_list_unused(&self, list: &PrefixList) -> Result<(), Error> {
        let peer = Peer::PrefixList(list.id.clone());
        let is_blocked = self.blocks.values().any(|block| block.target == peer);
        let block = is_blocked.then(|| User::Block { list: list.name.clone() });
        let rules = self.rules_with(&peer, None);
        let users: Vec<_> = rules.chain(self.acl_entries_with(list)).chain(block).collect();
        if users.is_empty() {
            Ok(())
        } else {
            Err(Error::PrefixListInUse { name: list.name.clone(), id: list.id.clone(), users })
        }
    }

    /// The groups except `excluded` that have rules with this peer, also staged ones.
    fn rules_with<'a>(
        &'a self,
        peer: &'a Peer,
        excluded: Option<&'a GroupId>,
    ) -> impl Iterator<Item = User> + 'a {
        self.groups.values().filter(move |group| Some(&group.id) != excluded).filter_map(|group| {
            let here = group.rules.iter().filter(|rule| rule.spec.peer == *peer);
            let staged = self.staged_of(&group.id).filter(|(_, staged)| match &staged.change {
                StagedChange::Add { spec, .. } => spec.peer == *peer,
                StagedChange::Remove => false,
            });
            let staged = staged.map(|(id, _)| id.clone());
            let rules: Vec<RuleId> = here.map(|rule| rule.id.clone()).chain(staged).collect();
            (!rules.is_empty()).then(|| User::Rules { group: group.name.clone(), rules })
        })
    }

    /// Checks that these rules may be added to a group.
    ///
    /// # Errors
    /// The group has one of them, one is repeated, a peer does not exist, or a limit is exceeded.
    pub fn check_new_rules(
        &self,
        group: &Group,
        new: &[NewRule],
        limits: &Limits,
    ) -> Result<(), Error> {
        let wanted: HashSet<_> = new.iter().map(|rule| &rule.spec).collect();
        let here = group.rules.iter().filter(|rule| wanted.contains(&rule.spec));
        let here: HashMap<_, _> = here.map(|rule| (&rule.spec, rule)).collect();
        let mut seen = HashSet::new();
        for NewRule { spec, end, .. } in new {
            self.check_peer(&spec.peer)?;
            if let Some(rule) = here.get(spec) {
                return Err(Error::RuleDuplicate {
                    group: group.name.clone(),
                    rule: rule.id.clone(),
                    spec: spec.clone(),
                    ends: end.is_some() || rule.end.is_some(),
                });
            }
            if !seen.insert(spec) {
                return Err(Error::RuleRepeated(spec.clone()));
            }
        }
        let specs = group.rules.iter().map(|rule| &rule.spec);
        self.check_count(&group.name, specs.chain(new.iter().map(|rule| &rule.spec)), limits)
    }

    /// Checks that rules of a group may be replaced by these specifications.
    ///
    /// # Errors
    /// The group has no such rule or has a specification already, one is repeated, a peer does not exist, or a
    /// limit is exceeded.
    pub fn check_modified_rules(
        &self,
        group: &Group,
        modified: &[(RuleId, RuleSpec)],
        limits: &Limits,
    ) -> Result<(), Error> {
        let mut is_list_changed = false;
        for (id, spec) in modified {
            self.check_peer(&spec.peer)?;
            let old = &group.rule(id)?.spec.peer;
            is_list_changed |= matches!(spec.peer, Peer::PrefixList(_)) && *old != spec.peer;
        }
        let new: HashMap<_, _> = modified.iter().map(|(id, spec)| (id, spec)).collect();
        let kept = group.rules.iter().filter(|rule| !new.contains_key(&rule.id));
        let kept: HashMap<_, _> = kept.map(|rule| (&rule.spec, &rule.id)).collect();
        let mut seen = HashSet::new();
        for (_, spec) in modified {
            if let Some(rule) = kept.get(spec) {
                let (group, rule) = (group.name.clone(), (*rule).clone());
                return Err(Error::RuleDuplicate { group, rule, spec: spec.clone(), ends: false });
            }
            if !seen.insert(spec) {
                return Err(Error::RuleRepeated(spec.clone()));
            }
        }
        // Only another prefix list changes what is counted: the kind of a peer stays.
        if !is_list_changed {
            return Ok(());
        }
        let specs = kept.into_keys().chain(new.into_values());
        self.check_count(&group.name, specs, limits)
    }

    /// Checks that the peer of a rule exists.
    ///
    /// # Errors
    /// It does not exist.
    pub fn check_peer(&self, peer: &Peer) -> Result<(), Error> {
        match peer {
            Peer::Ipv4(_) | Peer::Ipv6(_) | Peer::Foreign(_) => Ok(()),
            Peer::Group(id) => self.group_by_id(id).map(drop),
            Peer::PrefixList(id) => self.prefix_list_by_id(id).map(drop),
        }
    }

    /// Why a rule matches no packet: its traffic does not exist in the family of its peer. EC2 stores such
    /// rules, so documents may have them.
    #[must_use]
    pub fn mismatch(&self, spec: &RuleSpec) -> Option<Error> {
        self.other_family(spec.traffic, &spec.peer)
    }

    /// Why traffic does not exist in the family of a peer, if it does not.
    #[must_use]
    pub fn other_family(&self, traffic: Traffic, peer: &Peer) -> Option<Error> {
        let checked = match peer {
            Peer::Ipv4(_) => traffic.check_family(Family::Ipv4, || peer.to_string()),
            Peer::Ipv6(_) => traffic.check_family(Family::Ipv6, || peer.to_string()),
            Peer::PrefixList(id) => {
                let list = self.prefix_lists.get(id)?;
                traffic.check_family(list.family, || format!("prefix list {}", list.name))
            }
            Peer::Group(_) | Peer::Foreign(_) => return None,
        };
        checked.err()
    }

    /// Checks that a group may have these rules, counted as EC2 counts them.
    ///
    /// # Errors
    /// They are too many.
    pub fn check_count<'a>(
        &self,
        group: &str,
        specs: impl Iterator<Item = &'a RuleSpec>,
        limits: &Limits,
    ) -> Result<(), Error> {
        let mut counts = [[0_usize; 2]; 2];
        // Those of them that are entries of prefix lists.
        let mut listed = [[0_usize; 2]; 2];
        for spec in specs {
            let direction = usize::from(spec.direction as u8);
            let [v4, v6] = &mut counts[direction];
            match &spec.peer {
                Peer::Ipv4(_) => *v4 += 1,
                Peer::Ipv6(_) => *v6 += 1,
                Peer::Group(_) | Peer::Foreign(_) => {
                    *v4 += 1;
                    *v6 += 1;
                }
                Peer::PrefixList(id) => {
                    let list = self.prefix_list_by_id(id)?;
                    let [listed_v4, listed_v6] = &mut listed[direction];
                    let (counts, listed) = match list.family {
                        Family::Ipv4 => (v4, listed_v4),
                        Family::Ipv6 => (v6, listed_v6),
                    };
                    *counts += list.weight();
                    *listed += list.weight();
                }
            }
        }
        for direction in Direction::ALL {
            let [v4, v6] = counts[usize::from(direction as u8)];
            let [listed_v4, listed_v6] = listed[usize::from(direction as u8)];
            for (family, count, entries) in
                [(Family::Ipv4, v4, listed_v4), (Family::Ipv6, v6, listed_v6)]
            {
                if count > limits.rules_per_group {
                    return Err(Error::RulesLimit {
                        group: group.to_owned(),
                        direction: direction.name(),
                        family,
                        count,
                        entries,
                        limit: limits.rules_per_group,
                    });
                }
            }
        }
        Ok(())
    }

    /// Checks that a prefix list may be created with this name and these tags.
    ///
    /// # Errors
    /// The name is taken, or a limit is exceeded.
    pub fn check_new_prefix_list(
        &self,
        name: &str,
        tags: &BTreeMap<String, String>,
        limits: &Limits,
    ) -> Result<(), Error> {
        if let Some(PrefixList { name, id, .. }) = self.prefix_list_named(name) {
            return Err(Error::PrefixListDuplicate { name: name.clone(), id: id.clone() });
        }
        // Those of AWS do not count, as in EC2.
        let count = self.prefix_lists.values().filter(|list| !list.is_aws).count() + 1;
        if count > limits.prefix_lists {
            return Err(Error::PrefixListsLimit { count, limit: limits.prefix_lists });
        }
        check_tags(&format!("prefix list {name}"), tags, limits)
    }

    /// Checks the limits of every group that refers to a prefix list, with the entries in this model.
    ///
    /// # Errors
    /// A group has too many rules.
    pub fn check_referring_groups(&self, id: &PrefixListId, limits: &Limits) -> Result<(), Error> {
        let peer = Peer::PrefixList(id.clone());
        self.groups
            .values()
            .filter(|group| group.rules.iter().any(|rule| rule.spec.peer == peer))
            .try_for_each(|group| {
                self.check_count(&group.name, group.rules.iter().map(|rule| &rule.spec), limits)
            })
    }

    /// Checks that an interface may be attached, in place of what its slot holds now.
    ///
    /// # Errors
    /// It has no group, a group repeats, a group or its network ACL does not exist or is not of the VPC of its
    /// subnet, the subnet does not exist, the device has another slot, or a limit is exceeded.
    pub fn check_interface(&self, interface: &Interface, limits: &Limits) -> Result<(), Error> {
        let Interface { device, netns, slot, groups, .. } = interface;
        if groups.is_empty() {
            return Err(Error::InterfaceWithoutGroup);
        }
        let wanted = &self.subnet_by_id(&interface.subnet)?.vpc;
        let of_vpc = |what, name: &str, vpc: &VpcId| {
            let name = name.to_owned();
            let (vpc, wanted) = (vpc.to_string(), wanted.to_string());
            if vpc == wanted { Ok(()) } else { Err(Error::OtherVpc { what, name, vpc, wanted }) }
        };
        let mut seen = BTreeSet::new();
        for id in groups {
            let group = self.group_by_id(id)?;
            of_vpc("group", &group.name, &group.vpc)?;
            if !seen.insert(id) {
                return Err(Error::InterfaceGroupRepeated(group.name.clone()));
            }
        }
        if let Some(id) = &interface.acl {
            let acl = self.acl_by_id(id)?;
            of_vpc("network ACL", &acl.name, &acl.vpc)?;
        }
        if groups.len() > limits.groups_per_interface {
            return Err(Error::InterfaceGroupsLimit {
                device: device.clone(),
                count: groups.len(),
                limit: limits.groups_per_interface,
            });
        }
        if let Some(network) = interface.addresses.iter().find(|network| network.prefix_len() == 0)
        {
            return Err(Error::AddressOfAll(*network));
        }
        if interface.checks_addresses() {
            check_declared(interface)?;
        }
        let count = interface.ether_types.len();
        if count > MAX_ETHER_TYPES {
            let limit = MAX_ETHER_TYPES;
            return Err(Error::EtherTypesLimit { device: device.clone(), count, limit });
        }
        match self.interface(device, netns.as_deref()) {
            Some(other) if interface.is_attached() && other.slot != *slot => {
                Err(Error::DeviceDuplicate { device: device.clone(), slot: other.slot })
            }
            _ => Ok(()),
        }
    }
}

/// Checks that the kernel's record of a guest has room for its addresses.
fn check_declared(interface: &Interface) -> Result<(), Error> {
    let declared = interface.declared();
    for family in Family::ALL {
        let count = declared.iter().filter(|network| Family::of(network) == family).count();
        if count > MAX_OWN {
            let device = interface.device.clone();
            return Err(Error::AddressesLimit { device, family, count, limit: MAX_OWN });
        }
    }
    Ok(())
}

/// Checks that a prefix list may have these entries.
///
/// # Errors
/// They are too many, or one is of the other family.
pub fn check_entries(
    list: &str,
    family: Family,
    entries: &Entries,
    limits: &Limits,
) -> Result<(), Error> {
    let count = entries.len();
    if count > limits.entries_per_prefix_list {
        return Err(Error::EntriesLimit {
            list: list.to_owned(),
            count,
            limit: limits.entries_per_prefix_list,
        });
    }
    let networks = entries.networks();
    let other = match family {
        Family::Ipv4 => networks.v6().first().map(|network| IpNet::V6(*network)),
        Family::Ipv6 => networks.v4().first().map(|network| IpNet::V4(*network)),
    };
    other.map_or(Ok(()), |network| Err(Error::EntryFamily { network, family }))
}

/// Checks that a prefix list with these entries may have this `MaxEntries`.
///
/// # Errors
/// It is out of bounds, or there are more entries.
pub fn check_max_entries(
    list: &str,
    entries: &Entries,
    max_entries: Option<u32>,
    limits: &Limits,
) -> Result<(), Error> {
    let limit = limits.entries_per_prefix_list;
    match max_entries {
        Some(max) if max == 0 || max as usize > limit => {
            Err(Error::MaxEntriesRange { max: max.into(), limit })
        }
        _ => check_full(list, entries, max_entries),
    }
}

/// Checks that a prefix list with this `MaxEntries` has room for these entries.
///
/// # Errors
/// There are more entries.
pub fn check_full(list: &str, entries: &Entries, max_entries: Option<u32>) -> Result<(), Error> {
    let count = entries.len();
    match max_entries {
        Some(max) if count > max as usize => {
            Err(Error::MaxEntriesExceeded { list: list.to_owned(), count, max })
        }
        _ => Ok(()),
    }
}

/// Checks that an object may have these tags.
///
/// # Errors
/// They are too many.
pub fn check_tags(
    object: &str,
    tags: &BTreeMap<String, String>,
    limits: &Limits,
) -> Result<(), Error> {
    if tags.len() > limits.tags {
        return Err(Error::TagsLimit {
            object: object.to_owned(),
            count: tags.len(),
            limit: limits.tags,
        });
    }
    Ok(())
}
