//! What drops the packets of an open connection: an entry of a network ACL, in either direction, or a block.
//! Unlike a missing rule it also ends a connection that has a flow.

use std::fmt;

use firewall_ebpf::abi::filter::{BLOCK, DENY, entry_counter};
use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::wire::protocol;
use ipnet::IpNet;

use crate::control::ssh::Connection;
use crate::model::{AclId, Interface, Model, Peer};
use crate::policy::Probe;
use crate::policy::blocks::{evaluate_blocks, resolve_blocks};
use crate::policy::filter::{evaluate_filter, filter_entries};

/// The lowest port that clients use as their own.
const EPHEMERAL: u16 = 1024;

/// What drops packets of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// An entry of a network ACL.
    Entry { acl: AclId, name: String, direction: Direction, number: u16 },
    /// A block of what the text says.
    Block(String),
}

impl fmt::Display for Cut {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entry { name, direction, number, .. } => {
                let what = match direction {
                    Direction::Ingress => "its packets",
                    Direction::Egress => "the replies",
                };
                write!(out, "and entry {number} of network ACL {name} would drop {what}")
            }
            Self::Block(target) => write!(out, "and the block of {target} would drop its packets"),
        }
    }
}

/// What drops packets of a connection, at one time.
#[derive(Debug)]
pub(super) struct Cuts<'a> {
    model: &'a Model,
    connection: &'a Connection,
    now: u64,
    /// The block of the whole host.
    blocked: Option<Cut>,
}

/// The number of an entry or block in the place of its counter's index: nothing of this is in the kernel.
const fn itself(number: u32) -> u32 {
    number
}

impl<'a> Cuts<'a> {
    /// `now` is in nanoseconds since the boot.
    pub(super) fn new(model: &'a Model, connection: &'a Connection, now: u64) -> Self {
        // Once for all interfaces: there may be a million blocked networks.
        let blocks = resolve_blocks(model, &itself);
        let block = evaluate_blocks(&blocks, connection.client.ip(), now).next();
        let blocked = block.map(|block| Cut::Block(target(model, block.counter)));
        Self { model, connection, now, blocked }
    }

    /// What drops packets on an interface.
    pub(super) fn on(&self, interface: &Interface) -> Option<Cut> {
        self.blocked.clone().or_else(|| self.by_filter(interface))
    }

    fn by_filter(&self, interface: &Interface) -> Option<Cut> {
        let Self { model, connection: Connection { client, server, .. }, now, .. } = *self;
        let entries = filter_entries(model, interface, &itself)?;
        let ways = [(Direction::Ingress, server.port()), (Direction::Egress, client.port())];
        ways.into_iter().find_map(|(direction, port)| {
            let probe = Probe { direction, outside: client.ip(), protocol: protocol::TCP, port };
            let word = evaluate_filter(&entries, probe, now).filter(|word| word & DENY != 0)?;
            let number = entry_counter(word);
            if word & BLOCK != 0 {
                return Some(Cut::Block(target(model, number)));
            }
            let acl = model.acl_of(interface)?;
            let mut entries = acl.entries.iter();
            let ((direction, at), _) = entries.find(|(_, entry)| entry.number == number)?;
            let (name, number) = (acl.name.clone(), *at);
            Some(Cut::Entry { acl: acl.id.clone(), name, direction: *direction, number })
        })
    }
}

/// What a block names.
fn target(model: &Model, number: u32) -> String {
    match model.blocks.get(&number).map(|block| &block.target) {
        Some(Peer::Ipv4(network)) => network.to_string(),
        Some(Peer::Ipv6(network)) => network.to_string(),
        Some(Peer::PrefixList(id)) => {
            let list = model.prefix_lists.get(id);
            format!("prefix list {}", list.map_or(id.as_str(), |list| &list.name))
        }
        Some(Peer::Group(_) | Peer::Foreign(_)) | None => "its address".to_owned(),
    }
}

/// What keeps the connection open: a command where one is certain to work, else a sentence.
pub(super) fn remedy(
    cut: &Cut,
    connection: &Connection,
    (before, after): (&Model, &Model),
) -> String {
    let Connection { client, server, .. } = connection;
    let address = IpNet::from(client.ip());
    let Cut::Entry { acl, name, direction, number } = cut else {
        return format!("networks without {} leave it open", client.ip());
    };
    let ports = match direction {
        Direction::Ingress => server.port().to_string(),
        Direction::Egress if client.port() >= EPHEMERAL => format!("{EPHEMERAL}-{}", u16::MAX),
        Direction::Egress => client.port().to_string(),
    };
    let is_free = |at: &u16| {
        let has = |model: &Model| {
            model.acls.get(acl).is_some_and(|acl| acl.entries.contains_key(&(*direction, *at)))
        };
        !has(before) && !has(after)
    };
    let way = direction.name();
    match (1..*number).rev().find(is_free).filter(|_| before.acls.contains_key(acl)) {
        Some(at) => format!(
            "`secgroup acl entry add {name} {way} {at} allow --protocol tcp --port {ports} --cidr \
             {address}` keeps it open"
        ),
        None => format!(
            "an {way} entry before entry {number} that allows TCP port {ports} of {address} keeps it \
             open"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::VpcId;
    use crate::model::{
        Acl, AclEntry, Action, Block, End, EndKind, InterfaceId, PortRange, Traffic,
    };

    const NOW: u64 = 1000;

    fn connection() -> Connection {
        Connection {
            client: "192.0.2.7:50000".parse().unwrap(),
            server: "198.51.100.1:22".parse().unwrap(),
            device: None,
        }
    }

    fn entry(number: u32, action: Action, ports: (u16, u16), network: &str) -> AclEntry {
        let traffic = Traffic::Tcp(PortRange { from: ports.0, to: ports.1 });
        let peer = Peer::Ipv4(network.parse().unwrap());
        AclEntry { number, action, traffic, peer, end: None }
    }

    /// An interface with an ACL that allows SSH and replies, and everything else denied.
    fn model() -> (Model, Interface) {
        let mut acl =
            Acl::deny_all(AclId::random().unwrap(), VpcId::default_vpc(), "web", BTreeMap::new());
        for (number, entry) in (1..).zip(acl.entries.values_mut()) {
            entry.number = number;
        }
        let allow = |number, ports| entry(number, Action::Allow, ports, "0.0.0.0/0");
        acl.entries.insert((Direction::Ingress, 100), allow(11, (22, 22)));
        acl.entries.insert((Direction::Egress, 100), allow(12, (1024, 65535)));
        let id = InterfaceId::random().unwrap();
        let interface =
            Interface { acl: Some(acl.id.clone()), ..Interface::new(id, 0, "eth0", None) };
        let mut model = Model::default();
        model.acls.insert(acl.id.clone(), acl);
        (model, interface)
    }

    fn acl(model: &mut Model) -> &mut Acl {
        model.acls.values_mut().next().unwrap()
    }

    #[test]
    fn an_entry_of_either_direction_cuts_a_connection() {
        let (before, interface) = model();
        let connection = connection();
        let cut = |model: &Model| Cuts::new(model, &connection, NOW).on(&interface);
        assert_eq!(cut(&before), None);
        for (direction, number, expected) in [
            (Direction::Ingress, 100, "ingress 32766 allow --protocol tcp --port 22 --cidr"),
            (Direction::Egress, 100, "egress 32766 allow --protocol tcp --port 1024-65535 --cidr"),
        ] {
            let mut after = before.clone();
            acl(&mut after).entries.remove(&(direction, number));
            let found = cut(&after).unwrap();
            assert!(found.to_string().contains("entry 32767 of network ACL web"), "{found}");
            let text = remedy(&found, &connection, (&before, &after));
            assert!(text.contains(expected) && text.contains("192.0.2.7/32"), "{text}");
        }
        let mut after = before.clone();
        let deny = entry(13, Action::Deny, (0, 65535), "192.0.2.0/24");
        acl(&mut after).entries.insert((Direction::Ingress, 1), deny);
        let found = cut(&after).unwrap();
        let text = remedy(&found, &connection, (&before, &after));
        assert!(text.starts_with("an ingress entry before entry 1 that allows"), "{text}");
    }

    #[test]
    fn a_block_cuts_a_connection_until_it_ends() {
        let (mut model, interface) = model();
        let connection = connection();
        let block = |end: Option<u64>, own: bool| Block {
            number: 20,
            target: Peer::Ipv4("192.0.2.0/24".parse().unwrap()),
            interface: own.then(|| interface.id.clone()),
            reason: String::new(),
            end: end.map(|boottime| End { kind: EndKind::For, wall: 0, boottime }),
            created: 0,
        };
        for own in [false, true] {
            for (end, is_cut) in [(None, true), (Some(NOW + 1), true), (Some(NOW), false)] {
                model.blocks.insert(20, block(end, own));
                let found = Cuts::new(&model, &connection, NOW).on(&interface);
                let expected = is_cut.then(|| Cut::Block("192.0.2.0/24".to_owned()));
                assert_eq!(found, expected, "{own} {end:?}");
            }
        }
        model.blocks.insert(20, block(None, false));
        model.is_panicking = true;
        assert_eq!(Cuts::new(&model, &connection, NOW).on(&interface), None);
    }
}
