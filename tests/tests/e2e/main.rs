//! Real connections through real interfaces, guarded by the built program.

mod default_deny;
mod metrics;
mod runtime_change;
