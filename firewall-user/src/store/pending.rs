//! An unconfirmed change, and the state before it: a copy of every table that it may have edited. Sets of
//! entries are not copied, because they are never changed: those of the copied lists stay.

use rusqlite::{Connection, OptionalExtension, params};

use super::{entries, rows};

/// The copied tables; a table follows those that it references. `rule_history` is not copied: a number
/// is never used twice.
const TABLES: [&str; 26] = [
    "vpcs",
    "vpc_tags",
    "prefix_lists",
    "prefix_list_versions",
    "prefix_list_tags",
    "groups",
    "group_tags",
    "rules",
    "rule_tags",
    "staged_rules",
    "acls",
    "acl_tags",
    "acl_entries",
    "subnets",
    "subnet_tags",
    "interfaces",
    "interface_tags",
    "interface_groups",
    "interface_timeouts",
    "interface_addresses",
    "interface_allowed_addresses",
    "interface_ether_types",
    "blocks",
    "flow_logs",
    "flow_log_tags",
    // Otherwise a token would answer with what the rollback has deleted.
    "client_tokens",
];

/// A change that is rolled back unless it is confirmed before the deadline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The command that made it.
    pub what: String,
    /// The kernel's id of the boot in which the change was made.
    pub boot: String,
    /// Milliseconds since that boot, suspended time included (`CLOCK_BOOTTIME`).
    pub deadline: u64,
}

pub(super) fn read(sql: &Connection) -> rusqlite::Result<Option<Pending>> {
    sql.query_row("SELECT what, boot, deadline FROM pending", [], |row| {
        Ok(Pending { what: row.get(0)?, boot: row.get(1)?, deadline: rows::count(row, 2)? })
    })
    .optional()
}

pub(super) fn write(sql: &Connection, pending: &Pending) -> rusqlite::Result<()> {
    let Pending { what, boot, deadline } = pending;
    let deadline = i64::try_from(*deadline).unwrap_or(i64::MAX);
    sql.execute("INSERT INTO pending VALUES (1, ?1, ?2, ?3)", params![what, boot, deadline])
        .map(drop)
}

pub(super) fn copy_tables(sql: &Connection) -> rusqlite::Result<()> {
    drop_copy(sql)?;
    TABLES.iter().try_for_each(|table| {
        sql.execute_batch(&format!("CREATE TABLE before_{table} AS SELECT * FROM {table}"))
    })
}

/// Lets the names of the tables mean their copies, until the transaction is rolled back. Also on a
/// connection for reading: the views are in its memory.
pub(super) fn show_earlier(sql: &Connection) -> rusqlite::Result<()> {
    TABLES.iter().try_for_each(|table| {
        sql.execute_batch(&format!("CREATE TEMP VIEW {table} AS SELECT * FROM main.before_{table}"))
    })
}

/// Deletes the rows of the tables, and the record of a change.
pub(super) fn delete_all(sql: &Connection) -> rusqlite::Result<()> {
    // Until the commit, rows may be referenced that are deleted already.
    sql.pragma_update(None, "defer_foreign_keys", true)?;
    for table in TABLES.iter().rev() {
        sql.execute_batch(&format!("DELETE FROM {table}"))?;
    }
    sql.execute_batch("UPDATE state SET generation = generation + 1")?;
    delete(sql)?;
    drop_copy(sql)
}

/// Restores the tables, and deletes the record of the change.
pub(super) fn restore(sql: &Connection) -> rusqlite::Result<()> {
    // Until the commit, rows may reference rows that are not restored yet.
    sql.pragma_update(None, "defer_foreign_keys", true)?;
    for table in TABLES.iter().rev() {
        sql.execute_batch(&format!("DELETE FROM {table}"))?;
    }
    TABLES.iter().try_for_each(|table| {
        sql.execute_batch(&format!("INSERT INTO {table} SELECT * FROM before_{table}"))
    })?;
    sql.execute_batch("UPDATE state SET generation = generation + 1")?;
    delete(sql)
}

pub(super) fn end(sql: &Connection, now: u64) -> rusqlite::Result<()> {
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    sql.execute("UPDATE pending SET deadline = min(deadline, ?1)", [now]).map(drop)
}

pub(super) fn delete(sql: &Connection) -> rusqlite::Result<()> {
    sql.execute_batch("DELETE FROM pending")
}

pub(super) fn drop_copy(sql: &Connection) -> rusqlite::Result<()> {
    TABLES
        .iter()
        .try_for_each(|table| sql.execute_batch(&format!("DROP TABLE IF EXISTS before_{table}")))?;
    entries::drop_unused(sql)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::store::{FILE, Store};

    #[test]
    fn every_table_that_a_change_may_edit_is_copied() {
        let dir = tempfile::TempDir::new().unwrap();
        drop(Store::open(dir.path()).unwrap());
        let sql = Connection::open(dir.path().join(FILE)).unwrap();
        let mut names = sql
            .prepare(
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
            )
            .unwrap();
        let names = names.query_map([], |row| row.get(0)).unwrap();
        let mut names: BTreeSet<String> = names.map(Result::unwrap).collect();
        // A rollback leaves these: the generation and panic, the numbers of rules, the record of the
        // change itself, the management networks, what is active in the kernel, and entries, which stay.
        for other in [
            "state",
            "rule_history",
            "pending",
            "management",
            "active_addresses",
            "prefix_list_entries",
        ] {
            assert!(names.remove(other), "{other}");
        }
        assert_eq!(names, TABLES.map(str::to_owned).into());
    }
}
