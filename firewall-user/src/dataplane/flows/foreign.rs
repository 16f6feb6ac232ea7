//! Flows of addresses that a guest may not use any more: the fast path does not check addresses.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::dataplane::error::Result;
use crate::dataplane::flows::list::FlowEntry;
use crate::dataplane::tables::maps::Maps;
use crate::model::Interface;

/// Whether an interface may have a flow with this inside address.
#[must_use]
pub fn may_use(interface: &Interface, inside: IpAddr) -> bool {
    !interface.checks_addresses() || is_in(&interface.own(), inside)
}

fn is_in(own: &[IpNet], inside: IpAddr) -> bool {
    own.iter().any(|network| network.contains(&inside))
}

impl Maps {
    /// Removes the flows of an interface whose inside address it may not use. Call it when the programs
    /// with its checks are attached, which create no other such flow. A packet that the programs before
    /// them decide at that moment can: it is too late only if its program runs for as long as the tables
    /// are read.
    ///
    /// # Errors
    /// A table cannot be read or written.
    pub(in crate::dataplane) fn remove_foreign_flows(
        &mut self,
        interface: &Interface,
    ) -> Result<()> {
        if !interface.checks_addresses() {
            return Ok(());
        }
        let own = interface.own();
        // The DHCP client has no address yet.
        let is_foreign = |flow: &FlowEntry| !flow.is_exempt() && !is_in(&own, flow.inside);
        let mut flows = self.flows_of(interface.slot, None)?;
        flows.retain(is_foreign);
        if flows.is_empty() {
            return Ok(());
        }
        self.remove_flows(&flows).map(drop)
    }
}
