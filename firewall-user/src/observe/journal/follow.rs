//! What is written, as it comes.

use std::fs::File;
use std::io::{BufReader, Seek as _, SeekFrom};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::segment::{Line, Segment, read_line};
use super::{Entry, JournalError};

/// How long is waited at most without looking; inotify does not tell of every file system and may have no room.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Follows the journal.
#[derive(Debug)]
pub struct Follow {
    dir: PathBuf,
    current: Option<(Segment, BufReader<File>)>,
    /// End of the last whole line that was read of it.
    position: u64,
    /// A later segment was there before it was read to its end: nothing is written to it any more.
    is_complete: bool,
    /// Records up to this number were returned, or are not wanted.
    after: u64,
    /// Numbers that were skipped, because their segment was deleted before it was read.
    missed: u64,
    damaged: u64,
    buffer: Vec<u8>,
    inotify: Option<Inotify>,
}

impl Follow {
    pub(super) fn new(dir: &Path, after: Option<u64>) -> Result<Self, JournalError> {
        let mut follow = Self {
            dir: dir.to_owned(),
            current: None,
            position: 0,
            is_complete: false,
            after: after.unwrap_or_default(),
            missed: 0,
            damaged: 0,
            buffer: Vec::new(),
            inotify: None,
        };
        follow.watch();
        let segments = Segment::list(dir)?;
        let start = match after {
            Some(after) => segments.iter().rfind(|one| one.first <= after).or(segments.first()),
            None => segments.last(),
        };
        if let Some(segment) = start {
            follow.open(segment.clone())?;
        }
        if after.is_none() {
            // Its whole lines are read, so that the position is not within one that is being written.
            while !follow.read(usize::MAX)?.is_empty() {}
        }
        Ok(follow)
    }

    /// What was written since the last call, at most `limit` lines; empty: nothing more is there now.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn read(&mut self, limit: usize) -> Result<Vec<Entry>, JournalError> {
        let mut entries = Vec::new();
        while entries.len() < limit {
            match self.read_one()? {
                Some(Entry::Record(record)) if record.id <= self.after => {}
                Some(entry) => {
                    if let Entry::Record(record) = &entry {
                        self.after = record.id;
                    }
                    entries.push(entry);
                }
                None if self.advance()? => {}
                None => break,
            }
        }
        Ok(entries)
    }

    /// Waits until something may have been written, and no longer than `limit`.
    pub fn wait(&mut self, limit: Duration) {
        let limit = limit.min(POLL_INTERVAL);
        if self.inotify.is_none() {
            self.watch();
        }
        let Some(inotify) = &self.inotify else { return thread::sleep(limit) };
        let mut fds = [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        if poll(&mut fds, timeout).is_ok_and(|ready| ready > 0) {
            // What they tell is found by reading.
            let _ = inotify.read_events();
        }
    }

    /// Numbers of records that were deleted before they were read: the reader is too slow, or was stopped.
    #[must_use]
    pub const fn missed(&self) -> u64 {
        self.missed
    }

    /// Damaged lines so far.
    #[must_use]
    pub const fn damaged(&self) -> u64 {
        self.damaged
    }

    fn watch(&mut self) {
        let flags = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE;
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK);
        // The directory may not exist yet; then it is looked for again.
        let watched = inotify.and_then(|inotify| {
            inotify.add_watch(&self.dir, flags)?;
            Ok(inotify)
        });
        self.inotify = watched.ok();
    }

    fn open(&mut self, segment: Segment) -> Result<bool, JournalError> {
        let Some(file) = segment.open()? else { return Ok(false) };
        self.current = Some((segment, BufReader::new(file)));
        self.position = 0;
        self.is_complete = false;
        Ok(true)
    }

    fn read_one(&mut self) -> Result<Option<Entry>, JournalError> {
        loop {
            let Some((segment, file)) = &mut self.current else { return Ok(None) };
            let failed = || JournalError::access(&segment.path, "read");
            match read_line(file, &mut self.buffer, &mut self.position).map_err(failed())? {
                Line::Whole => match Entry::parse(&self.buffer) {
                    Ok(entry) => return Ok(Some(entry)),
                    Err(_) => self.damaged += 1,
                },
                Line::TooLong => self.damaged += 1,
                Line::End => {
                    // The begin of a line that is being written is read again with its end.
                    file.seek(SeekFrom::Start(self.position)).map_err(failed())?;
                    return Ok(None);
                }
            }
        }
    }

    /// Goes on to the next segment, if there is one: then the current one is complete.
    fn advance(&mut self) -> Result<bool, JournalError> {
        let current = self.current.as_ref().map(|(segment, _)| segment.first);
        let segments = Segment::list(&self.dir)?;
        let is_next = |segment: &&Segment| current.is_none_or(|first| segment.first > first);
        let Some(next) = segments.iter().find(is_next).cloned() else { return Ok(false) };
        if current.is_some() && !self.is_complete {
            // Lines may have come between its end and this list.
            self.is_complete = true;
            return Ok(true);
        }
        let is_deleted = current.is_some_and(|first| segments.iter().all(|one| one.first != first));
        if is_deleted && self.after > 0 {
            self.missed += next.first.saturating_sub(self.after.saturating_add(1));
        }
        self.open(next)
    }
}
