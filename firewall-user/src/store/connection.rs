//! Connections to the store's file, with the settings on which durability depends.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::{Error, copy, schema};

/// How long a process waits for the write of another. Writes take milliseconds; the rest is for a disk
/// that stalls.
const BUSY: Duration = Duration::from_secs(30);

/// A connection for writing. Where the file system is read-only it can only read, also from a copy if a
/// process was interrupted in the middle of a commit.
pub(super) fn writable(path: &Path) -> Result<Connection, Error> {
    let connected = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE);
    let needs_copy = match &connected {
        Ok(connection) => schema::needs_recovery(connection),
        Err(error) => schema::is_read_only(error),
    };
    if needs_copy && journal(path).exists() {
        return copy::open(path);
    }
    connected.map_err(|error| Error::sqlite(path, error))
}

/// Device and inode number of a file.
pub(super) fn file_at(path: &Path) -> Option<(u64, u64)> {
    path.metadata().ok().map(|file| (file.dev(), file.ino()))
}

/// The journal of a store.
pub(super) fn journal(path: &Path) -> PathBuf {
    let mut journal = path.to_owned().into_os_string();
    journal.push("-journal");
    journal.into()
}

pub(super) fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    if !flags.contains(OpenFlags::SQLITE_OPEN_READ_WRITE) {
        return Ok(connection);
    }
    connection.pragma_update(None, "foreign_keys", true)?;
    // FULL: the commit returns when the change is on the disk.
    connection.pragma_update(None, "synchronous", "FULL")?;
    // A journal of pages as they were, which stays where it is: a change of existing pages takes no disk
    // space then, and a reader needs no file beside the store, as it would with a write-ahead log.
    connection.pragma_update_and_check(None, "journal_mode", "PERSIST", |_| Ok(()))?;
    // Readers continue until the commit.
    connection.pragma_update(None, "cache_spill", false)?;
    Ok(connection)
}
