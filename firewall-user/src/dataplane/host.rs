//! The host: its devices, routes and network namespaces, by netlink, and what its kernel offers.

pub mod bpffs;
pub mod device;
pub(in crate::dataplane) mod netlink;
pub mod netns;
pub mod preflight;
pub mod routes;
