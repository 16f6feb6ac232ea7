//! The tables, and which version of them a file has.

use std::path::Path;

use firewall_ebpf::policy::MAX_RULE;
use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use super::{BUSY, Error};

/// The version this program writes, in the file's `user_version`.
const VERSION: i64 = 4;

/// Marks a file as ours: "secg".
const APPLICATION: i64 = 0x7365_6367;

/// What makes a file of version n into one of n + 1, for every n from 1. A column goes to the end,
/// where `ADD COLUMN` puts it; a migrated file keeps the constraints that it was made with.
const MIGRATIONS: [&str; 3] = [
    "
ALTER TABLE interfaces ADD COLUMN tcp TEXT NOT NULL DEFAULT 'guard';
ALTER TABLE interfaces ADD COLUMN pick_up INTEGER NOT NULL DEFAULT 1;
ALTER TABLE interfaces ADD COLUMN tracking TEXT NOT NULL DEFAULT 'auto';
",
    SAFETY,
    ADDRESSES,
];

/// What version 3 brought: a change that waits for its confirmation, with what was before in tables
/// that [`super::pending`] names, panic, audit, and flows that are asked about again.
const SAFETY: &str = "
CREATE TABLE pending (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    what TEXT NOT NULL,
    boot TEXT NOT NULL,
    deadline INTEGER NOT NULL
) STRICT;
CREATE TABLE management (network TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
ALTER TABLE state ADD COLUMN panic INTEGER NOT NULL DEFAULT 0;
ALTER TABLE interfaces ADD COLUMN mode TEXT NOT NULL DEFAULT 'enforce';
ALTER TABLE interfaces ADD COLUMN revalidate INTEGER NOT NULL DEFAULT 0;
";

/// What version 4 brought: the addresses of group members that the policies in force speak of.
const ADDRESSES: &str = "
CREATE TABLE addresses_in_force (
    slot INTEGER NOT NULL,
    address TEXT NOT NULL,
    PRIMARY KEY (slot, address)
) STRICT, WITHOUT ROWID;
";

/// Constraints repeat what the model checks: a bug there must not reach the disk.
const TABLES: &str = "
CREATE TABLE state (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    generation INTEGER NOT NULL
) STRICT;
INSERT INTO state VALUES (1, 0);

CREATE TABLE prefix_lists (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL COLLATE NOCASE UNIQUE,
    family TEXT NOT NULL,
    version INTEGER NOT NULL
) STRICT;
CREATE TABLE prefix_list_tags (
    list TEXT NOT NULL REFERENCES prefix_lists ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (list, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE prefix_list_entries (
    list TEXT NOT NULL REFERENCES prefix_lists ON DELETE CASCADE,
    cidr TEXT NOT NULL,
    description TEXT NOT NULL,
    PRIMARY KEY (list, cidr)
) STRICT, WITHOUT ROWID;

CREATE TABLE groups (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL COLLATE NOCASE UNIQUE,
    description TEXT NOT NULL
) STRICT;
CREATE TABLE group_tags (
    group_id TEXT NOT NULL REFERENCES groups ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (group_id, key)
) STRICT, WITHOUT ROWID;

-- Every rule there ever was. AUTOINCREMENT: a number is never given twice.
CREATE TABLE rule_history (
    number INTEGER PRIMARY KEY AUTOINCREMENT CHECK (number BETWEEN 1 AND 2147483647),
    rule_id TEXT NOT NULL UNIQUE,
    group_id TEXT NOT NULL,
    group_name TEXT NOT NULL
) STRICT;
CREATE TABLE rules (
    number INTEGER PRIMARY KEY REFERENCES rule_history,
    id TEXT NOT NULL UNIQUE,
    group_id TEXT NOT NULL REFERENCES groups,
    direction TEXT NOT NULL,
    protocol TEXT NOT NULL,
    from_port INTEGER,
    to_port INTEGER,
    cidr TEXT,
    prefix_list TEXT REFERENCES prefix_lists,
    peer_group TEXT REFERENCES groups,
    description TEXT NOT NULL,
    CHECK ((cidr IS NOT NULL) + (prefix_list IS NOT NULL) + (peer_group IS NOT NULL) = 1)
) STRICT;
CREATE UNIQUE INDEX rules_by_spec ON rules (
    group_id, direction, protocol, coalesce(from_port, -2), coalesce(to_port, -2),
    coalesce(cidr, prefix_list, peer_group)
);
CREATE INDEX rules_by_prefix_list ON rules (prefix_list) WHERE prefix_list IS NOT NULL;
CREATE INDEX rules_by_peer_group ON rules (peer_group) WHERE peer_group IS NOT NULL;

CREATE TABLE interfaces (
    slot INTEGER PRIMARY KEY CHECK (slot BETWEEN 0 AND 65535),
    id TEXT NOT NULL UNIQUE,
    device TEXT NOT NULL,
    netns TEXT,
    hook TEXT NOT NULL,
    orientation TEXT NOT NULL,
    non_ip TEXT NOT NULL,
    tcp TEXT NOT NULL DEFAULT 'guard',
    pick_up INTEGER NOT NULL DEFAULT 1,
    tracking TEXT NOT NULL DEFAULT 'auto'
) STRICT;
CREATE UNIQUE INDEX interfaces_by_device ON interfaces (device, coalesce(netns, ''));
CREATE TABLE interface_groups (
    slot INTEGER NOT NULL REFERENCES interfaces ON DELETE CASCADE,
    position INTEGER NOT NULL,
    group_id TEXT NOT NULL REFERENCES groups,
    PRIMARY KEY (slot, position),
    UNIQUE (slot, group_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX interface_groups_by_group ON interface_groups (group_id);
CREATE TABLE interface_timeouts (
    slot INTEGER NOT NULL REFERENCES interfaces ON DELETE CASCADE,
    state TEXT NOT NULL,
    seconds INTEGER NOT NULL,
    PRIMARY KEY (slot, state)
) STRICT, WITHOUT ROWID;
CREATE TABLE interface_addresses (
    slot INTEGER NOT NULL REFERENCES interfaces ON DELETE CASCADE,
    position INTEGER NOT NULL,
    address TEXT NOT NULL,
    PRIMARY KEY (slot, position)
) STRICT, WITHOUT ROWID;
";

/// The schema's CHECK on a rule's number.
const _: () = assert!(MAX_RULE == 2_147_483_647);

/// Which tables a file has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    Earlier(i64),
    Current,
}

/// Makes the tables where there are none, brings those of an earlier version up to this one, and
/// refuses a file that is not ours or is newer.
pub(super) fn prepare(connection: &mut Connection, path: &Path) -> Result<(), Error> {
    let told = |error| Error::sqlite(path, error);
    // One snapshot: another process may be making the tables between two reads.
    let snapshot = connection.unchecked_transaction().map_err(told)?;
    let found = look(&snapshot, path)?;
    snapshot.finish().map_err(told)?;
    match found {
        Found::Current => return Ok(()),
        Found::Nothing => write_ahead(connection).map_err(told)?,
        Found::Earlier(_) => {}
    }
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(told)?;
    // Another process may have done it while this one waited.
    match look(&transaction, path)? {
        Found::Current => return Ok(()),
        Found::Nothing => {
            transaction.execute_batch(TABLES).map_err(told)?;
            transaction.execute_batch(SAFETY).map_err(told)?;
            transaction.execute_batch(ADDRESSES).map_err(told)?;
            transaction.pragma_update(None, "application_id", APPLICATION).map_err(told)?;
        }
        Found::Earlier(from) => {
            let steps = (1..).zip(MIGRATIONS).filter(|(version, _)| *version >= from);
            for (_, step) in steps {
                transaction.execute_batch(step).map_err(told)?;
            }
        }
    }
    transaction.pragma_update(None, "user_version", VERSION).map_err(told)?;
    transaction.commit().map_err(told)
}

fn look(connection: &Connection, path: &Path) -> Result<Found, Error> {
    let number = |pragma: &str| {
        connection
            .pragma_query_value(None, pragma, |row| row.get::<_, i64>(0))
            .map_err(|error| Error::sqlite(path, error))
    };
    let (application, version) = (number("application_id")?, number("user_version")?);
    // It counts changes of the schema, so it is 0 in a file without tables.
    let tables = number("schema_version")?;
    match (application, version) {
        (APPLICATION, VERSION) => Ok(Found::Current),
        (APPLICATION, earlier @ 1..VERSION) => Ok(Found::Earlier(earlier)),
        (APPLICATION, found) if found > VERSION => {
            Err(Error::Newer { path: path.to_owned(), found, known: VERSION })
        }
        (0, 0) if tables == 0 => Ok(Found::Nothing),
        _ => Err(Error::Alien { path: path.to_owned() }),
    }
}

/// Readers and one writer at once. The mode is kept in the file.
fn write_ahead(connection: &Connection) -> rusqlite::Result<()> {
    // SQLite does not wait by itself when two processes set the mode at the same moment.
    let deadline = std::time::Instant::now() + BUSY;
    loop {
        match connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())) {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && std::time::Instant::now() < deadline =>
            {
                std::thread::yield_now();
            }
            result => return result,
        }
    }
}
