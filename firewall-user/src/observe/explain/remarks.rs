//! What else there is to know about a packet.

use std::net::IpAddr;

use anyhow::Result;
use firewall_ebpf::abi::interface::{Direction, Orientation};
use firewall_ebpf::abi::reason::Verdict;
use ipnet::IpNet;

use super::explainer::Explainer;
use super::parsed::Parsed;
use crate::control::Control;
use crate::dataplane::explain::Run;

impl Explainer {
    /// What else there is to know.
    pub(super) fn remark(
        &self,
        control: &Control,
        parsed: &Parsed,
        direction: Direction,
        run: &Run,
        notes: &mut Vec<String>,
    ) -> Result<()> {
        let mut note = |text: String| notes.push(text);
        if run.active.is_audit() && run.reason.verdict() == Verdict::Drop {
            note(
                "The interface is in audit mode: the packet is counted as dropped, and passes."
                    .to_owned(),
            );
        }
        if self.names.model.is_panicking {
            note("Emergency mode: the rules of the groups are not active.".to_owned());
        }
        if !self.is_current {
            note(
                "The attached programs are of another build or of other settings than those of the store, which were \
                 run here: `secgroup reconcile` replaces them."
                    .to_owned(),
            );
        }
        if self.maps.applied()? != Some(control.store().generation()?) {
            note(
                "The kernel does not have all that the store has: a change is being made, or was not completed \
                 (`secgroup reconcile`). Verdict and reason are those of the kernel."
                    .to_owned(),
            );
        }
        if let Some(ip) = parsed.ip() {
            let [inside, outside] = [ip.inside(direction), ip.outside(direction)];
            let own = self.own();
            let is_own = |address: IpAddr| own.iter().any(|network| network.contains(&address));
            let is_group = |address: IpAddr| match address {
                IpAddr::V4(address) => address.is_multicast() || address.is_broadcast(),
                IpAddr::V6(address) => address.is_multicast(),
            };
            if !own.is_empty() && !is_own(inside) && !is_group(inside) {
                let other = if is_own(outside) {
                    format!("; {outside} is one, so ask about {}?", direction.opposite().name())
                } else {
                    String::new()
                };
                note(format!("{inside} is not an address of the protected end{other}"));
            }
        }
        Ok(())
    }

    /// The addresses of the protected end, as far as they are known.
    fn own(&self) -> Vec<IpNet> {
        let interface = &self.names.interface;
        let mut own = interface.own();
        if self.programs.orientation() == Orientation::Host
            && interface.orientation == Orientation::Host
        {
            own.extend(self.device.addresses.iter().map(|address| IpNet::from(*address)));
        }
        own
    }
}
