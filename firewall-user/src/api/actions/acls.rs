//! Network ACLs.

use super::Action;

pub(super) const ACTIONS: &[Action] = &[];
