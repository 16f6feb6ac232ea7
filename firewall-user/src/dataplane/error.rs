//! What can go wrong between us and the kernel: one line, and what to do about it.

use std::borrow::Cow;
use std::fmt::Display;

use crate::explain::{Exit, Explain};

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
}

impl Explain for DataplaneError {
    fn hint(&self) -> Option<Cow<'static, str>> {
        Some(&self.hint).filter(|hint| !hint.is_empty()).map(|hint| Cow::Owned(hint.clone()))
    }

    fn exit(&self) -> Exit {
        if self.is_not_found { Exit::NotFound } else { Exit::Failed }
    }
}

/// Names the operation and the object that an error of a lower layer belongs to.
pub(crate) trait Context<T> {
    /// `operation object: reason`, with a hint where the reason is a usual one.
    fn context(self, operation: impl Display) -> Result<T>;
}

impl<T, E: std::error::Error> Context<T> for std::result::Result<T, E> {
    fn context(self, operation: impl Display) -> Result<T> {
        self.map_err(|error| {
            let text = chain(&error);
            let hint = usual_cause(&text).unwrap_or_default();
            DataplaneError::new(format!("{operation}: {text}"), hint)
        })
    }
}

/// What usually is behind a refusal by the kernel.
pub(crate) fn usual_cause(text: &str) -> Option<&'static str> {
    let has = |code: i32| text.contains(&format!("os error {code})"));
    if has(libc::EPERM) {
        return Some(
            "run as root; if that is so, kernel lockdown, a security module or the seccomp \
             profile of a container forbids it",
        );
    }
    (has(libc::ENOMEM) || has(libc::E2BIG)).then_some(
        "the maps did not fit in memory: make [maps] smaller in the configuration, or raise the \
         memory limit of the unit or container",
    )
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
