//! Errors of the store.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};
use rusqlite::ErrorCode;

use crate::explain::{Exit, Explain};
use crate::model;
use crate::ownership::{OwnershipError, access_hint};

const ANOTHER_DIRECTORY: &str = "choose another directory with --state-dir";

/// A failure of the store, or a refused edit.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The edit contradicts the stored objects or a limit.
    #[error(transparent)]
    Model(#[from] model::Error),
    /// The directory cannot be created, or somebody else can change it.
    #[error("state directory")]
    Directory(#[from] OwnershipError),
    /// The file is a store of another version of secgroup.
    #[error("store {} has schema {found}, and this secgroup uses schema {expected}", path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The schema of this program.
        expected: i64,
    },
    /// The file belongs to another program.
    #[error("{} is a database of another program", path.display())]
    OtherProgram {
        /// The file.
        path: PathBuf,
    },
    /// The file is inconsistent.
    #[error("store {} is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is inconsistent.
        reason: String,
    },
    /// The file cannot be opened or written.
    #[error("store {} cannot be {what}", path.display())]
    Access {
        /// The file.
        path: PathBuf,
        /// `opened` or `written`.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Another process holds the write lock for too long.
    #[error("store {} is locked by another process", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// An edit was written in part, so the transaction cannot be committed.
    #[error("store {}: an edit failed, so the change was not made", path.display())]
    Incomplete {
        /// The file.
        path: PathBuf,
    },
    /// Any other error of SQLite.
    #[error("store {}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// The error.
        source: rusqlite::Error,
    },
}

impl Error {
    /// Classifies an error of SQLite.
    pub(super) fn sqlite(path: &Path, error: rusqlite::Error) -> Self {
        let path = path.to_owned();
        let reason = error.to_string();
        let access = |path, what, errno: Errno| Self::Access { path, what, source: errno.into() };
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                Self::Damaged { path, reason }
            }
            Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                let errno = why_not_opened(&path);
                access(path, "opened", errno)
            }
            Some(ErrorCode::ReadOnly) => {
                let errno = why_not(&path, AccessFlags::W_OK).unwrap_or(Errno::EACCES);
                access(path, "written", errno)
            }
            Some(ErrorCode::DiskFull) => access(path, "written", Errno::ENOSPC),
            Some(ErrorCode::SystemIoFailure) if is_full(&path) => {
                access(path, "written", Errno::ENOSPC)
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy { path },
            // A value that secgroup does not write.
            None if matches!(
                error,
                rusqlite::Error::FromSqlConversionFailure(..)
                    | rusqlite::Error::IntegralValueOutOfRange(..)
                    | rusqlite::Error::InvalidColumnType(..)
            ) =>
            {
                Self::Damaged { path, reason }
            }
            _ => Self::Sqlite { path, source: error },
        }
    }
}

// SQLite does not pass the error number of the system on. These find it without opening the file: closing
// it would release the locks that SQLite holds on it (fcntl_locking(2)).

/// Why this process may not use a file so.
fn why_not(path: &Path, how: AccessFlags) -> Option<Errno> {
    access(path, how).err()
}

fn why_not_opened(path: &Path) -> Errno {
    if path.is_dir() {
        return Errno::EISDIR;
    }
    match why_not(path, AccessFlags::R_OK) {
        // It was to be created, in its directory.
        Some(Errno::ENOENT) => path
            .parent()
            .and_then(|dir| why_not(dir, AccessFlags::W_OK | AccessFlags::X_OK))
            .unwrap_or(if is_full(path) { Errno::ENOSPC } else { Errno::ENOENT }),
        Some(errno) => errno,
        None if is_full(path) => Errno::ENOSPC,
        // A journal of a killed process is to be rolled back, and cannot be.
        None => why_not(path, AccessFlags::W_OK).unwrap_or(Errno::EIO),
    }
}

/// Whether its file system has no space left.
fn is_full(path: &Path) -> bool {
    let dir = path.parent().unwrap_or(path);
    statvfs(dir).is_ok_and(|status| status.blocks_available() == 0)
}

impl Explain for Error {
    fn hint(&self) -> Option<Cow<'static, str>> {
        Some(match self {
            Self::Model(error) => return Explain::hint(error),
            Self::Directory(error) => {
                return Explain::hint(error).or(Some(ANOTHER_DIRECTORY.into()));
            }
            Self::Access { source, .. } => {
                return access_hint(source).or(Some(ANOTHER_DIRECTORY.into()));
            }
            Self::Schema { .. } => {
                "use the secgroup version that wrote it: its `secgroup export` writes a document that \
                 `secgroup apply` of this version reads; or choose another --state-dir"
                    .into()
            }
            Self::OtherProgram { .. } => ANOTHER_DIRECTORY.into(),
            Self::Damaged { path, .. } => {
                let path = path.display();
                format!(
                    "enforcement continues, and `secgroup detach --all` ends it; move {path} and \
                     {path}-journal away, then restore a backup or `secgroup apply` an exported document"
                )
                .into()
            }
            Self::Busy { path } => {
                format!("`fuser {}` finds the process; wait for its end, and retry", path.display())
                    .into()
            }
            Self::Incomplete { .. } | Self::Sqlite { .. } => return None,
        })
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Model(error) => Explain::exit(error),
            _ => Exit::Failed,
        }
    }
}
