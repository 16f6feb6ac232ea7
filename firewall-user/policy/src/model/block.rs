//! Blocks: addresses whose packets are dropped before everything else is decided.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

use super::text::checked;
use super::{End, Error, Interface, InterfaceId, Model, Peer, parse_cidr};

/// A blocked network or prefix list. Packets from it and to it are dropped, before any ACL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The block's number in the kernel's counters: unique in the store among rules, entries of ACLs and
    /// blocks, never reused; 0 until it is stored.
    pub number: u32,
    /// The outside networks; never a group.
    pub target: Peer,
    /// The only interface that it applies to; `None`: all.
    pub interface: Option<InterfaceId>,
    /// Free text, may be empty.
    pub reason: String,
    /// When it ends by itself.
    pub end: Option<End>,
    /// When it was made, in milliseconds since 1970.
    pub created: i64,
}

/// A block to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewBlock {
    /// As [`parse_target`] returned it, or a prefix list.
    pub target: Peer,
    /// The only interface that it applies to; `None`: all.
    pub interface: Option<InterfaceId>,
    /// As [`block_reason`] returned it; `None`: that of the block in whose place it comes, or empty.
    pub reason: Option<String>,
    /// When it ends by itself.
    pub end: Option<End>,
    /// The time in milliseconds since 1970.
    pub created: i64,
}

/// A network to block: an address, or a network without host bits. An IPv4 address written as an IPv6 one
/// (`::ffff:192.0.2.1`) is the IPv4 address, which is the one that packets have.
///
/// # Errors
/// The text is neither, the network has host bits, or no packet on a network has such an address.
pub fn parse_target(text: &str) -> Result<IpNet, Error> {
    let network = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address.to_canonical()),
        Err(_) => match parse_cidr(text) {
            // Neither an address nor a network.
            Err(Error::Cidr { text, .. }) if !text.contains('/') => {
                return Err(Error::Target(text));
            }
            parsed => parsed?,
        },
    };
    if let Some((address, _)) = text.split_once('/')
        && let Ok(address) = address.parse::<IpAddr>()
        && address != network.addr()
    {
        return Err(Error::HostBits { address, network });
    }
    let is_mapped = |network: &IpNet| IpNet::from(MAPPED).contains(network);
    if network.addr().is_loopback() || is_mapped(&network) {
        return Err(Error::NotOnNetwork(network));
    }
    Ok(network)
}

/// ::ffff:0:0/96, IPv4 addresses in the programming interface of IPv6.
const MAPPED: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96);

/// The reason of a block: may be empty.
///
/// # Errors
/// It is too long, or has other characters than a description in EC2.
pub fn block_reason(text: &str) -> Result<String, Error> {
    checked("reason", text, 0)?;
    Ok(text.to_owned())
}

impl Model {
    /// The block of exactly this target on this interface, or on all.
    #[must_use]
    pub fn block_of(&self, target: &Peer, interface: Option<&InterfaceId>) -> Option<&Block> {
        self.blocks
            .values()
            .find(|block| block.target == *target && block.interface.as_ref() == interface)
    }

    /// Checks that a block may be made.
    ///
    /// # Errors
    /// Its prefix list does not exist, its interface is not attached, or its target is a group.
    pub fn check_block(&self, new: &NewBlock) -> Result<(), Error> {
        match &new.target {
            Peer::Ipv4(_) | Peer::Ipv6(_) => {}
            Peer::PrefixList(id) => self.prefix_list_by_id(id).map(drop)?,
            Peer::Group(id) => return Err(Error::BlockOfGroup(id.clone())),
            Peer::Foreign(foreign) => return Err(Error::BlockOfGroup(foreign.group.clone())),
        }
        match &new.interface {
            Some(id) if !self.interfaces.values().any(|one| one.id == *id) => {
                Err(Error::InterfaceNotFound(id.to_string()))
            }
            _ => Ok(()),
        }
    }

    /// What a block is of, as text: the target, and the interface if it is of one.
    #[must_use]
    pub fn block_text(&self, block: &Block) -> String {
        let target = self.peer_text(&block.target);
        match &block.interface {
            None => target,
            Some(id) => {
                let found = self.interfaces.values().find(|one| one.id == *id);
                let label = found.map_or_else(|| id.to_string(), Interface::label);
                format!("{target} on {label}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_an_address_or_a_network_without_host_bits() {
        for (text, network) in [
            ("192.0.2.7", "192.0.2.7/32"),
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("2001:DB8::7", "2001:db8::7/128"),
            ("2001:db8::/64", "2001:db8::/64"),
            ("::ffff:192.0.2.7", "192.0.2.7/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ] {
            assert_eq!(parse_target(text).unwrap().to_string(), network);
        }
        let error = parse_target("192.0.2.7/24").unwrap_err();
        assert_eq!(error.to_string(), "192.0.2.7 is not the first address of 192.0.2.0/24");
        for text in ["", "list", "192.0.2", "fe80::1%eth0", "-"] {
            assert_eq!(parse_target(text), Err(Error::Target(text.to_owned())));
        }
        assert!(matches!(parse_target("192.0.2.0/33"), Err(Error::Cidr { .. })));
        for text in ["127.0.0.1", "127.0.0.0/8", "::1", "::ffff:192.0.2.0/120"] {
            assert!(matches!(parse_target(text), Err(Error::NotOnNetwork(_))), "{text}");
        }
    }
}
