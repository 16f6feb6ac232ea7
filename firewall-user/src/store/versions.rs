//! The entries of earlier versions of prefix lists. They are not in the model: packets are decided by the present
//! ones.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::entries::Cache;
use super::rows;
use crate::model::{Entries, Family, PrefixListId};

/// How many versions of a list are kept besides the present one: as many as EC2 has of a list.
const KEPT: u32 = 999;

/// How many networks the kept versions of a list have together: as many as EC2's have. Of a list of a million
/// entries one earlier version is kept.
const KEPT_NETWORKS: u32 = 1_000_000;

/// Keeps the entries of a list as it is, before it gets others.
pub(super) fn keep(sql: &Connection, list: &PrefixListId) -> rusqlite::Result<()> {
    let insert = "INSERT INTO prefix_list_versions SELECT id, version, entries, coalesce( \
                  (SELECT length(networks) FROM prefix_list_entries \
                  WHERE prefix_list_entries.id = entries), 0) \
                  / CASE family WHEN 'ipv4' THEN 5 ELSE 17 END FROM prefix_lists WHERE id = ?1";
    sql.execute(insert, [list.as_str()]).map(drop)
}

/// Forgets the oldest versions of a list, if they are too many; returns whether there were any to forget.
pub(super) fn drop_oldest(sql: &Connection, list: &PrefixListId) -> rusqlite::Result<bool> {
    let delete = "DELETE FROM prefix_list_versions WHERE list = ?1 AND version IN (SELECT version FROM \
                  (SELECT version, row_number() OVER later AS number, sum(networks) OVER later AS total \
                  FROM prefix_list_versions WHERE list = ?1 \
                  WINDOW later AS (ORDER BY version DESC)) WHERE number > ?2 OR total > ?3)";
    Ok(sql.execute(delete, params![list.as_str(), KEPT, KEPT_NETWORKS])? > 0)
}

/// The entries of an earlier version of a list; `None` if it is not kept.
pub(super) fn get(
    sql: &Connection,
    cache: &Cache,
    family: Family,
    list: &PrefixListId,
    version: u64,
) -> rusqlite::Result<Option<Entries>> {
    let Ok(version) = i64::try_from(version) else { return Ok(None) };
    let select = "SELECT entries FROM prefix_list_versions WHERE list = ?1 AND version = ?2";
    let set: Option<Option<i64>> =
        sql.query_row(select, params![list.as_str(), version], |row| row.get(0)).optional()?;
    match set {
        None => Ok(None),
        Some(None) => Ok(Some(Entries::default())),
        Some(Some(set)) => {
            let entries = cache.get(sql, family, set)?;
            let damaged = || rows::invalid(0, format!("version {version} of {list}"));
            entries.ok_or_else(damaged).map(Some)
        }
    }
}
