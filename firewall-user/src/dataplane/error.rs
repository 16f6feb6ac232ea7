//! What can go wrong between us and the kernel: one line, and what to do about it.

use std::fmt::Display;

/// A failed operation on the kernel.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct DataplaneError {
    what: String,
    hint: String,
    is_not_found: bool,
}

/// Results of this module.
pub type Result<T> = std::result::Result<T, DataplaneError>;

impl DataplaneError {
    /// `what` names the operation, the object and the reason; `hint` says what to do, or is empty.
    pub fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), hint: hint.into(), is_not_found: false }
    }

    /// As [`Self::new`], where what the user named does not exist.
    pub fn not_found(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { is_not_found: true, ..Self::new(what, hint) }
    }

    /// What to do about it; empty where there is nothing to add.
    #[must_use]
    pub fn hint(&self) -> &str {
        &self.hint
    }

    /// Whether what the user named does not exist.
    #[must_use]
    pub const fn is_not_found(&self) -> bool {
        self.is_not_found
    }
}

/// Names the operation and the object that an error of a lower layer belongs to.
pub(crate) trait Context<T> {
    /// `operation object: reason`, without a hint.
    fn context(self, operation: impl Display) -> Result<T>;
}

impl<T, E: std::error::Error> Context<T> for std::result::Result<T, E> {
    fn context(self, operation: impl Display) -> Result<T> {
        self.map_err(|error| {
            DataplaneError::new(format!("{operation}: {}", chain(&error)), String::new())
        })
    }
}

/// An error with its causes on one line, without those that an outer text already repeats.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = first_line(&error.to_string());
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = first_line(&cause.to_string());
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// The verifier's log has thousands of lines; the first says what went wrong.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}
