//! A bar for what takes longer than a moment.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// What takes less needs no bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// How far a change has come; drawn on a terminal once it has taken a second.
#[derive(Debug)]
pub(super) struct Progress {
    began: Instant,
    done: u64,
    total: u64,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Of a change that begins now.
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), done: 0, total: 0, bar: None }
    }

    /// So many entries will be written.
    pub(super) fn expect(&mut self, entries: usize) {
        self.total = u64::try_from(entries).unwrap_or(u64::MAX);
    }

    /// So many more are written.
    pub(super) fn advance(&mut self, entries: usize) {
        self.done += u64::try_from(entries).unwrap_or(0);
        if self.bar.is_none() && self.began.elapsed() >= PATIENCE {
            // Draws nothing where standard error is no terminal.
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
