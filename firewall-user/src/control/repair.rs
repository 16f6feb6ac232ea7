//! What `serve` does for the stored interfaces: attaches what is missing, follows addresses, and reports lost
//! enforcement once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::Result;
use ipnet::IpNet;

use super::ends::until_first;
use super::enforcement::{Enforcement, State};
use super::{Control, Outcome, Reconciled, follow, inside};
use crate::config::{Config, Paths};
use crate::dataplane::Pins;
use crate::dataplane::hooks::attach::is_current;
use crate::dataplane::hooks::programs;
use crate::dataplane::tables::maps::Maps;
use crate::dataplane::tables::unstored::Unstored;
use crate::model::{End, Interface};

/// How much is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// Whether the store has changed, and whether an unconfirmed change is overdue.
    Store,
    /// As well the devices with their addresses and programs.
    Devices,
    /// As well what could not be attached before; and the policies, if the store has changed since.
    Everything,
}

/// The time after which another attempt is made to remove what has ended: it stays while a change is not
/// confirmed, and where the store cannot be written.
const ENDS_INTERVAL: Duration = Duration::from_secs(5);

/// What is known from the checks before.
#[derive(Debug, Default)]
pub struct Repairs {
    /// Where the interfaces are from: id and generation of the store, whether a change in it is overdue, and what
    /// it does not have yet.
    source: Option<(String, u64, bool, Unstored)>,
    interfaces: BTreeMap<u16, Interface>,
    addresses: BTreeMap<u16, Vec<IpNet>>,
    seen: BTreeMap<u16, Seen>,
    /// See [`Control::attach_missing`].
    refused: BTreeMap<u16, u32>,
    /// The next ends of what ends by itself, as the kernel was told them.
    ends: Vec<End>,
    /// When something that had ended could not be removed.
    ends_kept: Option<Instant>,
    /// Whether policies may differ from the store: a command may have been killed.
    is_outdated: bool,
    /// Whether something was enforced, so that its absence is a loss.
    was_attached: bool,
}

/// The last state of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    state: State,
    /// The index of its device.
    device: Option<u32>,
    /// The index of another device that has its name.
    namesake: Option<u32>,
    /// The loss and the failed repair that were reported.
    loss: Option<String>,
    failure: Option<String>,
}

/// What is read about the interfaces in one check, by slot.
type Observed = BTreeMap<u16, Enforcement>;

impl Repairs {
    /// The named network namespaces of the stored interfaces.
    pub fn namespaces(&self) -> impl Iterator<Item = String> {
        let with_place = self.interfaces.values().filter(|one| !follow::has_no_place(one));
        let names = with_place.filter_map(|one| one.netns.clone());
        names.collect::<BTreeSet<_>>().into_iter()
    }

    /// Checks, and repairs what it may: attaches stored interfaces that have lost their programs, and writes
    /// policies whose addresses have changed. Without a change it takes no lock and compiles nothing.
    ///
    /// # Errors
    /// The store, the pins or the kernel's state cannot be read, or a policy cannot be written.
    pub fn check(
        &mut self,
        paths: &Paths,
        config: Config,
        depth: Depth,
        report: &mut dyn FnMut(&str),
    ) -> Result<()> {
        let mut control = Control::open_existing(paths, config)?;
        // A store that cannot be written keeps no device from its programs.
        let rolled_back = if control.has_overdue_change()? {
            Control::open_existing(paths, config)?.in_emergency().roll_back_overdue()
        } else {
            Ok(())
        };
        self.check_interfaces(&mut control, depth, report)?;
        self.check_ends(&mut control, depth)?;
        rolled_back
    }

    /// The time until something stored ends by itself, or is to be looked at; `None` if nothing ends.
    #[must_use]
    pub fn until_next_end(&self) -> Option<Duration> {
        let left = until_first(&self.ends)?;
        let kept = self.ends_kept.map_or(Duration::MAX, |kept| kept.elapsed());
        Some(left.max(ENDS_INTERVAL.saturating_sub(kept)))
    }

    /// Removes what has ended, and follows the wall clock where it was set.
    fn check_ends(&mut self, control: &mut Control, depth: Depth) -> Result<()> {
        let is_due = self.until_next_end().is_some_and(|left| left.is_zero());
        if is_due || depth == Depth::Everything && !self.ends.is_empty() {
            self.ends_kept = Some(Instant::now());
            control.remove_ended()?;
            self.ends = control.model()?.next_ends();
            if until_first(&self.ends).is_none_or(|left| !left.is_zero()) {
                self.ends_kept = None;
            }
        }
        Ok(())
    }

    fn check_interfaces(
        &mut self,
        control: &mut Control,
        depth: Depth,
        report: &mut dyn FnMut(&str),
    ) -> Result<()> {
        let is_changed = self.read_store(control)?;
        if depth == Depth::Store && !is_changed {
            return Ok(());
        }
        let maps = control.maps()?;
        let mut observed = self.observe(control, maps.as_ref())?;
        if depth == Depth::Everything {
            self.refused.clear();
            // A device that could not be followed may be followed now.
            self.seen.values_mut().for_each(|seen| seen.namesake = None);
        }
        let outdated = match depth {
            Depth::Everything => self.with_others(maps.as_ref(), &observed)?,
            _ => BTreeSet::new(),
        };
        if !outdated.is_empty()
            || observed.iter().any(|(slot, found)| self.needs_repair(*slot, found))
        {
            // A command may be attaching it right now.
            drop(control.exclusive_in_kernel()?);
            if self.read_store(control)? {
                self.is_outdated = true;
            }
            observed = self.observe(control, control.maps()?.as_ref())?;
            let new = observed.iter().filter(|(slot, found)| self.is_new(**slot, found));
            let new: BTreeSet<u16> = new.map(|(slot, _)| *slot).collect();
            self.report_losses(control, &observed, &new, report);
            self.repair(control, &observed, (&new, &outdated), report)?;
            // Interfaces of renamed devices, and of devices that have their names now, may be stored.
            self.read_store(control)?;
            observed = self.observe(control, control.maps()?.as_ref())?;
        }
        self.remember(&observed, report);
        let maps = control.maps()?;
        if maps.is_none() {
            return Ok(());
        }
        let addresses = self.read_addresses(control.pins())?;
        if addresses != self.addresses || self.is_outdated && depth == Depth::Everything {
            control.refresh()?;
            self.addresses = addresses;
            self.is_outdated = false;
        }
        Ok(())
    }

    /// Reads the interfaces if the store has changed; returns whether it has.
    fn read_store(&mut self, control: &Control) -> Result<bool> {
        let store = control.store();
        let (is_overdue, unstored) = (control.has_overdue_change()?, control.unstored()?);
        let source = (store.id()?, store.generation()?, is_overdue, unstored);
        if self.source.as_ref() == Some(&source) {
            return Ok(false);
        }
        let model = control.model()?;
        self.ends = model.next_ends();
        self.interfaces = model.interfaces;
        let interfaces = &self.interfaces;
        self.seen.retain(|slot, _| interfaces.contains_key(slot));
        self.refused.retain(|slot, _| interfaces.contains_key(slot));
        self.source = Some(source);
        self.is_outdated = true;
        Ok(true)
    }

    fn observe(&self, control: &Control, maps: Option<&Maps>) -> Result<Observed> {
        let found = |(slot, one): (&u16, &Interface)| Ok((*slot, control.enforcement(maps, one)?));
        self.interfaces.iter().map(found).collect()
    }

    /// The addresses that count for rules with a group as peer.
    fn read_addresses(&self, pins: &Pins) -> Result<BTreeMap<u16, Vec<IpNet>>> {
        self.interfaces.iter().map(|(slot, one)| Ok((*slot, inside(pins, one)?))).collect()
    }

    /// Whether an interface is not enforced, and not known as one that cannot be attached; or what is stored has to
    /// follow its device.
    fn needs_repair(&self, slot: u16, found: &Enforcement) -> bool {
        let device = found.device.as_ref().map(|device| device.index);
        let is_lost =
            found.state == State::NotEnforcing && self.refused.get(&slot).copied() != device;
        let namesake = found.namesake.as_ref().map(|device| device.index);
        let is_known = self.seen.get(&slot).is_some_and(|seen| seen.namesake == namesake);
        let has_no_place = self.interfaces.get(&slot).is_some_and(follow::has_no_place);
        is_lost
            || namesake.is_some() && !is_known
            || has_no_place && found.state == State::DeviceMissing
    }

    /// The enforced interfaces with programs of other settings than the stored ones.
    fn with_others(&self, maps: Option<&Maps>, observed: &Observed) -> Result<BTreeSet<u16>> {
        let mut others = BTreeSet::new();
        let Some(maps) = maps else { return Ok(others) };
        for (slot, found) in observed.iter().filter(|(_, found)| found.state.is_enforced()) {
            if let (Some(interface), Some(device)) = (self.interfaces.get(slot), &found.device)
                && !is_current(maps, interface, device)?
            {
                others.insert(*slot);
            }
        }
        Ok(others)
    }

    /// Whether the device is another one than before, or the interface was not known: it appeared.
    fn is_new(&self, slot: u16, found: &Enforcement) -> bool {
        let index = found.device.as_ref().map(|device| device.index);
        self.seen.get(&slot).is_none_or(|seen| seen.device != index)
    }

    fn report_losses(
        &mut self,
        control: &Control,
        observed: &Observed,
        new: &BTreeSet<u16>,
        report: &mut dyn FnMut(&str),
    ) {
        for (slot, found) in observed {
            let Some(loss) = found.loss() else { continue };
            let Some(interface) = self.interfaces.get(slot) else { continue };
            let mut text = format!("{}: not enforced: {loss}", interface.label());
            if !found.unpinned.is_empty() {
                text += &format!(
                    "; it has programs of secgroup without pins: {}; {}",
                    programs::list(&found.unpinned),
                    programs::hint(control.pins())
                );
            }
            if new.contains(slot) {
                self.seen.remove(slot);
            }
            let seen = self.seen.entry(*slot).or_insert_with(|| Seen::of(found));
            if seen.loss.as_ref() != Some(&text) {
                // Of a device that has appeared, the attempt to attach it is reported.
                if !(new.contains(slot) && found.active.is_present()) {
                    report(&text);
                }
                seen.loss = Some(text);
            }
        }
    }

    fn repair(
        &mut self,
        control: &mut Control,
        observed: &Observed,
        (new, outdated): (&BTreeSet<u16>, &BTreeSet<u16>),
        report: &mut dyn FnMut(&str),
    ) -> Result<()> {
        let is_instance = observed.values().all(|found| found.active.is_present());
        let done = if is_instance {
            control.attach_missing(&mut self.refused, !outdated.is_empty())?
        } else if self.may_restore(control, observed)? {
            control.reconcile(false)?.interfaces
        } else {
            return Ok(());
        };
        for Reconciled { interface, outcome, .. } in done {
            let slot = interface.slot;
            let found = observed.get(&slot);
            let was_lost = found.is_some_and(|found| found.loss().is_some());
            // It came after it was looked for.
            let was_missing = found.is_some_and(|found| found.device.is_none());
            let is_new = new.contains(&slot) || was_missing;
            let (name, what) = (interface.label(), if is_new { "appeared" } else { "repaired" });
            match outcome {
                Outcome::Attached(attached) if was_lost || was_missing => {
                    report(&format!("{name} {what}: attached, {}", attached.hook.name()));
                    // The end of the loss is reported already.
                    self.seen.remove(&slot);
                }
                Outcome::Attached(_) if is_instance && outdated.contains(&slot) => {
                    report(&format!(
                        "{name} repaired: its programs were not those of its settings"
                    ));
                }
                Outcome::Attached(_) | Outcome::DeviceMissing | Outcome::DeviceElsewhere => {}
                Outcome::Failed(error) => {
                    let what = if is_new { "appeared" } else { "not repaired" };
                    let text = format!("{error:#}");
                    let Some(found) = observed.get(&slot) else { continue };
                    let seen = self.seen.entry(slot).or_insert_with(|| Seen::of(found));
                    if seen.failure.as_ref() != Some(&text) {
                        report(&format!("{name} {what}: {text}"));
                        seen.failure = Some(text);
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether everything may be attached anew after the pins were lost: only what this process has seen attached,
    /// beside no programs whose pins are out of sight, and where nothing would be detached as not stored.
    fn may_restore(&self, control: &Control, observed: &Observed) -> Result<bool> {
        let is_hidden = observed.values().any(|found| !found.unpinned.is_empty());
        let model = control.model()?;
        Ok(self.was_attached && !is_hidden && control.strays(&model)?.is_empty())
    }

    fn remember(&mut self, observed: &Observed, report: &mut dyn FnMut(&str)) {
        for (slot, found) in observed {
            let before = self.seen.get(slot);
            if found.state.is_enforced() {
                self.was_attached = true;
                if before.is_some_and(|seen| seen.loss.is_some())
                    && let Some(interface) = self.interfaces.get(slot)
                {
                    report(&format!("{}: enforced again", interface.label()));
                }
            }
            let mut seen = Seen::of(found);
            if let Some(before) = before.filter(|_| found.state == State::NotEnforcing) {
                seen.loss.clone_from(&before.loss);
                seen.failure.clone_from(&before.failure);
            }
            self.seen.insert(*slot, seen);
        }
    }
}

impl Seen {
    fn of(found: &Enforcement) -> Self {
        let [device, namesake] =
            [&found.device, &found.namesake].map(|one| one.as_ref().map(|device| device.index));
        Self { state: found.state, device, namesake, loss: None, failure: None }
    }
}
