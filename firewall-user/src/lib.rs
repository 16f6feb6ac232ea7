//! secgroup: AWS-style stateful security groups for any Linux network interface.

pub mod api;
pub mod cli;
pub mod clock;
pub mod config;
pub mod console;
pub mod control;
pub mod dataplane;
pub mod explain;
pub mod http;
pub mod journal;
pub mod observe;
pub mod ownership;
pub mod store;
pub mod telemetry;

pub use firewall_policy as policy;
pub use firewall_policy::model;
