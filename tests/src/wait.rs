//! Waiting for conditions by polling.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// The upper limit for anything that has to happen, also on a busy or emulated machine.
pub const MAX_WAIT: Duration = Duration::from_secs(60);

/// Waits until a condition holds; panics when it does not within the limit.
pub fn wait_until(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(limit, what, || condition().then_some(()));
}

/// Waits until there is a value; panics when there is none within the limit.
pub fn wait_for<T>(limit: Duration, what: &str, mut value: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = value() {
            return value;
        }
        assert!(start.elapsed() < limit, "timed out after {limit:?} waiting for: {what}");
        sleep(Duration::from_millis(5));
    }
}

/// Waits until a value has not changed for the time `quiet`.
pub fn wait_for_quiet<T: PartialEq>(quiet: Duration, what: &str, mut value: impl FnMut() -> T) {
    let mut last = value();
    let mut since = Instant::now();
    wait_until(MAX_WAIT, what, || {
        let now = value();
        if now != last {
            last = now;
            since = Instant::now();
        }
        since.elapsed() >= quiet
    });
}
