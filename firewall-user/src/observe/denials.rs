//! What network ACLs and blocks deny otherwise after a change, by interface.

use crate::model::{Interface, Model};
use crate::policy::filter::{ResolvedEntry, host_blocks, numbered_entries};
use crate::policy::verdicts::{Decided, denials};

/// What denies packets before and after a change.
#[derive(Debug)]
pub struct Denials<'a> {
    /// The blocks of the host, if the change does not affect them. There may be many, and interfaces too.
    first: Vec<ResolvedEntry>,
    /// Interfaces with the same entries.
    groups: Vec<Group<'a>>,
}

#[derive(Debug)]
struct Group<'a> {
    interfaces: Vec<&'a Interface>,
    old: Vec<ResolvedEntry>,
    new: Vec<ResolvedEntry>,
}

impl<'a> Denials<'a> {
    /// Of the interfaces that both models have. What has ended at this time, in nanoseconds since the boot, is left out.
    #[must_use]
    pub fn new(now: &'a Model, proposed: &Model, time: u64) -> Self {
        let lasting = |mut entries: Vec<ResolvedEntry>| {
            entries.retain(|entry| entry.end.is_none_or(|end| end > time));
            entries
        };
        let [of_host, of_host_then] = [now, proposed].map(|model| lasting(host_blocks(model)));
        let are_same = of_host == of_host_then;
        let mut groups: Vec<Group<'a>> = Vec::new();
        for (slot, interface) in &now.interfaces {
            let changed = proposed.interfaces.get(slot);
            let Some(changed) = changed.filter(|changed| changed.id == interface.id) else {
                continue;
            };
            let of = |model, interface, blocks: &[ResolvedEntry]| {
                let own = lasting(numbered_entries(model, interface));
                if are_same { own } else { [blocks, &own[..]].concat() }
            };
            let old = of(now, interface, &of_host);
            let new = of(proposed, changed, &of_host_then);
            if old == new {
                continue;
            }
            match groups.iter_mut().find(|group| group.old == old && group.new == new) {
                Some(group) => group.interfaces.push(interface),
                None => groups.push(Group { interfaces: vec![interface], old, new }),
            }
        }
        Self { first: if are_same { of_host } else { Vec::new() }, groups }
    }

    /// Interfaces, with the packets that are denied, or no longer denied, on each of them.
    pub fn by_interfaces(
        &self,
    ) -> impl Iterator<Item = (&[&'a Interface], impl Iterator<Item = Decided>)> {
        self.groups
            .iter()
            .map(|group| (&group.interfaces[..], denials(&self.first, &group.old, &group.new)))
    }
}
