//! Making the kernel's state equal to the store.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::Result;

use super::enforcement::{Enforcement, SameDevice, State, of_same_device, present_device};
use super::enforcer::Enforcer;
use super::follow::follow;
use super::panic::remove_unmanaged;
use super::sizes::{Budget, Fixed, Resizing};
use super::staged::Before;
use super::{Control, watch};
use crate::dataplane::hooks::attach::{Attached, is_current};
use crate::dataplane::hooks::attached;
use crate::dataplane::hooks::load::{Loader, Room};
use crate::dataplane::hooks::located::{Location, locate};
use crate::dataplane::host::device;
use crate::dataplane::host::preflight::{self, Work};
use crate::dataplane::instance;
use crate::dataplane::tables::maps::Maps;
use crate::model::{Interface, Model};

/// The result of `reconcile`.
#[derive(Debug, Default)]
pub struct Reconciliation {
    /// The stored interfaces.
    pub interfaces: Vec<Reconciled>,
    /// Slots that were enforced but not stored; they are released.
    pub strays: Vec<u16>,
    /// Configured sizes that cannot be applied while something is attached.
    pub fixed: Vec<Fixed>,
    /// Why the store does not have everything that is enforced.
    pub unsettled: Option<anyhow::Error>,
}

/// The result of `reconcile` for one interface.
#[derive(Debug)]
pub struct Reconciled {
    /// The interface as stored.
    pub interface: Interface,
    /// Its outcome.
    pub outcome: Outcome,
    /// What became of the sizes of its tables.
    pub resizing: Resizing,
}

/// The outcome for an interface.
#[derive(Debug)]
pub enum Outcome {
    /// Its programs are attached.
    Attached(Attached),
    /// Its device does not exist now; its policy is active for when it does.
    DeviceMissing,
    /// Its device is in a network namespace without a name; its programs stay there as they are.
    DeviceElsewhere,
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
            return Ok(Reconciliation::default());
        }
        // Also with a store that cannot be written, what it has is enforced.
        let (_lock, settled) = self.exclusive_unsettled()?;
        if adopts && let Some(mut maps) = self.enforcer.maps_of_any_store()? {
            self.enforcer.store.adopt(&mut maps)?;
        }
        self.settle_stored_ends();
        let done = self.restore_all(self.model()?)?;
        Ok(Reconciliation { unsettled: settled.err(), ..done })
    }

    /// Makes the kernel's state equal to a model, for a caller that holds the lock.
    pub(super) fn restore_all(&mut self, model: Model) -> Result<Reconciliation> {
        preflight::capabilities(Work::Programs)?;
        preflight::kernel()?;
        // Before anything is detached as not stored.
        self.enforcer.maps()?;
        let model = self.follow(model);
        self.restore_model(model)
    }

    /// As [`Self::restore_all`], but renamed devices are not followed: the model may not be what is stored.
    pub(super) fn restore_model(&mut self, model: Model) -> Result<Reconciliation> {
        let strays = self.strays(&model)?;
        if model.interfaces.is_empty()
            && !self.unstored()?.is_empty()
            && let Some(mut maps) = self.enforcer.maps()?
        {
            // The maps stay, with the record of what the store does not have yet.
            strays.iter().try_for_each(|slot| self.enforcer.release(&mut maps, *slot))?;
            return Ok(Reconciliation { strays, ..Default::default() });
        }
        if model.interfaces.is_empty() {
            instance::refuse_other_versions(&self.enforcer.pins)?;
            // Also the remains of a process that was killed while it created or removed pins.
            instance::remove_all(&self.enforcer.pins)?;
            return Ok(Reconciliation { strays, ..Default::default() });
        }
        let mut maps = self.enforcer.ensure_maps()?;
        for slot in &strays {
            self.enforcer.release(&mut maps, *slot)?;
        }
        let staged = self.enforcer.stage(maps, Before::Unknown, &model)?;
        let recorded = self.store.set_active_addresses(staged.addresses());
        let mut maps = staged.flip(None)?;
        if let Err(error) = recorded {
            // They only spare a later change work: the digests tell it what is active.
            let error = anyhow::Error::new(error);
            watch::report(&format!("the addresses of group members are not recorded: {error:#}"));
        }
        if model.is_panicking {
            remove_unmanaged(&mut maps, &model)?;
        }
        let kept = model.interfaces.clone();
        let fixed = self.enforcer.fixed_sizes(&maps, &model);
        let budget = Budget::available();
        let interfaces =
            self.enforcer.restore_each(model.interfaces.into_values().collect(), &budget);
        // Now, with the timeouts of the new programs.
        self.enforcer.gc_partly(&mut maps, &kept);
        self.record_reconciled(&interfaces);
        Ok(Reconciliation { interfaces, strays, fixed, unsettled: None })
    }

    /// [`follow`], stored at once: what is stored and what is attached differ until then. A store that cannot
    /// be written follows no device.
    fn follow(&mut self, model: Model) -> Model {
        self.try_follow(&model).unwrap_or_else(|error| {
            watch::report(&format!("renamed devices are not followed: {error:#}"));
            model
        })
    }

    fn try_follow(&mut self, model: &Model) -> Result<Model> {
        let Some(mut maps) = self.enforcer.maps()? else { return Ok(model.clone()) };
        let capacity = self.config.maps.interfaces.get().min(maps.sizes.interfaces);
        let mut transaction = self.store.begin()?;
        if transaction.model() != model {
            // What is to be enforced could not be stored yet.
            return Ok(model.clone());
        }
        let followed = follow(&self.enforcer.pins, &mut transaction, capacity)?;
        let model = transaction.model().clone();
        if transaction.changed() {
            transaction.commit()?;
        }
        followed.finish(&mut maps)?;
        Ok(model)
    }

    /// As [`Self::follow`], with the policies of what is stored then.
    fn follow_and_enforce(&mut self) -> Result<()> {
        let model = self.model()?;
        let Some(maps) = self.maps()? else { return Ok(()) };
        let capacity = self.config.maps.interfaces.get().min(maps.sizes.interfaces);
        let mut transaction = self.store.begin()?;
        if *transaction.model() != model {
            return Ok(());
        }
        let followed = follow(&self.enforcer.pins, &mut transaction, capacity)?;
        if !transaction.changed() {
            return Ok(());
        }
        let staged = self.enforcer.stage_change(maps, &mut transaction)?;
        let generation = transaction.commit()?;
        let mut maps = staged.flip(Some(generation))?;
        followed.gone.iter().try_for_each(|slot| self.enforcer.release(&mut maps, *slot))?;
        followed.finish(&mut maps)
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

    /// Attaches stored interfaces whose device exists without our programs, as one that appeared after the last
    /// command; where `compares`, also those with programs of other settings, of a command that was killed. `refused`
    /// keeps, by slot, the indexes of the devices that could not be attached, so that each is tried once.
    ///
    /// # Errors
    /// The store or the pins cannot be used.
    pub fn attach_missing(
        &mut self,
        refused: &mut BTreeMap<u16, u32>,
        compares: bool,
    ) -> Result<Vec<Reconciled>> {
        let _lock = self.exclusive_in_kernel()?;
        if let Err(error) = self.follow_and_enforce() {
            // Also then, what is stored is attached.
            watch::report(&format!("renamed devices are not followed: {error:#}"));
        }
        let model = self.model()?;
        let Some(mut maps) = self.maps()? else { return Ok(Vec::new()) };
        let room: Vec<Room> = model.interfaces.values().map(|_| Room::default()).collect();
        let mut loader = Loader::new(&room);
        let budget = Budget::available();
        let mut done = Vec::new();
        let all: Vec<_> = model.interfaces.into_values().collect();
        let pins = &self.enforcer.pins;
        for interface in &all {
            let slot = interface.slot;
            // What one device answers keeps no other from its programs.
            let examine = || -> Result<_> {
                let Some(device) = present_device(pins, interface)? else { return Ok(None) };
                let is_attached = attached::hook(pins, slot, &device)?.is_some()
                    && attached::transmits(pins, slot, &device)?
                    && (!compares || is_current(&maps, interface, &device)?);
                Ok(Some((device, is_attached)))
            };
            let (device, is_attached) = match examine() {
                Ok(Some(examined)) => examined,
                Ok(None) => {
                    refused.remove(&slot);
                    continue;
                }
                Err(error) => {
                    if refused.insert(slot, 0) != Some(0) {
                        let (outcome, resizing) = failed(error);
                        done.push(Reconciled { interface: interface.clone(), outcome, resizing });
                    }
                    continue;
                }
            };
            if is_attached || refused.get(&slot) == Some(&device.index) {
                continue;
            }
            let restored = self.enforcer.restore(&mut maps, &mut loader, interface, &all, &budget);
            let (outcome, resizing) = restored.unwrap_or_else(failed);
            if matches!(outcome, Outcome::Failed(_)) {
                refused.insert(slot, device.index);
            }
            done.push(Reconciled { interface: interface.clone(), outcome, resizing });
        }
        self.record_reconciled(&done);
        Ok(done)
    }
}

/// Threads that attach interfaces: while the kernel waits for a grace period in one, as it does for each
/// program, the next interface's programs are loaded in another.
const THREADS: usize = 4;

impl Enforcer {
    /// Attaches the interfaces whose programs are missing on a device that exists.
    pub(super) fn restore_lost(&self, model: &Model) -> Result<Vec<Reconciled>> {
        let maps = self.maps()?;
        let mut lost = Vec::new();
        for interface in model.interfaces.values() {
            let found = Enforcement::read(&self.pins, maps.as_ref(), interface)?;
            if found.state == State::NotEnforcing {
                lost.push(interface.clone());
            }
        }
        Ok(self.restore_each(lost, &Budget::available()))
    }

    /// Attaches stored interfaces whose devices exist, each in its slot, in several threads.
    fn restore_each(&self, interfaces: Vec<Interface>, budget: &Budget) -> Vec<Reconciled> {
        let next = AtomicUsize::new(0);
        let outcomes = Mutex::new(BTreeMap::new());
        let work = || {
            let room: Vec<Room> = interfaces.iter().map(|_| Room::default()).collect();
            let mut loader = Loader::new(&room);
            let mut maps = None;
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(interface) = interfaces.get(index) else { break };
                let restored =
                    self.restore_with(&mut maps, &mut loader, interface, &interfaces, budget);
                let outcome = restored.unwrap_or_else(failed);
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
        done.map(|(interface, (outcome, resizing))| Reconciled { interface, outcome, resizing })
            .collect()
    }

    /// [`Self::restore`] with maps that are opened when they are needed.
    fn restore_with(
        &self,
        maps: &mut Option<Maps>,
        loader: &mut Loader<'_>,
        interface: &Interface,
        all: &[Interface],
        budget: &Budget,
    ) -> Result<(Outcome, Resizing)> {
        let maps = match maps {
            Some(maps) => maps,
            None => maps.insert(self.ensure_maps()?),
        };
        self.restore(maps, loader, interface, all, budget)
    }

    fn restore(
        &self,
        maps: &mut Maps,
        loader: &mut Loader<'_>,
        interface: &Interface,
        all: &[Interface],
        budget: &Budget,
    ) -> Result<(Outcome, Resizing)> {
        let device = match locate(&self.pins, interface)? {
            Location::On(device) => device,
            Location::Unnamed(..) => return Ok((Outcome::DeviceElsewhere, Resizing::default())),
            Location::Nowhere => {
                let named = device::lookup(interface.netns.as_deref(), &interface.device)?;
                let Some(device) = named else {
                    let resizing = self.resizing(maps, interface, &Budget::unlimited())?.later();
                    return Ok((Outcome::DeviceMissing, resizing));
                };
                if let Some(other) = of_same_device(&self.pins, all, interface, &device)? {
                    let (interface, holder) = (interface.clone(), other.label());
                    return Err(SameDevice { interface, device: device.label(), holder }.into());
                }
                device
            }
        };
        self.forget_other_guest(maps, interface, &device)?;
        let resizing = self.resizing(maps, interface, budget)?;
        let attached = match resizing {
            Resizing::NoMemory { .. } => self.attach_as_sized(maps, loader, interface, &device),
            _ => self.attach(maps, loader, interface, &device),
        };
        attached.map(|attached| (Outcome::Attached(attached), resizing))
    }
}

fn failed(error: anyhow::Error) -> (Outcome, Resizing) {
    (Outcome::Failed(error), Resizing::default())
}
