//! When a rule, an entry of an ACL or a block ends by itself.

/// An end. The kernel compares it with its own clock, so that it takes effect without any process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct End {
    /// How it was given.
    pub kind: EndKind,
    /// The time in milliseconds since 1970, by the wall clock.
    pub wall: i64,
    /// The time in nanoseconds since this boot, suspended time included (`CLOCK_BOOTTIME`).
    pub boottime: u64,
}

/// How an end was given, which decides what a step of the wall clock does to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EndKind {
    /// After a time (`--for`): a step of the wall clock changes nothing.
    For,
    /// At a time of the wall clock (`--until`).
    Until,
}

impl End {
    /// The time that is left, in nanoseconds, at a time since this boot; `None` if it is over.
    #[must_use]
    pub fn left(&self, now: u64) -> Option<u64> {
        self.boottime.checked_sub(now).filter(|left| *left > 0)
    }
}
