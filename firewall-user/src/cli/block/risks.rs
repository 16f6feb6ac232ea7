//! Blocks that are hardly meant.

use std::fmt::{self, Display};
use std::net::Ipv4Addr;

use anyhow::Result;
use ipnet::{IpNet, Ipv6Net};

use crate::cli::failure::UsageError;
use crate::control::inside;
use crate::dataplane::Pins;
use crate::model::{Entries, Model, Peer, PrefixList, PrefixListId};

/// ff02::/16, multicast on a link.
const LINK_MULTICAST: Ipv6Net =
    Ipv6Net::new_assert(std::net::Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0), 16);

/// fe80::/10, the addresses that routers and neighbours speak from.
const LINK_LOCAL: Ipv6Net =
    Ipv6Net::new_assert(std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);

/// Interfaces' addresses that a note names.
const NAMED: usize = 3;

/// Refuses what would cut the host off.
pub(super) fn check(model: &Model, targets: &[Peer]) -> Result<()> {
    for target in targets {
        match target {
            Peer::Ipv4(network) => check_network(target, IpNet::V4(*network))?,
            Peer::Ipv6(network) => check_network(target, IpNet::V6(*network))?,
            Peer::PrefixList(id) => {
                if let Some(list) = model.prefix_lists.get(id) {
                    check_entries(list, &Entries::default())?;
                }
            }
            Peer::Group(_) | Peer::Foreign(_) => {}
        }
    }
    Ok(())
}

/// Refuses the entries of a list that is blocked, if they would cut the host off. Those that it had before
/// are blocked already.
pub(in crate::cli) fn check_list(model: &Model, id: &PrefixListId, before: &Entries) -> Result<()> {
    match model.prefix_lists.get(id) {
        Some(list) if is_blocked(model, id) => check_entries(list, before),
        _ => Ok(()),
    }
}

/// Whether a prefix list is blocked, on every interface or on one.
pub(in crate::cli) fn is_blocked(model: &Model, id: &PrefixListId) -> bool {
    let is_it = |target: &Peer| matches!(target, Peer::PrefixList(list) if list == id);
    model.blocks.values().any(|block| is_it(&block.target))
}

fn check_entries(list: &PrefixList, before: &Entries) -> Result<()> {
    for network in list.entries.networks() {
        if before.contains(&network) {
            continue;
        }
        let name =
            fmt::from_fn(|out| write!(out, "the entry {network} of prefix list {}", list.name));
        check_network(name, network)?;
    }
    Ok(())
}

fn check_network(name: impl Display, network: IpNet) -> Result<()> {
    let refuse = |what: &str, hint: &'static str| {
        Err(UsageError { message: format!("{name} {what}"), hint }.into())
    };
    match network {
        IpNet::V4(network) if network.prefix_len() == 0 => {
            refuse("is every IPv4 address", EVERYTHING)
        }
        IpNet::V6(network) if network.prefix_len() == 0 => {
            refuse("is every IPv6 address", EVERYTHING)
        }
        IpNet::V4(network) if network.contains(&Ipv4Addr::BROADCAST) => refuse(
            "has the address 255.255.255.255, without which no DHCP client gets an address",
            NAME_THEM,
        ),
        IpNet::V6(network) if has_neighbours(network) => refuse(
            "has the addresses of IPv6 neighbour discovery, without which IPv6 does not work",
            NAME_THEM,
        ),
        _ => Ok(()),
    }
}

const EVERYTHING: &str = "`secgroup panic` drops everything but the management networks; --force makes the change \
                          anyway";

const NAME_THEM: &str = "name the addresses that are meant; --force makes the change anyway";

/// Whether a network contains what neighbour discovery needs: every link-local address of a link, or multicast
/// on it.
fn has_neighbours(network: Ipv6Net) -> bool {
    let overlaps = |other: &Ipv6Net| network.contains(other) || other.contains(&network);
    overlaps(&LINK_MULTICAST) || overlaps(&LINK_LOCAL) && network.prefix_len() <= 64
}

/// What is to be said about blocks that do less than they seem to.
pub(super) fn notes(pins: &Pins, model: &Model, targets: &[Peer]) -> Result<Vec<String>> {
    let mut own: Vec<(IpNet, String)> = Vec::new();
    for interface in model.interfaces.values() {
        let addresses = inside(pins, interface)?;
        own.extend(addresses.into_iter().map(|address| (address, interface.label())));
    }
    let mut notes = Vec::new();
    for target in targets {
        let network = match target {
            Peer::Ipv4(network) => IpNet::V4(*network),
            Peer::Ipv6(network) => IpNet::V6(*network),
            Peer::PrefixList(_) | Peer::Group(_) | Peer::Foreign(_) => continue,
        };
        let here: Vec<_> = own.iter().filter(|(address, _)| network.contains(address)).collect();
        if let Some((address, label)) = here.first() {
            notes.push(format!(
                "{network} has the address {} of {label}: packets that have it on the inside are not dropped",
                address.addr()
            ));
        }
        if notes.len() == NAMED {
            break;
        }
    }
    Ok(notes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cuts_the_host_off_is_refused() {
        let check = |text: &str| check_network(text, text.parse().unwrap());
        for text in ["0.0.0.0/0", "::/0", "fe80::/10", "fe80::/64", "ff00::/8", "ff02::1/128"] {
            assert!(check(text).is_err(), "{text}");
        }
        for text in ["224.0.0.0/3", "240.0.0.0/4", "255.255.255.255/32"] {
            assert!(check(text).is_err(), "{text}");
        }
        for text in [
            "0.0.0.0/1",
            "224.0.0.0/4",
            "255.255.255.254/32",
            "2001:db8::/32",
            "fe80::1/128",
            "ff05::/16",
        ] {
            assert!(check(text).is_ok(), "{text}");
        }
    }
}
