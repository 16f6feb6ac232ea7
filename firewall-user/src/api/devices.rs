//! What network interfaces have that is not stored: addresses of their devices.

use std::collections::BTreeMap;
use std::net::IpAddr;

use firewall_ec2::Error;

use super::Api;
use super::refusal::refusal;
use crate::control::enforcement::present_device;
use crate::dataplane::host::device::Device;
use crate::model::{Interface, MacAddress};

/// What the device of an attached interface has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// `None` if it has no Ethernet header.
    pub(super) mac: Option<MacAddress>,
    /// Without link-local and loopback ones.
    pub(super) addresses: Vec<IpAddr>,
}

impl Api {
    /// What the devices of interfaces have, by slot. A device that does not exist now has nothing.
    ///
    /// # Errors
    /// The store cannot be opened, or a device cannot be read.
    pub(super) fn seen<'a>(
        &self,
        interfaces: impl IntoIterator<Item = &'a Interface>,
    ) -> Result<BTreeMap<u16, Seen>, Error> {
        let mut attached = interfaces.into_iter().filter(|one| one.is_attached()).peekable();
        if attached.peek().is_none() {
            return Ok(BTreeMap::new());
        }
        // No lock is held while devices are asked: a change or another reading would wait.
        let pins = self.with_reader(|control| Ok(control.pins().clone()));
        let pins = pins.map_err(|error| refusal(&error))?;
        let mut seen = BTreeMap::new();
        for interface in attached {
            let device = present_device(&pins, interface).map_err(|error| refusal(&error))?;
            if let Some(Device { mac, addresses, .. }) = device {
                seen.insert(interface.slot, Seen { mac, addresses });
            }
        }
        Ok(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::Host;
    use crate::model::InterfaceId;

    #[test]
    fn devices_are_asked_while_a_change_waits() {
        let host = Host::new();
        host.model();
        let id = InterfaceId::random().unwrap();
        let attached = Interface::new(id, 0, "eth0", Some("none"));
        let seen = host.during_a_change(|api| api.seen([&attached]));
        assert_eq!(seen.unwrap(), BTreeMap::new());
    }
}
