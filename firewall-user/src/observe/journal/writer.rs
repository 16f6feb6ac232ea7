//! The one who writes.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufReader, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::next::{END, Numbers};
use super::segment::{Head, Line, Segment, read_line};
use super::{Account, Entry, JournalError, MIN_SIZE};
use crate::clock;
use crate::observe::record::PacketRecord;
use crate::ownership;

const LOCK: &str = "lock";

/// The journal has about so many segments when it is full: this part of it goes at once.
const SEGMENTS: u64 = 16;

/// Writes the journal; holds its lock.
#[derive(Debug)]
pub struct Writer {
    dir: PathBuf,
    /// The most bytes of all segments.
    size: u64,
    /// Segments before the current one, with their lengths, the oldest first.
    older: VecDeque<(Segment, u64)>,
    current: Option<Current>,
    numbers: Numbers,
    /// What records would have counted that could not be written, since the last account.
    unwritten: Unwritten,
    /// An account that could not be written.
    unwritten_account: Option<Account>,
    _lock: File,
}

/// The segment that is appended to.
#[derive(Debug)]
struct Current {
    segment: Segment,
    /// `None` after [`Writer::rest`], until the next line.
    file: Option<File>,
    /// The length of its whole lines.
    length: u64,
    /// A line was written in part and could not be removed.
    is_cut: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Unwritten {
    records: u64,
    packets: u64,
}

impl Writer {
    /// Opens the journal in a directory, and creates it if there is none. `size` is the most that its segments
    /// take in bytes, at least [`MIN_SIZE`]; what exceeds it is deleted, the oldest first.
    ///
    /// # Errors
    /// Another process writes it; others can change the directory; or a file cannot be read or written.
    pub fn open(dir: &Path, size: u64) -> Result<Self, JournalError> {
        Self::open_in_boot(dir, size, clock::id().ok())
    }

    pub(super) fn open_in_boot(
        dir: &Path,
        size: u64,
        boot: Option<String>,
    ) -> Result<Self, JournalError> {
        ownership::create_directory(dir)?;
        let lock = lock(dir)?;
        let mut older = VecDeque::new();
        for segment in Segment::list(dir)? {
            // One that is no file is left alone.
            let Some(file) = segment.open()? else { continue };
            let metadata = file.metadata();
            let metadata = metadata.map_err(JournalError::access(&segment.path, "examined"))?;
            older.push_back((segment, metadata.len()));
        }
        let mut after_highest = 1;
        let mut left = None;
        let current = match older.pop_back() {
            None => None,
            Some((segment, _)) => {
                let (current, tail) = Current::reopen(segment)?;
                after_highest = tail.highest.saturating_add(1);
                left = left_open(tail, &older)?;
                Some(current)
            }
        };
        let numbers = Numbers::open(dir, after_highest, boot)?;
        let mut writer = Self {
            dir: dir.to_owned(),
            size: size.max(MIN_SIZE),
            older,
            current,
            numbers,
            unwritten: Unwritten::default(),
            // Of a writer that was killed.
            unwritten_account: left,
            _lock: lock,
        };
        writer.make_room(0)?;
        if let Some(account) = writer.unwritten_account.take()
            && writer.write(&Entry::Account { account }).is_err()
        {
            writer.unwritten_account = Some(account);
        }
        Ok(writer)
    }

    /// Appends a record, and returns the number that it gets.
    ///
    /// # Errors
    /// It cannot be written, as with a full disk; then it is counted as lost in the next account. The error is the
    /// same for each record until one can be written: [`Self::is_failing`] tells whether it was reported.
    pub fn append(&mut self, mut record: PacketRecord) -> Result<u64, JournalError> {
        record.id = self.numbers.next();
        let (id, packets) = (record.id, record.packets);
        let written =
            self.numbers.reserve().and_then(|()| self.write(&Entry::Record(record.into())));
        match written {
            Ok(()) => {
                self.numbers.advance();
                Ok(id)
            }
            Err(error) => {
                self.unwritten.records += 1;
                self.unwritten.packets = self.unwritten.packets.saturating_add(packets);
                Err(error)
            }
        }
    }

    /// Whether a record since the last account, or that account, could not be written.
    #[must_use]
    pub const fn is_failing(&self) -> bool {
        self.unwritten.records > 0 || self.unwritten_account.is_some()
    }

    /// Appends the account of the records since the last one, corrected by those that could not be written, and
    /// waits until all is on disk.
    ///
    /// # Errors
    /// It cannot be written; then the next one includes it.
    pub fn account(&mut self, account: Account) -> Result<(), JournalError> {
        let Unwritten { records, packets } = std::mem::take(&mut self.unwritten);
        let mut account = Account {
            kept: account.kept.saturating_sub(records),
            aggregated: account.aggregated.saturating_sub(packets.saturating_sub(records)),
            lost: account.lost.saturating_add(packets),
            ..account
        };
        if let Some(before) = self.unwritten_account.take() {
            account = before.joined(account);
        }
        let written = self.write(&Entry::Account { account }).and_then(|()| self.sync());
        if written.is_err() {
            self.unwritten_account = Some(account);
        }
        written
    }

    /// Closes the file until the next line, so that the file system can be mounted read-only meanwhile.
    ///
    /// # Errors
    /// What was written cannot be brought to the disk.
    pub fn rest(&mut self) -> Result<(), JournalError> {
        let synced = self.sync();
        if let Some(current) = &mut self.current {
            current.file = None;
        }
        synced
    }

    /// Bytes of all segments.
    #[must_use]
    pub fn size(&self) -> u64 {
        let older: u64 = self.older.iter().map(|(_, length)| length).sum();
        older + self.current.as_ref().map_or(0, |current| current.length)
    }

    fn sync(&self) -> Result<(), JournalError> {
        let Some(current) = &self.current else { return Ok(()) };
        let failed = JournalError::access(&current.segment.path, "written");
        current.file.as_ref().map_or(Ok(()), File::sync_data).map_err(failed)
    }

    fn write(&mut self, entry: &Entry) -> Result<(), JournalError> {
        let failed = || JournalError::access(&self.dir, "written");
        let mut line = serde_json::to_vec(entry).map_err(io::Error::from).map_err(failed())?;
        line.push(b'\n');
        let length = line.len() as u64;
        let is_full = |current: &Current| {
            current.length > 0 && current.length + length > self.size / SEGMENTS
        };
        if let Some(current) = self.current.take_if(|current| is_full(current) || current.is_gone())
        {
            if current.segment.first == self.numbers.next() {
                // It has accounts alone, and the next one needs another name.
                self.numbers.skip()?;
            }
            self.older.push_back((current.segment, current.length));
        }
        self.make_room(length)?;
        let current = match &mut self.current {
            Some(current) => current,
            None => {
                let first = self.numbers.next();
                self.current.insert(Current::create(Segment::new(&self.dir, first))?)
            }
        };
        current.append(&line)
    }

    /// Deletes the oldest segments until so many bytes fit.
    fn make_room(&mut self, bytes: u64) -> Result<(), JournalError> {
        while self.size() + bytes > self.size
            && let Some((segment, _)) = self.older.front()
        {
            match fs::remove_file(&segment.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(JournalError::access(&segment.path, "deleted")(error));
                }
                _ => self.older.pop_front(),
            };
        }
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Where it fails, the next writer begins after what is reserved.
        let _ = self.sync().and_then(|()| self.numbers.release());
    }
}

fn lock(dir: &Path) -> Result<File, JournalError> {
    let path = dir.join(LOCK);
    ownership::create_file(&path)?;
    let failed = || JournalError::access(&path, "locked");
    let mut options = OpenOptions::new();
    // Only for reading: a file that is open for writing keeps a file system from being mounted read-only.
    let file = options.read(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(&path);
    let file = file.map_err(failed())?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(JournalError::Busy { path: dir.to_owned() }),
        Err(TryLockError::Error(error)) => Err(failed()(error)),
    }
}

/// What a segment ends with.
struct Tail {
    /// The length of its whole lines.
    length: u64,
    /// The highest number that a record in it has, or may have had.
    highest: u64,
    /// Of the records after the last account.
    open: Option<Account>,
    has_account: bool,
}

impl Tail {
    fn of(file: File, first: u64) -> io::Result<Self> {
        let mut reader = BufReader::new(file);
        let mut tail =
            Self { length: 0, highest: first.saturating_sub(1), open: None, has_account: false };
        let mut line = Vec::new();
        loop {
            match read_line(&mut reader, &mut line, &mut tail.length)? {
                Line::End => return Ok(tail),
                Line::TooLong => continue,
                Line::Whole => {}
            }
            match Entry::parse(&line) {
                Ok(Entry::Record(record)) if record.id < END => {
                    let head = Head { id: record.id, first: record.first, last: record.last };
                    let one = Account::of_record(head, record.packets);
                    tail.highest = tail.highest.max(record.id);
                    tail.open = Some(tail.open.map_or(one, |before| before.joined(one)));
                }
                Ok(Entry::Account { .. }) => (tail.open, tail.has_account) = (None, true),
                _ => {}
            }
        }
    }
}

/// The account of records that a killed writer left without one, in as many segments as they are in.
fn left_open(
    last: Tail,
    older: &VecDeque<(Segment, u64)>,
) -> Result<Option<Account>, JournalError> {
    let Tail { mut open, mut has_account, .. } = last;
    for (segment, _) in older.iter().rev() {
        if has_account {
            break;
        }
        let Some(file) = segment.open()? else { continue };
        let read = Tail::of(file, segment.first);
        let tail = read.map_err(JournalError::access(&segment.path, "read"))?;
        open = open.into_iter().chain(tail.open).reduce(Account::joined);
        has_account = tail.has_account;
    }
    Ok(open)
}

impl Current {
    fn create(segment: Segment) -> Result<Self, JournalError> {
        let file = segment.append(true)?;
        Ok(Self { segment, file: Some(file), length: 0, is_cut: false })
    }

    /// Goes on with a segment: removes a line that is cut.
    fn reopen(segment: Segment) -> Result<(Self, Tail), JournalError> {
        let failed = |what| JournalError::access(&segment.path, what);
        let file = segment.append(false)?;
        let read = file.try_clone().map_err(failed("opened"))?;
        let tail = Tail::of(read, segment.first).map_err(failed("read"))?;
        file.set_len(tail.length).map_err(failed("repaired"))?;
        Ok((Self { segment, file: Some(file), length: tail.length, is_cut: false }, tail))
    }

    /// Whether the file was deleted, or something else has its name.
    fn is_gone(&self) -> bool {
        match &self.file {
            Some(file) => file.metadata().is_ok_and(|metadata| metadata.nlink() == 0),
            None => fs::symlink_metadata(&self.segment.path).is_err(),
        }
    }

    /// Appends a line, all of it or nothing.
    fn append(&mut self, line: &[u8]) -> Result<(), JournalError> {
        let Self { segment, file, length, is_cut } = self;
        let file = match file {
            Some(file) => file,
            // What it has by now is removed, if it is not what this process has written.
            None => {
                *is_cut = true;
                file.insert(segment.append(false)?)
            }
        };
        let mut write = || -> io::Result<()> {
            if *is_cut {
                file.set_len(*length)?;
            }
            *is_cut = true;
            file.write_all(line)
        };
        write().map_err(|error| {
            // A part of the line may be there; if it cannot be removed now, then before the next one.
            *is_cut = file.set_len(*length).is_err();
            JournalError::access(&segment.path, "written")(error)
        })?;
        *is_cut = false;
        *length += line.len() as u64;
        Ok(())
    }
}
