//! The period that has no account yet: what was lost in it so far, and whether records can be written. It is a file of
//! fixed length that is overwritten in place, so that it says so on a full disk too.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};

use super::Account;
use super::writer::LOCK;
use crate::ownership;

const FILE: &str = "open";

/// The length of the file in bytes; what is shorter is filled with spaces.
const LENGTH: usize = 1024;

/// The longest text of a problem in characters; escaped, each may be six bytes.
const MAX_PROBLEM: usize = 120;

/// What is known of the packets since the last account. Those that are in records are told by these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenPeriod {
    /// Where the last account in the journal ends, by which it is known whether this is still of the period after it.
    pub(super) after: Option<i64>,
    /// Its beginning: milliseconds since 1970, UTC.
    pub from: i64,
    /// When was counted last.
    pub to: i64,
    /// Packets in no record.
    pub lost: u64,
    /// Why records cannot be written now; `None`: they can.
    pub problem: Option<String>,
}

impl OpenPeriod {
    /// That of a directory; `None` if it is not there, or being written.
    pub(super) fn read(dir: &Path) -> Option<Self> {
        let mut text = Vec::new();
        open(&dir.join(FILE))?.take(LENGTH as u64).read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// The account of the period, as far as it is known, with what the records in it say.
    pub(super) fn account(&self, records: Option<Account>) -> Account {
        let Self { from, to, lost, .. } = *self;
        let own = Account { from, to, seen: lost, lost, partial: true, ..Account::default() };
        records.map_or(own, |records| records.joined(own))
    }

    /// Writes it.
    pub(super) fn store(&self, dir: &Path) -> io::Result<()> {
        let problem = self.problem.as_ref();
        let problem = problem.map(|text| text.chars().take(MAX_PROBLEM).collect());
        let mut text = serde_json::to_vec(&Self { problem, ..self.clone() })?;
        text.resize(LENGTH.max(text.len()), b' ');
        let path = dir.join(FILE);
        ownership::create_file(&path).map_err(io::Error::other)?;
        let mut options = OpenOptions::new();
        options.write(true).custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
        options.open(&path)?.write_all_at(&text, 0)
    }
}

/// Whether a process writes the journal of a directory now. It is asked by a lock that is held for no longer than that.
pub(super) fn is_written(dir: &Path) -> bool {
    let lock = open(&dir.join(LOCK));
    lock.is_some_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

fn open(path: &Path) -> Option<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
    options.open(path).ok().filter(|file| file.metadata().is_ok_and(|file| file.is_file()))
}
