//! Records on disk: a directory of segments, which are files of lines. A line is a record of packets, or an account
//! of what was collected since the account before it.
//!
//! One process writes, any number read meanwhile. A line is appended as a whole; one that a crash or a full disk cut
//! is not read, and removed by the next writer. The oldest segments are deleted when the directory would exceed its
//! size. Numbers of records ascend over restarts of the writer and of the host.
//!
//! Times are of the wall clock when the packets came. Where it was set back, later lines have earlier times: what is
//! chosen by time is compared line by line, never by the order of lines.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::record::PacketRecord;
use crate::explain::Explain;
use crate::ownership::{OwnershipError, access_hint};
use segment::Head;

mod coverage;
mod follow;
mod next;
mod open;
mod reader;
mod segment;
mod writer;

pub use coverage::{Coverage, Open, Recorder};
pub use follow::Follow;
pub use open::OpenPeriod;
pub use reader::{Entries, Reader};
pub use writer::Writer;

/// The directory of the journal in the state directory.
pub const DIRECTORY: &str = "records";

/// The size of the journal in bytes where the configuration has none.
pub const DEFAULT_SIZE: u64 = 64 << 20;

/// The least size of a journal in bytes: some segments of some lines.
pub const MIN_SIZE: u64 = 64 << 10;

/// The longest line in bytes. A record has about a kilobyte.
const MAX_LINE: usize = 16 << 10;

/// The journal's directory.
#[must_use]
pub fn directory(state_dir: &Path) -> PathBuf {
    state_dir.join(DIRECTORY)
}

/// A line of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Entry {
    /// An account of the records before it.
    Account {
        /// The account.
        account: Account,
    },
    /// A record of packets.
    Record(Box<PacketRecord>),
}

/// How the line of an account begins.
const ACCOUNT: &[u8] = br#"{"account":"#;

#[derive(Deserialize)]
struct AccountLine {
    account: Account,
}

impl Entry {
    fn parse(line: &[u8]) -> serde_json::Result<Self> {
        if line.starts_with(ACCOUNT) {
            let AccountLine { account } = serde_json::from_slice(line)?;
            return Ok(Self::Account { account });
        }
        serde_json::from_slice(line).map(Self::Record)
    }
}

/// What became of the packets of a period: `seen` is the sum of the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Beginning of the period: milliseconds since 1970, UTC.
    pub from: i64,
    /// Its end.
    pub to: i64,
    /// Packets that were to be recorded.
    pub seen: u64,
    /// Records in the journal: each is one packet of its own.
    pub kept: u64,
    /// Packets that a record counts beside its first one.
    pub aggregated: u64,
    /// Packets in no record: beyond the kernel's rate limit or its ring buffer, or not written.
    pub lost: u64,
    /// More may be lost than is known: the collector was killed, or has not ended the period yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
}

impl Account {
    /// Both periods as one.
    #[must_use]
    pub fn joined(self, other: Self) -> Self {
        Self {
            from: self.from.min(other.from),
            to: self.to.max(other.to),
            seen: self.seen.saturating_add(other.seen),
            kept: self.kept.saturating_add(other.kept),
            aggregated: self.aggregated.saturating_add(other.aggregated),
            lost: self.lost.saturating_add(other.lost),
            partial: self.partial || other.partial,
        }
    }

    /// What a record alone says.
    const fn of_record(head: Head, packets: u64) -> Self {
        let Head { first, last, .. } = head;
        let aggregated = packets.saturating_sub(1);
        Self { from: first, to: last, seen: packets, kept: 1, aggregated, lost: 0, partial: true }
    }
}

/// The journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Its directory is not safe from other users, or cannot be created.
    #[error("journal of records")]
    Ownership(#[from] OwnershipError),
    /// Another process writes it.
    #[error("another process writes the journal of records {}", path.display())]
    Busy {
        /// Its directory.
        path: PathBuf,
    },
    /// A file cannot be used.
    #[error("{} cannot be {what}", path.display())]
    Access {
        /// The file.
        path: PathBuf,
        /// `opened`, `read`, `written`, …
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl JournalError {
    fn access(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Access { path, what, source }
    }
}

impl Explain for JournalError {
    fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Ownership(error) => error.hint(),
            Self::Busy { .. } => Some(
                "`secgroup serve`, or a `secgroup drops --follow`, collects already: read what it writes with \
                 `secgroup drops`"
                    .into(),
            ),
            Self::Access { source, .. } => access_hint(source),
        }
    }
}

#[cfg(test)]
mod tests;
