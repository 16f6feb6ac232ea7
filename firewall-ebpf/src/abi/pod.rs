//! Types that userspace reads from maps and writes into maps through aya.

use super::counter::Counter;
use super::flow::{Flow, FlowKey4, FlowKey6};
use super::interface::Settings;
use super::policy::Class;
use super::record::{Account, Cell, Key, Record};

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
// SAFETY: as above.
unsafe impl aya::Pod for Settings {}
// SAFETY: as above.
unsafe impl aya::Pod for Key {}
// SAFETY: as above.
unsafe impl aya::Pod for Record {}
// SAFETY: as above.
unsafe impl aya::Pod for Cell {}
// SAFETY: as above.
unsafe impl aya::Pod for Account {}
