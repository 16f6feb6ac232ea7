//! Flow logs.

use super::Action;

pub(super) const ACTIONS: &[Action] = &[];
