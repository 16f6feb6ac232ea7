//! What clients ask about the region and the host.

use super::Action;

pub(super) const ACTIONS: &[Action] = &[];
