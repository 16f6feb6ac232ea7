//! Rules of groups.

use super::Action;

pub(super) const ACTIONS: &[Action] = &[];
