//! The lock that a changing command holds.

use std::borrow::Cow;
use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::sys::stat::{major, minor};
use nix::unistd::geteuid;
use procfs::{Lock, LockType};

use super::{Control, watch};
use crate::explain::Explain;
use crate::journal;
use crate::ownership::{self, OwnershipError, access_hint};

/// The lock's name in the state directory.
const LOCK: &str = "lock";

/// How long a command waits for another one before it prints a notice.
const NOTICE_AFTER: Duration = Duration::from_secs(1);

/// How long an emergency command waits for another one.
const PATIENCE: Duration = Duration::from_secs(3);

/// How often it tries meanwhile.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// How long a command waits for the lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Patience {
    /// Until the lock is free.
    #[default]
    Endless,
    /// [`PATIENCE`]: the command is for an emergency.
    Short,
}

/// The lock cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// It cannot be opened.
    #[error("lock {}", path.display())]
    Access {
        /// The lock.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else can change it, or owns it.
    #[error("lock")]
    Ownership(#[from] OwnershipError),
    /// Another command holds it for too long, and may be in the middle of a change.
    #[error("{holder} has held the lock {} for more than {} s", path.display(), PATIENCE.as_secs())]
    Held {
        /// The lock.
        path: PathBuf,
        /// Who.
        holder: Holder,
    },
}

impl Explain for LockError {
    fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Access { source, .. } => access_hint(source),
            Self::Ownership(error) => error.hint(),
            Self::Held { holder: Holder::Process(Process { id, .. }), .. } => Some(
                format!(
                    "nothing was changed, because that command may be in the middle of a change; `kill -9 \
                     {id}` ends it at any moment without harm; then retry"
                )
                .into(),
            ),
            Self::Held { path, holder: Holder::Unknown } => Some(
                format!("nothing was changed; `fuser {}` may find the process", path.display()).into(),
            ),
        }
    }
}

/// Who holds the lock.
#[derive(Debug)]
pub enum Holder {
    /// A process.
    Process(Process),
    /// A process that is not visible here: one of another PID namespace, for example.
    Unknown,
}

/// A process that holds the lock.
#[derive(Debug)]
pub struct Process {
    id: i32,
    user: u32,
    command: String,
    /// Whether it runs a program named as this one, so that it may change store and kernel.
    is_secgroup: bool,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(Process { id, user, command, .. }) => {
                write!(f, "process {id} of user {user} (`{command}`)")
            }
            Self::Unknown => write!(f, "a process that /proc/locks does not show"),
        }
    }
}

impl Holder {
    /// The process that holds the lock of an opened file.
    fn of(file: &File) -> Self {
        let found = || {
            let metadata = file.metadata().ok()?;
            let mut locks = procfs::locks().ok()?;
            locks.retain(|lock| lock.lock_type == LockType::FLock && lock.inode == metadata.ino());
            let device = (major(metadata.dev()), minor(metadata.dev()));
            let is_here = |lock: &&Lock| (lock.devmaj.into(), lock.devmin.into()) == device;
            // Some file systems show another device number in one of the two places.
            let lock = locks.iter().find(is_here).or(locks.first())?;
            Process::of(lock.pid.filter(|id| *id > 0)?)
        };
        found().map_or(Self::Unknown, Self::Process)
    }

    /// Whether it cannot be changing what the lock protects: it is no secgroup command of a user who may.
    const fn is_harmless(&self, this_user: u32) -> bool {
        match self {
            Self::Process(Process { user, is_secgroup, .. }) => {
                !*is_secgroup || (*user != 0 && *user != this_user)
            }
            Self::Unknown => false,
        }
    }
}

impl Process {
    fn of(id: i32) -> Option<Self> {
        let directory = PathBuf::from(format!("/proc/{id}"));
        let user = fs::metadata(&directory).ok()?.uid();
        let line = fs::read(directory.join("cmdline")).ok()?;
        let words = line.split(|byte| *byte == 0).filter(|word| !word.is_empty());
        let words: Vec<_> = words.map(String::from_utf8_lossy).collect();
        // The kernel's word for its program; the command line is what it says about itself.
        let program = fs::read_link(directory.join("exe")).unwrap_or_default();
        let this = std::env::current_exe().unwrap_or_default();
        let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
        let is_secgroup = name(&program).is_none_or(|program| {
            // An executable that was replaced while it runs.
            let program = program.trim_end_matches(" (deleted)");
            program == "secgroup" || name(&this).is_some_and(|this| this == program)
        });
        Some(Self { id, user, command: words.join(" "), is_secgroup })
    }
}

impl Control {
    /// Makes this a command for an emergency: it waits for others for a short time only.
    #[must_use]
    pub fn in_emergency(mut self) -> Self {
        self.patience = Patience::Short;
        // Where it fails, the store is waited for as always.
        let _ = self.store.wait_at_most(PATIENCE);
        self
    }

    /// Waits until no other command is changing something. The lock is released with the file, also
    /// if the process is killed. The store has a lock of its own; this one also covers the kernel's
    /// state, which must follow the store in order.
    ///
    /// # Errors
    /// It cannot be opened, or in an emergency another command holds it.
    pub(super) fn lock(&self) -> Result<File, LockError> {
        let dir = &self.paths.state_dir;
        ownership::require_directory(dir)?;
        let path = dir.join(LOCK);
        let failed = |source| LockError::Access { path: path.clone(), source };
        let file = match open(&path) {
            Ok(file) => file,
            // It cannot be created. Nobody else can create it either: the directory stands in for it.
            Err(LockError::Access { source, .. }) if cannot_be_created(&source) => {
                File::open(dir).map_err(failed)?
            }
            Err(error) => return Err(error),
        };
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
            Err(TryLockError::WouldBlock) => {}
        }
        match self.patience {
            Patience::Endless => wait(&file, &path).map_err(failed)?,
            Patience::Short if wait_shortly(&file).map_err(failed)? => {}
            Patience::Short => {
                let holder = Holder::of(&file);
                if !holder.is_harmless(geteuid().as_raw()) {
                    return Err(LockError::Held { path, holder });
                }
                watch::report(&format!(
                    "{holder} holds the lock {}, and is no secgroup command: going on without it",
                    path.display()
                ));
            }
        }
        Ok(file)
    }
}

/// Opens the lock, and creates it if it does not exist: only its owner may, so that no other user can hold
/// it.
fn open(path: &Path) -> Result<File, LockError> {
    ownership::create_file(path).map_err(|error| match error {
        OwnershipError::Access { path, source, .. } => LockError::Access { path, source },
        other => other.into(),
    })?;
    let mut options = OpenOptions::new();
    // For reading: it need not be writable to be locked.
    options.read(true).custom_flags(OFlag::O_NOFOLLOW.bits());
    options.open(path).map_err(|source| LockError::Access { path: path.to_owned(), source })
}

fn cannot_be_created(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
    )
}

/// Waits for the lock for [`PATIENCE`]; returns whether it was free.
fn wait_shortly(file: &File) -> io::Result<bool> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        thread::sleep(RETRY_INTERVAL);
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(false)
}

/// Waits for the lock, and prints a notice if that takes long.
fn wait(file: &File, path: &Path) -> io::Result<()> {
    let (done, waited) = mpsc::channel::<()>();
    let path = path.display().to_string();
    let notice = thread::spawn(move || {
        if waited.recv_timeout(NOTICE_AFTER) == Err(mpsc::RecvTimeoutError::Timeout) {
            journal::report(format_args!(
                "waiting for another secgroup command to finish (`fuser {path}` finds it)"
            ));
        }
    });
    let result = file.lock();
    // The thread ends at once when its channel closes.
    drop(done);
    let _ = notice.join();
    result
}
