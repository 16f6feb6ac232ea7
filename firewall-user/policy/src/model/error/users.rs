//! What uses an object that is to be deleted.

use std::fmt;

use firewall_ebpf::abi::interface::Direction;

use crate::model::{Interface, RuleId, SubnetId};

/// What uses a group, a prefix list or a network ACL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum User {
    /// An interface that has the group or network ACL.
    Interface {
        /// Its device.
        device: String,
        /// The namespace of the device.
        netns: Option<String>,
    },
    /// Rules of another group that name it as their peer.
    Rules {
        /// The name of the group that has the rules.
        group: String,
        /// The rules.
        rules: Vec<RuleId>,
    },
    /// Entries of a network ACL that name the prefix list.
    AclEntries {
        /// The name of the network ACL.
        acl: String,
        /// The entries.
        entries: Vec<(Direction, u16)>,
    },
    /// Another object.
    Object {
        /// Its kind.
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// A subnet that is associated with the network ACL.
    Subnet {
        /// The subnet.
        id: SubnetId,
    },
    /// A block of the prefix list.
    Block {
        /// The name of the prefix list.
        list: String,
    },
}

impl User {
    /// An interface as a user.
    pub(in crate::model) fn of_interface(interface: &Interface) -> Self {
        if !interface.is_attached() {
            return Self::Object { what: "network interface", id: interface.id.to_string() };
        }
        let Interface { device, netns, .. } = interface;
        Self::Interface { device: device.clone(), netns: netns.clone() }
    }
}

/// Users as a list in a sentence.
pub(super) struct Users<'a>(pub(super) &'a [User]);

impl fmt::Display for Users<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, user) in self.0.iter().enumerate() {
            if index > 0 {
                out.write_str(", ")?;
            }
            match user {
                User::Interface { device, netns: None } => write!(out, "interface {device}")?,
                User::Interface { device, netns: Some(netns) } => {
                    write!(out, "interface {device} in namespace {netns}")?;
                }
                User::Rules { group, rules } => {
                    let rules: Vec<_> = rules.iter().map(RuleId::as_str).collect();
                    write!(out, "group {group} ({})", rules.join(", "))?;
                }
                User::AclEntries { acl, entries } => {
                    let entries: Vec<_> = entries
                        .iter()
                        .map(|(direction, entry)| format!("{} {entry}", direction.name()))
                        .collect();
                    write!(out, "network ACL {acl} ({})", entries.join(", "))?;
                }
                User::Object { what, id } => write!(out, "{what} {id}")?,
                User::Subnet { id } => write!(out, "subnet {id}")?,
                User::Block { .. } => out.write_str("a block")?,
            }
        }
        Ok(())
    }
}
