//! When something ends by itself: stored by the wall clock, and by the clock of the boot in which it was
//! stored, which no one can set.
//!
//! The wall clock counts only where the other one cannot: for what is given by it, and after a reboot. As it may
//! be wrong then, as on a machine that starts in 1970, `state` has both clocks as they were last seen: no more
//! time is left after a reboot than was left then.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::rows;
use crate::clock::Clocks;
use crate::model::{End, EndKind, Moment};

/// The tables with the columns of an end, and `number` as their key.
const TABLES: [&str; 3] = ["rules", "acl_entries", "blocks"];

/// The time after which the clocks are stored again although no end has changed, in nanoseconds.
const STORED_EVERY: u64 = 600 * 1_000_000_000;

/// Converts stored ends to the present boot.
#[derive(Debug)]
pub(super) struct Ends<'a> {
    clocks: &'a Clocks,
    /// When the clocks were last stored.
    last: Option<Last>,
}

/// A boot, and the time since it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Last {
    boot: String,
    boottime: u64,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    /// Ends.
    pub(super) ends: bool,
    /// When they were looked at.
    pub(super) clocks: bool,
}

/// An end as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stored {
    end: End,
    boot: Option<String>,
}

impl<'a> Ends<'a> {
    /// With the clocks as they are.
    pub(super) fn new(sql: &Connection, clocks: &'a Clocks) -> rusqlite::Result<Self> {
        let last = "SELECT clock_boot, clock_boottime FROM state WHERE clock_boot IS NOT NULL";
        let last = sql
            .query_row(last, [], |row| {
                Ok(Last { boot: row.get(0)?, boottime: rows::count(row, 1)? })
            })
            .optional()?;
        Ok(Self { clocks, last })
    }

    /// The columns `end_kind, end_wall, end_boot, end_boottime`, the first at `column`.
    pub(super) fn read(&self, row: &Row<'_>, column: usize) -> rusqlite::Result<Option<End>> {
        Ok(stored(row, column)?.map(|stored| self.present(&stored)))
    }

    /// An end by the clocks of the present boot.
    fn present(&self, Stored { end, boot }: &Stored) -> End {
        let now = self.clocks.moment;
        if boot.is_some() && *boot == self.clocks.boot {
            return end.adjusted(now);
        }
        let by_wall = now.boottime_at(end.wall);
        let boottime = match (end.kind, &self.last) {
            (EndKind::For, Some(last)) if boot.as_ref() == Some(&last.boot) => {
                let left = end.boottime.saturating_sub(last.boottime);
                by_wall.min(now.boottime.saturating_add(left))
            }
            _ => by_wall,
        };
        let wall = match end.kind {
            EndKind::For => now.wall_at(boottime),
            EndKind::Until => end.wall,
        };
        End { kind: end.kind, wall, boottime }
    }

    /// Every end, by its number.
    pub(super) fn all(&self, sql: &Connection) -> rusqlite::Result<BTreeMap<u32, End>> {
        let mut ends = BTreeMap::new();
        for table in TABLES {
            let select = format!(
                "SELECT number, end_kind, end_wall, end_boot, end_boottime FROM {table} \
                 WHERE end_kind IS NOT NULL"
            );
            let mut statement = sql.prepare_cached(&select)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                if let Some(end) = self.read(row, 1)? {
                    ends.insert(row.get(0)?, end);
                }
            }
        }
        Ok(ends)
    }

    /// Whether an end is stored by other clocks than those of the present boot.
    pub(super) fn are_moved(&self, sql: &Connection) -> rusqlite::Result<bool> {
        for table in TABLES {
            if !self.moved(sql, table)?.1.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a table has any end, and the ends that are stored by other clocks, by number, as they are by
    /// those of the present boot.
    fn moved(&self, sql: &Connection, table: &str) -> rusqlite::Result<(bool, Vec<(u32, End)>)> {
        let select = format!(
            "SELECT number, end_kind, end_wall, end_boot, end_boottime FROM {table} \
             WHERE end_kind IS NOT NULL"
        );
        let (mut is_any, mut moved) = (false, Vec::new());
        let mut statement = sql.prepare_cached(&select)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let Some(stored) = stored(row, 1)? else { continue };
            is_any = true;
            let end = self.present(&stored);
            if end != stored.end || stored.boot != self.clocks.boot {
                moved.push((row.get(0)?, end));
            }
        }
        Ok((is_any, moved))
    }

    /// Stores every end by the clocks of the present boot, where it is stored otherwise.
    pub(super) fn store(&self, sql: &Connection) -> rusqlite::Result<Written> {
        let mut written = Written::default();
        let mut has_ends = false;
        for table in TABLES {
            let (is_any, changed) = self.moved(sql, table)?;
            has_ends |= is_any;
            let update = format!(
                "UPDATE {table} SET end_wall = ?2, end_boot = ?3, end_boottime = ?4 WHERE number = ?1"
            );
            for (number, end) in changed {
                let boottime = i64::try_from(end.boottime).unwrap_or(i64::MAX);
                let boot = self.clocks.boot.as_deref();
                sql.prepare_cached(&update)?.execute(params![number, end.wall, boot, boottime])?;
                written.ends = true;
            }
        }
        let is_old = self.last.as_ref().is_none_or(|last| {
            Some(&last.boot) != self.clocks.boot.as_ref()
                || self.clocks.moment.boottime.saturating_sub(last.boottime) > STORED_EVERY
        });
        if written.ends || has_ends && is_old {
            store_clocks(sql, self.clocks)?;
            written.clocks = true;
        }
        Ok(written)
    }
}

/// Stores when the ends are known to be those of this boot.
pub(super) fn store_clocks(sql: &Connection, clocks: &Clocks) -> rusqlite::Result<()> {
    let Clocks { boot, moment: Moment { boottime, .. } } = clocks;
    let boottime = i64::try_from(*boottime).unwrap_or(i64::MAX);
    sql.execute("UPDATE state SET clock_boot = ?1, clock_boottime = ?2", params![boot, boottime])
        .map(drop)
}

fn stored(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Stored>> {
    if row.get_ref(column)? == rusqlite::types::ValueRef::Null {
        return Ok(None);
    }
    let kind = rows::named(row, column, &EndKind::ALL, EndKind::name)?;
    let end = End { kind, wall: row.get(column + 1)?, boottime: rows::count(row, column + 3)? };
    Ok(Some(Stored { end, boot: row.get(column + 2)? }))
}

/// The columns of an end.
pub(super) struct EndColumns<'a> {
    pub(super) kind: Option<&'static str>,
    pub(super) wall: Option<i64>,
    pub(super) boot: Option<&'a str>,
    pub(super) boottime: Option<i64>,
}

impl<'a> EndColumns<'a> {
    /// Of an end of this boot.
    pub(super) fn new(end: Option<End>, boot: Option<&'a str>) -> Self {
        Self {
            kind: end.map(|end| end.kind.name()),
            wall: end.map(|end| end.wall),
            boot: end.and(boot),
            boottime: end.map(|end| i64::try_from(end.boottime).unwrap_or(i64::MAX)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const WALL: i64 = 1_700_000_000_000;

    fn clocks(boot: &str, seconds: u64, wall: i64) -> Clocks {
        let moment = Moment { boottime: seconds * SECOND, wall };
        Clocks { boot: Some(boot.to_owned()), moment }
    }

    /// What is left of an end of an hour, made 100 s after boot `a`, by other clocks. `seen`: when the
    /// clocks were last stored, in seconds after the boot.
    fn left(kind: EndKind, seen: u64, now: Clocks) -> u64 {
        let made = clocks("a", 100, WALL);
        let end = End::after(Duration::from_secs(3600), made.moment).unwrap();
        let stored = Stored { end: End { kind, ..end }, boot: made.boot };
        let last = Some(Last { boot: "a".to_owned(), boottime: seen * SECOND });
        let present = Ends { clocks: &now, last }.present(&stored);
        present.left(now.moment.boottime).unwrap_or(0) / SECOND
    }

    #[test]
    fn in_its_boot_an_end_after_a_time_knows_no_wall_clock() {
        for step in [-1_000_000_000, -3_600_000, 0, 3_600_000, 1_000_000_000] {
            let now = clocks("a", 700, WALL + 600_000 + step);
            assert_eq!(left(EndKind::For, 100, now.clone()), 3000);
            let by_wall = (3_000_000 - step).max(0).unsigned_abs() / 1000;
            assert_eq!(left(EndKind::Until, 100, now), by_wall);
        }
    }

    #[test]
    fn after_a_reboot_the_wall_clock_counts_the_time_that_the_machine_was_off() {
        let now = clocks("b", 10, WALL + 1_800_000);
        assert_eq!(left(EndKind::For, 100, now.clone()), 1800);
        assert_eq!(left(EndKind::Until, 100, now), 1800);
        let later = clocks("b", 10, WALL + 3_600_000);
        assert_eq!(left(EndKind::For, 100, later.clone()), 0);
        assert_eq!(left(EndKind::Until, 100, later), 0);
    }

    #[test]
    fn after_a_reboot_no_more_is_left_than_was_when_the_clocks_were_last_stored() {
        // The clock starts in 1970, or jumps back.
        for wall in [0, WALL - 86_400_000] {
            assert_eq!(left(EndKind::For, 100, clocks("b", 10, wall)), 3600);
            assert_eq!(left(EndKind::For, 2500, clocks("b", 10, wall)), 1200);
            assert_eq!(left(EndKind::For, 3700, clocks("b", 10, wall)), 0);
        }
        let until = left(EndKind::Until, 2500, clocks("b", 10, WALL - 86_400_000));
        assert_eq!(until, 86_400 + 3600, "it follows the wall clock");
    }
}
