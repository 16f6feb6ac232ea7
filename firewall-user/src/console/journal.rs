//! The journal of records, as the pages read it.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::answer::Problem;
use super::filters;
use crate::control::Control;
use crate::observe::journal::{self, Coverage, Entry, JournalError, Reader, Recorder};
use crate::observe::query::{Checked, Or, Query, QueryError, Recorded, Stored};

/// How long a coverage is shown: to know it the whole journal is read.
const COVERAGE_AGE: Duration = Duration::from_secs(10);

/// The coverage that was read last.
#[derive(Default)]
pub(super) struct LastCoverage(Mutex<Option<(Instant, Arc<Coverage>)>>);

impl LastCoverage {
    /// What the journal covers, as it was at most some seconds ago.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub(super) fn get(&self, reader: &Reader) -> Result<Arc<Coverage>, JournalError> {
        // Others that ask meanwhile wait, and do not read it too.
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((read, coverage)) = &*last
            && read.elapsed() < COVERAGE_AGE
        {
            return Ok(Arc::clone(coverage));
        }
        let coverage = Arc::new(reader.coverage()?);
        *last = Some((Instant::now(), Arc::clone(&coverage)));
        Ok(coverage)
    }
}

/// The journal of a state directory.
///
/// # Errors
/// Others can change it.
pub(super) fn open(state_dir: &Path) -> Result<Reader, Problem> {
    let reader = Reader::open(&journal::directory(state_dir));
    reader.map_err(|error| Problem::failed(&error.into()))
}

/// Why dropped packets are not recorded now, in one sentence; `None`: they are. `expected`: whether it is configured.
pub(super) fn problem(state_dir: &Path, expected: bool) -> Option<String> {
    let recorder = match open(state_dir) {
        Ok(reader) => reader.recorder(),
        Err(problem) => {
            return Some(format!("The journal of dropped packets is refused: {}.", problem.error));
        }
    };
    let Recorder { recording, problem } = recorder;
    match (recording, problem) {
        (Some(_), None) => None,
        (Some(_), Some(problem)) => {
            Some(format!("Records of dropped packets cannot be written: {problem}."))
        }
        (None, _) if expected => Some(
            "Nobody records dropped packets now; the log of `secgroup serve` says why.".to_owned(),
        ),
        (None, _) => Some(
            "Nobody records dropped packets: the configuration has `collect = false`.".to_owned(),
        ),
    }
}

/// The filters among the words, with names looked up in the store, and where it does not know one, in the records: they
/// may be of what does not exist any more.
///
/// # Errors
/// A word or a name is unknown, or store or journal cannot be read.
pub(super) fn check(
    words: &[(String, String)],
    own: &[&str],
    control: &Control,
    reader: &Reader,
) -> Result<Checked, Problem> {
    let model = control.model()?;
    let stored = Stored { control, model: &model };
    let query: Query = filters::query(words, own)?;
    query.check_of_drops(false).map_err(|error| Problem::of_words(&error))?;
    let checked = query.check(&stored);
    let is_unknown =
        |error: &anyhow::Error| matches!(error.downcast_ref(), Some(QueryError::Unknown { .. }));
    let checked = match checked {
        Err(error) if is_unknown(&error) => {
            let mut recorded = Recorded::default();
            for entry in reader.entries().map_err(anyhow::Error::from)? {
                if let Entry::Record(record) = entry.map_err(anyhow::Error::from)? {
                    recorded.add(&(&*record).into());
                }
            }
            query.check(&Or(&stored, &recorded))
        }
        checked => checked,
    };
    checked.map_err(|error| filters::refused(&error))
}
