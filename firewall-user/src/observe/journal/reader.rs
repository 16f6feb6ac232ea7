//! Those who read, also while the journal is written.

use std::collections::VecDeque;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use super::coverage::{Coverage, Recorder};
use super::follow::Follow;
use super::open::{self, OpenPeriod};
use super::segment::{Head, Line, Segment, read_line};
use super::{ACCOUNT, Account, Entry, JournalError};
use crate::clock::Clocks;
use crate::observe::record::PacketRecord;
use crate::ownership;

/// How often the journal is read until its lines are of the period that its writer tells of.
const ATTEMPTS: u32 = 3;

/// Reads the journal.
#[derive(Clone, Debug)]
pub struct Reader {
    dir: PathBuf,
}

impl Reader {
    /// The journal in a directory; an empty one if it does not exist.
    ///
    /// # Errors
    /// Others can change the directory, so that its lines are not to be believed.
    pub fn open(dir: &Path) -> Result<Self, JournalError> {
        ownership::require_directory(dir)?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// All lines, the oldest first. Lines that are written meanwhile may be among them.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn entries(&self) -> Result<Entries, JournalError> {
        Ok(Entries::new(Segment::list(&self.dir)?, i64::MIN))
    }

    /// The records whose last packet came at a time or later, in milliseconds since 1970, in the order of their
    /// numbers; and all accounts.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn since(&self, time: i64) -> Result<Entries, JournalError> {
        Ok(Entries::new(Segment::list(&self.dir)?, time))
    }

    /// The last `count` of the records that are chosen, in the order of their numbers.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn last(
        &self,
        count: usize,
        mut is_chosen: impl FnMut(&PacketRecord) -> bool,
    ) -> Result<Vec<PacketRecord>, JournalError> {
        let mut found: VecDeque<PacketRecord> = VecDeque::new();
        // From the newest segment back; within one, lines are read forwards.
        for segment in Segment::list(&self.dir)?.into_iter().rev() {
            let missing = count - found.len();
            if missing == 0 {
                break;
            }
            let mut of_segment = VecDeque::new();
            for entry in Entries::new(vec![segment], i64::MIN) {
                if let Entry::Record(record) = entry?
                    && is_chosen(&record)
                {
                    if of_segment.len() == missing {
                        of_segment.pop_front();
                    }
                    of_segment.push_back(*record);
                }
            }
            of_segment.append(&mut found);
            found = of_segment;
        }
        Ok(found.into())
    }

    /// The record with a number; `None`: there never was one, or it was deleted.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn get(&self, id: u64) -> Result<Option<PacketRecord>, JournalError> {
        let segments = Segment::list(&self.dir)?;
        let Some(segment) = segments.into_iter().rfind(|segment| segment.first <= id) else {
            return Ok(None);
        };
        let mut lines = Lines::new(vec![segment]);
        while let Some(line) = lines.next()? {
            if Head::of(line).is_none_or(|head| head.id == id)
                && let Ok(Entry::Record(record)) = Entry::parse(line)
                && record.id == id
            {
                return Ok(Some(*record));
            }
        }
        Ok(None)
    }

    /// What the journal covers. Reads all of it.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn coverage(&self) -> Result<Coverage, JournalError> {
        let mut attempts = 0;
        loop {
            // Before the lines: later ones are read with them, and no loss is told that is in an account too.
            let told = OpenPeriod::read(&self.dir);
            let (mut coverage, records) = self.accounts()?;
            // An account may have been written meanwhile.
            let last = coverage.last_account();
            let told = told.filter(|told| told.after == last);
            attempts += 1;
            if told.is_none() && attempts < ATTEMPTS && open::is_written(&self.dir) {
                continue;
            }
            coverage.recorder = self.recorder_of(told.as_ref(), last);
            coverage.end(records, told);
            return Ok(coverage);
        }
    }

    /// Whether the journal is written now.
    #[must_use]
    pub fn recorder(&self) -> Recorder {
        self.recorder_of(OpenPeriod::read(&self.dir).as_ref(), None)
    }

    fn recorder_of(&self, told: Option<&OpenPeriod>, last_account: Option<i64>) -> Recorder {
        if !open::is_written(&self.dir) {
            return Recorder::default();
        }
        let now = Clocks::now().moment.wall;
        let from = told.map(|told| told.from).or(last_account).unwrap_or(now);
        Recorder {
            recording: Some((from, now.max(from))),
            problem: told.and_then(|told| told.problem.clone()),
        }
    }

    /// What the accounts say, and the records after the last one.
    fn accounts(&self) -> Result<(Coverage, Option<Account>), JournalError> {
        let mut coverage = Coverage::default();
        let mut open: Option<Account> = None;
        let mut lines = Lines::new(Segment::list(&self.dir)?);
        while let Some(line) = lines.next()? {
            if line.starts_with(ACCOUNT) {
                match Entry::parse(line) {
                    Ok(Entry::Account { account }) => coverage.add_account(account, &mut open),
                    _ => coverage.damaged += 1,
                }
                continue;
            }
            match serde_json::from_slice(line) {
                Ok(Brief { id, first, last, packets }) => {
                    coverage.add_record(Head { id, first, last }, packets, &mut open);
                }
                Err(_) => coverage.damaged += 1,
            }
        }
        coverage.damaged += lines.too_long;
        coverage.size = lines.bytes;
        Ok((coverage, open))
    }

    /// Follows what is written: all that comes after a record, or with `None` what comes from now on.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn follow(&self, after: Option<u64>) -> Result<Follow, JournalError> {
        Follow::new(&self.dir, after)
    }
}

/// What coverage needs of a record.
#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Brief {
    id: u64,
    first: i64,
    last: i64,
    packets: u64,
}

/// Lines of segments, as bytes.
#[derive(Debug)]
struct Lines {
    segments: VecDeque<Segment>,
    current: Option<(PathBuf, BufReader<File>)>,
    buffer: Vec<u8>,
    position: u64,
    /// Bytes of the segments that were opened.
    bytes: u64,
    too_long: u64,
}

impl Lines {
    fn new(segments: Vec<Segment>) -> Self {
        Self {
            segments: segments.into(),
            current: None,
            buffer: Vec::new(),
            position: 0,
            bytes: 0,
            too_long: 0,
        }
    }

    fn next(&mut self) -> Result<Option<&[u8]>, JournalError> {
        loop {
            let Some((path, file)) = &mut self.current else {
                let Some(segment) = self.segments.pop_front() else { return Ok(None) };
                // A segment may be deleted meanwhile: it was the oldest one.
                if let Some(file) = segment.open()? {
                    self.bytes += file.metadata().map_or(0, |metadata| metadata.len());
                    self.current = Some((segment.path, BufReader::with_capacity(1 << 16, file)));
                }
                continue;
            };
            let read = read_line(file, &mut self.buffer, &mut self.position);
            match read.map_err(JournalError::access(path, "read"))? {
                // The borrow of the buffer must not outlive this turn of the loop.
                Line::Whole => return Ok(Some(self.buffer.as_slice())),
                Line::TooLong => self.too_long += 1,
                Line::End => self.current = None,
            }
        }
    }
}

/// Lines of the journal, the oldest first; those that are damaged are left out and counted.
#[derive(Debug)]
pub struct Entries {
    lines: Lines,
    since: i64,
    damaged: u64,
}

impl Entries {
    fn new(segments: Vec<Segment>, since: i64) -> Self {
        Self { lines: Lines::new(segments), since, damaged: 0 }
    }

    /// Damaged lines so far.
    #[must_use]
    pub const fn damaged(&self) -> u64 {
        self.damaged + self.lines.too_long
    }

    fn read(&mut self) -> Result<Option<Entry>, JournalError> {
        while let Some(line) = self.lines.next()? {
            // Most of a long journal is older: that needs no parser.
            if Head::of(line).is_some_and(|head| head.last < self.since) {
                continue;
            }
            match Entry::parse(line) {
                Ok(Entry::Record(record)) if record.last < self.since => {}
                Ok(entry) => return Ok(Some(entry)),
                Err(_) => self.damaged += 1,
            }
        }
        Ok(None)
    }
}

impl Iterator for Entries {
    type Item = Result<Entry, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        let read = self.read();
        if read.is_err() {
            // What follows cannot be read either, or would have a gap.
            self.lines.current = None;
            self.lines.segments.clear();
        }
        read.transpose()
    }
}
