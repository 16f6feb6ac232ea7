//! EC2's texts of errors about network interfaces and network ACLs, as its clients have seen them.

use crate::model::Error;

/// The text that EC2 has for an error, if it is about one of these and its text is known.
pub(super) fn message(error: &Error) -> Option<String> {
    Some(match error {
        Error::InterfaceNotFound(id) => {
            format!("The networkInterface ID '{id}' does not exist")
        }
        Error::InterfaceInUse { interface, .. } => {
            format!("Network interface '{interface}' is currently in use.")
        }
        Error::InterfaceGroupsLimit { .. } => {
            "The maximum number of security groups per interface has been reached.".to_owned()
        }
        Error::NetworkInterfacesLimit { .. } => {
            "The maximum number of network interfaces has been reached.".to_owned()
        }
        Error::OtherVpc { .. } => {
            "You have specified two resources that belong to different networks.".to_owned()
        }
        Error::AclNotFound(id) => format!("The networkAcl ID '{id}' does not exist"),
        Error::AclEntryNotFound { direction, entry, .. } => {
            format!("no {} entry with number {entry}", direction.name())
        }
        Error::AclEntryDuplicate { entry, .. } => {
            format!("The network acl entry identified by {entry} already exists.")
        }
        // EC2 does not say what depends on it.
        Error::AclInUse { id, .. } => {
            let reason = super::with_hint(&error.to_string(), error.hint().as_deref());
            format!("The networkAcl '{id}' has dependencies and cannot be deleted: {reason}")
        }
        Error::AclDefault { id, what, .. } => {
            format!("The networkAcl '{id}' is the default one of its VPC and cannot be {what}.")
        }
        _ => return None,
    })
}
