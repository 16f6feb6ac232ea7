//! Real connections through real interfaces, filtered by the built program.

#![expect(clippy::unwrap_used, reason = "a panic in a test is the report")]

mod attach_options;
mod audit;
mod big_tcp;
mod bloom;
mod clsact;
mod concurrency;
mod confirm;
mod crash;
mod default_deny;
mod device_reappears;
mod failures;
mod flood;
mod flows;
mod fragments;
mod gc;
mod group_peers;
mod guest;
mod helper_lists;
mod hooks;
mod icmp_errors;
mod learned_connections;
mod lifetime;
mod lockout;
mod lossy_path;
mod max_flows;
mod memory;
mod metrics;
mod neighbours;
mod offload;
mod other_store;
mod panic;
mod pmtu;
mod policy_swaps;
mod port_security;
mod real_guest;
mod replacement;
mod revalidate;
mod rule_counters;
mod rule_removal;
mod source_limit;
mod support;
mod trace;
mod tun_and_vlan;
mod unknown_interface;
