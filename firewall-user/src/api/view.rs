//! Objects as XML, in the order of the elements of EC2's shapes.

pub(super) mod acls;
pub(super) mod flow_logs;
pub(super) mod groups;
pub(super) mod interfaces;
pub(super) mod prefix_lists;
pub(super) mod rules;
pub(super) mod tags;
pub(super) mod vpcs;
