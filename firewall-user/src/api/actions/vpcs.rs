//! VPCs, subnets and route tables.

use super::Action;

pub(super) const ACTIONS: &[Action] = &[];
