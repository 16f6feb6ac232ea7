//! The attached interfaces, and whether the kernel enforces what the store has.

use anyhow::Result;
use ipnet::IpNet;

use crate::clock::Clocks;
use crate::control::enforcement::Enforcement;
use crate::control::{Control, inside, without_address};
use crate::dataplane::tables::maps::Maps;
use crate::dataplane::tables::memory::RULE_COUNTER;
use crate::model::{Block, Family, Interface, Model};

mod document;

pub use document::{NetworkInterface, Reading, StatusDocument};

/// An interface of the store, and its state in the kernel.
pub struct InterfaceStatus<'a> {
    /// The interface.
    pub interface: &'a Interface,
    /// Its state in the kernel.
    pub enforcement: Enforcement,
    /// Its groups that a rule names, and of which it is no member, as it has no address that counts.
    pub without_address: Vec<&'a str>,
    /// Number of rules of its groups.
    pub rules: usize,
    /// Bytes of the policy in the kernel; `None` before Linux 6.4.
    pub memory: Option<u64>,
    /// Families with traffic that passes without flows.
    pub untracked: Vec<&'static str>,
    /// Addresses and networks of the protected end.
    pub addresses: Vec<IpNet>,
}

impl InterfaceStatus<'_> {
    /// Average memory of a rule: its share of the policy, and its counter.
    #[must_use]
    pub fn bytes_per_rule(&self) -> Option<u64> {
        let rules = u64::try_from(self.rules).unwrap_or(u64::MAX);
        Some(self.memory?.checked_div(rules)? + RULE_COUNTER)
    }
}

/// Reads the state of an interface. `maps`: `None` where nothing is attached.
///
/// # Errors
/// The kernel cannot be read.
pub fn inspect<'a>(
    control: &Control,
    maps: Option<&Maps>,
    model: &'a Model,
    interface: &'a Interface,
) -> Result<InterfaceStatus<'a>> {
    let groups = interface.groups.iter().filter_map(|id| model.groups.get(id));
    let enforcement = control.enforcement(maps, interface)?;
    let active = enforcement.active;
    let families =
        [(Family::Ipv4, active.has_untracked(true)), (Family::Ipv6, active.has_untracked(false))];
    let marked = families.into_iter().filter(|(_, is_marked)| *is_marked);
    let mut all = without_address(model).into_iter();
    Ok(InterfaceStatus {
        interface,
        without_address: all
            .find(|(one, _)| one.slot == interface.slot)
            .map_or_else(Vec::new, |(_, groups)| groups),
        rules: groups.map(|group| group.rules.len()).sum(),
        memory: match maps {
            Some(maps) => maps.policy_memory(interface.slot)?,
            None => None,
        },
        untracked: marked.map(|(family, _)| family.name()).collect(),
        addresses: inside(control.pins(), interface)?,
        enforcement,
    })
}

/// The blocks in force.
pub fn blocks_in_force(model: &Model) -> impl Iterator<Item = &Block> {
    let now = Clocks::now().moment.boottime;
    let blocks = model.blocks.values();
    blocks.filter(move |block| block.end.is_none_or(|end| end.left(now).is_some()))
}

/// The document of every interface, as `secgroup status --output json` prints it.
///
/// # Errors
/// The store or the kernel cannot be read.
pub fn read(control: &Control) -> Result<StatusDocument> {
    let (model, mut maps) = (control.model()?, control.maps()?);
    let statuses: Vec<_> = model
        .interfaces
        .values()
        .map(|interface| inspect(control, maps.as_ref(), &model, interface))
        .collect::<Result<_>>()?;
    let slots = statuses.iter().map(|one| one.interface.slot);
    let survey = maps.as_mut().map(|maps| maps.survey(slots)).transpose()?.unwrap_or_default();
    let change = control.unconfirmed_change()?;
    StatusDocument::new(Reading {
        model: &model,
        statuses: &statuses,
        maps: maps.as_ref(),
        survey: &survey,
        strays: control.strays(&model)?,
        change: change.as_ref(),
    })
}
