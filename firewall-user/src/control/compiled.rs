//! The compiled policies of this host's interfaces: their rules with every peer resolved to networks.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use anyhow::Result;
use firewall_ebpf::abi::interface::Orientation;
use ipnet::IpNet;

use super::enforcement::present_device;
use crate::dataplane::{DataplaneError, Pins};
use crate::model::{Group, GroupId, Interface, Model, Peer, Tracking};
use crate::policy::{Addresses, InternedPolicy, PolicyInterner, ResolvedRule, active_rules};

/// A policy and the rules that it was compiled from.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) rules: Vec<ResolvedRule>,
    pub(super) policy: InternedPolicy,
}

/// Policies by slot; interfaces with the same groups share one.
pub(super) type Policies = BTreeMap<u16, Rc<Compiled>>;

/// Every interface's policy, by slot; `before` are those of the same interner before a change.
///
/// # Errors
/// A policy does not fit.
pub(super) fn compile(
    interner: &mut PolicyInterner,
    before: &Policies,
    model: &Model,
    addresses: &Addresses,
) -> Result<Policies> {
    let mut compiled_groups: HashMap<(&[GroupId], Tracking), Rc<Compiled>> = HashMap::new();
    let mut policies = Policies::new();
    for interface in model.interfaces.values() {
        let key = (&interface.groups[..], interface.tracking);
        let compiled = match compiled_groups.get(&key) {
            Some(compiled) => Rc::clone(compiled),
            None => {
                let before = before.get(&interface.slot).map(Rc::as_ref);
                Rc::new(compile_one(interner, before, model, addresses, interface)?)
            }
        };
        compiled_groups.insert(key, Rc::clone(&compiled));
        policies.insert(interface.slot, compiled);
    }
    Ok(policies)
}

fn compile_one(
    interner: &mut PolicyInterner,
    before: Option<&Compiled>,
    model: &Model,
    addresses: &Addresses,
    interface: &Interface,
) -> Result<Compiled> {
    let rules = active_rules(model, addresses, interface);
    let policy = match before {
        Some(Compiled { rules: old, policy }) => {
            interner.compile_after((old, policy), &rules, interface.tracking)
        }
        None => interner.compile(&rules, interface.tracking),
    };
    let policy = policy.map_err(|error| {
        DataplaneError::new(
            format!("policy of {}: {error}", interface.device),
            match interface.tracking {
                Tracking::Auto => {
                    "fewer rules, prefix list entries or groups on the interface make it \
                     smaller, and so does `attach --tracking always`"
                }
                Tracking::Always => {
                    "fewer rules, prefix list entries or groups on the interface make it \
                     smaller"
                }
            },
        )
    })?;
    Ok(Compiled { rules, policy })
}

/// The numbers of the rules that the policies contain: sorted, each once.
pub(super) fn numbers(interner: &PolicyInterner, policies: &Policies) -> Vec<u32> {
    interner.rules(policies.values().map(|compiled| &compiled.policy))
}

/// The inside addresses of interfaces, by slot: [`inside`]. Only of members of a group that a rule names.
pub(super) fn addresses(
    pins: &Pins,
    model: &Model,
    referenced: &BTreeSet<&GroupId>,
) -> Result<Addresses> {
    let mut addresses = Addresses::new();
    for interface in model.interfaces.values() {
        // Each device costs two requests of netlink.
        if interface.groups.iter().any(|group| referenced.contains(group)) {
            addresses.insert(interface.slot, inside(pins, interface)?);
        }
    }
    Ok(addresses)
}

/// Whether the addresses that an interface's device has are those of the group's member: it belongs to this
/// host, in the network namespace that secgroup runs in.
fn counts_own_addresses(interface: &Interface) -> bool {
    interface.orientation == Orientation::Host && interface.netns.is_none()
}

/// The interfaces that are members of a group which a rule names, but without an address: none is declared,
/// and the device's own do not count. With each the names of these groups.
#[must_use]
pub fn without_address(model: &Model) -> Vec<(&Interface, Vec<&str>)> {
    let mut peers = PeerGroups::default();
    let peers = peers.of(model);
    let interfaces = model.interfaces.values();
    let interfaces =
        interfaces.filter(|one| one.addresses.is_empty() && !counts_own_addresses(one));
    let named = interfaces.map(|interface| {
        let groups = interface.groups.iter().filter(|id| peers.contains(id));
        let groups = groups.filter_map(|id| Some(model.groups.get(id)?.name.as_str()));
        (interface, groups.collect::<Vec<_>>())
    });
    named.filter(|(_, groups)| !groups.is_empty()).collect()
}

/// The groups that rules name as their peers, known of each group as it was last: of the next model only the groups
/// that changed are read, and not a hundred thousand rules.
#[derive(Debug, Default)]
pub(super) struct PeerGroups(BTreeMap<GroupId, (Arc<Group>, Vec<GroupId>)>);

impl PeerGroups {
    /// The groups that a rule of a model names as its peer.
    pub(super) fn of(&mut self, model: &Model) -> BTreeSet<&GroupId> {
        self.0.retain(|id, _| model.groups.contains_key(id));
        for (id, group) in &model.groups {
            if !self.0.get(id).is_some_and(|(known, _)| Arc::ptr_eq(known, group)) {
                let peers = group.rules.iter().filter_map(|rule| match &rule.spec.peer {
                    Peer::Group(peer) => Some(peer.clone()),
                    _ => None,
                });
                let peers = peers.collect::<BTreeSet<_>>().into_iter().collect();
                self.0.insert(id.clone(), (Arc::clone(group), peers));
            }
        }
        self.0.values().flat_map(|(_, peers)| peers).collect()
    }
}

/// The inside addresses and networks of one interface: the declared ones, and of a device of this host those
/// that it has. Who is root in another network namespace, or is a guest, would choose its own.
///
/// # Errors
/// rtnetlink fails. A device that does not exist has no addresses.
pub fn inside(pins: &Pins, interface: &Interface) -> Result<Vec<IpNet>> {
    let mut all = interface.addresses.clone();
    if counts_own_addresses(interface)
        && let Some(device) = present_device(pins, interface)?
        && device.netns.is_none()
    {
        all.extend(device.addresses.into_iter().map(IpNet::from));
    }
    all.sort();
    all.dedup();
    Ok(all)
}
