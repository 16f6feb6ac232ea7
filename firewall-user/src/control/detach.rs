//! Detaching interfaces.

use anyhow::Result;

use super::confirm::Unconfirmed;
use super::staged::Before;
use super::{Control, NotStored};
use crate::dataplane::hooks::{attached, detach};
use crate::dataplane::host::preflight::{self, Work};
use crate::dataplane::instance;
use crate::dataplane::tables::maps::Maps;
use crate::model::{Interface, Model};
use crate::policy::Addresses;
use crate::store::Pending;

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
            settled?;
            self.store_detached(&slots, None)?;
            // Pins that were removed by hand leave filters of clsact.
            for interface in before.interfaces.values().filter(|one| slots.contains(&one.slot)) {
                detach::detach_orphans(interface)?;
            }
            return Ok(Vec::new());
        };
        let addresses = self.store.active_addresses()?;
        // Policies of other interfaces may contain the addresses of a group that loses a member.
        let staged = self.enforcer.stage(maps, Before::Known(&before, &addresses), &after)?;
        let addresses = staged.addresses().clone();
        let is_last = after.interfaces.is_empty();
        let strays = if is_last {
            self.detach_last(staged.flip()?, &slots)?
        } else {
            // Before the programs are gone: nothing that follows may attach them again.
            self.record_unstored(|unstored| unstored.detached.extend(&slots))?;
            let mut maps = staged.flip()?;
            slots.iter().try_for_each(|slot| self.enforcer.release(&mut maps, *slot))?;
            self.enforcer.gc_partly(&mut maps, &after.interfaces);
            Vec::new()
        };
        let stored = settled.and_then(|()| self.store_detached(&slots, Some(&addresses)));
        match stored {
            Err(error) if is_last => {
                let done = "nothing is attached in the kernel any more".to_owned();
                return Err(NotStored::gone(done, error).into());
            }
            Err(error) => {
                let gone = before.interfaces.values().filter(|one| slots.contains(&one.slot));
                let labels: Vec<_> = gone.map(Interface::label).collect();
                let done = format!("in the kernel {} is detached", labels.join(", "));
                return Err(NotStored::recorded(done, error).into());
            }
            Ok(()) if !is_last => {
                self.record_unstored(|it| it.detached.retain(|slot| !slots.contains(slot)))?;
            }
            Ok(()) => {}
        }
        Ok(strays)
    }

    /// Removes everything from the kernel; returns the slots that were enforced there and not stored.
    fn detach_last(&self, mut maps: Maps, slots: &[u16]) -> Result<Vec<u16>> {
        slots.iter().try_for_each(|slot| maps.pass_all(*slot))?;
        drop(maps);
        let mut strays = attached::slots(&self.enforcer.pins)?;
        strays.retain(|slot| !slots.contains(slot));
        instance::remove_all(&self.enforcer.pins)?;
        Ok(strays)
    }

    fn store_detached(&mut self, slots: &[u16], addresses: Option<&Addresses>) -> Result<()> {
        if self.store.is_absent() {
            return Ok(());
        }
        let mut transaction = self.store.begin()?;
        for slot in slots {
            // Without the lock another command may have done it meanwhile.
            if transaction.model().interfaces.contains_key(slot) {
                transaction.delete_interface(*slot)?;
            }
        }
        if let Some(addresses) = addresses {
            transaction.set_active_addresses(addresses)?;
        }
        transaction.commit()?;
        Ok(())
    }
}
