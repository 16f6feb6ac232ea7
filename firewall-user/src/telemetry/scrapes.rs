//! Readings of the metrics: one at a time, shared by every client that asks meanwhile or soon afterwards.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::body::Bytes;
use tokio::sync::watch;

use crate::config::{Config, Paths};
use crate::control::Control;
use crate::journal;
use crate::telemetry::metrics::{self, Scrape, Sources};

/// How long a reading is served, at least.
const MIN_AGE: Duration = Duration::from_secs(1);

/// How long it is served in proportion to the time that it took: clients that ask all the time cost at most a
/// fifth of a CPU.
const AGE_FACTOR: u32 = 4;

/// The result of a reading: the text, or an error for the client.
pub(super) type Answer = Result<Bytes, Bytes>;

/// The readings of a process.
#[derive(Clone)]
pub(super) struct Scrapes {
    paths: Paths,
    config: watch::Receiver<Config>,
    sources: Sources,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    /// The last reading, and until when it is served.
    last: Option<(Instant, Answer)>,
    /// The one that goes on.
    running: Option<watch::Receiver<Option<Answer>>>,
    /// The error that was reported last.
    reported: Option<String>,
}

impl Scrapes {
    pub(super) fn new(paths: Paths, config: watch::Receiver<Config>, sources: Sources) -> Self {
        Self { paths, config, sources, shared: Arc::default() }
    }

    /// The metrics: those of the last reading if it is recent, else those of the one that goes on or of a new
    /// one. A client that goes away does not end it.
    pub(super) async fn get(&self) -> Answer {
        let mut running = match self.last_or_running() {
            Ok(answer) => return answer,
            Err(running) => running,
        };
        match running.wait_for(Option::is_some).await {
            Ok(answer) => answer.clone().unwrap_or(Ok(Bytes::new())),
            Err(_) => {
                self.lock().running = None;
                Err(Bytes::from_static(b"the reading of the metrics ended early\n"))
            }
        }
    }

    fn last_or_running(&self) -> Result<Answer, watch::Receiver<Option<Answer>>> {
        let mut shared = self.lock();
        if let Some((until, answer)) = &shared.last
            && Instant::now() < *until
        {
            return Ok(answer.clone());
        }
        if let Some(running) = &shared.running {
            return Err(running.clone());
        }
        let (sender, running) = watch::channel(None);
        shared.running = Some(running.clone());
        let this = self.clone();
        tokio::task::spawn_blocking(move || {
            let answer = this.read();
            // Nobody waits if every client has gone.
            let _ = sender.send(Some(answer));
        });
        Err(running)
    }

    /// Opens store and maps again: commands change both while this process runs.
    fn read(&self) -> Answer {
        let began = Instant::now();
        let config = *self.config.borrow();
        let scrape =
            metrics::scrape(|| Control::open_read_only(&self.paths, config), &self.sources);
        let (answer, error) = match scrape {
            Ok(Scrape { text, error }) => (Ok(Bytes::from(text)), error),
            Err(error) => (Err(Bytes::from(format!("{error:#}\n"))), Some(error)),
        };
        let until = Instant::now() + MIN_AGE.max(began.elapsed() * AGE_FACTOR);
        let error = error.map(|error| format!("{error:#}"));
        let mut shared = self.lock();
        if shared.reported != error {
            if let Some(error) = &error {
                journal::report(format_args!("scrape: {error}"));
            }
            shared.reported = error;
        }
        shared.last = Some((until, answer.clone()));
        shared.running = None;
        answer
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
