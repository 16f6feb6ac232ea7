//! Where an interface is in the EC2 API: its id, subnet and network ACL.

use crate::model::{Interface, Model, SubnetId};

/// How many network interfaces without a device are named.
const UNATTACHED_SHOWN: usize = 4;

/// Its network ACL, if it is not the default one of its VPC, or its subnet has another one.
pub(super) fn acl_text(model: &Model, interface: &Interface) -> Option<String> {
    let subnet = model.subnets.get(&interface.subnet);
    let of_subnet = subnet.and_then(|subnet| model.acl_of_subnet(subnet));
    match (interface.acl.as_ref().and_then(|id| model.acls.get(id)), of_subnet) {
        (Some(own), Some(of_subnet)) if !of_subnet.is_default => {
            Some(format!("network ACL {}, in place of {} of its subnet", own.name, of_subnet.name))
        }
        (Some(own), _) => Some(format!("network ACL {}", own.name)),
        (None, Some(of_subnet)) if !of_subnet.is_default => {
            Some(format!("network ACL {} of its subnet", of_subnet.name))
        }
        _ => None,
    }
}

/// Its id and place in the EC2 API: what else than the default subnet is named.
pub(super) fn place_text(model: &Model, interface: &Interface) -> String {
    let Interface { id, subnet, details, .. } = interface;
    let mut text = id.to_string();
    if *subnet != SubnetId::default_subnet() {
        text += &format!(", {subnet} of {}", model.vpc_of(interface));
    }
    if !details.description.is_empty() {
        text += &format!(", {:?}", details.description);
    }
    text
}

/// The network interfaces that no device has.
pub(super) fn unattached_text(model: &Model) -> Option<String> {
    let ids: Vec<_> = model.unattached.values().map(|one| one.id.as_str()).collect();
    let shown = ids.iter().take(UNATTACHED_SHOWN).copied().collect::<Vec<_>>().join(", ");
    let more = match ids.len().saturating_sub(UNATTACHED_SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!ids.is_empty()).then(|| format!("network interfaces without a device: {shown}{more}"))
}
