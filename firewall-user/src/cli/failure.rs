//! Reports a failed command: one line with what failed and why, one with what to do.

use std::borrow::Cow;
use std::error::Error;

use super::flow_log;
use super::prefix_list::LoadError;
use crate::api::keys::KeysError;
use crate::control::confirm::{NothingPending, Unconfirmed};
use crate::control::enforcement::{AmbiguousName, NotEnforced, SameDevice};
use crate::control::named::NameError;
use crate::control::panic::Unmanaged;
use crate::control::{LockError, LockedOut, NotStored, NothingAttached, OtherStore, Unsettled};
use crate::dataplane::DataplaneError;
use crate::explain::{Exit, Explain};
use crate::http::ListenError;
use crate::http::tls::TlsError;
use crate::model::{self, document};
use crate::observe::explain::{ExplainError, NoRecord, WordError};
use crate::observe::hits::HitsError;
use crate::observe::journal::JournalError;
use crate::observe::query::QueryError;
use crate::ownership::OwnershipError;
use crate::{config, store};

/// Every error with an explanation. An error in a chain is a `dyn Error`, so its type is looked up.
const EXPLAINED: [Lookup; 32] = [
    explained::<UsageError>,
    explained::<config::Error>,
    explained::<document::Error>,
    explained::<document::Errors>,
    explained::<model::Error>,
    explained::<store::Error>,
    explained::<DataplaneError>,
    explained::<ListenError>,
    explained::<TlsError>,
    explained::<JournalError>,
    explained::<KeysError>,
    explained::<ExplainError>,
    explained::<NoRecord>,
    explained::<LoadError>,
    explained::<LockError>,
    explained::<LockedOut>,
    explained::<OtherStore>,
    explained::<AmbiguousName>,
    explained::<NameError>,
    explained::<HitsError>,
    explained::<flow_log::Exists>,
    explained::<QueryError>,
    explained::<SameDevice>,
    explained::<NothingAttached>,
    explained::<OwnershipError>,
    explained::<NothingPending>,
    explained::<NotStored>,
    explained::<Unconfirmed>,
    explained::<Unmanaged>,
    explained::<Unsettled>,
    explained::<NotEnforced>,
    explained::<WordError>,
];

type Cause<'a> = &'a (dyn Error + 'static);

type Lookup = fn(Cause<'_>) -> Option<&dyn Explain>;

fn explained<T: Explain + 'static>(cause: Cause<'_>) -> Option<&dyn Explain> {
    cause.downcast_ref::<T>().map(|error| error as &dyn Explain)
}

fn explanations(error: &anyhow::Error) -> impl Iterator<Item = &dyn Explain> {
    error.chain().filter_map(|cause| EXPLAINED.iter().find_map(|explained| explained(cause)))
}

/// Prints an error to standard error; of a document, every error that it has.
pub(super) fn report(error: &anyhow::Error) {
    if let Some(errors) = error.chain().find_map(|cause| cause.downcast_ref::<document::Errors>()) {
        report_all(&error.to_string(), errors);
        return;
    }
    eprintln!("error: {}", one_line(&format!("{error:#}")));
    if let Some(hint) = explanations(error).find_map(Explain::hint) {
        eprintln!("hint: {}", one_line(&hint));
    }
}

/// Prints each error of a document; a hint that several in a row share is printed after the last of them.
fn report_all(operation: &str, errors: &document::Errors) {
    let mut each = errors.iter().peekable();
    while let Some(one) = each.next() {
        eprintln!("error: {}", one_line(&format!("{operation}: {one}")));
        let hint = one.error.hint();
        if let Some(hint) = hint
            && each.peek().and_then(|next| next.error.hint()).as_ref() != Some(&hint)
        {
            eprintln!("hint: {}", one_line(&hint));
        }
    }
    let rest = match (errors.more(), errors.is_partial()) {
        (0, false) => return,
        (_, true) => "there may be more errors: the rest of the document was not read".to_owned(),
        (more, false) => format!("and {more} more errors"),
    };
    eprintln!("error: {}", one_line(&format!("{operation}: {rest}")));
}

/// Prints an error that a command goes on in spite of.
pub(super) fn warn(error: &anyhow::Error) {
    eprintln!("warning: {}", one_line(&format!("{error:#}")));
}

/// As [`warn()`], with what to do about it.
pub(super) fn warn_with_hint(error: &anyhow::Error) {
    warn(error);
    if let Some(hint) = explanations(error).find_map(Explain::hint) {
        eprintln!("hint: {}", one_line(&hint));
    }
}

/// The exit code of a command that fails with an error.
pub(super) fn exit(error: &anyhow::Error) -> Exit {
    explanations(error).next().map_or(Exit::Failed, Explain::exit)
}

/// Arguments that contradict one another, or are malformed in a way that clap does not check.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct UsageError {
    pub(super) message: String,
    pub(super) hint: &'static str,
}

impl Explain for UsageError {
    fn hint(&self) -> Option<Cow<'static, str>> {
        Some(self.hint.into())
    }

    fn exit(&self) -> Exit {
        Exit::Usage
    }
}

/// A text without line breaks, and without what is not seen and changes the order in which the rest is shown: names come
/// from users and files, and must not forge a line of output.
pub(super) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() || is_format(character) {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

/// Marks and overrides of the direction of text, and characters without a width (Unicode UAX #9, UTR #36).
const fn is_format(character: char) -> bool {
    matches!(
        character,
        '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'
    )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn a_line_has_nothing_that_is_not_seen() {
        assert_eq!(
            one_line("a\nb\u{202e}c\u{200b}d\u{1b}[2Jé"),
            "a\\nb\\u{202e}c\\u{200b}d\\u{1b}[2Jé"
        );
    }

    /// The types with an implementation of `Explain`, in all files.
    fn implementations(directory: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                implementations(&path, found);
            } else {
                let text = fs::read_to_string(path).unwrap();
                let lines = text.lines().filter_map(|line| line.strip_prefix("impl Explain for "));
                found.extend(lines.map(|line| line.trim_end_matches(" {").to_owned()));
            }
        }
    }

    #[test]
    fn every_error_with_an_explanation_is_looked_up() {
        let mut found = Vec::new();
        implementations(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
        assert_eq!(found.len(), EXPLAINED.len(), "{found:?}");
    }
}
