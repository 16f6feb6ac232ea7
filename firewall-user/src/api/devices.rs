//! What network interfaces have that is not stored: addresses of their devices.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::Api;
use crate::control::enforcement::present_device;
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
    /// What the devices of interfaces have, by slot. A device that does not exist now, or cannot be read, has
    /// nothing.
    pub(super) fn seen<'a>(
        &self,
        interfaces: impl IntoIterator<Item = &'a Interface>,
    ) -> BTreeMap<u16, Seen> {
        let mut attached = interfaces.into_iter().filter(|one| one.is_attached()).peekable();
        if attached.peek().is_none() {
            return BTreeMap::new();
        }
        let seen = self.with_control(|control| {
            let look = |interface: &Interface| {
                let device = present_device(control.pins(), interface).ok().flatten()?;
                let seen = Seen { mac: device.mac, addresses: device.addresses };
                Some((interface.slot, seen))
            };
            Ok(attached.filter_map(look).collect())
        });
        seen.unwrap_or_default()
    }
}
