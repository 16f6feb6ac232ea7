//! What each rule is used for: packets, bytes, flows, first and last use. Kept in a file of its own beside the store, so
//! that it outlives restarts, reboots, and the counters in the kernel.
//!
//! Of a rule the kernel counts the packets that belonged to no flow when the rule allowed them; a flow counts its own
//! packets and knows its rule. [`Watcher`] adds up both at every reading.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::clock::Clocks;
use crate::control::Control;
use crate::dataplane::tables::clock;
use crate::model::Model;
use crate::observe::flows::{DEFAULT_LIMIT, Poller};
use crate::ownership;

mod count;
pub mod document;
mod error;
mod file;
mod periods;
pub mod removal;

pub use error::HitsError;
pub use periods::{Period, Watched};

use count::Reading;
use file::Content;

/// The file in the state directory, and the lock of the process that writes it.
const FILE: &str = "hits.db";
const LOCK: &str = "hits.lock";

/// Rows of deleted rules that are kept; of more, those that were created first are removed.
const MAX_DELETED: usize = 10_000;

/// What a rule, or an entry of a network ACL, was used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleHits {
    /// Since when it was counted: milliseconds since 1970.
    pub since: i64,
    /// Packets that it allowed, with those of its flows in both directions. Of an entry, those that it decided.
    pub packets: u64,
    /// Bytes of their whole frames.
    pub bytes: u64,
    /// Flows that it opened.
    pub new_flows: u64,
    /// When the first of these packets passed, in milliseconds since 1970; `None` without one.
    pub first: Option<i64>,
    /// When the last one did.
    pub last: Option<i64>,
}

/// What every rule was used for, and when this was watched.
#[derive(Clone, Debug, Default)]
pub struct Hits {
    /// By the number of the rule or entry.
    rules: BTreeMap<u32, RuleHits>,
    /// When packets were counted.
    pub watched: Watched,
}

impl Hits {
    /// What the file says; nothing if there is none, or it is of another store.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(control: &Control) -> Result<Self> {
        let path = control.paths().state_dir.join(FILE);
        Ok(file::read(&path, &store_id(control)?)?.into())
    }

    /// As of now if no other process watches, else as that one wrote it some seconds ago.
    ///
    /// # Errors
    /// It cannot be read or written, or the tables cannot be read.
    pub fn current(control: &Control, model: &Model) -> Result<Self> {
        match Watcher::start(control)? {
            Some(mut watcher) => {
                watcher.update(control, model, Next::AnotherProcess)?;
                Ok(watcher.hits())
            }
            None => Self::read(control),
        }
    }

    /// When they were read last, in milliseconds since 1970; `None`: never. Where another process watches, that was some
    /// seconds ago.
    #[must_use]
    pub fn as_of(&self) -> Option<i64> {
        self.watched.periods().last().map(|last| last.to)
    }

    /// The numbers of the rules and entries with a hit since a time, in milliseconds since 1970.
    pub fn since(&self, time: i64) -> impl Iterator<Item = u32> + '_ {
        let recent = self.rules.iter().filter(move |(_, hits)| hits.last >= Some(time));
        recent.map(|(number, _)| *number)
    }

    /// Of a rule or entry by its number; `None`: it was created after the last reading.
    #[must_use]
    pub fn of(&self, number: u32) -> Option<&RuleHits> {
        self.rules.get(&number)
    }
}

impl From<Content> for Hits {
    fn from(content: Content) -> Self {
        let rules = content.rows.into_iter().map(|(number, row)| (number, row.hits)).collect();
        Self { rules, watched: content.watched }
    }
}

fn store_id(control: &Control) -> Result<String> {
    let store = control.store();
    Ok(if store.is_absent() { String::new() } else { store.id()? })
}

/// Who reads next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// This process, unless it is killed: what its flows have counted is in its memory only.
    ThisProcess,
    /// Another one: this is the last reading of this one.
    AnotherProcess,
}

/// Counts what rules are used for. There is one at a time for a store.
#[derive(Debug)]
pub struct Watcher {
    path: PathBuf,
    content: Content,
    poller: Poller,
    _lock: File,
}

impl Watcher {
    /// Goes on from what the file says; `None` if another process watches.
    ///
    /// # Errors
    /// The file cannot be read, or another user can change the directory.
    pub fn start(control: &Control) -> Result<Option<Self>> {
        let dir = &control.paths().state_dir;
        let Some(lock) = lock(dir)? else { return Ok(None) };
        let path = dir.join(FILE);
        let mut content = file::read(&path, &store_id(control)?)?;
        // Of another boot, no flow is left: all are new.
        let is_this_boot = content.boot.is_some() && content.boot == Clocks::now().boot;
        let (last, known) =
            if is_this_boot { (content.jiffies, content.flows.take()) } else { (0, None) };
        let poller = Poller::resume(DEFAULT_LIMIT, last, known);
        Ok(Some(Self { path, content, poller, _lock: lock }))
    }

    /// Reads the tables and writes what is new; for another process also what the flows have counted.
    ///
    /// # Errors
    /// The tables cannot be read or the file not be written; then nothing is counted twice later.
    pub fn update(&mut self, control: &Control, model: &Model, next: Next) -> Result<()> {
        let store = store_id(control)?;
        if self.content.store != store {
            // The store was replaced: these are numbers of other rules.
            self.content = Content::default();
            self.content.store = store;
            self.poller = Poller::resume(DEFAULT_LIMIT, 0, None);
        }
        // Before the flows: a flow that begins in between is counted by its rule at the next reading.
        let counters = match control.maps()? {
            Some(maps) => maps.rule_counters()?,
            None => BTreeMap::new(),
        };
        let poll = self.poller.poll(control, model)?;
        let clocks = Clocks::now();
        let reading = Reading {
            wall: clocks.moment.wall,
            hz: clock::hz(),
            is_same_boot: clocks.boot.is_some() && clocks.boot == self.content.boot,
            counters: &counters,
            poll: &poll,
        };
        let rules = model.groups.values().flat_map(|group| &group.rules).map(|rule| rule.number);
        let entries = model.acls.values().flat_map(|acl| acl.entries.values());
        let present = rules.chain(entries.map(|entry| entry.number)).collect();
        count::count(&reading, &present, &mut self.content.rows);
        count::forget_deleted(&mut self.content.rows, &present, MAX_DELETED);
        let boottime = i64::try_from(clocks.moment.boottime / 1_000_000).unwrap_or(i64::MAX);
        // Flows that are not read are a gap: the rules that they use would seem unused.
        if poll.beyond_limit == 0 {
            let (before, now) = (&self.content.boot, &clocks.boot);
            self.content.watched.extend(before, now, clocks.moment.wall, boottime);
        }
        self.content.boot = clocks.boot;
        if poll.jiffies > 0 {
            self.content.jiffies = poll.jiffies;
        }
        self.content.flows = (next == Next::AnotherProcess).then(|| self.poller.known());
        file::write(&self.path, &mut self.content).context("write the hits of rules")
    }

    /// As of the last update.
    #[must_use]
    pub fn hits(&self) -> Hits {
        let rules = self.content.rows.iter().map(|(number, row)| (*number, row.hits)).collect();
        Hits { rules, watched: self.content.watched.clone() }
    }
}

/// The lock of the one process that watches; `None`: another one does.
fn lock(dir: &Path) -> Result<Option<File>, HitsError> {
    ownership::create_directory(dir)?;
    let path = dir.join(LOCK);
    ownership::create_file(&path)?;
    let failed = |source| HitsError::Lock { path: path.clone(), source };
    let file = File::options().read(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(HitsError::Lock { path, source }),
    }
}
