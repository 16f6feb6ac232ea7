//! Checks of edits of network ACLs.

use std::collections::BTreeMap;

use firewall_ebpf::abi::interface::Direction;

use super::check_tags;
use crate::model::{
    Acl, AclEntry, Error, LAST_V4, LAST_V6, Limits, MAX_ENTRY, Model, Peer, PrefixList, User, VpcId,
};

/// The number of an entry that can be added, replaced or removed.
///
/// # Errors
/// It is not 1 to 32766.
pub fn acl_entry_number(number: i64) -> Result<u16, Error> {
    let last = [LAST_V4, LAST_V6].into_iter().find(|last| i64::from(*last) == number);
    if let Some(entry) = last {
        return Err(Error::AclEntryLast { entry });
    }
    u16::try_from(number)
        .ok()
        .filter(|number| (1..=MAX_ENTRY).contains(number))
        .ok_or(Error::AclEntryNumber(number))
}

impl Model {
    /// Checks that a network ACL may be created with this name and these tags. Several may have one name, as in
    /// EC2; see [`Self::check_acl_name`].
    ///
    /// # Errors
    /// The VPC does not exist, or a limit is exceeded.
    pub fn check_new_acl(
        &self,
        vpc: &VpcId,
        name: &str,
        tags: &BTreeMap<String, String>,
        limits: &Limits,
    ) -> Result<(), Error> {
        self.vpc_by_id(vpc)?;
        let count = self.acls.len() + 1;
        if count > limits.acls {
            return Err(Error::AclsLimit { count, limit: limits.acls });
        }
        check_tags(&format!("network ACL {name}"), tags, limits)
    }

    /// Checks that no network ACL of a VPC has a name: commands and documents name a network ACL by it.
    ///
    /// # Errors
    /// The name is taken.
    pub fn check_acl_name(&self, vpc: &VpcId, name: &str) -> Result<(), Error> {
        match self.acl_named(vpc, name) {
            Some(Acl { name, id, .. }) => {
                Err(Error::AclDuplicate { name: name.clone(), id: id.clone() })
            }
            None => Ok(()),
        }
    }

    /// Checks that a network ACL may have this name and these tags, in place of those that it has.
    ///
    /// # Errors
    /// The default one would have another name, or there are too many tags.
    pub fn check_acl_tags(
        &self,
        acl: &Acl,
        name: &str,
        tags: &BTreeMap<String, String>,
        limits: &Limits,
    ) -> Result<(), Error> {
        if acl.is_default && acl.name != name {
            return Err(Error::AclDefault {
                name: acl.name.clone(),
                id: acl.id.clone(),
                what: "renamed",
            });
        }
        check_tags(&format!("network ACL {name}"), tags, limits)
    }

    /// Checks that a network ACL may be deleted.
    ///
    /// # Errors
    /// It is the default one, or an interface or a subnet has it.
    pub fn check_acl_unused(&self, acl: &Acl) -> Result<(), Error> {
        let (name, id) = (acl.name.clone(), acl.id.clone());
        if acl.is_default {
            return Err(Error::AclDefault { name, id, what: "deleted" });
        }
        let has_it = self.network_interfaces().filter(|one| one.acl.as_ref() == Some(&acl.id));
        let subnets = self.subnets.values().filter(|one| one.acl.as_ref() == Some(&acl.id));
        let subnets = subnets.map(|subnet| User::Subnet { id: subnet.id.clone() });
        let users: Vec<_> = has_it.map(User::of_interface).chain(subnets).collect();
        if users.is_empty() { Ok(()) } else { Err(Error::AclInUse { name, id, users }) }
    }

    /// Checks that an entry may be added to a network ACL.
    ///
    /// # Errors
    /// Its number is not 1 to 32766 or is taken, or a limit is exceeded; see [`Self::check_acl_entry`].
    pub fn check_new_acl_entry(
        &self,
        acl: &Acl,
        (direction, number): (Direction, u16),
        entry: &AclEntry,
        limits: &Limits,
    ) -> Result<(), Error> {
        acl_entry_number(number.into())?;
        if let Some(here) = acl.entries.get(&(direction, number)) {
            return Err(Error::AclEntryDuplicate {
                acl: acl.name.clone(),
                direction,
                entry: number,
                text: self.entry_text(direction, here),
            });
        }
        self.check_acl_entry(entry)?;
        check_acl_count(&acl.name, direction, acl.changeable(direction) + 1, limits)
    }

    /// Checks that an entry may take the place of another one of a network ACL.
    ///
    /// # Errors
    /// The ACL has no entry with its number, or only the last one; see [`Self::check_acl_entry`].
    pub fn check_replaced_acl_entry(
        &self,
        acl: &Acl,
        (direction, number): (Direction, u16),
        entry: &AclEntry,
    ) -> Result<(), Error> {
        acl_entry_number(number.into())?;
        acl.entry(direction, number)?;
        self.check_acl_entry(entry)
    }

    /// Checks that the peer of an entry is not a group, exists, and is of the family of its traffic.
    ///
    /// # Errors
    /// It is a group, does not exist, or is of the other family.
    pub fn check_acl_entry(&self, entry: &AclEntry) -> Result<(), Error> {
        let AclEntry { traffic, peer, .. } = entry;
        match peer {
            Peer::Ipv4(_) | Peer::Ipv6(_) => {}
            Peer::PrefixList(id) => self.prefix_list_by_id(id).map(drop)?,
            Peer::Group(_) | Peer::Foreign(_) => {
                return Err(Error::AclEntryGroup(self.peer_text(peer)));
            }
        }
        self.other_family(*traffic, peer).map_or(Ok(()), Err)
    }

    /// The network ACLs with entries that have this prefix list.
    pub(super) fn acl_entries_with(&self, list: &PrefixList) -> impl Iterator<Item = User> {
        let peer = Peer::PrefixList(list.id.clone());
        self.acls.values().filter_map(move |acl| {
            let uses = acl.entries.iter().filter(|(_, entry)| entry.peer == peer);
            let entries: Vec<_> = uses.map(|(place, _)| *place).collect();
            let acl = acl.name.clone();
            (!entries.is_empty()).then_some(User::AclEntries { acl, entries })
        })
    }
}

/// Checks that a network ACL may have so many entries in a direction, the last ones not counted.
///
/// # Errors
/// They are too many.
pub fn check_acl_count(
    acl: &str,
    direction: Direction,
    count: usize,
    limits: &Limits,
) -> Result<(), Error> {
    let limit = limits.entries_per_acl;
    if count <= limit {
        return Ok(());
    }
    Err(Error::AclEntriesLimit { acl: acl.to_owned(), direction: direction.name(), count, limit })
}

impl Acl {
    /// How many entries a direction has that can be changed.
    #[must_use]
    pub fn changeable(&self, direction: Direction) -> usize {
        self.entries_of(direction).filter(|(number, _)| *number <= MAX_ENTRY).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_entries_are_ec2s() {
        assert_eq!(acl_entry_number(1).unwrap(), 1);
        assert_eq!(acl_entry_number(32_766).unwrap(), 32_766);
        for (number, message) in [
            (0, "entry number 0 is not 1 to 32766"),
            (-1, "entry number -1 is not 1 to 32766"),
            (32_769, "entry number 32769 is not 1 to 32766"),
            (65_537, "entry number 65537 is not 1 to 32766"),
            (i64::MAX, "entry number 9223372036854775807 is not 1 to 32766"),
            (
                32_767,
                "entry 32767 is the last one for IPv4, which denies what no other entry \
                      matches and cannot be changed",
            ),
            (
                32_768,
                "entry 32768 is the last one for IPv6, which denies what no other entry \
                      matches and cannot be changed",
            ),
        ] {
            let error = acl_entry_number(number).unwrap_err();
            assert_eq!(error.to_string(), message);
            assert_eq!(error.code(), "InvalidParameterValue");
            assert!(error.hint().is_some());
        }
    }
}
