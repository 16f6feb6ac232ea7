//! Errors of the hits of rules.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;

use crate::explain::{Exit, Explain};
use crate::ownership::{OwnershipError, access_hint};

/// Why hits cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum HitsError {
    /// The file cannot be read or written.
    #[error("hits of rules {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// It is of another version, or of another program.
    #[error("{} is not a file of hits of this version", path.display())]
    Version {
        /// The file.
        path: PathBuf,
    },
    /// The lock cannot be taken.
    #[error("lock {}", path.display())]
    Lock {
        /// The lock.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another user can change the directory or the file.
    #[error(transparent)]
    Ownership(#[from] OwnershipError),
    /// Rules were not watched for as long as was asked for.
    #[error("rules were not watched for {asked}: {watched}")]
    NotWatched {
        /// The window.
        asked: String,
        /// Since when they were, or when they were not.
        watched: String,
        /// The longest window that was watched.
        longest: String,
    },
}

impl Explain for HitsError {
    fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::File { .. } => Some(
                "where the file is damaged, move it away: the rules are counted anew, from the kernel's counters"
                    .into(),
            ),
            Self::Version { .. } => {
                Some("move the file away: the rules are counted anew, from the kernel's counters".into())
            }
            Self::Lock { source, .. } => access_hint(source),
            Self::Ownership(error) => error.hint(),
            Self::NotWatched { longest, .. } if longest == "0s" => {
                Some("`secgroup serve` has to run all the time".into())
            }
            Self::NotWatched { longest, .. } => Some(
                format!("`--since {longest}` is watched; `secgroup serve` has to run all the time").into(),
            ),
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::NotWatched { .. } => Exit::NotFound,
            _ => Exit::Failed,
        }
    }
}
