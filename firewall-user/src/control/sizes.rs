//! Sizes of maps that the configuration has changed: which can be applied to what is attached, and what the
//! others would take.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use anyhow::Result;

use super::enforcer::{Enforcer, memory_available};
use super::staged::numbers::listed;
use crate::dataplane::object::shapes::Sizes;
use crate::dataplane::tables::interface::FlowSizes;
use crate::dataplane::tables::maps::Maps;
use crate::model::{Group, Interface, Model};

/// A setting of `[maps]` with another value than what is in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The key in `[maps]`.
    pub setting: &'static str,
    /// Entries in the kernel.
    pub old: u32,
    /// Entries in the configuration; of an interface with limits of its own, what follows from both.
    pub new: u32,
}

impl fmt::Display for Changed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { setting, old, new } = self;
        write!(out, "{setting} {old} -> {new}")
    }
}

/// What became of the changed sizes of an interface's tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Resizing {
    /// No size has changed.
    #[default]
    Unneeded,
    /// The tables were replaced, and have the flows that fit.
    Done(Vec<Changed>),
    /// The device does not exist now; they are replaced when it is attached.
    Later(Vec<Changed>),
    /// The machine has no memory for them, so the tables stay as they were.
    NoMemory {
        /// The sizes.
        changed: Vec<Changed>,
        /// Bytes that the new tables take.
        needed: u64,
        /// Bytes that were available.
        available: u64,
    },
}

impl Resizing {
    /// The same for an interface that is not attached now.
    pub(super) fn later(self) -> Self {
        match self {
            Self::Unneeded => Self::Unneeded,
            Self::Done(changed) | Self::Later(changed) | Self::NoMemory { changed, .. } => {
                Self::Later(changed)
            }
        }
    }
}

/// A changed size of the maps that all interfaces share, which is fixed while they exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fixed {
    /// The size.
    pub changed: Changed,
    /// What is in use now does not fit into the new size.
    pub is_too_small: bool,
}

impl FlowSizes {
    /// The settings that differ from those of `self`.
    fn changes(&self, new: &Self) -> Vec<Changed> {
        let pairs = [
            ("flows_new", self.new, new.new),
            ("flows_udp", self.udp, new.udp),
            ("flows_tcp", self.tcp, new.tcp),
            ("fragments", self.fragments, new.fragments),
        ];
        // The table by source follows from that of TCP flows.
        let changed = pairs.into_iter().filter(|(_, old, new)| old != new);
        changed.map(|(setting, old, new)| Changed { setting, old, new }).collect()
    }
}

/// The memory that tables may take together: several threads ask for it.
#[derive(Debug)]
pub(super) struct Budget {
    left: Mutex<u64>,
}

impl Budget {
    /// Without a limit, for what is not made now.
    pub(super) const fn unlimited() -> Self {
        Self::of(u64::MAX)
    }

    /// What is available now. Where that cannot be read tables stay as they are: what attaches interfaces
    /// must not fail for it.
    pub(super) fn available() -> Self {
        Self::of(memory_available().unwrap_or(0))
    }

    const fn of(bytes: u64) -> Self {
        Self { left: Mutex::new(bytes) }
    }

    /// Takes memory; if there is less, all that there is, as an error.
    fn take(&self, bytes: u64) -> Result<(), u64> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        *left = left.checked_sub(bytes).ok_or(*left)?;
        Ok(())
    }
}

impl Enforcer {
    /// The sizes that the shared maps would have, were they made now, where these differ.
    pub(super) fn fixed_sizes(&self, maps: &Maps, model: &Model) -> Vec<Fixed> {
        let (old, new) = (maps.sizes, self.sizes.shared());
        let slots = model.interfaces.keys().max().map_or(0, |slot| u32::from(*slot) + 1);
        fixed(&old, &new, slots, attached_rules(model))
    }

    /// Whether an interface's tables are to be replaced before it is attached: only if the machine has
    /// memory for them.
    ///
    /// # Errors
    /// A table cannot be opened.
    pub(super) fn resizing(
        &self,
        maps: &Maps,
        interface: &Interface,
        budget: &Budget,
    ) -> Result<Resizing> {
        let Some(tables) = maps.interface_tables(interface.slot)? else {
            return Ok(Resizing::Unneeded);
        };
        let (old, new) = (tables.sizes()?, self.flow_sizes(interface));
        if old == new {
            return Ok(Resizing::Unneeded);
        }
        let changed = old.changes(&new);
        let (needed, _) = new.memory();
        // Both sets of tables exist for a moment.
        Ok(match budget.take(needed) {
            Ok(()) => Resizing::Done(changed),
            Err(available) => Resizing::NoMemory { changed, needed, available },
        })
    }
}

/// What has a counter: the rules of all groups that are attached, the entries of ACLs and the blocks.
fn attached_rules(model: &Model) -> usize {
    let is_attached =
        |group: &&Group| model.interfaces.values().any(|one| one.groups.contains(&group.id));
    let rules = model.groups_by_id().filter(is_attached).map(|group| group.rules.len());
    rules.sum::<usize>() + listed(model).len()
}

fn fixed(old: &Sizes, new: &Sizes, slots: u32, rules: usize) -> Vec<Fixed> {
    let sizes = [
        ("rules", old.rules, new.rules, usize::try_from(new.rules).is_ok_and(|new| new < rules)),
        ("interfaces", old.interfaces, new.interfaces, new.interfaces < slots),
    ];
    let changed = sizes.into_iter().filter(|(_, old, new, _)| old != new);
    changed
        .map(|(setting, old, new, is_too_small)| Fixed {
            changed: Changed { setting, old, new },
            is_too_small,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_size_is_named_with_both_values() {
        let old = FlowSizes { new: 16, udp: 16, tcp: 16, fragments: 16, sources: 0 };
        let new = FlowSizes { tcp: 64, fragments: 32, sources: 1024, ..old };
        let texts: Vec<_> = old.changes(&new).iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["flows_tcp 16 -> 64", "fragments 16 -> 32"]);
        assert!(old.changes(&old).is_empty());
    }

    #[test]
    fn shared_sizes_below_what_is_in_use_are_known() {
        let old = Sizes { rules: 4096, interfaces: 8 };
        let new = Sizes { rules: 64, interfaces: 2 };
        let too_small = |slots, rules| -> Vec<_> {
            fixed(&old, &new, slots, rules).iter().map(|one| one.is_too_small).collect()
        };
        assert_eq!(too_small(2, 64), [false, false]);
        assert_eq!(too_small(3, 65), [true, true]);
        assert!(fixed(&old, &old, 9, 5000).is_empty());
    }

    #[test]
    fn memory_is_given_once() {
        let budget = Budget::of(100);
        assert_eq!(budget.take(60), Ok(()));
        assert_eq!(budget.take(60), Err(40));
        assert_eq!(budget.take(40), Ok(()));
        assert_eq!(budget.take(1), Err(0));
        assert_eq!(budget.take(0), Ok(()));
    }
}
