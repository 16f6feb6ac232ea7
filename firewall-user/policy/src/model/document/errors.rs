//! All that is wrong with a document, each error with its place.

use std::collections::HashMap;
use std::fmt;
use std::mem;

use serde_json::value::RawValue;

use super::{A_PEER, Error};
use crate::model::Error as ModelError;

/// The errors that are kept; of more there is a count.
const MOST: usize = 100;

/// A line and column of a text, both from 1; the column counts characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// From 1.
    pub column: usize,
}

/// Everything that is wrong with a document.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.summary())]
pub struct Errors {
    found: Vec<(Error, Option<Place>)>,
    /// Errors beyond those that are kept.
    more: usize,
    /// What comes after the last one was not read.
    is_partial: bool,
}

/// Bytes of a text that are read once more for its errors: a document has 100 MiB and more, and for each
/// error it is read from its beginning.
pub(super) const MOST_WORK: usize = 1 << 30;

impl Errors {
    /// The errors, each with its place in the text where [`Self::located`] has found it.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Located<'_>> {
        self.found.iter().map(|(error, place)| Located { error, place: *place })
    }

    /// How many there are beyond those of [`Self::iter`].
    #[must_use]
    pub const fn more(&self) -> usize {
        self.more
    }

    /// Whether there may be others, for which the document was not read.
    #[must_use]
    pub const fn is_partial(&self) -> bool {
        self.is_partial
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Adds the places in the text of the document, and sorts the errors by them.
    #[must_use]
    pub fn located(self, text: &[u8]) -> Self {
        self.located_by(|path| Some(Source { file: 0, name: None, text, path: path.to_owned() }))
    }

    /// Adds the places in the texts that `source` finds, and sorts the errors by them.
    pub(super) fn located_by<'a>(mut self, source: impl Fn(&str) -> Option<Source<'a>>) -> Self {
        let mut work = 0;
        let mut found: Vec<_> = mem::take(&mut self.found)
            .into_iter()
            .map(|(mut error, _)| {
                let Some(source) = error.path().and_then(&source) else {
                    return (usize::MAX, error, None);
                };
                let text = str::from_utf8(source.text).unwrap_or_default();
                let text = text.trim_start_matches(BOM);
                work += text.len();
                let place = if work > MOST_WORK { None } else { find(text, &source.path) };
                if let Some(path) = error.path_mut() {
                    *path = source.named(path);
                }
                (source.file, error, place)
            })
            .collect();
        // Those without a place come last.
        found.sort_by_key(|(file, _, place)| (*file, place.is_none(), *place));
        self.found = found.into_iter().map(|(_, error, place)| (error, place)).collect();
        self
    }

    /// Adds the errors of a part, with `path` for their places.
    pub(super) fn extend(&mut self, part: Self, path: impl Fn(&str) -> String) {
        for (mut error, _) in part.found {
            if let Some(place) = error.path_mut() {
                *place = path(place);
            }
            self.push(error);
        }
        self.more += part.more;
        self.is_partial |= part.is_partial;
    }

    pub(crate) fn push(&mut self, error: Error) {
        if self.found.len() == MOST {
            self.more += 1;
        } else {
            self.found.push((error, None));
        }
    }

    /// Records that the document was not read to its end.
    pub(super) const fn stop(&mut self) {
        self.is_partial = true;
    }

    /// Whether no more errors are kept.
    pub(super) const fn is_full(&self) -> bool {
        self.found.len() == MOST
    }

    /// Whether the value at a place, or one that contains it, has the wrong type, and so was left out.
    pub(super) fn left_out(&self, path: &str) -> bool {
        let is_within = |outer: &str| {
            path.strip_prefix(outer)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        self.found
            .iter()
            .any(|(error, _)| matches!(error, Error::Type { path, .. } if is_within(path)))
    }

    fn summary(&self) -> String {
        let first = self.iter().next().map_or(String::new(), |first| first.to_string());
        match self.found.len() + self.more {
            0 | 1 => first,
            count => format!("{first} (and {} more errors)", count - 1),
        }
    }
}

impl From<Error> for Errors {
    fn from(error: Error) -> Self {
        Self { found: vec![(error, None)], ..Self::default() }
    }
}

/// Where an item of a document is from.
pub(super) struct Source<'a> {
    /// Number of the file, which the errors are sorted by.
    pub(super) file: usize,
    /// `None`: errors do not name it.
    pub(super) name: Option<&'a str>,
    pub(super) text: &'a [u8],
    /// The place in this file.
    pub(super) path: String,
}

impl Source<'_> {
    /// The place with the name of the file. `path`: as it was, perhaps with an addition.
    pub(super) fn named(&self, path: &str) -> String {
        // What is missing is named after the place of what should contain it.
        let addition = if path.ends_with(A_PEER) { A_PEER } else { "" };
        match self.name {
            Some(name) => format!("{name}: {}{addition}", self.path),
            None => format!("{}{addition}", self.path),
        }
    }
}

/// An error, and its place in the text if that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Located<'a> {
    /// The error.
    pub error: &'a Error,
    /// Its place.
    pub place: Option<Place>,
}

impl fmt::Display for Located<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(out)?;
        match self.place {
            Some(Place { line, column }) => write!(out, " (line {line}, column {column})"),
            None => Ok(()),
        }
    }
}

/// Something in a document that is accepted, and is perhaps not what its author meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Its place, as in [`Error::Refused`].
    pub path: String,
    /// What it is.
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.path, self.text)
    }
}

/// What reading a document has found so far.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) errors: Errors,
    pub(crate) warnings: Vec<Warning>,
}

impl Findings {
    /// The value; an error is kept, so that what comes after it is read too.
    pub(crate) fn ok<T>(&mut self, result: Result<T, Error>) -> Option<T> {
        result.map_err(|error| self.error(error)).ok()
    }

    /// Keeps an error, unless it is about a value that was left out.
    pub(crate) fn error(&mut self, error: Error) {
        if !error.path().is_some_and(|path| self.errors.left_out(path)) {
            self.errors.push(error);
        }
    }

    /// Whether the value of one of these keys at a place was left out.
    pub(super) fn left_out(&self, path: &str, keys: &[&str]) -> bool {
        keys.iter().any(|key| self.errors.left_out(&format!("{path}.{key}")))
    }

    pub(crate) fn warn(&mut self, path: &str, text: String) {
        self.warnings.push(Warning { path: path.to_owned(), text });
    }

    /// Adds a place to an error of the model, and keeps it.
    pub(crate) fn refuse(&mut self, path: &str, error: ModelError) {
        self.error(Error::at(path)(error));
    }
}

/// The byte-order mark, which some editors and shells put before a text in UTF-8.
pub(super) const BOM: char = '\u{feff}';

/// The place of a path such as `SecurityGroups[0].GroupName`; of one that the document does not have, that
/// of what contains it.
fn find(text: &str, path: &str) -> Option<Place> {
    let mut here = text;
    for step in path.split(['.', '[']) {
        let inner = match step.strip_suffix(']') {
            Some(index) => {
                let items: Vec<&RawValue> = serde_json::from_str(here).unwrap_or_default();
                index.parse().ok().and_then(|index: usize| items.get(index).copied())
            }
            None => {
                let mut items: HashMap<String, &RawValue> =
                    serde_json::from_str(here).unwrap_or_default();
                items.remove(step)
            }
        };
        let Some(inner) = inner else { break };
        here = inner.get();
    }
    if here.len() == text.len() {
        return None;
    }
    // `here` is a part of `text`.
    let at = (here.as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
    let before = text.get(..at)?;
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Some(Place {
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
    })
}
