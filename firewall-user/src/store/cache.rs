//! The model as it was last read or committed: a process that makes or answers many requests does not read all of it
//! for each. The connections of a process share it, so that a reader finds what a writer has committed.
//!
//! What is kept is what the store holds at a generation, because everything that writes the tables of the model raises
//! it. Ends are compared besides: by the clocks as they are now they may be others than they were then.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rusqlite::Connection;

use super::ends::Ends;
use super::{entries, read};
use crate::clock::Clocks;
use crate::model::{End, Model};

/// The cache of the connections of this process to one store.
#[derive(Debug, Default)]
pub(super) struct ModelCache(Arc<Mutex<Kept>>);

/// A path, and the device and number of the file there: another file at the path is another store, also a copy
/// of an earlier state that goes on to the same generation.
type Place = (PathBuf, Option<(u64, u64)>);

/// The caches of the stores that are open.
static OPEN: Mutex<BTreeMap<Place, Weak<Mutex<Kept>>>> = Mutex::new(BTreeMap::new());

#[derive(Debug, Default)]
struct Kept {
    last: Option<Snapshot>,
    /// That of a transaction which is being committed: other connections see it before this one is told.
    next: Option<Snapshot>,
}

/// What a store holds at one moment.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    /// The store's.
    pub(super) id: String,
    pub(super) generation: u64,
    /// When rules, entries of ACLs and blocks end, by number.
    pub(super) ends: BTreeMap<u32, End>,
    pub(super) model: Arc<Model>,
}

impl ModelCache {
    /// That of the store at a path in this file; it is kept as long as a connection to the store is open.
    pub(super) fn of(path: &Path, file: Option<(u64, u64)>) -> Self {
        let place = (path.to_owned(), file);
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = open.get(&place).and_then(Weak::upgrade) {
            return Self(known);
        }
        open.retain(|_, known| known.strong_count() > 0);
        let new = Self::default();
        open.insert(place, Arc::downgrade(&new.0));
        new
    }

    /// What the store holds. The caller holds a transaction, so that all queries read one snapshot.
    pub(super) fn get(
        &self,
        sql: &Connection,
        clocks: &Clocks,
        entries: &entries::Cache,
    ) -> rusqlite::Result<Snapshot> {
        let (id, generation) = read::identity(sql)?;
        let ends = Ends::new(sql, clocks)?.all(sql)?;
        let is_same =
            |kept: &&Snapshot| kept.generation == generation && kept.id == id && kept.ends == ends;
        let kept = self.lock().snapshots().find(is_same).cloned();
        if let Some(kept) = kept {
            // Every test verifies it.
            debug_assert_eq!(*kept.model, read::model(sql, clocks, entries)?);
            return Ok(kept);
        }
        let model = Arc::new(read::model(sql, clocks, entries)?);
        let snapshot = Snapshot { id, generation, ends, model };
        self.lock().last = Some(snapshot.clone());
        Ok(snapshot)
    }

    /// Keeps what a transaction is about to commit.
    pub(super) fn prepare(&self, snapshot: Snapshot) {
        self.lock().next = Some(snapshot);
    }

    /// The transaction is committed, or it is not.
    pub(super) fn settle(&self, is_committed: bool) {
        let mut kept = self.lock();
        let next = kept.next.take();
        if is_committed {
            kept.last = next;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn snapshots(&self) -> impl Iterator<Item = &Snapshot> {
        self.last.iter().chain(&self.next)
    }
}
