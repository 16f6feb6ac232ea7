//! Objects as XML, in the order of the elements of EC2's shapes.

pub(super) mod groups;
pub(super) mod tags;
