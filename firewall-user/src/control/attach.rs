//! Attaching an interface, or replacing what is attached to it.

use anyhow::{Context as _, Result};

use super::confirm::{arm, begin};
use super::enforcement::present_device;
use super::enforcer::{Enforcer, clear_slot};
use super::{Control, Terms, ends, lockout};
use crate::config::Paths;
use crate::dataplane::flows::learn::Learned;
use crate::dataplane::hooks::attach::Attached;
use crate::dataplane::hooks::attached;
use crate::dataplane::hooks::load::{Loader, Room};
use crate::dataplane::host::device::{self, Device};
use crate::dataplane::host::preflight::{self, Work};
use crate::dataplane::instance;
use crate::dataplane::tables::maps::Maps;
use crate::model::{Interface, InterfaceId, Model};
use crate::store::Transaction;

/// Options of attaching that are not stored.
#[derive(Clone, Copy, Debug, Default)]
pub struct AttachOptions {
    /// Open connections of a device that is not attached yet get flows.
    pub learns: bool,
}

/// The result of attaching.
#[derive(Debug)]
pub struct Attachment {
    /// The interface as stored.
    pub interface: Interface,
    /// The names of its groups.
    pub groups: Vec<String>,
    /// Its programs.
    pub attached: Attached,
    /// The connections that were open.
    pub learned: Learned,
    /// Of an interface that was not attached before, the bytes of memory of its flow tables: now, and with
    /// as many TCP flows as fit.
    pub memory: Option<(u64, u64)>,
}

impl Control {
    /// Attaches groups to a device, or replaces what is attached there: groups, options and
    /// programs. `edit` returns the interface; flows and counters of an interface that is attached
    /// already are kept.
    ///
    /// # Errors
    /// `edit` fails, the device does not exist, or the kernel refuses. Nothing has changed then.
    pub fn attach(
        &mut self,
        terms: &Terms,
        options: AttachOptions,
        edit: impl FnOnce(&mut Transaction<'_>) -> Result<Interface>,
    ) -> Result<Attachment> {
        let _lock = self.exclusive()?;
        self.attach_locked(terms, options, edit)
    }

    /// Edits an interface, and replaces its programs if it is attached and its device exists: for settings that
    /// they have. As [`Self::attach`] then, and otherwise as [`Self::change`].
    ///
    /// # Errors
    /// As of these; or the interface does not exist.
    pub fn reattach(
        &mut self,
        terms: &Terms,
        id: &InterfaceId,
        edit: impl FnOnce(&mut Transaction<'_>) -> Result<Interface>,
    ) -> Result<()> {
        // What is decided holds until the end: other changes wait.
        let lock = self.exclusive()?;
        let model = self.model()?;
        let interface = model.interface_by_id(id)?;
        if interface.is_attached() && present_device(self.pins(), interface)?.is_some() {
            self.attach_locked(terms, AttachOptions { learns: true }, edit)?;
        } else {
            self.change_locked(lock, terms, edit)?;
        }
        Ok(())
    }

    /// As [`Self::attach`], for a caller that holds the lock.
    fn attach_locked(
        &mut self,
        terms: &Terms,
        options: AttachOptions,
        edit: impl FnOnce(&mut Transaction<'_>) -> Result<Interface>,
    ) -> Result<Attachment> {
        let mut transaction = begin(&mut self.store, terms)?;
        let mut before = transaction.in_force().clone();
        let interface = edit(&mut transaction)?;
        let groups = group_names(transaction.model(), &interface);
        preflight::capabilities(Work::Programs)?;
        preflight::kernel()?;
        let (slot, pins) = (interface.slot, &self.enforcer.pins);
        // A device that does not exist is refused before anything is created for it.
        let device = match present_device(pins, &interface)? {
            Some(device) => device,
            None => device::find(interface.netns.as_deref(), &interface.device)?,
        };
        device.require_supported()?;
        let hook = attached::hook(pins, slot, &device)?;
        let before_digest = loaded(&self.enforcer, slot)?;
        let is_new = !attached::slots(pins)?.contains(&slot);
        if is_new {
            // Also if it is stored already: every packet has passed so far.
            before.interfaces.remove(&slot);
        }
        let learns = options.learns && is_new;
        if !terms.force {
            let models = (&before, transaction.model());
            lockout::check(&self.enforcer, terms.caller, models, learns)?;
        }
        let sizes = |interface: &Interface| self.enforcer.flow_sizes(interface);
        if before.interfaces.get(&slot).map(sizes) != Some(sizes(&interface)) {
            self.enforcer.require_memory(&interface)?;
        }
        let is_first = !instance::exists(pins);
        let maps = self.enforcer.ensure_maps()?;
        maps.require_room(slot)?;
        // The configuration may have changed since they were made.
        let own = maps.interface_tables(slot)?;
        let is_resized = own.map(|own| own.sizes()).transpose()? != Some(sizes(&interface));
        if is_resized && !is_new {
            self.enforcer.require_memory(&interface)?;
        }
        let attempt = Attempt {
            enforcer: &self.enforcer,
            paths: &self.paths,
            terms,
            interface: &interface,
            device: &device,
            is_new,
            learns,
        };
        match attempt.run(maps, transaction) {
            Ok((attached, learned)) => {
                let memory = is_new.then(|| self.enforcer.flow_sizes(&interface).memory());
                Ok(Attachment { interface, groups, attached, learned, memory })
            }
            // The store has committed: `reconcile` completes it.
            Err(error) if is_new && self.store.model()?.interfaces.contains_key(&slot) => {
                Err(error)
            }
            Err(error) => {
                if is_first {
                    instance::remove_all(pins)?;
                } else if is_new && let Some(mut maps) = self.enforcer.maps()? {
                    self.enforcer.release(&mut maps, slot)?;
                } else if is_resized
                    || attached::hook(pins, slot, &device)? != hook
                    || ![0, before_digest].contains(&loaded(&self.enforcer, slot)?)
                {
                    let what = || format!("attach it as before, after this failed: {error:#}");
                    self.restore(slot).with_context(what)?;
                }
                Err(error)
            }
        }
    }

    /// Attaches an interface as it is stored, where a failed attempt has left it on another hook, its programs and
    /// the slow path with different tables, or programs of settings that are not stored.
    fn restore(&self, slot: u16) -> Result<()> {
        let model = self.model()?;
        let Some(interface) = model.interfaces.get(&slot) else { return Ok(()) };
        let Some(mut maps) = self.enforcer.maps()? else { return Ok(()) };
        let Some(device) = present_device(&self.enforcer.pins, interface)? else { return Ok(()) };
        let room = [Room::default()];
        self.enforcer.attach(&mut maps, &mut Loader::new(&room), interface, &device)?;
        Ok(())
    }
}

fn group_names(model: &Model, interface: &Interface) -> Vec<String> {
    let groups = interface.groups.iter().filter_map(|id| model.groups.get(id));
    groups.map(|group| group.name.clone()).collect()
}

/// One attempt to attach an interface.
struct Attempt<'a> {
    enforcer: &'a Enforcer,
    paths: &'a Paths,
    terms: &'a Terms,
    interface: &'a Interface,
    device: &'a Device,
    /// Not attached yet.
    is_new: bool,
    learns: bool,
}

impl Attempt<'_> {
    fn run(&self, mut maps: Maps, mut transaction: Transaction<'_>) -> Result<(Attached, Learned)> {
        let slot = self.interface.slot;
        if self.is_new {
            // A killed process may have left entries of an earlier interface in the slot.
            clear_slot(&mut maps, slot)?;
        } else {
            self.enforcer.forget_other_guest(&mut maps, self.interface, self.device)?;
        }
        self.enforcer.ensure_tables(&maps, [self.interface])?;
        let mut staged = self.enforcer.stage_change(maps, &mut transaction)?;
        if self.is_new {
            // The programs are attached one after the other, and with only one of them replies would
            // find no flow: until both are attached and the store has committed, every packet passes.
            staged.stage_pass_all(slot)?;
        }
        let mut learned = self.learn(staged.maps(), transaction.model())?;
        let room = [Room::default()];
        let loader = &mut Loader::new(&room);
        let attached = self.enforcer.attach(staged.maps(), loader, self.interface, self.device)?;
        // Once more: connections that were opened while the programs were loaded.
        learned += self.learn(staged.maps(), transaction.model())?;
        let interfaces = transaction.model().interfaces.clone();
        let messages = ends::messages(&transaction);
        if transaction.edited() {
            arm(self.paths, self.terms, &mut transaction)?;
        }
        let generation = transaction.commit()?;
        self.enforcer.gc_partly(&mut staged.flip(Some(generation))?, &interfaces);
        ends::report(&messages);
        Ok((attached, learned))
    }

    fn learn(&self, maps: &mut Maps, model: &Model) -> Result<Learned> {
        if self.learns {
            self.enforcer.learn(maps, model, self.interface, self.device)
        } else {
            Ok(Learned::default())
        }
    }
}

/// The digest that is recorded of the programs of a slot; 0 where there are none, and while they are being replaced.
fn loaded(enforcer: &Enforcer, slot: u16) -> Result<u64> {
    let Some(maps) = enforcer.maps()? else { return Ok(0) };
    Ok(maps.loaded(slot)?.0)
}
