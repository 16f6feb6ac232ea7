//! The store: what is kept, what is refused, and what a killed process leaves behind.

#![expect(clippy::unwrap_used, reason = "a panic in a test is the report")]

mod crash;
mod edits;
mod open;
mod pending;
