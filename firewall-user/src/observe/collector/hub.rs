//! What the collector tells other parts of this process: every record as it comes, and its accounts.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::account::Accounts;
use crate::observe::record::PacketRecord;

/// Shared by the collector and those who use what it collects.
#[derive(Debug, Default)]
pub struct Hub {
    inner: Mutex<Inner>,
    wants_passes: AtomicBool,
}

#[derive(Debug, Default)]
struct Inner {
    subscribers: Vec<Subscriber>,
    state: State,
}

#[derive(Debug)]
struct Subscriber {
    records: SyncSender<Arc<PacketRecord>>,
    missed: Arc<AtomicU64>,
}

/// What the collector has done, for metrics.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Whether it is collecting.
    pub is_collecting: bool,
    /// Of dropped packets since it began.
    pub drops: Accounts,
    /// Of packets that passed without a flow.
    pub passes: Accounts,
    /// Milliseconds since 1970 when a record that tests the way through the kernel last arrived.
    pub self_test: Option<i64>,
    /// Records that could not be written to the journal.
    pub unwritten: u64,
    /// Why records cannot be written now.
    pub problem: Option<String>,
}

/// Records as they come.
#[derive(Debug)]
pub struct Subscription {
    /// In the order of the collector; it ends with the collector's process.
    pub records: Receiver<Arc<PacketRecord>>,
    missed: Arc<AtomicU64>,
}

impl Subscription {
    /// Packets of records that did not fit into the queue since this was last asked.
    #[must_use]
    pub fn take_missed(&self) -> u64 {
        self.missed.swap(0, Relaxed)
    }
}

impl Hub {
    /// The records from now on. A subscriber that does not keep up misses those beyond `capacity`; the collector never
    /// waits for it.
    #[must_use]
    pub fn subscribe(&self, capacity: usize) -> Subscription {
        let (sender, records) = sync_channel(capacity);
        let missed = Arc::new(AtomicU64::new(0));
        let subscriber = Subscriber { records: sender, missed: Arc::clone(&missed) };
        self.lock().subscribers.push(subscriber);
        Subscription { records, missed }
    }

    /// Whether packets that pass without a flow are recorded too, which costs each of them some nanoseconds.
    pub fn set_passes(&self, wanted: bool) {
        self.wants_passes.store(wanted, Relaxed);
    }

    /// See [`Self::set_passes`].
    pub(super) fn wants_passes(&self) -> bool {
        self.wants_passes.load(Relaxed)
    }

    /// A copy of the state.
    #[must_use]
    pub fn state(&self) -> State {
        self.lock().state.clone()
    }

    /// Tells why there is no collector, or with `None` that this is no failure.
    pub fn set_problem(&self, problem: Option<String>) {
        self.update(|state| state.problem = problem);
    }

    /// Changes the state.
    pub(super) fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock().state);
    }

    /// Tells the subscribers a record; those that are gone are forgotten.
    pub(in crate::observe) fn publish(&self, record: &Arc<PacketRecord>) {
        self.lock().subscribers.retain(|one| match one.records.try_send(Arc::clone(record)) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                one.missed.fetch_add(record.packets, Relaxed);
                true
            }
            Err(TrySendError::Disconnected(_)) => false,
        });
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
