//! What the metrics tell of the collector of records.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::observe::collector::account::Accounts;
use crate::observe::collector::hub::{Hub, State};
use crate::observe::journal::{self, Entry, Reader};
use crate::telemetry::metrics::{Journal, RecordAccount, Records};

/// Reads what the collector of this process has done, and how large and old the journal in a state directory is.
pub fn records(hub: Arc<Hub>, state_dir: &Path) -> impl Fn() -> Records + Send + Sync + 'static {
    let directory = journal::directory(state_dir);
    move || {
        let State { is_collecting, drops, passes, self_test, unwritten, problem } = hub.state();
        let accounts = of_verdict("drop", &drops).chain(of_verdict("pass", &passes)).collect();
        let is_failing = problem.is_some();
        let journal = read(&directory);
        Records { is_collecting, is_failing, accounts, unwritten, self_test, journal }
    }
}

fn of_verdict<'a>(
    verdict: &'static str,
    accounts: &'a Accounts,
) -> impl Iterator<Item = RecordAccount> + 'a {
    accounts.iter().map(move |(interface, account)| RecordAccount {
        interface: interface.clone(),
        verdict,
        seen: account.seen,
        kept: account.kept,
        aggregated: account.aggregated,
        lost: account.lost,
    })
}

/// Size and first line of the journal; `None` if it cannot be read.
fn read(directory: &Path) -> Option<Journal> {
    let files = fs::read_dir(directory).ok()?;
    let sizes = files.filter_map(|file| file.ok()?.metadata().ok()).filter(fs::Metadata::is_file);
    let bytes = sizes.map(|file| file.len()).sum();
    let mut entries = Reader::open(directory).ok()?.entries().ok()?;
    let oldest = match entries.next() {
        None => None,
        Some(Ok(Entry::Account { account })) => Some(account.from),
        Some(Ok(Entry::Record(record))) => Some(record.first),
        Some(Err(_)) => return None,
    };
    Some(Journal { bytes, oldest })
}
