//! Comparing what exists with what is to be created: `--if-not-exists` accepts it if it is the same.

use std::collections::BTreeMap;

use firewall_ebpf::abi::interface::Direction;
use ipnet::IpNet;

use super::{Acl, AclEntry, End, Entries, Error, Family, Group, Model, PrefixList, Rule};

/// Networks that a message names.
const SHOWN: usize = 3;

impl Group {
    /// Checks that the group is the one that would be created. Its rules may have changed since then.
    ///
    /// # Errors
    /// It has another spelling of the name, another description or other tags.
    pub fn check_same(
        &self,
        name: &str,
        description: &str,
        tags: &BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let object = format!("group {}", self.name);
        same(&object, "name", &self.name, name)?;
        same(&object, "description", &self.description, description)?;
        same_tags(&object, &self.tags, tags)
    }
}

impl PrefixList {
    /// Checks that the prefix list is the one that would be created.
    ///
    /// # Errors
    /// It has another spelling of the name, another family, other entries or other tags.
    pub fn check_same(
        &self,
        name: &str,
        family: Family,
        entries: &Entries,
        tags: &BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let object = format!("prefix list {}", self.name);
        same(&object, "name", &self.name, name)?;
        if self.family != family {
            return Err(Error::FamilyFixed {
                name: self.name.clone(),
                here: self.family,
                wanted: family,
            });
        }
        if self.entries.networks() != entries.networks() {
            return Err(Error::Differs {
                object,
                what: "list of entries",
                here: networks(&self.entries),
                wanted: networks(entries),
            });
        }
        for (network, description) in entries {
            self.check_same_entry(&network, description)?;
        }
        same_tags(&object, &self.tags, tags)
    }

    /// Whether the list has this entry.
    ///
    /// # Errors
    /// It has another description.
    pub fn check_same_entry(&self, network: &IpNet, description: &str) -> Result<bool, Error> {
        let Some(here) = self.entries.get(network) else { return Ok(false) };
        let object = format!("entry {network} of prefix list {}", self.name);
        same(&object, "description", here, description).map(|()| true)
    }
}

impl Rule {
    /// Checks that the rule, whose specification is the same, is the one that would be added.
    ///
    /// # Errors
    /// It has another description.
    pub fn check_same(&self, description: &str) -> Result<(), Error> {
        same(&format!("rule {}", self.id), "description", &self.description, description)
    }

    /// Checks that the rule ends by itself, or does not, as one that would be added; `exact`: at this time.
    ///
    /// # Errors
    /// Only one of them ends, or at another time.
    pub fn check_same_end(&self, end: Option<End>, exact: bool) -> Result<(), Error> {
        same_end(&format!("rule {}", self.id), (self.end, end), exact)
    }
}

impl Acl {
    /// Checks that the network ACL is the one that would be created. Its entries may have changed since then.
    ///
    /// # Errors
    /// It has another spelling of the name, or other tags.
    pub fn check_same(&self, name: &str, tags: &BTreeMap<String, String>) -> Result<(), Error> {
        let object = format!("network ACL {}", self.name);
        same(&object, "name", &self.name, name)?;
        same_tags(&object, &self.tags, tags)
    }
}

impl Model {
    /// Whether a network ACL has this entry with this number, which ends by itself too or does not; `exact`: at
    /// this time.
    ///
    /// # Errors
    /// It has another one with the number, only one of them ends, or at another time.
    pub fn check_same_entry(
        &self,
        acl: &Acl,
        (direction, number): (Direction, u16),
        wanted: &AclEntry,
        exact: bool,
    ) -> Result<bool, Error> {
        let Some(here) = acl.entries.get(&(direction, number)) else { return Ok(false) };
        let object = format!("{} entry {number} of network ACL {}", direction.name(), acl.name);
        if here.says_the_same(wanted) {
            return same_end(&object, (here.end, wanted.end), exact).map(|()| true);
        }
        Err(Error::Differs {
            object,
            what: "rule",
            here: self.entry_text(direction, here),
            wanted: self.entry_text(direction, wanted),
        })
    }
}

fn same_end(
    object: &str,
    (here, wanted): (Option<End>, Option<End>),
    exact: bool,
) -> Result<(), Error> {
    let is_same = match (here, wanted) {
        (None, None) => true,
        (Some(here), Some(wanted)) => !exact || here.is_in_the_second_of(wanted),
        _ => false,
    };
    if is_same {
        return Ok(());
    }
    let text = |end: Option<End>| end.map_or_else(|| "never".to_owned(), |end| end.text());
    let object = object.to_owned();
    Err(Error::Differs { object, what: "end", here: text(here), wanted: text(wanted) })
}

fn same(object: &str, what: &'static str, here: &str, wanted: &str) -> Result<(), Error> {
    if here == wanted {
        return Ok(());
    }
    Err(Error::Differs {
        object: object.to_owned(),
        what,
        here: format!("{here:?}"),
        wanted: format!("{wanted:?}"),
    })
}

fn same_tags(
    object: &str,
    here: &BTreeMap<String, String>,
    wanted: &BTreeMap<String, String>,
) -> Result<(), Error> {
    let text = |tags: &BTreeMap<String, String>| {
        let tags: Vec<_> = tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
        tags.join(",")
    };
    same(object, "list of tags", &text(here), &text(wanted))
}

/// Entries in a message, which is one line.
fn networks(entries: &Entries) -> String {
    let shown = entries.networks().iter().take(SHOWN);
    let mut words: Vec<_> = shown.map(|network| network.to_string()).collect();
    match entries.len().saturating_sub(SHOWN) {
        0 if entries.is_empty() => return "empty".to_owned(),
        0 => {}
        more => words.push(format!("{more} more")),
    }
    words.join(", ")
}
