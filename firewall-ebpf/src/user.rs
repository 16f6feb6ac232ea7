//! Userspace reads these types out of maps, and writes them into maps.

use crate::flow::{Flow, FlowKey4, FlowKey6};
use crate::policy::{Class, Counter};

// SAFETY: integers in a `repr(C)` struct whose size is the sum of its fields: no padding.
unsafe impl aya::Pod for FlowKey4 {}
// SAFETY: as above.
unsafe impl aya::Pod for FlowKey6 {}
// SAFETY: as above.
unsafe impl aya::Pod for Flow {}
// SAFETY: as above.
unsafe impl aya::Pod for Class {}
// SAFETY: as above.
unsafe impl aya::Pod for Counter {}
