//! The record of when each interface was last reconciled, and with which result: a file beside the store, which
//! the metrics read. It decides nothing, so an error of writing it is ignored.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{Control, Outcome, Reconciled};
use crate::config::Paths;

/// The file's name in the state directory, and that of the one being written.
const FILE: &str = "reconciled.json";
const NEW_FILE: &str = "reconciled.json.new";

/// Larger files are not of this program.
const MAX_BYTES: u64 = 1 << 20;

/// The last reconciliation of an interface, by `reconcile`, a rollback, or `serve`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct LastReconcile {
    /// Seconds since 1970.
    pub time: u64,
    /// Whether it succeeded; a device that does not exist is no failure.
    pub succeeded: bool,
}

/// By the interface's id.
pub type Record = BTreeMap<String, LastReconcile>;

impl Control {
    /// When each interface was last reconciled, by its id, as far as that is known.
    #[must_use]
    pub fn last_reconciles(&self) -> Record {
        read(&self.paths)
    }

    /// Records results. Called with the lock held.
    pub(super) fn record_reconciled(&self, done: &[Reconciled]) {
        if done.is_empty() {
            return;
        }
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut record = read(&self.paths);
        for Reconciled { interface, outcome, .. } in done {
            let succeeded = !matches!(outcome, Outcome::Failed(_));
            record.insert(
                interface.id.to_string(),
                LastReconcile { time: time.as_secs(), succeeded },
            );
        }
        if let Ok(model) = self.store.model() {
            record.retain(|id, _| model.interfaces.values().any(|one| one.id.to_string() == *id));
        }
        let _ = write(&self.paths.state_dir, &record);
    }
}

fn read(paths: &Paths) -> Record {
    let path = paths.state_dir.join(FILE);
    let is_small = fs::metadata(&path).is_ok_and(|file| file.is_file() && file.len() <= MAX_BYTES);
    let text = is_small.then(|| fs::read(&path).ok()).flatten().unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

fn write(dir: &Path, record: &Record) -> io::Result<()> {
    let new = dir.join(NEW_FILE);
    let made = || {
        let mut file =
            OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(record)?)?;
        fs::rename(&new, dir.join(FILE))
    };
    made().inspect_err(|_| {
        // On a full disk an empty one would be left.
        let _ = fs::remove_file(&new);
    })
}
