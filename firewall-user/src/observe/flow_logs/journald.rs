//! Records in the system's journal, by its own protocol (systemd's `JOURNAL_NATIVE_PROTOCOL`): a datagram for each,
//! of lines `FIELD=value`.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::field::Format;
use super::record::{Action, LogStatus, Record};
use crate::model::FlowLogId;

/// The journal's socket.
pub const SOCKET: &str = "/run/systemd/journal/socket";

/// How long a record waits for a journal that does not read.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why records are not in the journal.
#[derive(Debug, thiserror::Error)]
#[error("write to the journal at {}: {source}", path.display())]
pub struct JournalError {
    path: PathBuf,
    source: io::Error,
}

/// Sends records to the journal at a socket. Returns how many it took.
pub fn send(
    socket: &Path,
    log_group: &str,
    id: &FlowLogId,
    format: &Format,
    records: &[Record],
) -> (usize, Result<(), JournalError>) {
    let mut sent = 0;
    let mut send = || -> io::Result<()> {
        let journal = UnixDatagram::unbound()?;
        journal.set_write_timeout(Some(PATIENCE))?;
        journal.connect(socket)?;
        for record in records {
            journal.send(message(log_group, id, format, record).as_bytes())?;
            sent += 1;
        }
        Ok(())
    };
    let result = send().map_err(|source| JournalError { path: socket.to_owned(), source });
    (sent, result)
}

/// The fields of a record in the journal. No value has a line break.
fn message(log_group: &str, id: &FlowLogId, format: &Format, record: &Record) -> String {
    let mut text = String::from("MESSAGE=");
    record.write(format, &mut text);
    text.push_str("\nPRIORITY=6\nSYSLOG_IDENTIFIER=secgroup-flow-log");
    let mut field = |name: &str, value: &str| {
        text.push('\n');
        text.push_str(name);
        text.push('=');
        text.extend(value.chars().filter(|character| !character.is_control()));
    };
    field("SECGROUP_LOG_GROUP", log_group);
    field("SECGROUP_FLOW_LOG_ID", id.as_str());
    field("SECGROUP_INTERFACE_ID", &record.origin.interface_id);
    if let Some(status) = record.status {
        field("SECGROUP_LOG_STATUS", LogStatus::name(status));
    }
    if let Some(action) = record.action {
        field("SECGROUP_ACTION", Action::name(action));
    }
    text.push('\n');
    text
}
