//! The live flows, with the names of their interfaces and rules, and what changes from one reading to the next.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use anyhow::Result;
use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::state::State;

use super::query::{Checked, Subject};
use super::record::RuleName;
use crate::control::{Control, NothingAttached};
use crate::dataplane::flows::list::FlowEntry;
use crate::dataplane::tables::clock;
use crate::model::{Family, Interface, Model};
use crate::policy::{MANAGEMENT_RULE, services};
use crate::store::Store;

pub mod document;
mod poll;
pub mod totals;
pub mod untracked;

pub use poll::{Change, Counted, DEFAULT_LIMIT, Kind, Known, Poll, Poller};

/// An interface by its names at the time of a reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// `eni-…`.
    pub network_interface_id: String,
    /// Network device.
    pub device: String,
    /// Named network namespace of the device; `None`: that of secgroup.
    pub netns: Option<String>,
    /// `DEVICE` or `NAMESPACE/DEVICE`.
    pub label: String,
}

impl Place {
    /// As the store names the interface now.
    pub(crate) fn new(interface: &Interface) -> Self {
        Self {
            network_interface_id: interface.id.to_string(),
            device: interface.device.clone(),
            netns: interface.netns.clone(),
            label: interface.label(),
        }
    }

    /// What a filter compares of everything on the interface.
    pub(crate) fn subject(&self) -> Subject<'_> {
        Subject {
            network_interface_id: &self.network_interface_id,
            device: &self.device,
            netns: self.netns.as_deref(),
            ..Subject::default()
        }
    }
}

/// What admitted a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// A rule.
    Rule {
        /// Its names, as they were when it was last changed.
        name: Arc<RuleName>,
        /// It was deleted; the flow outlives it, as in EC2.
        is_removed: bool,
    },
    /// The connection was open before the interface was attached.
    Learned,
    /// The DHCP client of this host is exempt.
    Exempt,
    /// A management network, in emergency mode.
    Management,
    /// A rule that the store does not know.
    Unknown,
}

/// A live flow.
#[derive(Clone, Debug)]
pub struct LiveFlow {
    /// The entry of the kernel's table.
    pub entry: FlowEntry,
    /// The interface.
    pub place: Arc<Place>,
    /// State.
    pub state: State,
    /// Seconds since the first packet; of a flow that is older than 2^32 jiffies (49 to 497 days, depending on the
    /// kernel's HZ) the rest.
    pub age: u64,
    /// Seconds since the last packet.
    pub idle: u64,
    /// Seconds to the idle timeout; 0 in the last one.
    pub left: u64,
    /// What admitted it.
    pub admitted: Admitted,
}

impl LiveFlow {
    /// The rule that admitted it, also a deleted one.
    #[must_use]
    pub fn rule(&self) -> Option<&RuleName> {
        match &self.admitted {
            Admitted::Rule { name, .. } => Some(name),
            _ => None,
        }
    }

    /// Packets of both directions.
    #[must_use]
    pub fn packets(&self) -> u64 {
        self.entry.flow.packets.iter().fold(0, |sum, one| sum.saturating_add(*one))
    }

    /// Whether the end that was sent the first packet has answered, or is to: it completes a TCP connection.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        let FlowEntry { protocol, ref flow, .. } = self.entry;
        protocol == 6 || flow.packets.iter().all(|packets| *packets > 0)
    }

    /// Bytes of whole frames of both directions.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.entry.flow.bytes.iter().fold(0, |sum, one| sum.saturating_add(*one))
    }

    /// The name of the service or ICMP message, of the packet that opened the flow.
    #[must_use]
    pub fn service(&self) -> Option<&'static str> {
        let FlowEntry { protocol, inside, inside_port, outside_port, .. } = self.entry;
        if let Some((_, kind, code)) = self.entry.query() {
            let family = if inside.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
            return services::icmp_name(family, kind, code);
        }
        let port = match self.entry.initiator() {
            Direction::Ingress => inside_port,
            Direction::Egress => outside_port,
        };
        services::name_of_port(protocol, port)
    }

    /// What a filter compares: the source is the end that opened the flow.
    #[must_use]
    pub fn subject(&self) -> Subject<'_> {
        let FlowEntry { protocol, inside, outside, inside_port, outside_port, .. } = self.entry;
        let opened_by = self.entry.initiator();
        let [from, to] = match opened_by {
            Direction::Ingress => [(outside, outside_port), (inside, inside_port)],
            Direction::Egress => [(inside, inside_port), (outside, outside_port)],
        };
        let has_ports = matches!(protocol, 6 | 17);
        Subject {
            direction: Some(opened_by),
            protocol: Some(protocol),
            source: Some(from.0),
            destination: Some(to.0),
            source_port: has_ports.then_some(from.1),
            destination_port: has_ports.then_some(to.1),
            icmp: self.entry.query().map(|(_, kind, code)| (kind, code)),
            state: Some(self.state),
            rule: self.rule(),
            ..self.place.subject()
        }
    }
}

/// The live flows that `keep` selects, by interface, protocol, inside and outside.
///
/// # Errors
/// Nothing is attached, or tables or store cannot be read.
pub fn live_flows(
    control: &Control,
    model: &Model,
    keep: impl Fn(&LiveFlow) -> bool,
) -> Result<Vec<LiveFlow>> {
    let maps = control.maps()?.ok_or(NothingAttached)?;
    let now = clock::now(control.pins(), &maps)?;
    let mut names = Names::default();
    let namer = names.with(control.store(), model);
    let mut flows = live(namer, maps.flows()?, now)?;
    flows.retain(keep);
    flows.sort_by_key(|known| {
        let FlowEntry { slot, protocol, inside, outside, inside_port, outside_port, .. } =
            known.entry;
        (slot, protocol, inside, inside_port, outside, outside_port)
    });
    Ok(flows)
}

/// The flows among entries that `query` selects and that are in the tables, also expired ones, which no list has. For
/// a filter that selects everything, all entries.
///
/// # Errors
/// The store cannot be read.
pub fn select(
    store: &Store,
    model: &Model,
    entries: Vec<FlowEntry>,
    query: &Checked,
) -> Result<Vec<FlowEntry>> {
    if query.is_empty() {
        return Ok(entries);
    }
    let mut names = Names::default();
    let mut namer = names.with(store, model);
    let mut selected = Vec::new();
    for entry in entries {
        // At its own last packet no flow is expired.
        let flow = namer.name(entry, entry.flow.last_seen)?;
        if flow.is_some_and(|flow| query.matches(&flow.subject())) {
            selected.push(entry);
        }
    }
    Ok(selected)
}

/// The flows among entries at a time of the kernel's clock. An expired entry that is not removed yet is no flow; the
/// kernel ignores it, too.
fn live(mut namer: Namer<'_>, entries: Vec<FlowEntry>, now: u64) -> Result<Vec<LiveFlow>> {
    let mut flows = Vec::with_capacity(entries.len());
    for entry in entries {
        flows.extend(namer.name(entry, now)?);
    }
    Ok(flows)
}

/// Names of interfaces and rules, kept from one reading to the next.
#[derive(Debug, Default)]
struct Names {
    places: BTreeMap<u16, Arc<Place>>,
    /// By the numbers of rules, which are never used again.
    rules: HashMap<u32, Arc<RuleName>>,
    /// Those of the reading before.
    earlier: HashMap<u32, Arc<RuleName>>,
}

/// Gives entries their names.
struct Namer<'a> {
    names: &'a mut Names,
    store: &'a Store,
    model: &'a Model,
    /// The numbers of the rules that exist.
    present: HashSet<u32>,
    hz: u64,
}

impl Names {
    fn with<'a>(&'a mut self, store: &'a Store, model: &'a Model) -> Namer<'a> {
        self.places.retain(|slot, _| model.interfaces.contains_key(slot));
        for (slot, interface) in &model.interfaces {
            let place = Place::new(interface);
            if self.places.get(slot).is_none_or(|known| **known != place) {
                self.places.insert(*slot, Arc::new(place));
            }
        }
        self.earlier = std::mem::take(&mut self.rules);
        let rules = model.groups.values().flat_map(|group| &group.rules);
        let present = rules.map(|rule| rule.number).collect();
        Namer { names: self, store, model, present, hz: clock::hz() }
    }
}

impl Namer<'_> {
    /// The flow of an entry; `None` of one that is expired or that is of no stored interface.
    fn name(&mut self, entry: FlowEntry, now: u64) -> Result<Option<LiveFlow>> {
        let (Some(interface), Some(place), Some(state)) = (
            self.model.interfaces.get(&entry.slot),
            self.names.places.get(&entry.slot),
            entry.flow.state(),
        ) else {
            return Ok(None);
        };
        let idle = now.saturating_sub(entry.flow.last_seen) / self.hz;
        let Some(left) = u64::from(interface.timeout(state)).checked_sub(idle) else {
            return Ok(None);
        };
        let age = age(now, entry.flow.created) / self.hz;
        let place = Arc::clone(place);
        let admitted = self.admitted(&entry)?;
        Ok(Some(LiveFlow { entry, place, state, age: age.max(idle), idle, left, admitted }))
    }

    fn admitted(&mut self, entry: &FlowEntry) -> Result<Admitted> {
        let number = entry.flow.rule;
        if entry.is_learned() {
            return Ok(Admitted::Learned);
        }
        if entry.is_exempt() {
            return Ok(Admitted::Exempt);
        }
        if number == MANAGEMENT_RULE {
            return Ok(Admitted::Management);
        }
        let Some(name) = self.rule(number)? else { return Ok(Admitted::Unknown) };
        let is_removed = !self.present.contains(&number);
        Ok(Admitted::Rule { name, is_removed })
    }

    fn rule(&mut self, number: u32) -> Result<Option<Arc<RuleName>>> {
        if let Some(known) = self.names.rules.get(&number) {
            return Ok(Some(Arc::clone(known)));
        }
        let known = match self.names.earlier.remove(&number) {
            Some(known) => known,
            None => match self.store.rule_by_number(number)? {
                Some(rule) => Arc::new(RuleName {
                    security_group_rule_id: rule.rule.to_string(),
                    group_id: rule.group.to_string(),
                    group_name: rule.group_name,
                }),
                None => return Ok(None),
            },
        };
        self.names.rules.insert(number, Arc::clone(&known));
        Ok(Some(known))
    }
}

/// Jiffies since a time of which the low half is known: 0 for one that is a little later than `now`, as of a flow
/// that began after the clock was read.
fn age(now: u64, created: u32) -> u64 {
    const LITTLE: u32 = 1 << 20;
    let low = u32::try_from(now & u64::from(u32::MAX)).unwrap_or(0);
    let age = low.wrapping_sub(created);
    if age > u32::MAX - LITTLE { 0 } else { age.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_known_from_the_low_half_of_the_clock() {
        let now = (7 << 32) + 10;
        for (created, expected) in [(10, 0), (3, 7), (12, 0), (u32::MAX, 11), (20, 0)] {
            assert_eq!(age(now, created), expected, "{created}");
        }
        assert_eq!(age(now, 1 << 31), (1 << 31) + 10);
    }
}
