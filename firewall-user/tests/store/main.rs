//! The store: edits, refused files, rollback, and what a killed process leaves.

#![expect(clippy::unwrap_used, reason = "a panic in a test is the report")]

mod acls;
mod blocks;
mod client_tokens;
mod crash;
mod edits;
mod ends;
mod entries;
mod interfaces;
mod kept;
mod open;
mod pending;
mod staged;
