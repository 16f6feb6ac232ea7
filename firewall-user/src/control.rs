//! One change at a time: what every command that changes something goes through.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::config::{Config, Paths};
use crate::dataplane::flows::expire::Expired;
use crate::dataplane::flows::learn::Learned;
use crate::dataplane::hooks::attach::Attached;
use crate::dataplane::hooks::attached;
use crate::dataplane::hooks::hook::Hook;
use crate::dataplane::host::device;
use crate::dataplane::host::preflight::{self, Work};
use crate::dataplane::tables::maps::Maps;
use crate::dataplane::{Pins, instance};
use crate::model::{Interface, Model};
use crate::policy::Book;
use crate::store::{Store, Transaction};
use collect::{Effort, collect};
use compiled::{Policies, addresses, compile};
use confirm::{arm, begin};
use enforce::{Enforcer, wipe};

mod boot;
mod collect;
mod compiled;
pub mod confirm;
mod enforce;
mod lockout;
pub mod panic;
mod progress;
mod reconcile;
mod ssh;
pub mod watch;

pub use compiled::inside;
pub use confirm::Terms;
pub use lockout::LockedOut;
pub use reconcile::{Outcome, Reconciled, Reconciliation};

/// The lock's name in the state directory.
const LOCK: &str = "lock";

/// How long a command waits for another one before it says so.
const PATIENCE: Duration = Duration::from_secs(1);

/// The lock cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("lock {}", path.display())]
pub struct LockError {
    path: PathBuf,
    source: io::Error,
}

impl LockError {
    /// What to do about it.
    pub const HINT: &str = "run as root, or choose a directory you can write with --state-dir";
}

/// The way to the store, and to what the store's contents mean for this host.
#[derive(Debug)]
pub struct Control {
    paths: Paths,
    config: Config,
    store: Store,
    enforcer: Enforcer,
}

/// How an interface is attached.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attaching {
    /// With programs that print a line per packet.
    pub traced: bool,
    /// What is open on a device that is not attached yet gets a flow.
    pub learns: bool,
}

/// What an attachment came to.
#[derive(Debug)]
pub struct Attachment {
    /// As stored.
    pub interface: Interface,
    /// Its programs.
    pub attached: Attached,
    /// The connections that were open.
    pub learned: Learned,
}

impl Control {
    /// Opens the store.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(paths: &Paths, config: Config) -> Result<Self> {
        let store = Store::open_with(&paths.state_dir, config.limits)?;
        let enforcer = Enforcer { pins: Pins::new(&paths.pin_dir), sizes: config.maps.into() };
        Ok(Self { paths: paths.clone(), config, store, enforcer })
    }

    /// What the configuration says.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Where state lives.
    #[must_use]
    pub const fn paths(&self) -> &Paths {
        &self.paths
    }

    /// The store, for what only reads.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// Everything users said, as one moment had it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn model(&self) -> Result<Model> {
        Ok(self.store.model()?)
    }

    /// The pins of this instance.
    #[must_use]
    pub const fn pins(&self) -> &Pins {
        &self.enforcer.pins
    }

    /// The maps in the kernel; `None` if nothing is attached there.
    ///
    /// # Errors
    /// They are another version's, damaged, or may not be opened.
    pub fn maps(&self) -> Result<Option<Maps>> {
        self.enforcer.require_sight(&self.store.model()?)?;
        self.enforcer.maps()
    }

    /// Makes a change: all that `edit` does, or nothing when it fails.
    ///
    /// The order is what makes it safe: the new policies are compiled and written beside those in
    /// force, the store commits, and only then one word per interface puts them in force. A
    /// process that dies before the commit has changed nothing; after it, `reconcile` completes.
    ///
    /// # Errors
    /// `edit`'s, and when the change cannot be made.
    pub fn change<T>(
        &mut self,
        terms: &Terms,
        edit: impl FnOnce(&mut Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        let _lock = self.exclusive()?;
        let mut transaction = begin(&mut self.store, terms)?;
        let value = edit(&mut transaction)?;
        if !transaction.changed() {
            return Ok(value);
        }
        if !terms.force {
            lockout::check(transaction.before(), transaction.model(), true)?;
        }
        self.enforcer.require_sight(transaction.model())?;
        let attached = !transaction.model().interfaces.is_empty();
        let maps = if attached { self.enforcer.maps()? } else { None };
        let Some(maps) = maps else {
            arm(&self.paths, terms, &mut transaction)?;
            transaction.commit()?;
            return Ok(value);
        };
        preflight::capabilities(Work::Maps)?;
        let staged = self.enforcer.stage_change(maps, &mut transaction)?;
        let interfaces = transaction.model().interfaces.clone();
        arm(&self.paths, terms, &mut transaction)?;
        transaction.commit()?;
        self.enforcer.tidy(&mut staged.flip()?, &interfaces);
        Ok(value)
    }

    /// Attaches groups to a device, or replaces what is attached there: groups, options and
    /// programs. `edit` says what the interface is to be; flows and counters of an interface that
    /// is attached already are kept.
    ///
    /// # Errors
    /// `edit`'s, and when the device, its hook or the kernel refuses. Nothing has changed then.
    pub fn attach(
        &mut self,
        terms: &Terms,
        how: Attaching,
        edit: impl FnOnce(&mut Transaction<'_>) -> Result<Interface>,
    ) -> Result<Attachment> {
        let _lock = self.exclusive()?;
        let mut transaction = begin(&mut self.store, terms)?;
        let mut before = transaction.model().clone();
        let interface = edit(&mut transaction)?;
        preflight::capabilities(Work::Programs)?;
        preflight::kernel()?;
        // A device that is not there is refused before anything is made for it.
        let device = device::find(interface.netns.as_deref(), &interface.device)?;
        let (slot, pins) = (interface.slot, &self.enforcer.pins);
        let hook = attached::hook(pins, &interface, &device)?;
        let fresh = !attached::slots(pins)?.contains(&slot);
        let learns = how.learns && fresh;
        if fresh {
            // Whatever is stored, all has passed so far.
            before.interfaces.remove(&slot);
        }
        if !terms.force {
            lockout::check(&before, transaction.model(), learns)?;
        }
        let first = !instance::exists(pins);
        let mut maps = self.enforcer.ensure_maps()?;
        maps.require_room(slot)?;
        let attempt = || {
            if fresh {
                // What a crashed process may have left of an earlier holder of the slot.
                wipe(&mut maps, slot)?;
            }
            let mut staged = self.enforcer.stage_change(maps, &mut transaction)?;
            if fresh {
                // The programs come one after the other, and with one alone answers would find no
                // flow: until both are there and the store says so, all goes on passing.
                staged.stage_pass_all(slot)?;
            }
            let mut learned = Learned::default();
            let mut learn = |maps: &mut Maps| -> Result<()> {
                if learns {
                    learned +=
                        self.enforcer.learn(maps, transaction.model(), &interface, &device)?;
                }
                Ok(())
            };
            learn(staged.maps())?;
            let attached = self.enforcer.attach(staged.maps(), &interface, how.traced)?;
            // Once more: what was opened while the programs were loaded.
            learn(staged.maps())?;
            let interfaces = transaction.model().interfaces.clone();
            if transaction.changed() {
                arm(&self.paths, terms, &mut transaction)?;
            }
            transaction.commit()?;
            self.enforcer.tidy(&mut staged.flip()?, &interfaces);
            Ok((attached, learned))
        };
        match attempt() {
            Ok((attached, learned)) => Ok(Attachment { interface, attached, learned }),
            Err(error) if fresh && self.store.model()?.interfaces.contains_key(&slot) => Err(error),
            Err(error) => {
                if first {
                    instance::remove_all(&self.enforcer.pins)?;
                } else if fresh && let Some(mut maps) = self.enforcer.maps()? {
                    self.enforcer.forget(&mut maps, slot)?;
                } else if !fresh {
                    self.put_back(slot, hook)?;
                }
                Err(error)
            }
        }
    }

    /// Puts an interface back on the hook it was on, where an attempt at another has left it.
    fn put_back(&self, slot: u16, hook: Option<Hook>) -> Result<()> {
        let model = self.store.model()?;
        let Some(interface) = model.interfaces.get(&slot) else { return Ok(()) };
        let device = device::find(interface.netns.as_deref(), &interface.device)?;
        if attached::hook(&self.enforcer.pins, interface, &device)? != hook
            && let Some(maps) = self.enforcer.maps()?
        {
            self.enforcer.attach(&maps, interface, false)?;
        }
        Ok(())
    }

    /// Detaches interfaces: their programs go off the devices, their flows and counters with them.
    /// When none is left, nothing is left in the kernel either; returns the slots that were
    /// enforced there although the store did not know them.
    ///
    /// # Errors
    /// `edit`'s, and when the kernel refuses; `reconcile` completes it then.
    pub fn detach(
        &mut self,
        edit: impl FnOnce(&mut Transaction<'_>) -> Result<Vec<u16>>,
    ) -> Result<Vec<u16>> {
        let _lock = self.exclusive()?;
        let mut transaction = begin(&mut self.store, &Terms::default())?;
        self.enforcer.require_sight(transaction.model())?;
        let slots = edit(&mut transaction)?;
        let is_last = transaction.model().interfaces.is_empty();
        if instance::exists(&self.enforcer.pins) {
            preflight::capabilities(Work::Programs)?;
        }
        let Some(maps) = self.enforcer.maps()? else {
            transaction.commit()?;
            return Ok(Vec::new());
        };
        // Others may have rules about a group that loses a member.
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
        slots.into_iter().try_for_each(|slot| self.enforcer.forget(&mut maps, slot))?;
        self.enforcer.tidy(&mut maps, &interfaces);
        Ok(Vec::new())
    }

    /// Writes the policies that differ from what is in force: after a change of addresses, say.
    /// Returns whether anything is attached.
    ///
    /// # Errors
    /// A policy does not fit, or the kernel refuses it.
    pub fn refresh(&mut self) -> Result<bool> {
        let _lock = self.exclusive()?;
        let mut transaction = self.store.begin()?;
        self.enforcer.require_sight(transaction.model())?;
        let Some(maps) = self.enforcer.maps()? else { return Ok(false) };
        let staged = self.enforcer.stage_change(maps, &mut transaction)?;
        transaction.commit()?;
        staged.flip()?;
        Ok(true)
    }

    /// Removes the flows that `select` says, while no other command changes anything; returns how
    /// many there were.
    ///
    /// # Errors
    /// Nothing is attached, or the tables cannot be read or written.
    pub fn flush(
        &mut self,
        select: impl Fn(&crate::dataplane::flows::list::FlowEntry) -> bool,
    ) -> Result<u64> {
        let _lock = self.exclusive()?;
        preflight::capabilities(Work::Maps)?;
        let Some(mut maps) = self.maps()? else { return Err(nothing_attached().into()) };
        let flows: Vec<_> = maps.flows()?.into_iter().filter(select).collect();
        Ok(maps.remove_flows(&flows)?)
    }

    /// Removes every flow that is dead: idle for longer than its timeout, or of no interface.
    ///
    /// # Errors
    /// Nothing is attached, or the kernel's tables and programs cannot be used.
    pub fn collect(&mut self) -> Result<Expired> {
        let _lock = self.exclusive()?;
        preflight::capabilities(Work::Maps)?;
        let model = self.store.model()?;
        let Some(mut maps) = self.maps()? else { return Err(nothing_attached().into()) };
        collect(&self.enforcer.pins, &mut maps, &model.interfaces, Effort::All)
    }

    /// Makes a change as far as it can be made without making it: every check is made, and
    /// nothing stays.
    ///
    /// # Errors
    /// As [`Self::change`].
    pub fn rehearse<T>(
        &mut self,
        edit: impl FnOnce(&mut Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        let _lock = self.exclusive()?;
        let mut transaction = self.store.begin()?;
        let value = edit(&mut transaction)?;
        let model = transaction.model();
        compile(&mut Book::default(), &Policies::new(), model, &addresses(model)?)?;
        Ok(value)
    }

    /// Waits until no other command is changing something. The lock goes with the file, and with
    /// the process if that is killed. The store has a lock of its own; this one also covers the
    /// kernel's state, which must follow the store in order.
    fn lock(&self) -> Result<File, LockError> {
        let path = self.paths.state_dir.join(LOCK);
        let locked = || {
            let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
            match file.try_lock() {
                Ok(()) => Ok(file),
                Err(TryLockError::WouldBlock) => wait(&file, &path).map(|()| file),
                Err(TryLockError::Error(error)) => Err(error),
            }
        };
        locked().map_err(|source| LockError { path: path.clone(), source })
    }
}

/// Waits for the lock, and says so if that takes long.
fn wait(file: &File, path: &Path) -> io::Result<()> {
    let (done, waited) = mpsc::channel::<()>();
    let path = path.display().to_string();
    let teller = thread::spawn(move || {
        if waited.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!(
                "secgroup: waiting for another secgroup command to finish (`fuser {path}` finds it)"
            );
        }
    });
    let result = file.lock();
    // The teller wakes at once when its channel closes.
    drop(done);
    let _ = teller.join();
    result
}

/// Nothing is attached in the kernel.
#[must_use]
pub fn nothing_attached() -> NothingAttached {
    NothingAttached
}

/// Nothing is attached in the kernel, so there is nothing to read.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("nothing is attached")]
pub struct NothingAttached;

impl NothingAttached {
    /// What to do about it.
    pub const HINT: &str = "`secgroup attach IFACE --group GROUP` starts; `secgroup reconcile` restores what is stored";
}
