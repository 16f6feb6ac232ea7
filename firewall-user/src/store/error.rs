//! Why the store did not do it.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use crate::model;

/// A failure of the store, or a refusal of what was to be stored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was asked for may not be.
    #[error(transparent)]
    Model(#[from] model::Error),
    /// The directory cannot be made.
    #[error("state directory {} cannot be made", dir.display())]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is a store of a later version.
    #[error("store {} has schema {found}, and this secgroup knows up to {known}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The latest that we know.
        known: i64,
    },
    /// The file is something else.
    #[error("{} is a database of another program", path.display())]
    Alien {
        /// The file.
        path: PathBuf,
    },
    /// The file does not hold together.
    #[error("store {} is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite or we found.
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
    /// Another process wrote for too long.
    #[error("store {} is locked by another process", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// An edit failed half-way, and a commit was asked for all the same.
    #[error("store {}: an edit failed, so the change was dropped", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
    },
    /// Anything else.
    #[error("store {}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

impl Error {
    /// What SQLite's error means to a user.
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
            // A value that no version of ours wrote.
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

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Model(error) => error.hint(),
            Self::Directory { source, .. } => Some(match source.kind() {
                io::ErrorKind::PermissionDenied => access(),
                _ => "choose another with --state-dir or SECGROUP_STATE_DIR".to_owned(),
            }),
            Self::Newer { .. } => Some(
                "a newer secgroup has used it: use that one, or another --state-dir".to_owned(),
            ),
            Self::Alien { .. } => Some("choose another with --state-dir".to_owned()),
            Self::Damaged { path, .. } => {
                let path = path.display();
                Some(format!(
                    "enforcement goes on as it is; move {path} away with its -wal and -shm, then \
                     restore a backup or secgroup apply an exported document"
                ))
            }
            Self::Access { .. } => Some(access()),
            Self::Busy { .. } => {
                Some("find it with fuser, end it, and run the command again".to_owned())
            }
            Self::Broken { .. } | Self::Sqlite { .. } => None,
        }
    }
}

fn access() -> String {
    "run as root, or choose a directory you can write with --state-dir".to_owned()
}
