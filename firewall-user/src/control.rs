//! One change at a time: the operations that change store and kernel, in order.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::clock as boot;
use crate::config::{Config, Paths};
use crate::dataplane::Pins;
use crate::dataplane::tables::maps::Maps;
use crate::explain::{Exit, Explain};
use crate::model::Model;
use crate::policy::Addresses;
use crate::store::{FILE, Store};
use enforcer::Enforcer;
use lock::Patience;
use other_store::StoreIdentity;
use settling::Settling;

mod attach;
mod change;
mod compiled;
pub mod confirm;
mod deferred;
mod detach;
mod dry_run;
pub mod ends;
pub mod enforcement;
mod enforcer;
mod flush;
pub mod follow;
mod gc;
pub mod last_reconcile;
mod lock;
mod lockout;
pub mod named;
mod other_store;
pub mod panic;
mod progress;
mod reconcile;
mod refresh;
pub mod repair;
mod reset;
mod settling;
mod sizes;
mod ssh;
mod staged;
mod unstored;
pub mod watch;

pub use attach::{AttachOptions, Attachment};
pub use compiled::{inside, without_address};
pub use confirm::Terms;
pub use lock::LockError;
pub use lockout::{Caller, LockedOut};
pub use other_store::OtherStore;
pub use reconcile::{Outcome, Reconciled, Reconciliation};
pub use sizes::{Changed, Fixed, Resizing};
pub use unstored::{NotStored, Unsettled};

/// The store of this host, and its enforcement in the kernel.
#[derive(Debug)]
pub struct Control {
    paths: Paths,
    config: Config,
    store: Store,
    enforcer: Enforcer,
    /// How long other commands are waited for.
    patience: Patience,
    /// The rest of the change before.
    settling: Option<Settling>,
}

impl Control {
    /// Opens the store, and creates it if there is none.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(paths: &Paths, config: Config) -> Result<Self> {
        Self::with(paths, config, Store::open_with(&paths.state_dir, config.limits.in_force())?)
    }

    /// Opens the store; where there is none, an empty one that is not stored.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open_existing(paths: &Paths, config: Config) -> Result<Self> {
        Self::with(paths, config, Store::open_existing(&paths.state_dir, config.limits.in_force())?)
    }

    /// Opens the store for reading; where there is none, an empty one that is not stored. Nothing is written,
    /// and no other process is waited for: it works with a full disk and a read-only file system.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open_read_only(paths: &Paths, config: Config) -> Result<Self> {
        Self::with(
            paths,
            config,
            Store::open_read_only(&paths.state_dir, config.limits.in_force())?,
        )
    }

    /// As if there were no store, where the one that there is cannot be read.
    ///
    /// # Errors
    /// There is no memory for an empty one.
    pub fn without_store(paths: &Paths, config: Config) -> Result<Self> {
        Self::with(
            paths,
            config,
            Store::absent(paths.state_dir.join(FILE), config.limits.in_force())?,
        )
    }

    fn with(paths: &Paths, config: Config, store: Store) -> Result<Self> {
        let owner = (!store.is_absent()).then(|| store.id()).transpose()?;
        let enforcer = Enforcer {
            pins: Pins::new(&paths.pin_dir),
            sizes: config.maps,
            keeps_sizes: config.is_substitute,
            store: StoreIdentity { id: owner, path: absolute(store.path()) },
            peers: Default::default(),
            in_force: Default::default(),
        };
        Ok(Self {
            paths: paths.clone(),
            config,
            store,
            enforcer,
            patience: Patience::default(),
            settling: None,
        })
    }

    /// The configuration.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// The paths of state, pins and configuration.
    #[must_use]
    pub const fn paths(&self) -> &Paths {
        &self.paths
    }

    /// The store, for reading only.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// The pins of this instance.
    #[must_use]
    pub const fn pins(&self) -> &Pins {
        &self.enforcer.pins
    }

    /// The inside addresses and networks of every attached interface of a model, by slot: [`inside`].
    ///
    /// # Errors
    /// rtnetlink fails.
    pub fn addresses(&self, model: &Model) -> Result<Addresses> {
        let interfaces = model.interfaces.values();
        interfaces.map(|one| Ok((one.slot, inside(self.pins(), one)?))).collect()
    }

    /// The maps in the kernel; `None` if nothing is attached.
    ///
    /// # Errors
    /// They are another version's, damaged, or may not be opened.
    pub fn maps(&self) -> Result<Option<Maps>> {
        self.enforcer.require_bpffs_visible(&self.model()?)?;
        self.enforcer.maps()
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Nothing is attached in the kernel, so there is nothing to read.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("nothing is attached")]
pub struct NothingAttached;

impl Explain for NothingAttached {
    fn hint(&self) -> Option<Cow<'static, str>> {
        Some(
            "`secgroup attach IFACE --group GROUP` attaches an interface; `secgroup reconcile` \
             attaches the stored ones"
                .into(),
        )
    }

    fn exit(&self) -> Exit {
        Exit::NotFound
    }
}
