//! Counts what rules are used for, as long as `serve` runs.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::config::{Config, Paths};
use crate::control::Control;
use crate::journal;
use crate::observe::hits::{Next, Watcher};
use crate::telemetry::serve::{Server, Signalled, runtime};

/// Time between two readings.
const INTERVAL: Duration = Duration::from_secs(10);

/// The longest time: beyond a minute it would be a gap in what was watched.
const LONGEST: Duration = Duration::from_secs(45);

/// The share of a CPU that readings take at most: with very many flows they are rarer.
const SHARE: u32 = 20;

/// How often the process learns that this works.
const BEAT: Duration = Duration::from_secs(1);

/// The part of `serve` that counts.
#[must_use]
pub fn server(paths: Paths) -> Server {
    Server { name: "hits", run: Box::new(move |signalled| run(&paths, signalled)) }
}

fn run(paths: &Paths, signalled: Signalled) -> Result<()> {
    let Signalled { beat, config, mut end, .. } = signalled;
    let runtime = runtime()?;
    let mut counting = Counting { paths, config, watcher: None, reported: None };
    loop {
        let began = Instant::now();
        beat();
        counting.read(Next::ThisProcess);
        let pause = (began.elapsed() * SHARE).clamp(INTERVAL, LONGEST);
        let next = began + pause;
        while let Some(left) = next.checked_duration_since(Instant::now()) {
            beat();
            let ended = async { timeout(left.min(BEAT), end.wait_for(|ends| *ends)).await.is_ok() };
            if runtime.block_on(ended) {
                // What was counted since the last reading.
                counting.read(Next::AnotherProcess);
                return Ok(());
            }
        }
    }
}

struct Counting<'a> {
    paths: &'a Paths,
    config: watch::Receiver<Config>,
    watcher: Option<Watcher>,
    /// The error that was reported last.
    reported: Option<String>,
}

impl Counting<'_> {
    /// Reads once. An error is reported when it occurs first; the next reading tries again.
    fn read(&mut self, next: Next) {
        let error = self.update(next).err().map(|error| format!("{error:#}"));
        if let Some(error) = &error
            && self.reported.as_ref() != Some(error)
        {
            journal::report(format_args!("count what rules are used for: {error}"));
        }
        self.reported = error;
    }

    fn update(&mut self, next: Next) -> Result<()> {
        let control = Control::open_read_only(self.paths, *self.config.borrow())?;
        if control.store().is_absent() {
            return Ok(());
        }
        let model = control.model()?;
        if self.watcher.is_none() {
            // Another one may count for a moment: a command that shows the hits.
            self.watcher = Watcher::start(&control)?;
        }
        match &mut self.watcher {
            Some(watcher) => watcher.update(&control, &model, next).context("read"),
            None => Ok(()),
        }
    }
}
