//! Real connections through real interfaces, guarded by the built program.

#![expect(clippy::unwrap_used, reason = "a panic in a test is the report")]

mod default_deny;
mod devices;
mod flows;
mod gc;
mod hooks;
mod hostile;
mod lifetime;
mod metrics;
mod options;
mod orientation;
mod peers;
mod runtime_change;
mod together;
mod trace;
