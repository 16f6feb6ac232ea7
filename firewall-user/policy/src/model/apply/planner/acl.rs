//! Network ACLs: compared with a document by id, then by name; the default one is the default one.

use std::collections::BTreeMap;

use firewall_ebpf::abi::interface::Direction;

use super::{
    Line, Planner, Sign, is_same_end, of_other_vpc, tags_line, twice, unknown_list, with_end,
};
use crate::model::document::{Error, WantedAcl, WantedAclEntry, WantedPeer};
use crate::model::{
    Acl, AclEntry, AclId, Action, Change, DEFAULT_ACL, Error as ModelError, MAX_ENTRY, Peer, VpcId,
    check,
};

type Place = (Direction, u16);

impl Planner<'_> {
    /// After the prefix lists, to which their entries refer.
    pub(in crate::model::apply) fn acls(&mut self, wanted: &[WantedAcl]) {
        for acl in wanted {
            match self.acl(acl) {
                Ok(id) => {
                    self.acl_entries(acl, &id);
                    self.associations(acl, &id);
                }
                Err(error) => {
                    self.findings.error(error);
                    let id = acl.id.as_ref().map(AclId::as_str);
                    self.broken.insert([id, acl.name.as_deref()]);
                }
            }
        }
    }

    fn acl(&mut self, acl: &WantedAcl) -> Result<AclId, Error> {
        let at = acl.path.as_str();
        let vpc = self.vpc_here(acl.vpc.as_ref());
        self.acl_vpcs.insert(vpc.clone());
        let here = self.acl_here(acl, &vpc)?.cloned();
        if let Some(Acl { id, name, .. }) = &here
            && self.acls.contains(id)
        {
            if acl.is_default {
                return Err(Error::Foreign {
                    path: at.to_owned(),
                    reason: format!("the document has two default network ACLs of {vpc}"),
                    hint: "a VPC has one: leave one out",
                });
            }
            return Err(twice(at, format!("network ACL {name} is in the document twice")));
        }
        // The default one is not looked up by its id.
        let taken = acl.id.as_ref().filter(|id| self.after.acls.contains_key(*id));
        if let (Some(id), None) = (taken, &here) {
            return Err(twice(
                at,
                format!("network ACL {id} is in the document or on this host twice"),
            ));
        }
        let id = match here {
            None => self.create_acl(acl, vpc),
            Some(here) => self.tag_acl(acl, &here),
        }
        .map_err(Error::at(at))?;
        self.acls.insert(id.clone());
        Ok(id)
    }

    /// The ACL of this host that is meant.
    fn acl_here(&self, acl: &WantedAcl, vpc: &VpcId) -> Result<Option<&Acl>, Error> {
        if acl.is_default {
            return Ok(self.after.default_acl(vpc));
        }
        let by_id = acl.id.as_ref().and_then(|id| self.after.acls.get(id));
        if let Some(Acl { id, vpc: here, .. }) = by_id.filter(|here| here.vpc != *vpc) {
            return Err(of_other_vpc(&acl.path, &format!("network ACL {id}"), here, vpc));
        }
        let here = match (by_id, acl.name.as_deref()) {
            (None, Some(name)) => {
                self.after.only_acl_of(vpc, name).map_err(Error::at(&acl.path))?
            }
            (by_id, _) => by_id,
        };
        match here {
            Some(here) if here.is_default => Err(Error::Foreign {
                path: acl.path.clone(),
                reason: format!("{DEFAULT_ACL} is the name of this host's default network ACL"),
                hint: r#"give the network ACL another name, or write "IsDefault": true"#,
            }),
            here => Ok(here),
        }
    }

    fn create_acl(&mut self, acl: &WantedAcl, vpc: VpcId) -> Result<AclId, ModelError> {
        let id = acl.id.clone().map_or_else(AclId::random, Ok)?;
        let own = if acl.is_default { DEFAULT_ACL } else { id.as_str() };
        let name = acl.name.clone().unwrap_or_else(|| own.to_owned());
        let tags = acl.tags.clone().unwrap_or_default();
        self.after.check_new_acl(&vpc, &name, &tags, self.limits)?;
        let line = Line {
            sign: Sign::Add,
            object: object(&name),
            id: (name != id.as_str()).then(|| id.to_string()),
            is_generated: acl.id.is_none(),
            text: String::new(),
        };
        let new = Acl { is_default: acl.is_default, ..Acl::deny_all(id.clone(), vpc, &name, tags) };
        self.step(Change::CreateAcl(new), vec![line]);
        Ok(id)
    }

    fn tag_acl(&mut self, acl: &WantedAcl, here: &Acl) -> Result<AclId, ModelError> {
        let Acl { id, name, tags, .. } = here;
        // As the default one is matched, it keeps its name.
        let new_name = acl.name.as_ref().unwrap_or(name);
        let new_tags = acl.tags.as_ref().unwrap_or(tags);
        let mut lines = Vec::new();
        if new_name != name {
            let text = format!("name {new_name}");
            lines.push(Line { text, ..tags_line(object(name), id.as_str()) });
        }
        if new_tags != tags {
            lines.push(tags_line(object(new_name), id.as_str()));
        }
        if !lines.is_empty() {
            if new_name != name {
                self.after.check_acl_name(&here.vpc, new_name)?;
            }
            self.after.check_acl_tags(here, new_name, new_tags, self.limits)?;
            let (name, tags) = (new_name.clone(), new_tags.clone());
            self.step(Change::TagAcl { acl: id.clone(), name, tags }, lines);
        }
        Ok(id.clone())
    }

    fn acl_entries(&mut self, wanted: &WantedAcl, id: &AclId) {
        let mut entries = BTreeMap::new();
        // Of an entry that cannot be read nothing is known but that it is there.
        let mut is_complete = true;
        for entry in &wanted.entries {
            let place = (entry.direction, entry.number);
            let Some(peer) = self.resolve_list(entry) else {
                is_complete = false;
                continue;
            };
            let WantedAclEntry { action, traffic, end, .. } = *entry;
            if let Some(warning) = self.after.other_family(traffic, &peer) {
                self.findings.warn(&entry.path, format!("{warning}: the entry matches nothing"));
            }
            let new = AclEntry { number: 0, action, traffic, peer, end };
            if entries.insert(place, new).is_some() {
                let (direction, entry_number) = place;
                let error = ModelError::AclEntryRepeated { direction, entry: entry_number };
                self.findings.refuse(&entry.path, error);
            }
        }
        let Some(here) = self.after.acls.get(id).cloned() else { return };
        if !is_complete {
            return;
        }
        self.change_acl_entries(&here, entries);
        for direction in Direction::ALL {
            let count = self.after.acls.get(id).map_or(0, |acl| acl.changeable(direction));
            if count > here.changeable(direction) {
                let checked = check::check_acl_count(&here.name, direction, count, self.limits);
                self.findings.ok(checked.map_err(Error::at(&wanted.path)));
            }
        }
    }

    fn change_acl_entries(&mut self, here: &Acl, mut wanted: BTreeMap<Place, AclEntry>) {
        let own = here.entries.iter().filter(|((_, number), _)| *number <= MAX_ENTRY);
        for (place, entry) in own {
            let text = self.after.entry_text(place.0, entry);
            match wanted.remove(place) {
                Some(new) if new.says_the_same(entry) => {
                    if !is_same_end(new.end, entry.end) {
                        let text = match new.end {
                            None => format!("{text} without an end"),
                            end => with_end(text, end),
                        };
                        let line = line(Sign::Change, here, *place, text);
                        // It keeps its counter.
                        let new = AclEntry { end: new.end, ..entry.clone() };
                        self.put_acl_entry(here, *place, new, line);
                    }
                }
                Some(new) => {
                    let new_text = with_end(self.after.entry_text(place.0, &new), new.end);
                    let line = line(Sign::Change, here, *place, format!("{new_text} (was {text})"));
                    self.put_acl_entry(here, *place, new, line);
                }
                None => {
                    let line = line(Sign::Remove, here, *place, text);
                    let (acl, (direction, number)) = (here.id.clone(), *place);
                    self.step(Change::RemoveAclEntry { acl, direction, number }, vec![line]);
                }
            }
        }
        for (place, entry) in wanted {
            let text = with_end(self.after.entry_text(place.0, &entry), entry.end);
            self.put_acl_entry(here, place, entry, line(Sign::Add, here, place, text));
        }
    }

    fn put_acl_entry(&mut self, acl: &Acl, place: Place, entry: AclEntry, line: Line) {
        let (acl, (direction, number)) = (acl.id.clone(), place);
        self.step(Change::PutAclEntry { acl, direction, number, entry }, vec![line]);
    }

    /// The peer of an entry; `None` if there is no such prefix list.
    fn resolve_list(&mut self, entry: &WantedAclEntry) -> Option<Peer> {
        let theirs = match &entry.peer {
            WantedPeer::Network(network) => return Some(Peer::from(*network)),
            WantedPeer::PrefixList(theirs) => theirs,
            // No entry is read with such a peer.
            WantedPeer::Group(_) | WantedPeer::GroupName(_) => return None,
        };
        let id = self.lists.get(theirs).unwrap_or(theirs);
        if entry.action == Action::Deny && self.without_entries.contains(id) {
            self.findings.error(Error::Foreign {
                path: entry.path.clone(),
                reason: format!(
                    "prefix list {id} has no entries in the document: nothing is denied"
                ),
                hint: "--entries ID=FILE adds them",
            });
            return None;
        }
        if self.after.prefix_lists.contains_key(id) {
            return Some(Peer::PrefixList(id.clone()));
        }
        if !self.broken.contains(theirs.as_str()) {
            self.findings.error(unknown_list(&entry.path, id));
        }
        None
    }

    /// Gives the ACL to subnets, and says what a document cannot change: which interfaces have the ACL.
    fn associations(&mut self, wanted: &WantedAcl, id: &AclId) {
        let Some(acl) = self.after.acls.get(id).cloned() else { return };
        let mut are_all_here = true;
        for (path, subnet) in &wanted.subnets {
            are_all_here &= self.associate_subnet(path, subnet, &acl);
        }
        if !are_all_here {
            let text = "subnets that this host does not have are ignored: `secgroup acl associate` gives \
                        interfaces the network ACL";
            self.findings.warn(&format!("{}.Associations", wanted.path), text.to_owned());
        }
        for (path, theirs) in &wanted.interfaces {
            let here = self.after.interface_by_id(theirs).ok();
            let text = match here.map(|one| (one, self.after.acl_of(one))) {
                None => format!("interface {theirs} is not attached on this host"),
                Some((_, Some(acl))) if acl.id == *id => continue,
                Some((interface, acl)) => {
                    let label = interface.label();
                    let name = acl.map_or(DEFAULT_ACL, |acl| &acl.name);
                    format!(
                        "{label} keeps network ACL {name}: `secgroup acl associate` changes that"
                    )
                }
            };
            self.findings.warn(path, text);
        }
    }

    /// The ACLs of this host that the document does not have, by name, without the default one.
    pub(super) fn other_acls(&self) -> Vec<Acl> {
        let is_other = |acl: &&Acl| {
            self.acl_vpcs.contains(&acl.vpc)
                && !acl.is_default
                && !self.acls.contains(&acl.id)
                && !self.broken.contains(&acl.name)
                && !self.broken.contains(acl.id.as_str())
        };
        let mut others: Vec<_> = self.after.acls.values().filter(is_other).cloned().collect();
        others.sort_by_key(|acl| acl.name.to_ascii_lowercase());
        others
    }

    /// Removes the ACLs that the document does not have, except the default one.
    pub(super) fn prune_acls(&mut self) {
        for acl in self.other_acls() {
            if let Err(error) = self.after.check_acl_unused(&acl) {
                self.findings.refuse(super::PRUNE, error);
                continue;
            }
            let line = Line {
                sign: Sign::Remove,
                object: object(&acl.name),
                id: Some(acl.id.to_string()),
                is_generated: false,
                text: String::new(),
            };
            self.step(Change::DeleteAcl(acl.id), vec![line]);
        }
    }
}

fn object(name: &str) -> String {
    format!("network-acl {name}")
}

fn line(sign: Sign, acl: &Acl, (direction, number): Place, text: String) -> Line {
    Line {
        sign,
        object: object(&acl.name),
        id: None,
        is_generated: false,
        text: format!("{} {number} {text}", direction.name()),
    }
}
