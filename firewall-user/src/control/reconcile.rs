//! Making the kernel's state equal to the store.

use std::collections::BTreeMap;

use anyhow::Result;

use super::Control;
use super::panic::remove_unmanaged;
use super::staged::Before;
use crate::dataplane::hooks::attach::Attached;
use crate::dataplane::hooks::attached;
use crate::dataplane::host::device;
use crate::dataplane::host::preflight::{self, Work};
use crate::dataplane::instance;
use crate::dataplane::tables::maps::Maps;
use crate::model::{Interface, Model};

/// The result of `reconcile`.
#[derive(Debug)]
pub struct Reconciliation {
    /// The stored interfaces.
    pub interfaces: Vec<Reconciled>,
    /// Slots that were enforced but not stored; they are released.
    pub strays: Vec<u16>,
}

/// The result of `reconcile` for one interface.
#[derive(Debug)]
pub struct Reconciled {
    /// The interface as stored.
    pub interface: Interface,
    /// Its outcome.
    pub outcome: Outcome,
}

/// The outcome for an interface.
#[derive(Debug)]
pub enum Outcome {
    /// Its programs are attached.
    Attached(Attached),
    /// Its device does not exist now; its policy is active for when it does.
    DeviceMissing,
    /// It could not be attached.
    Failed(anyhow::Error),
}

impl Control {
    /// Makes the kernel's state equal to the store: attaches stored interfaces, replaces every program that
    /// is not this build's, writes every policy that is not active and complete, and releases what is not
    /// stored. Flows and counters of stored interfaces are kept.
    ///
    /// # Errors
    /// Nothing could be done. The error of a single interface is in its outcome.
    pub fn reconcile(&mut self) -> Result<Reconciliation> {
        let _lock = self.exclusive()?;
        self.restore_all()
    }

    /// [`Self::reconcile`], for a caller that holds the lock.
    pub(super) fn restore_all(&mut self) -> Result<Reconciliation> {
        preflight::capabilities(Work::Programs)?;
        preflight::kernel()?;
        let model = self.store.model()?;
        let strays = self.strays(&model)?;
        if model.interfaces.is_empty() {
            instance::refuse_other_versions(&self.enforcer.pins)?;
            // Also the remains of a process that was killed while it created or removed pins.
            instance::remove_all(&self.enforcer.pins)?;
            return Ok(Reconciliation { interfaces: Vec::new(), strays });
        }
        let mut maps = self.enforcer.ensure_maps()?;
        for slot in &strays {
            self.enforcer.release(&mut maps, *slot)?;
        }
        let staged = self.enforcer.stage(maps, Before::Unknown, &model)?;
        self.store.set_active_addresses(staged.addresses())?;
        let mut maps = staged.flip()?;
        if model.is_panicking {
            remove_unmanaged(&mut maps, &model)?;
        }
        let kept = model.interfaces.clone();
        let mut present = Vec::new();
        for interface in model.interfaces.values() {
            if device::lookup(interface.netns.as_deref(), &interface.device)?.is_some() {
                present.push(interface);
            }
        }
        // Of all at once, because the kernel waits for a grace period in each call. What fails here fails
        // again below, for the one interface.
        let _ = self.enforcer.ensure_tables(&maps, present);
        let interfaces = model.interfaces.into_values();
        let interfaces = interfaces
            .map(|interface| {
                let outcome = self.restore(&mut maps, &interface).unwrap_or_else(Outcome::Failed);
                Reconciled { interface, outcome }
            })
            .collect();
        // Now, with the timeouts of the new programs.
        self.enforcer.gc_partly(&mut maps, &kept);
        Ok(Reconciliation { interfaces, strays })
    }

    /// Slots that are enforced in the kernel but not stored: the store was lost, or restored from an
    /// earlier copy.
    ///
    /// # Errors
    /// The pins cannot be listed.
    pub fn strays(&self, model: &Model) -> Result<Vec<u16>> {
        let mut linked = attached::slots(&self.enforcer.pins)?;
        linked.retain(|slot| !model.interfaces.contains_key(slot));
        Ok(linked)
    }

    /// Attaches stored interfaces whose device exists without our programs: it appeared after the last
    /// command. `refused` keeps, by slot, the indexes of the devices that could not be attached, so that
    /// each is tried once.
    ///
    /// # Errors
    /// The store or the pins cannot be used.
    pub fn attach_missing(&mut self, refused: &mut BTreeMap<u16, u32>) -> Result<Vec<Reconciled>> {
        let _lock = self.exclusive()?;
        let model = self.store.model()?;
        let Some(mut maps) = self.maps()? else { return Ok(Vec::new()) };
        let mut done = Vec::new();
        for (slot, interface) in model.interfaces {
            let Some(device) = device::lookup(interface.netns.as_deref(), &interface.device)?
            else {
                refused.remove(&slot);
                continue;
            };
            let pins = &self.enforcer.pins;
            let is_attached = attached::hook(pins, &interface, &device)?.is_some()
                && attached::transmits(pins, &interface, &device)?;
            if is_attached || refused.get(&slot) == Some(&device.index) {
                continue;
            }
            let outcome = self.restore(&mut maps, &interface).unwrap_or_else(Outcome::Failed);
            if matches!(outcome, Outcome::Failed(_)) {
                refused.insert(slot, device.index);
            }
            done.push(Reconciled { interface, outcome });
        }
        Ok(done)
    }

    fn restore(&self, maps: &mut Maps, interface: &Interface) -> Result<Outcome> {
        if device::lookup(interface.netns.as_deref(), &interface.device)?.is_none() {
            return Ok(Outcome::DeviceMissing);
        }
        self.enforcer.attach(maps, interface, false).map(Outcome::Attached)
    }
}
