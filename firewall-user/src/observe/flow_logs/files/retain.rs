//! Deletes the oldest files of flow logs, so that they stay within a size, and what a killed process left.

use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::UNFINISHED;
use super::read::is_file_name;

/// How much of the files is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Bytes of all files together.
    pub bytes: u64,
    /// How old a file may be.
    pub age: Option<Duration>,
}

/// What was deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// How many directories a file is in, at most: a bucket, a prefix, and those of AWS's layout.
const MAX_DEPTH: usize = 300;

/// Deletes files of flow logs below a directory, the oldest first, until the others are within bounds; other files
/// stay. Unfinished files that no process writes any more are deleted too; only one process may write there. A file that
/// cannot be deleted keeps no other from being deleted, nor does a directory that cannot be read.
///
/// # Errors
/// A directory cannot be read, or a file not be deleted: the first such.
pub fn retain(directory: &Path, keep: Keep, now: SystemTime) -> io::Result<Deleted> {
    let Files { mut found, unfinished, mut refused } = Files::below(directory);
    for path in unfinished {
        refused = refused.or(fs::remove_file(path).err());
    }
    found.sort();
    let mut bytes: u64 = found.iter().map(|(_, bytes, _)| bytes).sum();
    let mut deleted = Deleted::default();
    for (time, size, path) in found {
        let age = now.duration_since(time).unwrap_or_default();
        if bytes <= keep.bytes && keep.age.is_none_or(|most| age <= most) {
            break;
        }
        if let Err(error) = fs::remove_file(&path) {
            refused = refused.or(Some(error));
            continue;
        }
        bytes -= size;
        deleted.files += 1;
        deleted.bytes += size;
        // The directories of a day and so on, if this was their last file.
        let mut above = path.parent();
        while let Some(parent) = above.filter(|parent| *parent != directory) {
            if fs::remove_dir(parent).is_err() {
                break;
            }
            above = parent.parent();
        }
    }
    refused.map_or(Ok(deleted), Err)
}

/// What is below a directory.
#[derive(Default)]
struct Files {
    /// Time, bytes and path.
    found: Vec<(SystemTime, u64, PathBuf)>,
    unfinished: Vec<PathBuf>,
    /// The first error: what it is about is left out.
    refused: Option<io::Error>,
}

impl Files {
    fn below(directory: &Path) -> Self {
        let mut files = Self::default();
        files.collect(directory, 0);
        files
    }

    fn collect(&mut self, directory: &Path, depth: usize) {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) => return self.refuse(error),
        };
        for entry in entries {
            let added = entry.and_then(|entry| self.add(&entry, depth));
            added.unwrap_or_else(|error| self.refuse(error));
        }
    }

    fn add(&mut self, entry: &DirEntry, depth: usize) -> io::Result<()> {
        // Of a link, its own: it is not followed.
        let kind = entry.file_type()?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { return Ok(()) };
        if kind.is_dir() && depth < MAX_DEPTH {
            self.collect(&entry.path(), depth + 1);
        } else if kind.is_file() && is_file_name(name) {
            let data = entry.metadata()?;
            self.found.push((data.modified()?, data.len(), entry.path()));
        } else if kind.is_file() && name.strip_prefix(UNFINISHED).is_some_and(is_file_name) {
            self.unfinished.push(entry.path());
        }
        Ok(())
    }

    /// What is gone, or was deleted meanwhile, is no error.
    fn refuse(&mut self, error: io::Error) {
        if error.kind() != io::ErrorKind::NotFound {
            self.refused.get_or_insert(error);
        }
    }
}
