//! What has ended by itself, and when the next thing will.

use super::{Change, End, EndKind, Model};

/// Something that has ended by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// What it is.
    pub kind: EndedKind,
    /// What it is, with its name, for a message.
    pub text: String,
    /// Its end.
    pub end: End,
    /// The edit that removes it.
    pub change: Change,
}

/// The kinds of things that end by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EndedKind {
    /// A rule of a group.
    Rule,
    /// An entry of a network ACL.
    AclEntry,
    /// A block.
    Block,
}

impl Model {
    /// What has ended at a time since this boot, in nanoseconds.
    #[must_use]
    pub fn ended(&self, now: u64) -> Vec<Ended> {
        let over = |end: Option<End>| end.filter(|end| end.left(now).is_none());
        let mut ended = Vec::new();
        for group in self.groups.values() {
            ended.extend(group.rules.iter().filter_map(|rule| {
                Some(Ended {
                    kind: EndedKind::Rule,
                    text: format!("rule {} of group {}", rule.id, group.name),
                    end: over(rule.end)?,
                    change: Change::RemoveRule { group: group.id.clone(), rule: rule.id.clone() },
                })
            }));
        }
        for acl in self.acls.values() {
            ended.extend(acl.entries.iter().filter_map(|((direction, number), entry)| {
                let direction = *direction;
                Some(Ended {
                    kind: EndedKind::AclEntry,
                    text: format!(
                        "{} entry {number} of network ACL {}",
                        direction.name(),
                        acl.name
                    ),
                    end: over(entry.end)?,
                    change: Change::RemoveAclEntry {
                        acl: acl.id.clone(),
                        direction,
                        number: *number,
                    },
                })
            }));
        }
        ended.extend(self.blocks.values().filter_map(|block| {
            Some(Ended {
                kind: EndedKind::Block,
                text: format!("the block of {}", self.block_text(block)),
                end: over(block.end)?,
                change: Change::RemoveBlock(block.number),
            })
        }));
        ended
    }

    /// The model without what has ended at a time since this boot, in nanoseconds.
    #[must_use]
    pub fn without_ended(mut self, now: u64) -> Self {
        self.ended(now).into_iter().for_each(|ended| self.make(ended.change));
        self
    }

    /// When the next thing ends: the earliest end by each of the clocks.
    #[must_use]
    pub fn next_ends(&self) -> Vec<End> {
        let rules = self.groups.values().flat_map(|group| group.rules.iter().map(|rule| rule.end));
        let entries = self.acls.values().flat_map(|acl| acl.entries.values().map(|one| one.end));
        let blocks = self.blocks.values().map(|block| block.end);
        let all: Vec<End> = rules.chain(entries).chain(blocks).flatten().collect();
        let of = |kind| all.iter().filter(move |end| end.kind == kind);
        let first = of(EndKind::For).min_by_key(|end| end.boottime);
        first.into_iter().chain(of(EndKind::Until).min_by_key(|end| end.wall)).copied().collect()
    }
}
