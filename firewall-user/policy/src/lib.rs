//! The model of security groups, its compiler, and the reference evaluator.
//!
//! From rules to tables: [`model`] holds what the user configured, validated; [`resolve()`] turns the rules of
//! an interface's groups into rules with networks; [`PolicyInterner::compile`] turns those into
//! prefixes, classes and lists of ranges; [`delta::plan`] finds the writes that turn the tables of one
//! policy into those of another. [`filter`] does the same for network ACLs, whose entries have an order, and
//! [`blocks`] for the networks that the whole host drops. [`evaluate()`] computes the verdict directly from the rules, and
//! [`probes`] compares the kernel's tables with it before a policy becomes active. [`nearest`] finds the rule that came
//! closest to allowing a packet, [`explain`] says why a packet is allowed and tracked, [`redundant`] names the rules that
//! others make unnecessary, [`verdicts`] what another set of rules decides otherwise, and [`services`] has the names of ports and ICMP messages.
//!
//! Nothing here does I/O: no file, no socket, no process, no BPF. The crate does not depend on aya,
//! SQLite, root or the kernel object, so the same model always gives the same tables, and its tests,
//! property tests and fuzzers run on any machine with stable Rust. Its only input from the host is
//! random bytes for new ids.

pub mod active;
pub mod arena;
pub mod blocks;
mod compare;
pub mod compile;
pub mod compiled;
pub mod delta;
pub mod evaluate;
pub mod explain;
mod extract;
mod family;
pub mod filter;
#[cfg(feature = "host")]
mod host;
mod incremental;
pub mod interner;
pub mod model;
pub mod nearest;
mod number;
mod port;
mod prefixes;
pub mod probes;
mod ranges;
pub mod redundant;
pub mod resolve;
mod rules_by_prefix;
pub mod services;
mod untracked;
pub mod verdicts;
mod writes;

pub use active::{MANAGEMENT_RULE, active_rules};
pub use arena::Arena;
pub use compile::{TooLarge, compile};
pub use compiled::{CompiledClass, CompiledPolicy};
pub use evaluate::{Probe, evaluate, is_untracked};
pub use interner::{InternedPolicy, PolicyInterner};
pub use port::port_security;
pub use resolve::{Addresses, ResolvedRule, resolve, resolve_groups};
