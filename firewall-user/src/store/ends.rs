//! When something ends by itself: stored by the wall clock, and by the clock of the boot in which it was
//! stored, which no one can set.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use procfs::sys::kernel::random;
use rusqlite::Row;

use super::rows;
use crate::model::{End, EndKind};

/// Nanoseconds in a millisecond.
const MILLISECOND: i64 = 1_000_000;

/// A difference between two clocks that is no step, in nanoseconds.
const TOLERANCE: u64 = 2_000_000_000;

/// Converts stored ends to the present boot.
pub(super) struct Ends {
    boot: Option<String>,
    /// Nanoseconds since the boot.
    boottime: u64,
    /// Milliseconds since 1970.
    wall: i64,
}

impl Ends {
    /// With the clocks as they are.
    pub(super) fn now() -> Self {
        let boottime =
            clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            boot: random::boot_id().ok(),
            boottime: u64::try_from(boottime.as_nanos()).unwrap_or(u64::MAX),
            wall: i64::try_from(wall.as_millis()).unwrap_or(i64::MAX),
        }
    }

    /// The columns `end_kind, end_wall, end_boot, end_boottime`, the first at `column`.
    pub(super) fn read(&self, row: &Row<'_>, column: usize) -> rusqlite::Result<Option<End>> {
        let kind: Option<String> = row.get(column)?;
        if kind.is_none() {
            return Ok(None);
        }
        let kind = rows::named(row, column, &EndKind::ALL, EndKind::name)?;
        let wall: i64 = row.get(column + 1)?;
        let boot: Option<String> = row.get(column + 2)?;
        let stored = rows::count(row, column + 3)?;
        let left = wall.saturating_sub(self.wall).max(0).saturating_mul(MILLISECOND);
        let by_wall = self.boottime.saturating_add(left.unsigned_abs());
        let is_same_boot = boot.is_some() && boot == self.boot;
        let boottime = match kind {
            EndKind::For if is_same_boot => stored,
            // Not another time with every reading.
            EndKind::Until if is_same_boot && stored.abs_diff(by_wall) < TOLERANCE => stored,
            EndKind::For | EndKind::Until => by_wall,
        };
        Ok(Some(End { kind, wall, boottime }))
    }
}

/// The columns of an end.
pub(super) struct EndColumns {
    pub(super) kind: Option<&'static str>,
    pub(super) wall: Option<i64>,
    pub(super) boot: Option<String>,
    pub(super) boottime: Option<i64>,
}

impl EndColumns {
    pub(super) fn new(end: Option<End>) -> Self {
        Self {
            kind: end.map(|end| end.kind.name()),
            wall: end.map(|end| end.wall),
            boot: end.and_then(|_| random::boot_id().ok()),
            boottime: end.map(|end| i64::try_from(end.boottime).unwrap_or(i64::MAX)),
        }
    }
}
