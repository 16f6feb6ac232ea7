//! What passes in a panic: the management networks, and nothing else.

use firewall_ebpf::interface::Direction;
use firewall_ebpf::policy::MAX_RULE;

use crate::model::{Interface, Model, Traffic};
use crate::policy::{Addresses, ResolvedRule, resolve};

/// The number by which the kernel names what admits the management networks; no rule has it.
pub const MANAGEMENT_RULE: u32 = MAX_RULE;

/// The rules that are in force on an interface: in a panic, everything from the management networks
/// and to them; else those of its groups.
#[must_use]
pub fn in_force(model: &Model, addresses: &Addresses, interface: &Interface) -> Vec<ResolvedRule> {
    if !model.is_panicking {
        return resolve(model, addresses, interface);
    }
    let networks: Vec<_> = model.management.iter().copied().collect();
    let rule = |direction| ResolvedRule {
        number: MANAGEMENT_RULE,
        direction,
        traffic: Traffic::All,
        networks: networks.clone(),
    };
    Direction::ALL.map(rule).into()
}
