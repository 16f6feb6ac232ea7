//! The files of the journal. A segment is named by the least number that a record in it may have.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use serde::Deserialize;

use super::{JournalError, MAX_LINE};

const SUFFIX: &str = ".jsonl";

/// Digits of a segment's name: as many as a `u64` has, so that names sort as numbers.
const DIGITS: usize = 20;

/// A segment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Segment {
    /// The least number of a record in it.
    pub(super) first: u64,
    pub(super) path: PathBuf,
}

impl Segment {
    pub(super) fn new(dir: &Path, first: u64) -> Self {
        Self { first, path: dir.join(format!("{first:0DIGITS$}{SUFFIX}")) }
    }

    /// The segments of a directory, the oldest first; none if it does not exist.
    pub(super) fn list(dir: &Path) -> Result<Vec<Self>, JournalError> {
        let failed = || JournalError::access(dir, "read");
        let entries = match fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed())?,
        };
        let mut segments = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed())?.file_name();
            let digits = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
            let digits = digits.filter(|digits| digits.len() == DIGITS);
            if let Some(first) = digits.and_then(|digits| digits.parse().ok()) {
                segments.push(Self::new(dir, first));
            }
        }
        segments.sort_unstable();
        Ok(segments)
    }

    /// Opens it for reading; `None`: it was deleted, or is no file.
    pub(super) fn open(&self) -> Result<Option<File>, JournalError> {
        let mut options = OpenOptions::new();
        // A FIFO would be waited for.
        options.read(true).custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
        let file = match options.open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(JournalError::access(&self.path, "opened"))?,
        };
        let metadata = file.metadata().map_err(JournalError::access(&self.path, "examined"))?;
        Ok(metadata.is_file().then_some(file))
    }

    /// Opens it for appending; creates it if `new`, which it must not exist for.
    pub(super) fn append(&self, new: bool) -> Result<File, JournalError> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).create_new(new).mode(0o600);
        options.custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
        options.open(&self.path).map_err(JournalError::access(&self.path, "opened"))
    }
}

/// What a line read from a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A whole line, without its end, is in the buffer.
    Whole,
    /// A line that is longer than any of this program was skipped.
    TooLong,
    /// No further whole line is there yet.
    End,
}

/// Reads the next line into a buffer. `position` follows behind its end, and stays before a line that is cut.
pub(super) fn read_line(
    file: &mut BufReader<File>,
    buffer: &mut Vec<u8>,
    position: &mut u64,
) -> io::Result<Line> {
    buffer.clear();
    let limit = MAX_LINE as u64;
    let mut length = file.take(limit).read_until(b'\n', buffer)? as u64;
    if buffer.last() == Some(&b'\n') {
        buffer.pop();
        *position += length;
        return Ok(Line::Whole);
    }
    if length < limit {
        return Ok(Line::End);
    }
    loop {
        buffer.clear();
        let read = file.take(limit).read_until(b'\n', buffer)? as u64;
        length += read;
        if buffer.last() == Some(&b'\n') {
            *position += length;
            return Ok(Line::TooLong);
        }
        if read == 0 {
            return Ok(Line::End);
        }
    }
}

/// The fields of a record that choose it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Head {
    pub(super) id: u64,
    pub(super) first: i64,
    pub(super) last: i64,
}

impl Head {
    /// The head of a line that begins as this program writes a record; others have to be parsed.
    pub(super) fn of(line: &[u8]) -> Option<Self> {
        let line = line.strip_prefix(br#"{"Id":"#)?;
        let (id, line) = number(line)?;
        let (first, line) = signed(line.strip_prefix(br#","First":"#)?)?;
        let (last, line) = signed(line.strip_prefix(br#","Last":"#)?)?;
        (line.first() == Some(&b',')).then_some(Self { id, first, last })
    }
}

fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at(digits);
    Some((str::from_utf8(digits).ok()?.parse().ok()?, rest))
}

fn signed(text: &[u8]) -> Option<(i64, &[u8])> {
    let (negative, text) = text.strip_prefix(b"-").map_or((false, text), |text| (true, text));
    let (number, rest) = number(text)?;
    let number = i64::try_from(number).ok()?;
    Some((if negative { -number } else { number }, rest))
}
