//! The file of hits: an SQLite database of its own. What it has lost decides nothing about packets, so a commit need
//! not wait for the disk in every case.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use firewall_ebpf::abi::counter::Counter;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};

use super::count::Row;
use super::{HitsError, Period, RuleHits, Watched};
use crate::observe::flows::{Counted, Known};
use crate::ownership;

/// `PRAGMA application_id` ("SgHt"), and `PRAGMA user_version`.
const APPLICATION: i64 = 0x5367_4874;
const VERSION: i64 = 2;

/// How long another process is waited for.
const BUSY: Duration = Duration::from_secs(5);

const SCHEMA: &str = "
CREATE TABLE reading (
    store TEXT NOT NULL, boot TEXT, jiffies INTEGER NOT NULL, boottime INTEGER NOT NULL, has_flows INTEGER NOT NULL
) STRICT;
CREATE TABLE periods (began INTEGER PRIMARY KEY, ended INTEGER NOT NULL) STRICT;
CREATE TABLE rules (
    number INTEGER PRIMARY KEY, since INTEGER NOT NULL, packets INTEGER NOT NULL, bytes INTEGER NOT NULL,
    new_flows INTEGER NOT NULL, first INTEGER, last INTEGER, counter_packets INTEGER NOT NULL,
    counter_bytes INTEGER NOT NULL, ahead INTEGER NOT NULL
) STRICT;
CREATE TABLE flows (
    id BLOB PRIMARY KEY, created INTEGER NOT NULL, ingress_packets INTEGER NOT NULL,
    egress_packets INTEGER NOT NULL, ingress_bytes INTEGER NOT NULL, egress_bytes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;";

/// What the file has.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    /// The id of the store whose rules these are.
    pub(super) store: String,
    /// The boot of the last reading.
    pub(super) boot: Option<String>,
    /// The kernel's clock at the last reading.
    pub(super) jiffies: u64,
    pub(super) watched: Watched,
    pub(super) rows: BTreeMap<u32, Row>,
    /// What the flows of the last reading had counted, if that was the last one of its process.
    pub(super) flows: Option<Known>,
    /// The rows as they are in the file.
    written: BTreeMap<u32, Row>,
}

/// Reads it; empty if there is none, or it is of another store.
pub(super) fn read(path: &Path, store: &str) -> Result<Content, HitsError> {
    if matches!(path.try_exists(), Ok(false)) {
        return Ok(Content::default());
    }
    if let Some(dir) = path.parent() {
        ownership::require_directory(dir)?;
    }
    let failed = |source| HitsError::File { path: path.to_owned(), source };
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(failed)?;
    let mut versions = versions(&connection);
    if versions.is_err() {
        // A process that was killed has left a journal, which only a writer can complete.
        connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed)?;
        versions = self::versions(&connection);
    }
    match versions.map_err(failed)? {
        (0, 0) => return Ok(Content::default()),
        (APPLICATION, VERSION) => {}
        _ => return Err(HitsError::Version { path: path.to_owned() }),
    }
    let content = content(&connection).map_err(failed)?;
    Ok(if content.store == store { content } else { Content::default() })
}

fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY)?;
    Ok(connection)
}

fn versions(connection: &Connection) -> rusqlite::Result<(i64, i64)> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get(0));
    Ok((pragma("application_id")?, pragma("user_version")?))
}

fn content(connection: &Connection) -> rusqlite::Result<Content> {
    let transaction = connection.unchecked_transaction()?;
    let reading = transaction
        .query_row("SELECT store, boot, jiffies, boottime, has_flows FROM reading", [], |row| {
            Ok((row.get(0)?, row.get(1)?, count(row, 2)?, row.get(3)?, row.get(4)?))
        })
        .optional()?;
    let Some((store, boot, jiffies, boottime, has_flows)) = reading else {
        return Ok(Content::default());
    };
    let flows = if has_flows { Some(flows(&transaction)?) } else { None };
    let periods = transaction
        .prepare("SELECT began, ended FROM periods ORDER BY began")?
        .query_map([], |row| Ok(Period { from: row.get(0)?, to: row.get(1)? }))?
        .collect::<Result<_, _>>()?;
    let rows: BTreeMap<u32, Row> = transaction
        .prepare(
            "SELECT number, since, packets, bytes, new_flows, first, last, counter_packets, counter_bytes, \
             ahead FROM rules",
        )?
        .query_map([], |row| {
            let hits = RuleHits {
                since: row.get(1)?,
                packets: count(row, 2)?,
                bytes: count(row, 3)?,
                new_flows: count(row, 4)?,
                first: row.get(5)?,
                last: row.get(6)?,
            };
            let counter = Counter { packets: count(row, 7)?, bytes: count(row, 8)? };
            Ok((row.get(0)?, Row { hits, counter, ahead: count(row, 9)? }))
        })?
        .collect::<Result<_, _>>()?;
    let watched = Watched { periods, boottime };
    Ok(Content { store, boot, jiffies, watched, flows, written: rows.clone(), rows })
}

fn flows(connection: &Connection) -> rusqlite::Result<Known> {
    connection
        .prepare("SELECT id, created, ingress_packets, egress_packets, ingress_bytes, egress_bytes FROM flows")?
        .query_map([], |row| {
            let counted = Counted {
                created: row.get(1)?,
                packets: [count(row, 2)?, count(row, 3)?],
                bytes: [count(row, 4)?, count(row, 5)?],
            };
            Ok((row.get::<_, Vec<u8>>(0)?.into(), counted))
        })?
        .collect()
}

/// Replaces those of the reading before.
fn put_flows(connection: &Connection, flows: &Known) -> rusqlite::Result<()> {
    let mut put = connection.prepare("INSERT INTO flows VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
    for (id, Counted { created, packets, bytes }) in flows {
        let [packets, bytes] = [packets, bytes].map(|counts| counts.map(signed));
        put.execute(params![&id[..], created, packets[0], packets[1], bytes[0], bytes[1]])?;
    }
    Ok(())
}

/// SQLite's integers have a sign; no counter reaches it.
fn count(row: &rusqlite::Row<'_>, index: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(index).map(|count| u64::try_from(count).unwrap_or(0))
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Writes what has changed since it was read or written last.
pub(super) fn write(path: &Path, content: &mut Content) -> Result<(), HitsError> {
    ownership::create_file(path)?;
    let failed = |source| HitsError::File { path: path.to_owned(), source };
    write_changes(path, content).map_err(failed)?;
    content.written.clone_from(&content.rows);
    Ok(())
}

fn write_changes(path: &Path, content: &Content) -> rusqlite::Result<()> {
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    if versions(&connection)? == (0, 0) {
        connection.execute_batch(&format!(
            "BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION}; \
             {SCHEMA} COMMIT;"
        ))?;
    }
    let transaction = connection.transaction()?;
    let known: Option<String> =
        transaction.query_row("SELECT store FROM reading", [], |row| row.get(0)).optional()?;
    let is_other = known.is_some_and(|known| known != content.store);
    transaction.execute("DELETE FROM reading", [])?;
    transaction.execute(
        "INSERT INTO reading VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            content.store,
            content.boot,
            signed(content.jiffies),
            content.watched.boottime,
            content.flows.is_some(),
        ],
    )?;
    transaction.execute("DELETE FROM flows", [])?;
    if let Some(flows) = &content.flows {
        put_flows(&transaction, flows)?;
    }
    if is_other {
        transaction.execute_batch("DELETE FROM rules; DELETE FROM periods;")?;
    }
    let first = content.watched.periods.first().map_or(i64::MAX, |period| period.from);
    transaction.execute("DELETE FROM periods WHERE began < ?1", [first])?;
    // Earlier ones do not change.
    if let Some(last) = content.watched.periods.last() {
        transaction
            .execute("INSERT OR REPLACE INTO periods VALUES (?1, ?2)", [last.from, last.to])?;
    }
    let mut put = transaction
        .prepare("INSERT OR REPLACE INTO rules VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")?;
    let changed = content
        .rows
        .iter()
        .filter(|(number, row)| content.written.get(number).is_none_or(|written| written != *row));
    for (number, Row { hits, counter, ahead }) in changed {
        put.execute(params![
            number,
            hits.since,
            signed(hits.packets),
            signed(hits.bytes),
            signed(hits.new_flows),
            hits.first,
            hits.last,
            signed(counter.packets),
            signed(counter.bytes),
            signed(*ahead),
        ])?;
    }
    drop(put);
    let gone = content.written.keys().filter(|number| !content.rows.contains_key(number));
    for number in gone {
        transaction.execute("DELETE FROM rules WHERE number = ?1", [number])?;
    }
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content_of(store: &str) -> Content {
        let hits =
            RuleHits { since: 1, packets: 2, bytes: 3, new_flows: 4, first: None, last: Some(9) };
        let counter = Counter { packets: 5, bytes: 6 };
        Content {
            store: store.to_owned(),
            boot: Some("b".to_owned()),
            jiffies: 77,
            watched: Watched {
                periods: vec![Period { from: 1, to: 2 }, Period { from: 5, to: 9 }],
                boottime: 4,
            },
            rows: [(7, Row { hits, counter, ahead: 1 }), (8, Row::default())].into(),
            flows: None,
            written: BTreeMap::new(),
        }
    }

    #[test]
    fn what_is_written_is_read_and_another_store_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hits.db");
        assert!(read(&path, "s").unwrap().rows.is_empty());
        let mut content = content_of("s");
        content.watched.periods.truncate(1);
        write(&path, &mut content).unwrap();
        content.watched.periods.push(Period { from: 5, to: 9 });
        content.rows.remove(&8);
        write(&path, &mut content).unwrap();
        let back = read(&path, "s").unwrap();
        assert_eq!((&back.rows, &back.watched), (&content.rows, &content.watched));
        assert_eq!((&back.boot, back.jiffies, &back.flows), (&content.boot, 77, &None));
        // Of the last reading of a process, also none.
        let counted = Counted { created: u32::MAX, packets: [1, 2], bytes: [3, 4] };
        for flows in [Known::new(), [([5; 40].into(), counted)].into(), Known::new()] {
            content.flows = Some(flows);
            write(&path, &mut content).unwrap();
            assert_eq!(read(&path, "s").unwrap().flows, content.flows);
        }

        assert!(read(&path, "t").unwrap().rows.is_empty());
        let mut other = content_of("t");
        other.rows.remove(&7);
        other.watched.periods.truncate(1);
        write(&path, &mut other).unwrap();
        let back = read(&path, "t").unwrap();
        assert_eq!(back.rows.keys().collect::<Vec<_>>(), [&8]);
        assert_eq!(back.watched.periods().len(), 1);
    }

    #[test]
    fn a_file_of_another_program_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hits.db");
        std::fs::write(&path, "no database, and longer than a header of SQLite would be").unwrap();
        assert!(matches!(read(&path, "s"), Err(HitsError::File { .. })));
        std::fs::remove_file(&path).unwrap();
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 9).unwrap();
        assert!(matches!(read(&path, "s"), Err(HitsError::Version { .. })));
    }
}
