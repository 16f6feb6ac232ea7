//! The part of `serve` that collects records of dropped packets.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::config::{Config, Paths};
use crate::journal;
use crate::observe::collector::Collector;
use crate::observe::collector::hub::Hub;
use crate::observe::journal::JournalError;
use crate::telemetry::serve::{Server, Signalled};

/// Time between two attempts to take the journal, which another process may have.
const RETRY: Duration = Duration::from_secs(5);

/// How often it is looked whether the process ends meanwhile.
const PATIENCE: Duration = Duration::from_millis(250);

/// Collects as long as the process runs; while another process does, waits until that ends.
#[must_use]
pub fn server(paths: Paths, config: Config, hub: Arc<Hub>) -> Server {
    let run = move |signalled: Signalled| {
        let Signalled { beat, end, .. } = signalled;
        let is_over = || {
            beat();
            *end.borrow()
        };
        let mut reported = None;
        while !is_over() {
            match Collector::open(&paths, config, Arc::clone(&hub)) {
                Ok(collector) => {
                    collector.run(is_over);
                    reported = None;
                }
                Err(error) => {
                    let is_busy = matches!(error.downcast_ref(), Some(JournalError::Busy { .. }));
                    let text = format!("{error:#}");
                    hub.set_problem((!is_busy).then(|| text.clone()));
                    if !is_busy && reported.as_ref() != Some(&text) {
                        journal::report(format_args!("record dropped packets: {text}"));
                        reported = Some(text);
                    }
                    wait(is_over);
                }
            }
        }
        Ok(())
    };
    Server { name: "records", run: Box::new(run) }
}

/// Waits for [`RETRY`], unless the process ends.
fn wait(is_over: impl Fn() -> bool) {
    let until = Instant::now() + RETRY;
    while Instant::now() < until && !is_over() {
        thread::sleep(PATIENCE);
    }
}
