//! What became of the records of each flow log. The process that delivers them writes it to the state directory; the
//! API, the commands and the metrics read it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::destination::Plan;
use crate::model::FlowLog;
use crate::ownership;

/// The name of the file in the state directory.
const FILE: &str = "flow-logs.json";

/// The name of the lock in the state directory: one process delivers.
const LOCK: &str = "flow-logs.lock";

/// What became of the records of every flow log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statuses {
    /// By id. One that is not here has had no interval yet.
    pub logs: BTreeMap<String, Status>,
    /// Of flow logs that were deleted: records that were delivered, and that were not.
    pub deleted: [u64; 2],
}

/// What became of the records of a flow log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Why the last ones were not delivered; `None` if they were.
    pub error: Option<String>,
    /// Records that were delivered.
    pub delivered: u64,
    /// Records that could not be delivered.
    pub failed: u64,
    /// Up to when intervals were delivered or given up, in milliseconds since 1970.
    pub until: i64,
    /// Since when nothing was delivered, if the records before [`Self::until`] were not: a record with the status
    /// `SKIPDATA` will say so.
    pub missed_since: Option<i64>,
}

impl Status {
    /// EC2's `deliverLogsStatus`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        if self.error.is_some() { "FAILED" } else { "SUCCESS" }
    }
}

impl Statuses {
    /// Those of a state directory. A file that is not there or that is damaged is as if nothing was delivered.
    #[must_use]
    pub fn read(state_dir: &Path) -> Self {
        let text = fs::read(state_dir.join(FILE)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Writes them, whole or not at all.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn write(&self, state_dir: &Path) -> io::Result<()> {
        let path = state_dir.join(FILE);
        let unfinished = path.with_extension("unfinished");
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        fs::rename(unfinished, path)
    }

    /// Records that were delivered, and that were not, of all flow logs that are or were there.
    #[must_use]
    pub fn totals(&self) -> [u64; 2] {
        self.logs.values().fold(self.deleted, |[delivered, failed], one| {
            [delivered.saturating_add(one.delivered), failed.saturating_add(one.failed)]
        })
    }

    /// That of a flow log. What cannot be delivered has failed before it is tried; else the status is that of success,
    /// as in EC2, before there are records.
    #[must_use]
    pub fn of(&self, log: &FlowLog) -> Status {
        let mut status = self.logs.get(log.id.as_str()).cloned().unwrap_or_default();
        if let Err(error) = Plan::new(&log.settings) {
            status.error = Some(error.to_string());
        }
        status
    }

    /// Removes those of flow logs that are gone, but for their counts.
    pub(super) fn retain(&mut self, exists: impl Fn(&str) -> bool) {
        let logs = std::mem::take(&mut self.logs);
        for (id, status) in logs {
            if exists(&id) {
                self.logs.insert(id, status);
            } else {
                self.deleted[0] += status.delivered;
                self.deleted[1] += status.failed;
            }
        }
    }
}

/// The right to deliver, of one process at a time.
#[derive(Debug)]
pub struct DeliveryLock {
    _file: File,
}

impl DeliveryLock {
    /// Takes it; `None` if another process has it.
    ///
    /// # Errors
    /// The lock cannot be created in the state directory.
    pub fn take(state_dir: &Path) -> io::Result<Option<Self>> {
        let path = create(state_dir)?;
        let file = File::open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Whether a process has it.
    #[must_use]
    pub fn is_taken(state_dir: &Path) -> bool {
        let Ok(file) = File::open(state_dir.join(LOCK)) else { return false };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }
}

fn create(state_dir: &Path) -> io::Result<PathBuf> {
    let path = state_dir.join(LOCK);
    ownership::create_directory(state_dir).map_err(io::Error::other)?;
    ownership::create_file(&path).map_err(io::Error::other)?;
    Ok(path)
}
