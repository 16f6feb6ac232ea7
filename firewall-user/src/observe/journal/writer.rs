//! The one who writes.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufReader, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::fcntl::OFlag;

use super::next::{END, Numbers};
use super::open::OpenPeriod;
use super::segment::{Head, Line, Segment, read_line};
use super::{Account, Entry, JournalError, MIN_SIZE};
use crate::clock;
use crate::observe::record::PacketRecord;
use crate::ownership;

pub(super) const LOCK: &str = "lock";

/// How often the lock is asked for, and the pause between.
const LOCK_ATTEMPTS: u32 = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

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
    /// Where the last account in the journal ends.
    last_account: Option<i64>,
    /// What was told of the period since then.
    open: Option<OpenPeriod>,
    /// Whether there were records, or attempts to write one, since that was told.
    has_more: bool,
    /// Others could change the directory when it was last examined.
    is_refused: bool,
    lock: File,
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
        Self::open_in_boot(dir, size, clock::id().ok(), 1)
    }

    pub(super) fn open_in_boot(
        dir: &Path,
        size: u64,
        boot: Option<String>,
        first_number: u64,
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
        let mut after_highest = first_number;
        let (mut left, mut last_account) = (None, None);
        let current = match older.pop_back() {
            None => None,
            Some((segment, _)) => {
                let (current, tail) = Current::reopen(segment)?;
                after_highest = after_highest.max(tail.highest.saturating_add(1));
                (left, last_account) = left_open(tail, &older)?;
                Some(current)
            }
        };
        let numbers = Numbers::open(dir, after_highest, boot)?;
        let told = OpenPeriod::read(dir).filter(|told| told.after == last_account);
        if let Some(told) = told.filter(|told| told.lost > 0 || left.is_some()) {
            left = Some(told.account(left));
        }
        let mut writer = Self {
            dir: dir.to_owned(),
            size: size.max(MIN_SIZE),
            older,
            current,
            numbers,
            unwritten: Unwritten::default(),
            // Of a writer that was killed.
            unwritten_account: left,
            last_account,
            open: None,
            has_more: false,
            is_refused: false,
            lock,
        };
        writer.make_room(0)?;
        if let Some(account) = writer.unwritten_account.take() {
            match writer.write(&Entry::Account { account }) {
                Ok(()) => writer.last_account = Some(account.to),
                Err(_) => writer.unwritten_account = Some(account),
            }
        }
        Ok(writer)
    }

    /// Looks whether the directory is still there and safe from other users. One that was removed is created again.
    ///
    /// # Errors
    /// It cannot be created, others can change it, or another process has made it its own meanwhile.
    pub fn keep(&mut self) -> Result<(), JournalError> {
        self.restore()?;
        let examined = ownership::require_directory(&self.dir);
        self.is_refused = examined.is_err();
        Ok(examined?)
    }

    /// Whether the lock is still that of the directory.
    fn has_lock(&self) -> bool {
        let identity = |file: fs::Metadata| (file.dev(), file.ino());
        let own = self.lock.metadata().map(identity);
        let there = fs::symlink_metadata(self.dir.join(LOCK)).map(identity);
        own.is_ok() && own.ok() == there.ok()
    }

    /// Begins the journal again if the directory or the lock in it is gone. Numbers go on.
    fn restore(&mut self) -> Result<(), JournalError> {
        if self.has_lock() {
            return Ok(());
        }
        let next = self.numbers.next();
        let mut new = Self::open_in_boot(&self.dir, self.size, clock::id().ok(), next)?;
        new.unwritten = self.unwritten;
        let accounts = self.unwritten_account.into_iter().chain(new.unwritten_account);
        new.unwritten_account = accounts.reduce(Account::joined);
        *self = new;
        Ok(())
    }

    /// Tells readers of the period since the last account: when it began, when it was counted last, how many packets
    /// were lost in it, and why records cannot be written. Where that fails, they know until when was counted.
    pub fn tell_open(&mut self, from: i64, to: i64, lost: u64, problem: Option<&str>) {
        let before = self.unwritten_account;
        let open = OpenPeriod {
            after: self.last_account,
            from: before.map_or(from, |account| account.from.min(from)),
            to,
            lost: before.map_or(lost, |account| account.lost.saturating_add(lost)),
            problem: problem.map(str::to_owned),
        };
        // Nothing is written as long as nothing happens.
        let is_same =
            |told: &OpenPeriod| !self.has_more && OpenPeriod { to, ..told.clone() } == open;
        if self.is_refused || self.open.as_ref().is_some_and(is_same) {
            return;
        }
        self.open = open.store(&self.dir).is_ok().then_some(open);
        self.has_more = false;
    }

    /// Appends a record, and returns the number that it gets.
    ///
    /// # Errors
    /// It cannot be written, as with a full disk; then it is counted as lost in the next account. The error is the
    /// same for each record until one can be written: [`Self::is_failing`] tells whether it was reported.
    pub fn append(&mut self, mut record: PacketRecord) -> Result<u64, JournalError> {
        self.has_more = true;
        let packets = record.packets;
        let written = self.restore().and_then(|()| {
            record.id = self.numbers.next();
            self.numbers.reserve()?;
            let id = record.id;
            self.write(&Entry::Record(record.into())).map(|()| id)
        });
        match written {
            Ok(id) => {
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
        } else {
            self.last_account = Some(account.to);
            self.tell_open(account.to, account.to, 0, None);
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
        self.restore()?;
        if self.is_refused {
            ownership::require_directory(&self.dir)?;
        }
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
        // The directory may have been removed, and be another process's by now.
        if !self.has_lock() {
            return;
        }
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
    // One who asks whether the journal is written has it for a moment.
    for attempt in 1.. {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if attempt < LOCK_ATTEMPTS => thread::sleep(LOCK_PAUSE),
            Err(TryLockError::WouldBlock) => {
                return Err(JournalError::Busy { path: dir.to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(failed()(error)),
        }
    }
    Ok(file)
}

/// What a segment ends with.
struct Tail {
    /// The length of its whole lines.
    length: u64,
    /// The highest number that a record in it has, or may have had.
    highest: u64,
    /// Of the records after the last account.
    open: Option<Account>,
    /// Where the last account ends.
    account: Option<i64>,
}

impl Tail {
    fn of(file: File, first: u64) -> io::Result<Self> {
        let mut reader = BufReader::new(file);
        let mut tail =
            Self { length: 0, highest: first.saturating_sub(1), open: None, account: None };
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
                Ok(Entry::Account { account }) => {
                    (tail.open, tail.account) = (None, Some(account.to));
                }
                _ => {}
            }
        }
    }
}

/// The account of records that a killed writer left without one, in as many segments as they are in, and where the last
/// account before them ends.
fn left_open(
    last: Tail,
    older: &VecDeque<(Segment, u64)>,
) -> Result<(Option<Account>, Option<i64>), JournalError> {
    let Tail { mut open, mut account, .. } = last;
    for (segment, _) in older.iter().rev() {
        if account.is_some() {
            break;
        }
        let Some(file) = segment.open()? else { continue };
        let read = Tail::of(file, segment.first);
        let tail = read.map_err(JournalError::access(&segment.path, "read"))?;
        open = open.into_iter().chain(tail.open).reduce(Account::joined);
        account = tail.account;
    }
    Ok((open, account))
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
