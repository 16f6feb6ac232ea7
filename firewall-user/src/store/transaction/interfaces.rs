//! Edits of network interfaces.

use std::collections::BTreeMap;

use super::{Error, Transaction};
use crate::model::{
    Attachment, AttachmentId, Change, Error as ModelError, Interface, InterfaceDetails,
    InterfaceId, check,
};

impl Transaction<'_> {
    /// The smallest slot that no interface has.
    ///
    /// # Errors
    /// All `capacity` slots are taken.
    pub fn free_slot(&self, capacity: u32) -> Result<u16, Error> {
        (0..=u16::MAX)
            .take_while(|slot| u32::from(*slot) < capacity)
            .find(|slot| !self.model.interfaces.contains_key(slot))
            .ok_or_else(|| {
                let count = self.model.interfaces.len() + 1;
                ModelError::InterfacesLimit { count, limit: capacity as usize }.into()
            })
    }

    /// Attaches groups to a device; replaces the interface in its slot.
    ///
    /// # Errors
    /// A group does not exist or is given twice, its network ACL does not exist, one of them is not of the VPC of
    /// its subnet, the device has another slot, or a limit is reached.
    pub fn put_interface(&mut self, interface: &Interface) -> Result<(), Error> {
        self.model.check_interface(interface, &self.limits)?;
        let here = self.model.interfaces.get(&interface.slot);
        if here == Some(interface) {
            return Ok(());
        }
        if here.is_none() {
            self.check_count()?;
        }
        let interface = self.with_attachment(interface.clone())?;
        self.write(Change::PutInterface(interface))
    }

    /// Deletes the interface in a slot.
    ///
    /// # Errors
    /// The slot is empty.
    pub fn delete_interface(&mut self, slot: u16) -> Result<(), Error> {
        if self.model.network_interfaces().all(|one| one.slot != slot) {
            return Err(ModelError::InterfaceNotFound(slot.to_string()).into());
        }
        self.write(Change::DeleteInterface(slot))
    }

    /// Creates a network interface that no device has; its slot is chosen.
    ///
    /// # Errors
    /// As [`Self::put_interface`].
    pub fn create_interface(&mut self, interface: Interface) -> Result<(), Error> {
        self.check_count()?;
        let interface = Interface { slot: self.unattached_slot()?, ..interface };
        self.model.check_interface(&interface, &self.limits)?;
        check_tags(&interface, &self.limits)?;
        self.write(Change::PutInterface(interface))
    }

    /// Replaces a network interface, attached or not, without another device.
    ///
    /// # Errors
    /// As [`Self::put_interface`]; or it does not exist.
    pub fn edit_interface(
        &mut self,
        id: &InterfaceId,
        edit: impl FnOnce(&mut Interface),
    ) -> Result<Interface, Error> {
        let here = self.model.interface_by_id(id)?;
        let mut interface = here.clone();
        edit(&mut interface);
        if *here != interface {
            self.model.check_interface(&interface, &self.limits)?;
            check_tags(&interface, &self.limits)?;
            self.write(Change::PutInterface(interface.clone()))?;
        }
        Ok(interface)
    }

    /// Replaces the tags of a network interface.
    ///
    /// # Errors
    /// There are too many, or it does not exist.
    pub fn tag_interface(
        &mut self,
        id: &InterfaceId,
        tags: BTreeMap<String, String>,
    ) -> Result<(), Error> {
        self.edit_interface(id, |interface| interface.tags = tags).map(drop)
    }

    /// Attaches a network interface that no device has, as `interface`, which has a device and a free slot;
    /// returns it as it is stored.
    ///
    /// # Errors
    /// As [`Self::put_interface`]; or it is attached, or does not exist.
    pub fn attach_interface(&mut self, interface: Interface) -> Result<Interface, Error> {
        let here = self.model.interface_by_id(&interface.id)?;
        if here.is_attached() {
            let (interface, device) = (here.id.to_string(), here.label());
            return Err(ModelError::InterfaceInUse { interface, device }.into());
        }
        let from = here.slot;
        self.model.check_interface(&interface, &self.limits)?;
        let to = self.with_attachment(interface)?;
        self.write(Change::MoveInterface { from, to: to.clone() })?;
        Ok(to)
    }

    /// Keeps an interface that is detached: with its groups, options, tags and blocks, but without a device.
    ///
    /// # Errors
    /// The slot is empty, or there is none for one that is not attached.
    pub fn detach_interface(&mut self, slot: u16) -> Result<(), Error> {
        let Some(here) = self.model.interfaces.get(&slot) else {
            return Err(ModelError::InterfaceNotFound(slot.to_string()).into());
        };
        let to = here.without_device(self.unattached_slot()?);
        self.write(Change::MoveInterface { from: slot, to })
    }

    /// The interface with an attachment, if it is attached and has none yet.
    fn with_attachment(&self, mut interface: Interface) -> Result<Interface, Error> {
        if interface.is_attached() && interface.details.attachment.is_none() {
            let attachment = Attachment {
                id: AttachmentId::random()?,
                index: self.model.free_device_index(),
                time: self.clocks.moment.wall,
                delete_on_termination: false,
            };
            let details = InterfaceDetails { attachment: Some(attachment), ..interface.details };
            interface = Interface { details, ..interface };
        }
        Ok(interface)
    }

    /// The smallest slot for an interface that is not attached.
    fn unattached_slot(&self) -> Result<u16, Error> {
        let mut slots = Interface::FIRST_UNATTACHED..=u16::MAX;
        let free = slots.find(|slot| !self.model.unattached.contains_key(slot));
        free.ok_or_else(|| {
            let count = self.model.unattached.len() + 1;
            ModelError::NetworkInterfacesLimit { count, limit: count - 1 }.into()
        })
    }

    /// Refuses one more network interface than there may be.
    fn check_count(&self) -> Result<(), Error> {
        let count = self.model.network_interfaces().count() + 1;
        let limit = self.limits.network_interfaces;
        if count > limit {
            return Err(ModelError::NetworkInterfacesLimit { count, limit }.into());
        }
        Ok(())
    }
}

fn check_tags(interface: &Interface, limits: &crate::model::Limits) -> Result<(), Error> {
    let object = format!("network interface {}", interface.id);
    Ok(check::check_tags(&object, &interface.tags, limits)?)
}
