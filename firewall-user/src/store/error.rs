//! Errors of the store.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use crate::explain::{Exit, Explain};
use crate::model;

/// A failure of the store, or a refused edit.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The edit contradicts the stored objects or a limit.
    #[error(transparent)]
    Model(#[from] model::Error),
    /// The directory cannot be created.
    #[error("create state directory {}", dir.display())]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
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
    #[error("store {} cannot be {what}: {reason}", path.display())]
    Access {
        /// The file.
        path: PathBuf,
        /// `opened` or `written`.
        what: &'static str,
        /// Why.
        reason: String,
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
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                Self::Damaged { path, reason }
            }
            Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                Self::Access { path, what: "opened", reason }
            }
            Some(ErrorCode::ReadOnly) => Self::Access { path, what: "written", reason },
            Some(ErrorCode::DiskFull) => Self::Access { path, what: "written", reason },
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

impl Explain for Error {
    fn hint(&self) -> Option<Cow<'static, str>> {
        Some(match self {
            Self::Model(error) => return Explain::hint(error),
            Self::Directory { source, .. } if source.kind() != io::ErrorKind::PermissionDenied => {
                "choose another directory with --state-dir or SECGROUP_STATE_DIR".into()
            }
            Self::Directory { .. } | Self::Access { .. } => {
                "run as root, or choose a directory you can write with --state-dir".into()
            }
            Self::Schema { .. } => {
                "use the secgroup version that wrote it: its `secgroup export` writes a document that \
                 `secgroup apply` of this version reads; or choose another --state-dir"
                    .into()
            }
            Self::OtherProgram { .. } => "choose another directory with --state-dir".into(),
            Self::Damaged { path, .. } => {
                let path = path.display();
                format!(
                    "enforcement continues; move {path}, {path}-wal and {path}-shm away, then restore \
                     a backup or `secgroup apply` an exported document"
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
