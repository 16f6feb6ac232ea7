//! One change at a time: what every command that changes something goes through.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::config::{Config, Paths};
use crate::model::Model;
use crate::store::{Store, Transaction};

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

/// The way to the store, and to what the store's contents mean for this host.
#[derive(Debug)]
pub struct Control {
    paths: Paths,
    config: Config,
    store: Store,
}

impl Control {
    /// Opens the store.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(paths: &Paths, config: Config) -> Result<Self> {
        let store = Store::open_with(&paths.state_dir, config.limits)?;
        Ok(Self { paths: paths.clone(), config, store })
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

    /// Makes a change: all that `edit` does, or nothing when it fails.
    ///
    /// # Errors
    /// `edit`'s, and when the change cannot be made.
    pub fn change<T>(&mut self, edit: impl FnOnce(&mut Transaction<'_>) -> Result<T>) -> Result<T> {
        let _lock = self.lock()?;
        let mut transaction = self.store.begin()?;
        let value = edit(&mut transaction)?;
        transaction.commit()?;
        Ok(value)
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
        let _lock = self.lock()?;
        let mut transaction = self.store.begin()?;
        edit(&mut transaction)
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
                Err(TryLockError::WouldBlock) => wait(&file).map(|()| file),
                Err(TryLockError::Error(error)) => Err(error),
            }
        };
        locked().map_err(|source| LockError { path: path.clone(), source })
    }
}

/// Waits for the lock, and says so if that takes long.
fn wait(file: &File) -> io::Result<()> {
    let (done, waited) = mpsc::channel::<()>();
    let teller = thread::spawn(move || {
        if waited.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("secgroup: waiting for another secgroup command to finish");
        }
    });
    let result = file.lock();
    // The teller wakes at once when its channel closes.
    drop(done);
    let _ = teller.join();
    result
}
