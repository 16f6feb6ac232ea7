//! secgroup: AWS-style stateful security groups for any Linux network interface.

pub mod model;
pub mod policy;
