//! Real connections through real interfaces, guarded by the built program.

#![expect(clippy::unwrap_used, reason = "a panic in a test is the report")]

mod default_deny;
mod hostile;
mod metrics;
mod runtime_change;
