//! The kernel program's clock, in jiffies.

use aya::programs::{SchedClassifier, TestRun, TestRunOptions};
use nix::time::{ClockId, clock_getres};

use crate::dataplane::error::{Context, Result};
use crate::dataplane::pins::Pins;
use crate::dataplane::tables::maps::Maps;

/// Jiffies in a second. The coarse clock advances once per jiffy, so its resolution is one
/// (`TICK_NSEC`, kernel/time/posix-timers.c).
#[must_use]
pub fn hz() -> u64 {
    let resolution = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).map_or(0, |r| r.tv_nsec());
    match u64::try_from(resolution) {
        Ok(nanoseconds @ 1..=1_000_000_000) => (1_000_000_000 + nanoseconds / 2) / nanoseconds,
        // Cannot happen on Linux; with the shortest jiffy no timeout is shorter than configured.
        _ => 1000,
    }
}

/// Seconds as jiffies.
#[must_use]
pub fn jiffies(seconds: u64) -> u64 {
    seconds.saturating_mul(hz())
}

/// The kernel's clock, in jiffies.
///
/// # Errors
/// The pinned clock program cannot be run.
pub fn now(pins: &Pins, maps: &Maps) -> Result<u64> {
    let program = SchedClassifier::from_pin(pins.clock()).context("open program clock")?;
    // A test run of a classifier requires at least an Ethernet header.
    let frame = [0_u8; 64];
    program
        .test_run(TestRunOptions { data_in: Some(&frame), ..TestRunOptions::default() })
        .context("run program clock")?;
    maps.clock.get(&0, 0).context("read map CLOCK")
}
