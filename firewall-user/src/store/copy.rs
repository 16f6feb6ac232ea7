//! A copy of the store in memory, for a file system that became read-only in the middle of a commit: the
//! store cannot be read before its journal is rolled back, and it cannot be rolled back there.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::{Error, FILE, connect, journal, schema};
use crate::ownership;

/// Directories whose files are in memory on most machines.
const PLACES: [&str; 3] = ["/run", "/dev/shm", "/tmp"];

/// A connection for reading to a copy of the store, of which no file is left.
///
/// # Errors
/// There is no place for it, or the store or its journal cannot be read.
pub(super) fn open(path: &Path) -> Result<Connection, Error> {
    let failed = |source| Error::Access { path: path.to_owned(), what: "copied", source };
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for place in PLACES {
        let dir = Path::new(place).join(format!("secgroup-{}", std::process::id()));
        if ownership::require_directory(&dir).is_err() {
            continue;
        }
        // Not one that exists: this process alone has made it.
        if let Err(error) = DirBuilder::new().mode(0o700).create(&dir) {
            last = error;
            continue;
        }
        let copied = copy(path, &dir.join(FILE)).map_err(failed);
        let opened = copied.and_then(|()| recovered(path, &dir.join(FILE)));
        // What is opened stays readable.
        fs::remove_dir_all(&dir).map_err(failed)?;
        return opened;
    }
    Err(failed(last))
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to)?;
    fs::copy(journal(from), journal(to)).map(drop)
}

/// Rolls the journal back, and opens the result so that nothing can be stored in it by mistake.
fn recovered(path: &Path, copy: &Path) -> Result<Connection, Error> {
    let failed = |error| Error::sqlite(path, error);
    let writable = connect(copy, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed)?;
    schema::has_tables(&writable, path)?;
    drop(writable);
    let connection = connect(copy, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(failed)?;
    // Opens the file, which is about to lose its name.
    schema::has_tables(&connection, path)?;
    Ok(connection)
}
