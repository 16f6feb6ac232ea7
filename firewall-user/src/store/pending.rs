//! A change that waits for its confirmation, and what was before it: a copy of every table that says
//! what the user said.

use rusqlite::{Connection, OptionalExtension, params};

use super::rows;

/// The tables that are copied, what others refer to first. The numbers of rules are given for good
/// and not among them.
const TABLES: [&str; 10] = [
    "prefix_lists",
    "prefix_list_tags",
    "prefix_list_entries",
    "groups",
    "group_tags",
    "rules",
    "interfaces",
    "interface_groups",
    "interface_timeouts",
    "interface_addresses",
];

/// A change that is taken back unless someone confirms it in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The command that made it.
    pub what: String,
    /// The kernel's id of the boot that the deadline belongs to.
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

pub(super) fn keep(sql: &Connection) -> rusqlite::Result<()> {
    TABLES.iter().try_for_each(|table| {
        sql.execute_batch(&format!("CREATE TABLE before_{table} AS SELECT * FROM {table}"))
    })
}

pub(super) fn restore(sql: &Connection) -> rusqlite::Result<()> {
    // Until the commit, rows may refer to what is not back yet.
    sql.pragma_update(None, "defer_foreign_keys", true)?;
    for table in TABLES.iter().rev() {
        sql.execute_batch(&format!("DELETE FROM {table}"))?;
    }
    TABLES.iter().try_for_each(|table| {
        // By name: a later version may have given the table more columns since.
        let columns = columns(sql, &format!("before_{table}"))?;
        sql.execute_batch(&format!(
            "INSERT INTO {table} ({columns}) SELECT {columns} FROM before_{table}"
        ))
    })
}

pub(super) fn forget(sql: &Connection) -> rusqlite::Result<()> {
    sql.execute_batch("DELETE FROM pending")?;
    TABLES
        .iter()
        .try_for_each(|table| sql.execute_batch(&format!("DROP TABLE IF EXISTS before_{table}")))
}

fn columns(sql: &Connection, table: &str) -> rusqlite::Result<String> {
    let mut statement = sql.prepare("SELECT name FROM pragma_table_info(?1)")?;
    let names = statement.query_map([table], |row| row.get::<_, String>(0))?;
    Ok(names.collect::<Result<Vec<_>, _>>()?.join(", "))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::store::{FILE, Store};

    #[test]
    fn every_table_of_what_users_said_is_kept() {
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
        // What is not undone: counting and panic, the numbers of rules, the record of the change
        // itself, where the host is managed from, and what the kernel has.
        for other in ["state", "rule_history", "pending", "management", "addresses_in_force"] {
            assert!(names.remove(other), "{other}");
        }
        assert_eq!(names, TABLES.map(str::to_owned).into());
    }
}
