//! The lock that a changing command holds.

use std::borrow::Cow;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::Control;
use crate::explain::Explain;

/// The lock's name in the state directory.
const LOCK: &str = "lock";

/// How long a command waits for another one before it prints a notice.
const NOTICE_AFTER: Duration = Duration::from_secs(1);

/// The lock cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("lock {}", path.display())]
pub struct LockError {
    path: PathBuf,
    source: io::Error,
}

impl Explain for LockError {
    fn hint(&self) -> Option<Cow<'static, str>> {
        Some("run as root, or choose a directory you can write with --state-dir".into())
    }
}

impl Control {
    /// Waits until no other command is changing something. The lock is released with the file, also
    /// if the process is killed. The store has a lock of its own; this one also covers the kernel's
    /// state, which must follow the store in order.
    pub(super) fn lock(&self) -> Result<File, LockError> {
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

/// Waits for the lock, and prints a notice if that takes long.
fn wait(file: &File, path: &Path) -> io::Result<()> {
    let (done, waited) = mpsc::channel::<()>();
    let path = path.display().to_string();
    let notice = thread::spawn(move || {
        if waited.recv_timeout(NOTICE_AFTER) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!(
                "secgroup: waiting for another secgroup command to finish (`fuser {path}` finds it)"
            );
        }
    });
    let result = file.lock();
    // The thread ends at once when its channel closes.
    drop(done);
    let _ = notice.join();
    result
}
