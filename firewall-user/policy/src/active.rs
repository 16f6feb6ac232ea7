//! The rules that are active on an interface, in emergency mode and otherwise.

use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::policy::MAX_RULE;

use crate::model::{Interface, Model, Networks, Traffic};
use crate::resolve::{Addresses, ResolvedRule, resolve};

/// The rule number of the management networks in emergency mode; no rule of a group has it.
pub const MANAGEMENT_RULE: u32 = MAX_RULE;

/// The rules that are active on an interface: in emergency mode, all traffic from and to the management
/// networks; else the rules of its groups.
#[must_use]
pub fn active_rules(
    model: &Model,
    addresses: &Addresses,
    interface: &Interface,
) -> Vec<ResolvedRule> {
    if !model.is_panicking {
        return resolve(model, addresses, interface);
    }
    let networks: Networks = model.management.iter().copied().collect();
    let rule = |direction| ResolvedRule {
        number: MANAGEMENT_RULE,
        direction,
        traffic: Traffic::All,
        networks: networks.clone(),
        end: None,
    };
    Direction::ALL.map(rule).into()
}
