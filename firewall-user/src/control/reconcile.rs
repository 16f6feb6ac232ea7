//! Making the kernel's state equal to the store.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::Result;

use super::enforcer::Enforcer;
use super::panic::remove_unmanaged;
use super::staged::Before;
use super::{Control, watch};
use crate::dataplane::hooks::attach::Attached;
use crate::dataplane::hooks::attached;
use crate::dataplane::hooks::load::{Loader, Room};
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
    /// With `adopts`, also if what is attached is of another store: then it is of this one.
    ///
    /// # Errors
    /// Nothing could be done; what is attached is of another store, for example. The error of a single
    /// interface is in its outcome.
    pub fn reconcile(&mut self, adopts: bool) -> Result<Reconciliation> {
        if self.store.is_absent() {
            // Without a store nothing is stored, and nothing of this store is attached.
            self.enforcer.maps()?;
            watch::report(&format!("there is no store at {}", self.store.path().display()));
            return Ok(Reconciliation { interfaces: Vec::new(), strays: Vec::new() });
        }
        let _lock = self.exclusive()?;
        if adopts && let Some(mut maps) = self.enforcer.maps_of_any_store()? {
            self.enforcer.store.adopt(&mut maps)?;
        }
        self.restore_all()
    }

    /// [`Self::reconcile`], for a caller that holds the lock.
    pub(super) fn restore_all(&mut self) -> Result<Reconciliation> {
        preflight::capabilities(Work::Programs)?;
        preflight::kernel()?;
        let model = self.store.model()?;
        // Before anything is detached as not stored.
        self.enforcer.maps()?;
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
        let interfaces = self.enforcer.restore_each(model.interfaces.into_values().collect());
        // Now, with the timeouts of the new programs.
        self.enforcer.gc_partly(&mut maps, &kept);
        self.record_reconciled(&interfaces);
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
        let room: Vec<Room> = model.interfaces.values().map(|_| Room::default()).collect();
        let mut loader = Loader::new(&room);
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
            let outcome = self.enforcer.restore(&mut maps, &mut loader, &interface);
            let outcome = outcome.unwrap_or_else(Outcome::Failed);
            if matches!(outcome, Outcome::Failed(_)) {
                refused.insert(slot, device.index);
            }
            done.push(Reconciled { interface, outcome });
        }
        self.record_reconciled(&done);
        Ok(done)
    }
}

/// Threads that attach interfaces: while the kernel waits for a grace period in one, as it does for each
/// program, the next interface's programs are loaded in another.
const THREADS: usize = 4;

impl Enforcer {
    /// Attaches stored interfaces whose devices exist, each in its slot, in several threads.
    fn restore_each(&self, interfaces: Vec<Interface>) -> Vec<Reconciled> {
        let next = AtomicUsize::new(0);
        let outcomes = Mutex::new(BTreeMap::new());
        let work = || {
            let room: Vec<Room> = interfaces.iter().map(|_| Room::default()).collect();
            let mut loader = Loader::new(&room);
            let mut maps = None;
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(interface) = interfaces.get(index) else { break };
                let outcome = self.restore_with(&mut maps, &mut loader, interface);
                let outcome = outcome.unwrap_or_else(Outcome::Failed);
                outcomes.lock().unwrap_or_else(PoisonError::into_inner).insert(index, outcome);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..THREADS.min(interfaces.len()) {
                scope.spawn(work);
            }
            work();
        });
        // One of each: the scope ends with the threads, or with the panic of one.
        let outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
        let done = interfaces.into_iter().zip(outcomes.into_values());
        done.map(|(interface, outcome)| Reconciled { interface, outcome }).collect()
    }

    /// [`Self::restore`] with maps that are opened when they are needed.
    fn restore_with(
        &self,
        maps: &mut Option<Maps>,
        loader: &mut Loader<'_>,
        interface: &Interface,
    ) -> Result<Outcome> {
        let maps = match maps {
            Some(maps) => maps,
            None => maps.insert(self.ensure_maps()?),
        };
        self.restore(maps, loader, interface)
    }

    fn restore(
        &self,
        maps: &mut Maps,
        loader: &mut Loader<'_>,
        interface: &Interface,
    ) -> Result<Outcome> {
        if device::lookup(interface.netns.as_deref(), &interface.device)?.is_none() {
            return Ok(Outcome::DeviceMissing);
        }
        self.attach(maps, loader, interface, false).map(Outcome::Attached)
    }
}
