//! Lookups by name, id or device, and names in texts.

use std::sync::Arc;

use firewall_ebpf::abi::interface::Direction;

use super::{
    Acl, AclEntry, AclId, Error, Group, GroupId, Interface, Model, Peer, PrefixList, PrefixListId,
    Rule, RuleId, RuleSpec, Subnet, VpcId,
};

impl Model {
    /// All groups, in the order of their ids.
    pub fn groups_by_id(&self) -> impl Iterator<Item = &Group> {
        self.groups.values().map(Arc::as_ref)
    }

    /// The group with this id or name; names ignore case. A name is looked up in the default VPC first.
    ///
    /// # Errors
    /// There is none, the id is malformed, or several other VPCs have a group of this name.
    pub fn group(&self, word: &str) -> Result<&Group, Error> {
        // No name starts with the prefix of an id, so a word is never both.
        let found = if word.starts_with(GroupId::PREFIX) {
            self.groups.get(&word.parse()?).map(Arc::as_ref)
        } else {
            self.only_group_named(word)?
        };
        found.ok_or_else(|| Error::GroupNotFound(word.to_owned()))
    }

    /// The group of a VPC with this name.
    #[must_use]
    pub fn group_named(&self, vpc: &VpcId, name: &str) -> Option<&Group> {
        self.groups_named(name).find(|group| group.vpc == *vpc)
    }

    fn groups_named(&self, name: &str) -> impl Iterator<Item = &Group> {
        let groups = self.groups.values().map(Arc::as_ref);
        groups.filter(move |group| group.name.eq_ignore_ascii_case(name))
    }

    fn only_group_named(&self, name: &str) -> Result<Option<&Group>, Error> {
        if let Some(found) = self.group_named(&VpcId::default_vpc(), name) {
            return Ok(Some(found));
        }
        let found: Vec<_> = self.groups_named(name).collect();
        match found[..] {
            [] => Ok(None),
            [one] => Ok(Some(one)),
            _ => {
                let ids = found.iter().map(|group| group.id.to_string()).collect();
                Err(Error::NameAmbiguous { what: "group", name: name.to_owned(), ids })
            }
        }
    }

    /// The group with this id.
    ///
    /// # Errors
    /// There is none.
    pub fn group_by_id(&self, id: &GroupId) -> Result<&Group, Error> {
        let found = self.groups.get(id).map(Arc::as_ref);
        found.ok_or_else(|| Error::GroupNotFound(id.to_string()))
    }

    /// The prefix list with this id or name; names ignore case.
    ///
    /// # Errors
    /// There is none, or the id is malformed.
    pub fn prefix_list(&self, word: &str) -> Result<&PrefixList, Error> {
        let found = if word.starts_with(PrefixListId::PREFIX) {
            self.prefix_lists.get(&word.parse()?)
        } else {
            self.prefix_list_named(word)
        };
        found.ok_or_else(|| Error::PrefixListNotFound(word.to_owned()))
    }

    /// The prefix list with this name.
    #[must_use]
    pub fn prefix_list_named(&self, name: &str) -> Option<&PrefixList> {
        self.prefix_lists.values().find(|list| list.name.eq_ignore_ascii_case(name))
    }

    /// The prefix list with this id.
    ///
    /// # Errors
    /// There is none.
    pub fn prefix_list_by_id(&self, id: &PrefixListId) -> Result<&PrefixList, Error> {
        self.prefix_lists.get(id).ok_or_else(|| Error::PrefixListNotFound(id.to_string()))
    }

    /// The network ACL with this id or name; names ignore case. A name is looked up in the default VPC first.
    ///
    /// # Errors
    /// There is none, the id is malformed, or several ACLs have this name.
    pub fn acl(&self, word: &str) -> Result<&Acl, Error> {
        // No name has the form of an id, so a word is never both.
        let id = word.parse::<AclId>();
        let found = match &id {
            Ok(id) => self.acls.get(id),
            Err(_) => self.only_acl_named(word)?,
        };
        match (found, id) {
            (Some(found), _) => Ok(found),
            (None, Err(error)) if word.starts_with(AclId::PREFIX) => Err(error),
            (None, _) => Err(Error::AclNotFound(word.to_owned())),
        }
    }

    /// The network ACL of a VPC with this name.
    #[must_use]
    pub fn acl_named(&self, vpc: &VpcId, name: &str) -> Option<&Acl> {
        self.acls_named(name).find(|acl| acl.vpc == *vpc)
    }

    /// As [`Self::acl_named`].
    ///
    /// # Errors
    /// Several have the name.
    pub fn only_acl_of(&self, vpc: &VpcId, name: &str) -> Result<Option<&Acl>, Error> {
        only(name, self.acls_named(name).filter(|acl| acl.vpc == *vpc).collect())
    }

    fn acls_named(&self, name: &str) -> impl Iterator<Item = &Acl> {
        self.acls.values().filter(move |acl| acl.name.eq_ignore_ascii_case(name))
    }

    fn only_acl_named(&self, name: &str) -> Result<Option<&Acl>, Error> {
        let default = VpcId::default_vpc();
        let here: Vec<_> = self.acls_named(name).filter(|acl| acl.vpc == default).collect();
        only(name, if here.is_empty() { self.acls_named(name).collect() } else { here })
    }

    /// The network ACL with this id.
    ///
    /// # Errors
    /// There is none.
    pub fn acl_by_id(&self, id: &AclId) -> Result<&Acl, Error> {
        self.acls.get(id).ok_or_else(|| Error::AclNotFound(id.to_string()))
    }

    /// The default network ACL of a VPC; every VPC has one.
    #[must_use]
    pub fn default_acl(&self, vpc: &VpcId) -> Option<&Acl> {
        self.acls.values().find(|acl| acl.is_default && acl.vpc == *vpc)
    }

    /// The network ACL of an interface: its own one, or that of its subnet.
    #[must_use]
    pub fn acl_of(&self, interface: &Interface) -> Option<&Acl> {
        match &interface.acl {
            Some(id) => self.acls.get(id),
            None => match self.subnets.get(&interface.subnet) {
                Some(subnet) => self.acl_of_subnet(subnet),
                None => self.default_acl(&VpcId::default_vpc()),
            },
        }
    }

    /// What an interface that is to have a network ACL has as its own: nothing if that is the default one, and its
    /// subnet has it too.
    #[must_use]
    pub fn own_acl(&self, acl: &Acl, interface: &Interface) -> Option<AclId> {
        let subnet = self.subnets.get(&interface.subnet);
        let of_subnet = subnet.and_then(|subnet| self.acl_of_subnet(subnet));
        let has_subnet_it = of_subnet.is_none_or(|of_subnet| of_subnet.id == acl.id);
        (!acl.is_default || !has_subnet_it).then(|| acl.id.clone())
    }

    /// The network ACL of a subnet: the one that it is associated with, or the default one of its VPC.
    #[must_use]
    pub fn acl_of_subnet(&self, subnet: &Subnet) -> Option<&Acl> {
        match &subnet.acl {
            Some(id) => self.acls.get(id),
            None => self.default_acl(&subnet.vpc),
        }
    }

    /// The interface of this device; without `netns` in the namespace that secgroup runs in.
    #[must_use]
    pub fn interface(&self, device: &str, netns: Option<&str>) -> Option<&Interface> {
        self.interfaces
            .values()
            .find(|interface| interface.device == device && interface.netns.as_deref() == netns)
    }
}

/// The one network ACL of those that have a name.
fn only<'a>(name: &str, found: Vec<&'a Acl>) -> Result<Option<&'a Acl>, Error> {
    match found[..] {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        _ => {
            let ids = found.iter().map(|acl| acl.id.to_string()).collect();
            Err(Error::NameAmbiguous { what: "network ACL", name: name.to_owned(), ids })
        }
    }
}

impl Group {
    /// The rule with this id.
    ///
    /// # Errors
    /// The group has none.
    pub fn rule(&self, id: &RuleId) -> Result<&Rule, Error> {
        self.rules
            .iter()
            .find(|rule| rule.id == *id)
            .ok_or_else(|| Error::RuleNotFound { group: self.name.clone(), rule: id.clone() })
    }

    /// The rule with this specification.
    ///
    /// # Errors
    /// The group has none.
    pub fn rule_with(&self, spec: &RuleSpec) -> Result<&Rule, Error> {
        self.rules.iter().find(|rule| rule.spec == *spec).ok_or_else(|| Error::PermissionNotFound {
            group: self.name.clone(),
            spec: spec.clone(),
        })
    }
}

impl Acl {
    /// The entry with this number.
    ///
    /// # Errors
    /// The ACL has none.
    pub fn entry(&self, direction: Direction, number: u16) -> Result<&AclEntry, Error> {
        let missing =
            || Error::AclEntryNotFound { acl: self.name.clone(), direction, entry: number };
        self.entries.get(&(direction, number)).ok_or_else(missing)
    }

    /// What a subnet with this ACL has as its own: nothing if it is the default one.
    #[must_use]
    pub fn association(&self) -> Option<AclId> {
        (!self.is_default).then(|| self.id.clone())
    }
}

impl Model {
    /// A peer as text, with groups and prefix lists by name.
    #[must_use]
    pub fn peer_text(&self, peer: &Peer) -> String {
        match peer {
            Peer::Ipv4(_) | Peer::Ipv6(_) => peer.to_string(),
            Peer::PrefixList(id) => {
                let name = self.prefix_lists.get(id).map_or(id.as_str(), |list| &list.name);
                format!("prefix list {name}")
            }
            Peer::Group(id) => {
                let label = self.groups.get(id).map(|group| self.group_label(group));
                format!("group {}", label.unwrap_or_else(|| id.to_string()))
            }
            Peer::Foreign(foreign) => foreign.text(),
        }
    }

    /// The name of a group, and its VPC where that is not the default one.
    #[must_use]
    pub fn group_label(&self, group: &Group) -> String {
        if group.vpc == VpcId::default_vpc() {
            group.name.clone()
        } else {
            format!("{} ({})", group.name, group.vpc)
        }
    }

    /// An entry of a network ACL as text, with the prefix list by name.
    #[must_use]
    pub fn entry_text(&self, direction: Direction, entry: &AclEntry) -> String {
        entry.text(direction, &self.peer_text(&entry.peer))
    }

    /// The specification of a rule as text, with groups and prefix lists by name.
    #[must_use]
    pub fn spec_text(&self, spec: &RuleSpec) -> String {
        spec.text(&self.peer_text(&spec.peer))
    }
}
