//! A progress bar for long changes.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// A change that takes less time shows no bar.
const SHOWN_AFTER: Duration = Duration::from_secs(1);

/// The progress of a change; drawn on a terminal once it has taken a second.
#[derive(Debug)]
pub(super) struct Progress {
    began: Instant,
    done: u64,
    total: u64,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// The progress of a change that begins now.
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), done: 0, total: 0, bar: None }
    }

    /// Adds entries that are to be written.
    pub(super) fn expect_more(&mut self, entries: usize) {
        self.total = self.total.saturating_add(u64::try_from(entries).unwrap_or(u64::MAX));
        if let Some(bar) = &self.bar {
            bar.set_length(self.total);
        }
    }

    /// Adds entries that are written.
    pub(super) fn advance(&mut self, entries: usize) {
        self.done += u64::try_from(entries).unwrap_or(0);
        if self.bar.is_none() && self.began.elapsed() >= SHOWN_AFTER {
            // It draws nothing if standard error is no terminal.
            let bar = ProgressBar::new(self.total);
            if let Ok(style) =
                ProgressStyle::with_template("{bar:40} {human_pos} of {human_len} entries written")
            {
                bar.set_style(style);
            }
            self.bar = Some(bar);
        }
        if let Some(bar) = &self.bar {
            bar.set_position(self.done.min(self.total));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
