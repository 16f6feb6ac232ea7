//! Detaching interfaces.

use std::collections::BTreeSet;

use anyhow::Result;

use super::confirm::Unconfirmed;
use super::enforcer::clear_slot;
use super::staged::Before;
use super::{Control, NotStored};
use crate::dataplane::hooks::{attached, detach};
use crate::dataplane::host::preflight::{self, Work};
use crate::dataplane::instance;
use crate::dataplane::tables::unstored::Unstored;
use crate::model::{Interface, Model};
use crate::policy::Addresses;
use crate::store::Pending;

/// What becomes of an interface that is detached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Deleted,
    /// It has no device any more.
    Kept,
}

impl Fate {
    /// The slots with this fate in the record of what is not stored yet.
    const fn recorded(self, unstored: &mut Unstored) -> &mut BTreeSet<u16> {
        match self {
            Self::Deleted => &mut unstored.detached,
            Self::Kept => &mut unstored.kept,
        }
    }
}

impl Control {
    /// Detaches interfaces: their programs, flows and counters are removed. With the last interface
    /// everything is removed from the kernel; returns the slots that were enforced there although they
    /// were not stored.
    ///
    /// With `all`, also what is of a store that does not exist any more.
    ///
    /// The kernel comes first: it also works with a store that cannot be written.
    ///
    /// # Errors
    /// `choose` fails, a change is not confirmed yet, what is attached is of another store, or the kernel
    /// refuses; `reconcile` completes it then. [`NotStored`] if the store cannot be written.
    pub fn detach(
        &mut self,
        all: bool,
        choose: impl FnOnce(&Model) -> Result<Vec<u16>>,
    ) -> Result<Vec<u16>> {
        self.detach_and(all, Fate::Deleted, choose)
    }

    /// As [`Self::detach`] of one interface, which stays stored without a device.
    ///
    /// # Errors
    /// As [`Self::detach`].
    pub fn detach_kept(&mut self, choose: impl FnOnce(&Model) -> Result<u16>) -> Result<()> {
        let choose = |model: &Model| choose(model).map(|slot| vec![slot]);
        self.detach_and(false, Fate::Kept, choose).map(drop)
    }

    fn detach_and(
        &mut self,
        all: bool,
        fate: Fate,
        choose: impl FnOnce(&Model) -> Result<Vec<u16>>,
    ) -> Result<Vec<u16>> {
        let (_lock, settled) = if all && self.store.is_absent() {
            // There is nothing to lock, and nothing to store.
            (None, Ok(()))
        } else {
            let (lock, settled) = self.exclusive_unsettled()?;
            (Some(lock), settled)
        };
        if let Some(Pending { what, .. }) = self.store.pending()?
            && !self.has_overdue_change()?
        {
            return Err(Unconfirmed { what }.into());
        }
        let before = self.model()?;
        self.enforcer.require_bpffs_visible(&before)?;
        let slots = choose(&before)?;
        let mut after = before.clone();
        after.interfaces.retain(|slot, _| !slots.contains(slot));
        if instance::exists(&self.enforcer.pins) {
            preflight::capabilities(Work::Programs)?;
        }
        let maps = if all { self.enforcer.maps_of_lost_store()? } else { self.enforcer.maps()? };
        let Some(maps) = maps else {
            let chosen = before.interfaces.values().filter(|one| slots.contains(&one.slot));
            self.enforcer.require_no_hidden(chosen)?;
            settled?;
            self.store_detached(fate, &slots, None)?;
            // Pins that were removed by hand leave filters of clsact.
            for interface in before.interfaces.values().filter(|one| slots.contains(&one.slot)) {
                detach::detach_orphans(interface)?;
            }
            return Ok(Vec::new());
        };
        let addresses = self.store.active_addresses()?;
        // Policies of other interfaces may contain the addresses of a group that loses a member.
        let known = Before::Known { model: &before, addresses: &addresses, generation: None };
        let staged = self.enforcer.stage(maps, known, &after)?;
        let addresses = staged.addresses().clone();
        let is_last = after.interfaces.is_empty();
        // Before the programs are gone: nothing that follows may attach them again.
        self.record_unstored(|unstored| fate.recorded(unstored).extend(&slots))?;
        let mut maps = staged.flip(None)?;
        let mut strays = Vec::new();
        if is_last {
            strays = attached::slots(&self.enforcer.pins)?;
            strays.retain(|slot| !slots.contains(slot));
        }
        for slot in slots.iter().chain(&strays) {
            self.enforcer.release_programs(&mut maps, *slot)?;
        }
        let stored = settled.and_then(|()| self.store_detached(fate, &slots, Some(&addresses)));
        if is_last && stored.is_ok() {
            drop(maps);
            instance::remove_all(&self.enforcer.pins)?;
            return Ok(strays);
        }
        slots.iter().chain(&strays).try_for_each(|slot| clear_slot(&mut maps, *slot))?;
        self.enforcer.gc_partly(&mut maps, &after.interfaces);
        if let Err(error) = stored {
            let gone = before.interfaces.values().filter(|one| slots.contains(&one.slot));
            let labels: Vec<_> = gone.map(Interface::label).collect();
            let done = format!("in the kernel {} is detached", labels.join(", "));
            return Err(NotStored::recorded(done, error).into());
        }
        self.record_unstored(|it| fate.recorded(it).retain(|slot| !slots.contains(slot)))?;
        Ok(strays)
    }

    fn store_detached(
        &mut self,
        fate: Fate,
        slots: &[u16],
        addresses: Option<&Addresses>,
    ) -> Result<()> {
        if self.store.is_absent() {
            return Ok(());
        }
        let mut transaction = self.store.begin()?;
        for slot in slots {
            // Without the lock another command may have done it meanwhile.
            if transaction.model().interfaces.contains_key(slot) {
                match fate {
                    Fate::Deleted => transaction.delete_interface(*slot)?,
                    Fate::Kept => transaction.detach_interface(*slot)?,
                }
            }
        }
        if let Some(addresses) = addresses {
            transaction.set_active_addresses(addresses)?;
        }
        transaction.commit()?;
        Ok(())
    }
}
