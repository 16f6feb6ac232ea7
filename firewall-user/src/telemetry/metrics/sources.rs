//! What a scrape reads beside store and tables.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;

use crate::clock::Clocks;
use crate::control::Control;
use crate::model::Model;
use crate::policy::redundant::redundant;
use crate::policy::{Addresses, resolve_groups};

/// What the collector of records tells, of the process that collects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// Whether it is collecting.
    pub is_collecting: bool,
    /// Whether records cannot be written now.
    pub is_failing: bool,
    /// Packets by interface and verdict.
    pub accounts: Vec<RecordAccount>,
    /// Records that could not be written to the journal.
    pub unwritten: u64,
    /// When a record that tests the way through the kernel last arrived, in milliseconds since 1970.
    pub self_test: Option<i64>,
    /// The journal; `None` where it cannot be read.
    pub journal: Option<Journal>,
}

/// Packets that were to be recorded; `seen` is the sum of the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordAccount {
    /// Id of the interface.
    pub interface: String,
    /// `drop` or `pass`.
    pub verdict: &'static str,
    /// All of them.
    pub seen: u64,
    /// Those with a record of their own.
    pub kept: u64,
    /// Those that another record counts.
    pub aggregated: u64,
    /// Those in no record.
    pub lost: u64,
}

/// The journal of records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Journal {
    /// Its size.
    pub bytes: u64,
    /// The oldest entry, in milliseconds since 1970; `None` if it is empty.
    pub oldest: Option<i64>,
}

type ReadRecords = dyn Fn() -> Records + Send + Sync;

/// The covered rules, and the store and addresses for which they are so.
type Covered = (u64, Addresses, Arc<HashSet<u32>>);

/// What a scrape reads beside store and tables, and whether it has series of rules.
#[derive(Clone)]
pub struct Sources {
    has_rules: bool,
    records: Option<Arc<ReadRecords>>,
    covered: Arc<Mutex<Option<Covered>>>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("has_rules", &self.has_rules).finish_non_exhaustive()
    }
}

impl Sources {
    /// With series of rules or without, and nothing of records.
    #[must_use]
    pub fn new(has_rules: bool) -> Self {
        Self { has_rules, records: None, covered: Arc::default() }
    }

    /// With what the collector of this process tells.
    #[must_use]
    pub fn with_records(self, read: impl Fn() -> Records + Send + Sync + 'static) -> Self {
        Self { records: Some(Arc::new(read)), ..self }
    }

    pub(super) const fn has_rules(&self) -> bool {
        self.has_rules
    }

    pub(super) fn records(&self) -> Option<Records> {
        self.records.as_ref().map(|read| read())
    }

    /// The numbers of the rules that others of their group cover. What was found is kept for as long as the store is
    /// the same: of thousands of rules it takes a while.
    pub(super) fn covered(&self, control: &Control, model: &Model) -> Result<Arc<HashSet<u32>>> {
        let generation = control.store().generation()?;
        let addresses = control.store().active_addresses()?;
        let mut known = self.covered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, with, covered)) = &*known
            && *of == generation
            && *with == addresses
        {
            return Ok(Arc::clone(covered));
        }
        let now = Clocks::now().moment.boottime;
        let mut covered = HashSet::new();
        for group in model.groups.keys() {
            let mut rules = resolve_groups(model, &addresses, std::slice::from_ref(group));
            rules.retain(|rule| rule.end.is_none_or(|end| end > now));
            covered.extend(redundant(&rules).into_iter().map(|one| one.number));
        }
        let covered = Arc::new(covered);
        *known = Some((generation, addresses, Arc::clone(&covered)));
        Ok(covered)
    }
}
