//! The decision about a packet, the same for every hook, family and orientation.
//!
//! [`decide`](decide::decide) tries the [`fast_path`] of an established flow, then takes the
//! [`slow_path`]: parse, blocks of the host ([`blocks`]; most frames are checked before the fast path),
//! exemptions ([`exempt`]), fragments ([`fragment`]), the network ACL ([`filter`]), flow lookup and state
//! ([`tcp`], [`numbers`], [`window`]), and for a packet of no flow the policy ([`lookup`]) and a new flow.
//! All reach maps through the traits in [`tables`].

pub mod blocks;
pub mod claim;
mod context;
pub mod decide;
pub mod dhcp;
mod evaluate;
pub mod exempt;
pub mod fast_path;
pub mod filter;
mod find;
pub mod flow;
pub mod fragment;
mod ignored_syn;
pub mod lookup;
mod new_flow;
pub mod numbers;
pub mod port_security;
mod related;
pub mod segment;
pub mod slow_path;
pub mod tables;
pub mod tcp;
mod update;
pub mod window;
