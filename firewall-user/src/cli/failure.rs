//! What a failed command says: one line with what failed and why, one with what to do.

use std::error::Error as StdError;

use super::Exit;
use crate::control::confirm::{NothingPending, Unconfirmed};
use crate::control::panic::Unmanaged;
use crate::control::{LockError, LockedOut, NothingAttached};
use crate::dataplane::DataplaneError;
use crate::model::{self, Kind, document};
use crate::telemetry::server::ListenError;
use crate::{config, store};

/// Says on stderr what went wrong.
pub(super) fn tell(error: &anyhow::Error) {
    eprintln!("error: {}", one_line(&format!("{error:#}")));
    if let Some(hint) = error.chain().find_map(hint) {
        eprintln!("hint: {}", one_line(&hint));
    }
}

/// The exit code that says it.
pub(super) fn exit(error: &anyhow::Error) -> Exit {
    error.chain().find_map(code).unwrap_or(Exit::Failed)
}

fn hint(cause: &(dyn StdError + 'static)) -> Option<String> {
    if let Some(error) = cause.downcast_ref::<Misuse>() {
        return Some(error.hint.to_owned());
    }
    if let Some(error) = cause.downcast_ref::<DataplaneError>() {
        return Some(error.hint().to_owned()).filter(|hint| !hint.is_empty());
    }
    if cause.is::<NothingAttached>() {
        return Some(NothingAttached::HINT.to_owned());
    }
    if let Some(error) = cause.downcast_ref::<Unmanaged>() {
        return Some(error.hint());
    }
    if let Some(error) = cause.downcast_ref::<LockedOut>() {
        return Some(error.hint());
    }
    if cause.is::<Unconfirmed>() {
        return Some(Unconfirmed::HINT.to_owned());
    }
    if cause.is::<NothingPending>() {
        return Some(NothingPending::HINT.to_owned());
    }
    if cause.is::<LockError>() {
        return Some(LockError::HINT.to_owned());
    }
    if cause.is::<ListenError>() {
        return Some(ListenError::HINT.to_owned());
    }
    if let Some(error) = cause.downcast_ref::<model::Error>() {
        return error.hint();
    }
    if let Some(error) = cause.downcast_ref::<document::Error>() {
        return error.hint();
    }
    if let Some(error) = cause.downcast_ref::<store::Error>() {
        return error.hint();
    }
    cause.downcast_ref::<config::Error>().and_then(config::Error::hint)
}

fn code(cause: &(dyn StdError + 'static)) -> Option<Exit> {
    if cause.is::<Misuse>() {
        return Some(Exit::Usage);
    }
    let is_missing =
        cause.downcast_ref::<DataplaneError>().is_some_and(DataplaneError::is_not_found);
    if is_missing || cause.is::<NothingAttached>() || cause.is::<NothingPending>() {
        return Some(Exit::NotFound);
    }
    let model = match cause.downcast_ref::<store::Error>() {
        Some(store::Error::Model(error)) => Some(error),
        // A file's contents are not the command line's.
        _ => cause.downcast_ref::<model::Error>(),
    };
    model.map(|error| match error.kind() {
        Kind::Malformed => Exit::Usage,
        Kind::NotFound => Exit::NotFound,
        Kind::Refused => Exit::Failed,
    })
}

/// A combination of arguments that clap cannot judge.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Misuse {
    pub(super) message: String,
    pub(super) hint: &'static str,
}

/// Names come from users and files: nothing in them may start a line of its own.
pub(super) fn one_line(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped = c.is_control().then(|| c.escape_default().collect::<String>());
            escaped.unwrap_or_else(|| c.to_string()).chars().collect::<Vec<_>>()
        })
        .collect()
}
