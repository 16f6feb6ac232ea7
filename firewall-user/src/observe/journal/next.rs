//! The number of the next record, so that no number is given twice, even if a power failure loses records that were
//! read already: numbers are reserved on disk, in blocks, before they are given.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};

use super::JournalError;

const FILE: &str = "next";
const NEW_FILE: &str = "next.new";

/// So many numbers are reserved at once.
const BLOCK: u64 = 1 << 16;

/// Numbers from here on are not exact in JavaScript; a line that has one is damaged.
pub(super) const END: u64 = 1 << 53;

/// The reservation on disk.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Stored {
    /// Lower numbers may have been given.
    next: u64,
    /// The boot in which it was written, if more may be reserved than was given: in the same boot, what was
    /// written is still there, and tells which.
    boot: Option<String>,
}

/// The numbers of records.
#[derive(Debug)]
pub(super) struct Numbers {
    dir: PathBuf,
    boot: Option<String>,
    /// The next number.
    next: u64,
    /// Lower ones are reserved.
    reserved: u64,
}

impl Numbers {
    /// Goes on after the highest number in the journal, or after what was reserved in an earlier boot.
    pub(super) fn open(
        dir: &Path,
        after_highest: u64,
        boot: Option<String>,
    ) -> Result<Self, JournalError> {
        let path = dir.join(FILE);
        let stored: Stored = match fs::read(&path) {
            // A damaged one says nothing; the records do.
            Ok(text) => serde_json::from_slice(&text).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Stored::default(),
            Err(source) => return Err(JournalError::access(&path, "read")(source)),
        };
        let is_exact = stored.boot.is_some() && stored.boot == boot;
        let stored = if is_exact { 0 } else { stored.next.min(END) };
        let next = after_highest.max(stored).max(1);
        Ok(Self { dir: dir.to_owned(), boot, next, reserved: next })
    }

    /// The number that the next record gets.
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    /// Reserves the next number on disk, if it is not yet.
    pub(super) fn reserve(&mut self) -> Result<(), JournalError> {
        if self.next < self.reserved {
            return Ok(());
        }
        let reserved = self.next + BLOCK;
        self.store(reserved, self.boot.clone())?;
        self.reserved = reserved;
        Ok(())
    }

    /// The number was given.
    pub(super) const fn advance(&mut self) {
        self.next += 1;
    }

    /// Gives a number to no record.
    pub(super) fn skip(&mut self) -> Result<(), JournalError> {
        self.reserve()?;
        self.advance();
        Ok(())
    }

    /// Returns what is reserved and not given.
    pub(super) fn release(&mut self) -> Result<(), JournalError> {
        self.store(self.next, None)?;
        self.reserved = self.next;
        Ok(())
    }

    fn store(&self, next: u64, boot: Option<String>) -> Result<(), JournalError> {
        let (path, new) = (self.dir.join(FILE), self.dir.join(NEW_FILE));
        let write = || -> io::Result<()> {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            options.custom_flags(OFlag::O_NOFOLLOW.bits());
            let mut file = options.open(&new)?;
            file.write_all(&serde_json::to_vec(&Stored { next, boot })?)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(&self.dir)?.sync_all()
        };
        write().map_err(JournalError::access(&path, "written"))
    }
}
