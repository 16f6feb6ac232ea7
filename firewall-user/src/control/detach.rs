//! Detaching interfaces.

use anyhow::Result;

use super::confirm::begin;
use super::{Control, Terms};
use crate::dataplane::hooks::{attached, detach};
use crate::dataplane::host::preflight::{self, Work};
use crate::dataplane::instance;
use crate::store::Transaction;

impl Control {
    /// Detaches interfaces: their programs, flows and counters are removed. With the last interface
    /// everything is removed from the kernel; returns the slots that were enforced there although they
    /// were not stored.
    ///
    /// With `all`, also what is of a store that does not exist any more.
    ///
    /// # Errors
    /// `edit` fails, what is attached is of another store, or the kernel refuses; `reconcile` completes it then.
    pub fn detach(
        &mut self,
        all: bool,
        edit: impl FnOnce(&mut Transaction<'_>) -> Result<Vec<u16>>,
    ) -> Result<Vec<u16>> {
        let _lock = self.exclusive()?;
        let mut transaction = begin(&mut self.store, &Terms::default())?;
        self.enforcer.require_bpffs_visible(transaction.model())?;
        let before = transaction.model().interfaces.clone();
        let slots = edit(&mut transaction)?;
        let is_last = transaction.model().interfaces.is_empty();
        if instance::exists(&self.enforcer.pins) {
            preflight::capabilities(Work::Programs)?;
        }
        let maps = if all { self.enforcer.maps_of_lost_store()? } else { self.enforcer.maps()? };
        let Some(maps) = maps else {
            transaction.commit()?;
            // Pins that were removed by hand leave filters of clsact.
            for interface in before.values().filter(|one| slots.contains(&one.slot)) {
                detach::detach_orphans(interface)?;
            }
            return Ok(Vec::new());
        };
        // Policies of other interfaces may contain the addresses of a group that loses a member.
        let staged = self.enforcer.stage_change(maps, &mut transaction)?;
        let interfaces = transaction.model().interfaces.clone();
        transaction.commit()?;
        let mut maps = staged.flip()?;
        if is_last {
            slots.iter().try_for_each(|slot| maps.pass_all(*slot))?;
            drop(maps);
            let mut strays = attached::slots(&self.enforcer.pins)?;
            strays.retain(|slot| !slots.contains(slot));
            instance::remove_all(&self.enforcer.pins)?;
            return Ok(strays);
        }
        slots.into_iter().try_for_each(|slot| self.enforcer.release(&mut maps, slot))?;
        self.enforcer.gc_partly(&mut maps, &interfaces);
        Ok(Vec::new())
    }
}
