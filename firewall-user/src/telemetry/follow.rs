//! Follows what changes outside of this process: devices, addresses and filters by notifications of the kernel,
//! the store by its generation, and by a slow check what nothing tells.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::{sleep, sleep_until};

use crate::config::{Config, Paths};
use crate::control::NothingAttached;
use crate::control::repair::{Depth, Repairs};
use crate::dataplane::host::device::Changes;
use crate::dataplane::host::netns;
use crate::journal;
use crate::telemetry::supervisor::Heartbeat;

/// Time between two checks of the store's generation, of an unconfirmed change's deadline, and of which network
/// namespaces exist.
const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// The least time before something that has ended is removed: the kernel does not honour it any more.
const END_PAUSE: Duration = Duration::from_millis(500);

/// The least and the most time between two checks after notifications. In between it is in proportion to the time
/// that the check took, so that a box whose root changes addresses all the time gets a part of one CPU only.
const MIN_PAUSE: Duration = Duration::from_millis(20);
const MAX_PAUSE: Duration = Duration::from_millis(250);
const PAUSE_FACTOR: u32 = 2;

/// The state of [`run`].
pub(super) struct Follower {
    paths: Paths,
    config: watch::Receiver<Config>,
    check_interval: Duration,
    changed: Arc<Notify>,
    /// By the namespace's name; `None`: the one of this process.
    subscriptions: BTreeMap<Option<String>, Subscription>,
    repairs: Repairs,
    /// The error that was reported last.
    reported: Option<String>,
}

/// The notifications of a network namespace.
struct Subscription {
    /// What tells the namespace from a later one of its name.
    identity: Option<(u64, u64)>,
    task: AbortHandle,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Follower {
    pub(super) fn new(
        paths: Paths,
        config: watch::Receiver<Config>,
        check_interval: Duration,
    ) -> Self {
        Self {
            paths,
            config,
            check_interval,
            changed: Arc::default(),
            subscriptions: BTreeMap::new(),
            repairs: Repairs::default(),
            reported: None,
        }
    }

    /// Subscribes in the namespaces of stored interfaces. One that does not exist now is tried again at the next
    /// check. Returns whether there is a new subscription: what happened before it was not told.
    fn subscribe(&mut self) -> bool {
        let wanted: BTreeSet<Option<String>> =
            self.repairs.namespaces().map(Some).chain([None]).collect();
        self.subscriptions.retain(|name, one| {
            wanted.contains(name)
                && one.identity == identity(name.as_deref())
                && !one.task.is_finished()
        });
        let mut is_new = false;
        for name in wanted {
            if self.subscriptions.contains_key(&name) {
                continue;
            }
            // Before the namespace is entered: a later one of this name is noticed.
            let identity = identity(name.as_deref());
            let Ok(mut changes) = Changes::open(name.as_deref()) else { continue };
            let changed = Arc::clone(&self.changed);
            let task = tokio::spawn(async move {
                loop {
                    changes.next().await;
                    changed.notify_one();
                }
            });
            let task = task.abort_handle();
            self.subscriptions.insert(name, Subscription { identity, task });
            is_new = true;
        }
        is_new
    }

    /// Checks, on another thread.
    async fn check(&mut self, depth: Depth) {
        let (paths, config) = (self.paths.clone(), *self.config.borrow_and_update());
        let mut repairs = std::mem::take(&mut self.repairs);
        let check = move || {
            let checked = repairs.check(&paths, config, depth, &mut report);
            (checked, repairs)
        };
        if let Ok((checked, repairs)) = tokio::task::spawn_blocking(check).await {
            self.repairs = repairs;
            self.note(checked);
        }
    }

    /// The time until the next check of the store: soon after something in it has ended by itself.
    fn pause(&self) -> Duration {
        let end = self.repairs.until_next_end().unwrap_or(POLL_INTERVAL);
        end.clamp(END_PAUSE, POLL_INTERVAL)
    }

    /// Reports an error once.
    fn note(&mut self, checked: Result<()>) {
        let error = checked.err().filter(|error| !error.is::<NothingAttached>());
        let error = error.map(|error| format!("{error:#}"));
        if self.reported != error {
            if let Some(error) = &error {
                report(&format!("follow devices and addresses: {error}"));
            }
            self.reported = error;
        }
    }
}

fn report(text: &str) {
    journal::report(format_args!("{text}"));
}

/// What tells a named namespace from a later one of its name; `None` for the process's own, or if there is none.
fn identity(name: Option<&str>) -> Option<(u64, u64)> {
    fs::metadata(netns::path(name?)).ok().map(|file| (file.dev(), file.ino()))
}

/// Follows until it is dropped. `first` is told after the first check.
pub(super) async fn run(mut this: Follower, heartbeat: Heartbeat, first: oneshot::Sender<()>) {
    // Before the first check: a device that appears during it is not missed.
    this.subscribe();
    this.check(Depth::Everything).await;
    if this.subscribe() {
        this.check(Depth::Devices).await;
    }
    let _ = first.send(());
    let mut next_full = tokio::time::Instant::now() + this.check_interval;
    loop {
        heartbeat.beat();
        let changed = Arc::clone(&this.changed);
        let mut depth = tokio::select! {
            () = changed.notified() => Depth::Devices,
            () = sleep_until(next_full) => Depth::Everything,
            () = sleep(this.pause()) => Depth::Store,
            Ok(()) = this.config.changed() => Depth::Everything,
        };
        let began = Instant::now();
        if this.subscribe() {
            depth = depth.max(Depth::Devices);
        }
        this.check(depth).await;
        if this.subscribe() {
            this.check(Depth::Devices).await;
        }
        if depth == Depth::Everything {
            next_full = tokio::time::Instant::now() + this.check_interval;
        }
        if depth > Depth::Store {
            sleep((began.elapsed() * PAUSE_FACTOR).clamp(MIN_PAUSE, MAX_PAUSE)).await;
        }
    }
}
