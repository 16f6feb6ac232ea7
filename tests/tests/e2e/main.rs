//! Real connections through real interfaces, guarded by the built program.

#![expect(clippy::unwrap_used, reason = "a panic in a test is the report")]

mod audit;
mod bloom;
mod clsact;
mod confirm;
mod crash;
mod default_deny;
mod devices;
mod flood;
mod flows;
mod follow;
mod fragments;
mod gc;
mod hooks;
mod hostile;
mod icmp_errors;
mod learn;
mod lifetime;
mod lockout;
mod loss;
mod memory;
mod metrics;
mod offload;
mod options;
mod orientation;
mod panic;
mod peers;
mod pmtu;
mod replacement;
mod revalidate;
mod runtime_change;
mod swaps;
mod together;
mod trace;
mod unknown_interface;
