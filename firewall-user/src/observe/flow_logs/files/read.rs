//! Reads files of flow logs: those that this program wrote, and those of AWS.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use crate::observe::flow_logs::field::{Field, Format};
use crate::observe::flow_logs::record::{LineError, Record};

/// The longest line that is read, in bytes: that of all fields is shorter.
const LONGEST_LINE: u64 = 64 << 10;

/// What the names of files end with.
const END: &str = ".log.gz";

/// Whether a name is one of a file of flow logs.
#[must_use]
pub fn is_file_name(name: &str) -> bool {
    let parts: Vec<&str> = name.strip_suffix(END).unwrap_or_default().split('_').collect();
    let [account, service, _, id, _, hash] = parts[..] else { return false };
    account.len() == 12
        && service == "vpcflowlogs"
        && id.starts_with("fl-")
        && hash.len() == 8
        && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The files of flow logs at a path: the file itself, or those below a directory. In the order of the times in their
/// names.
///
/// # Errors
/// The path or a directory cannot be read.
pub fn find(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    let mut directories = vec![path.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                directories.push(entry.path());
            } else if kind.is_file() && entry.file_name().to_str().is_some_and(is_file_name) {
                found.push(entry.path());
            }
        }
    }
    found.sort_by_cached_key(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        (name.split('_').nth(4).unwrap_or_default().to_owned(), path.clone())
    });
    Ok(found)
}

/// Why a record of a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read, or is no gzip file.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line is no record. Those after it can be read.
    #[error("{}: line {line}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: u64,
        /// Why.
        source: LineError,
    },
}

/// The records of a file, in their order.
pub struct Records {
    path: PathBuf,
    lines: Box<dyn BufRead>,
    columns: Vec<Option<Field>>,
    line: u64,
    is_over: bool,
}

impl Records {
    /// Opens a file and reads its first line. A name without `.gz` is that of a file that is not compressed.
    ///
    /// # Errors
    /// It cannot be read, or its first line names no fields.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let failed = |source| ReadError::Read { path: path.to_owned(), source };
        let file = BufReader::new(File::open(path).map_err(failed)?);
        let is_compressed = path.extension().is_some_and(|extension| extension == "gz");
        let lines: Box<dyn BufRead> = if is_compressed {
            Box::new(BufReader::new(MultiGzDecoder::new(file)))
        } else {
            Box::new(file)
        };
        let mut records =
            Self { path: path.to_owned(), lines, columns: Vec::new(), line: 0, is_over: false };
        let header = records.next_line().map_err(failed)?.unwrap_or_default();
        records.columns = Format::columns(&header);
        if records.columns.iter().all(Option::is_none) {
            let text = "its first line names no fields of flow logs";
            return Err(failed(io::Error::new(io::ErrorKind::InvalidData, text)));
        }
        Ok(records)
    }

    /// The fields that its first line names; `None`: one that this program does not know.
    #[must_use]
    pub fn columns(&self) -> &[Option<Field>] {
        &self.columns
    }

    fn next_line(&mut self) -> io::Result<Option<String>> {
        let mut line = String::new();
        let read = (&mut self.lines).take(LONGEST_LINE).read_line(&mut line)?;
        self.line += 1;
        if u64::try_from(read).is_ok_and(|read| read == LONGEST_LINE) && !line.ends_with('\n') {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is too long"));
        }
        Ok((read > 0).then_some(line))
    }
}

impl Iterator for Records {
    type Item = Result<Record, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        match self.next_line() {
            Ok(Some(line)) => {
                let (path, line_number) = (&self.path, self.line);
                Some(Record::parse(&self.columns, &line).map_err(|source| ReadError::Line {
                    path: path.clone(),
                    line: line_number,
                    source,
                }))
            }
            Ok(None) => {
                self.is_over = true;
                None
            }
            Err(source) => {
                self.is_over = true;
                Some(Err(ReadError::Read { path: self.path.clone(), source }))
            }
        }
    }
}
