//! Whether a stored interface is enforced, on which device, and if not, why.

use std::borrow::Cow;

use anyhow::Result;
use firewall_ebpf::abi::policy::Active;

use super::Control;
use crate::dataplane::Pins;
use crate::dataplane::hooks::attached;
use crate::dataplane::hooks::hook::{self, Hook};
use crate::dataplane::hooks::located::{Location, locate};
use crate::dataplane::hooks::programs::{self, Unpinned};
use crate::dataplane::host::device::{self, Device};
use crate::dataplane::instance;
use crate::dataplane::tables::maps::Maps;
use crate::explain::Explain;
use crate::model::{self, Interface, Model, label};

/// The state of a stored interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its programs run and its policy is active.
    Enforcing,
    /// As [`Self::Enforcing`], but packets to drop are counted and passed.
    Auditing,
    /// It is stored and its device exists, but packets pass without a decision, or not with this one.
    NotEnforcing,
    /// Its device does not exist, so that there are no packets to decide about.
    DeviceMissing,
}

impl State {
    /// The word used in the CLI and in documents.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enforcing => "enforcing",
            Self::Auditing => "auditing",
            Self::NotEnforcing => "not-enforcing",
            Self::DeviceMissing => "device-missing",
        }
    }

    /// Whether packets meet the policy.
    #[must_use]
    pub const fn is_enforced(self) -> bool {
        matches!(self, Self::Enforcing | Self::Auditing)
    }
}

/// What has become of the device that has an interface's programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// It is where it is stored, under its name or an alternative one; also if no device has the programs.
    AsStored,
    /// It has another name now.
    Renamed,
    /// It is in another network namespace now.
    Moved,
    /// It is in a network namespace that has no name, so nothing but its links can be read.
    Unnamed,
}

/// An interface's enforcement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enforcement {
    /// The state.
    pub state: State,
    /// The device that has its programs, and where none has, the device of its name.
    pub device: Option<Device>,
    /// The hook of its receive program.
    pub hook: Option<Hook>,
    /// What has become of the device since it was stored.
    pub whereabouts: Whereabouts,
    /// Another device, which has the stored name now and none of this interface's programs.
    pub namesake: Option<Device>,
    /// Why the receive program is on its hook, and which other program runs before it; empty if it is on none.
    pub hook_reason: String,
    /// What is missing; empty unless the state is [`State::NotEnforcing`].
    pub missing: Vec<&'static str>,
    /// Programs of this project on the device whose pins are not in the pin directory.
    pub unpinned: Vec<Unpinned>,
    /// The word that says which policy is active.
    pub active: Active,
}

impl Enforcement {
    /// Reads an interface's enforcement. `maps` are the kernel's, if anything is attached.
    ///
    /// # Errors
    /// A link, a map, a filter or a device cannot be read.
    pub fn read(pins: &Pins, maps: Option<&Maps>, interface: &Interface) -> Result<Self> {
        let slot = interface.slot;
        let named = device::lookup(interface.netns.as_deref(), &interface.device)?;
        let mut found = Self {
            state: State::DeviceMissing,
            device: None,
            hook: None,
            whereabouts: Whereabouts::AsStored,
            namesake: None,
            hook_reason: String::new(),
            missing: Vec::new(),
            unpinned: Vec::new(),
            active: maps.map_or(Ok(Active::default()), |maps| maps.active(slot))?,
        };
        let (device, whereabouts) = match locate(pins, interface)? {
            Location::Unnamed(hook, transmits) => {
                (found.hook, found.namesake) = (hook, named);
                found.whereabouts = Whereabouts::Unnamed;
                found.decide(maps.is_some(), transmits);
                return Ok(found);
            }
            Location::On(device) if device.netns != interface.netns => (device, Whereabouts::Moved),
            Location::On(device) if !device.is_named(&interface.device) => {
                (device, Whereabouts::Renamed)
            }
            Location::On(device) => (device, Whereabouts::AsStored),
            Location::Nowhere => match &named {
                Some(device) => (device.clone(), Whereabouts::AsStored),
                None => return Ok(found),
            },
        };
        found.whereabouts = whereabouts;
        found.hook = attached::hook(pins, slot, &device)?;
        let transmits = attached::transmits(pins, slot, &device)?;
        found.unpinned = programs::unpinned(pins, &device, found.hook.is_some() || transmits)?;
        found.decide(maps.is_some(), transmits);
        if let Some(hook) = found.hook {
            found.hook_reason = hook::why(interface.hook, hook, &device);
            if let Some(other) = attached::preceding_filter(pins, slot, &device)? {
                found.hook_reason += &format!("; but {other} runs before it");
            }
        }
        let is_same = |other: &Device| (other.index, &other.netns) == (device.index, &device.netns);
        found.namesake = named.filter(|named| !is_same(named));
        found.device = Some(device);
        Ok(found)
    }

    /// Sets state and what is missing, of a device that exists.
    fn decide(&mut self, has_maps: bool, transmits: bool) {
        let (is_present, receives) = (self.active.is_present(), self.hook.is_some());
        let needed = [
            (has_maps, "nothing is pinned in the pin directory"),
            (!has_maps || is_present, "no policy is active"),
            (!has_maps || receives, "the program for received packets is not on it"),
            (!has_maps || transmits, "the program for sent packets is not on it"),
        ];
        let missing = needed.into_iter().filter_map(|(is_there, text)| (!is_there).then_some(text));
        self.missing = missing.collect();
        self.state = if !self.missing.is_empty() {
            State::NotEnforcing
        } else if self.active.is_audit() {
            State::Auditing
        } else {
            State::Enforcing
        };
    }

    /// What is lost, in one line; `None` if nothing is.
    #[must_use]
    pub fn loss(&self) -> Option<String> {
        (self.state == State::NotEnforcing).then(|| self.missing.join(", and "))
    }

    /// What an operator has to know about the device, a sentence each; nothing if it is as stored.
    #[must_use]
    pub fn remarks(&self, interface: &Interface) -> Vec<String> {
        let present = self.device.as_ref().map(Device::label).unwrap_or_default();
        let change = match self.whereabouts {
            Whereabouts::AsStored => None,
            Whereabouts::Renamed => Some(format!(
                "renamed: its device is {present} now, and stays attached; `secgroup attach {}` stores the new \
                 name",
                arguments(self.device.as_ref())
            )),
            Whereabouts::Moved => Some(format!(
                "in another network namespace: its device is {present}, and stays attached"
            )),
            Whereabouts::Unnamed => Some(
                "in another network namespace: its device stays attached in one without a name, which `ip netns \
                 attach NAME PID` gives it"
                    .to_owned(),
            ),
        };
        let namesake = self.namesake.as_ref().map(|device| {
            format!(
                "another device has the name {} now (index {}), and these programs are not on it",
                interface.label(),
                device.index
            )
        });
        change.into_iter().chain(namesake).collect()
    }
}

impl Control {
    /// What the kernel does for a stored interface; see [`Enforcement::read`].
    ///
    /// # Errors
    /// As there.
    pub fn enforcement(&self, maps: Option<&Maps>, interface: &Interface) -> Result<Enforcement> {
        Enforcement::read(self.pins(), maps, interface)
    }

    /// Whether this build's maps are pinned in the pin directory.
    #[must_use]
    pub fn has_pins(&self) -> bool {
        instance::exists(self.pins())
    }
}

/// A device as the arguments of a command.
fn arguments(device: Option<&Device>) -> String {
    let Some(device) = device else { return "IFACE".to_owned() };
    let netns = device.netns.as_ref().map_or_else(String::new, |netns| format!(" --netns {netns}"));
    format!("{}{netns} --group GROUP", device.name)
}

/// The device of an interface: the one that has its programs, and where none has, the one of its name.
/// `None`: it does not exist, or it is in a network namespace without a name.
///
/// # Errors
/// A link cannot be read, or rtnetlink fails.
pub fn present_device(pins: &Pins, interface: &Interface) -> Result<Option<Device>> {
    Ok(match locate(pins, interface)? {
        Location::On(device) => Some(device),
        Location::Unnamed(..) => None,
        Location::Nowhere => device::lookup(interface.netns.as_deref(), &interface.device)?,
    })
}

/// Whether a device has programs of a slot.
pub(super) fn has_programs(pins: &Pins, slot: u16, device: &Device) -> Result<bool> {
    Ok(attached::hook(pins, slot, device)?.is_some() || attached::transmits(pins, slot, device)?)
}

/// The stored interface whose programs a device has.
///
/// # Errors
/// A link cannot be read, or the device's network namespace cannot be entered.
pub fn holder<'a>(pins: &Pins, model: &'a Model, device: &Device) -> Result<Option<&'a Interface>> {
    for interface in model.interfaces.values() {
        if has_programs(pins, interface.slot, device)? {
            return Ok(Some(interface));
        }
    }
    Ok(None)
}

/// The stored interface that a word of the command line names: the one with that id; the one whose programs
/// the device of that name, or alternative name, has now; or the one that is stored under it.
///
/// # Errors
/// The last two are different ones; or a link or the device cannot be read.
pub fn named<'a>(
    pins: &Pins,
    model: &'a Model,
    word: &str,
    netns: Option<&str>,
) -> Result<Option<&'a Interface>> {
    let mut all = model.interfaces.values();
    if let Some(interface) = all.find(|interface| interface.id.as_str() == word) {
        return Ok(Some(interface));
    }
    let device = device::lookup(netns, word)?;
    let holder = device.as_ref().map_or(Ok(None), |device| holder(pins, model, device))?;
    let stored = model.interface(word, netns).or_else(|| stored_as(model, device.as_ref()?));
    match (holder, stored) {
        (Some(holder), Some(stored)) if holder.slot != stored.slot => {
            Err(AmbiguousName::new(word, stored, holder).into())
        }
        (holder, stored) => Ok(holder.or(stored)),
    }
}

/// [`named`], where there has to be one.
///
/// # Errors
/// There is none; or as there.
pub fn required<'a>(
    pins: &Pins,
    model: &'a Model,
    word: &str,
    netns: Option<&str>,
) -> Result<&'a Interface> {
    let missing = || model::Error::InterfaceNotFound(label(word, netns)).into();
    named(pins, model, word, netns)?.ok_or_else(missing)
}

/// The interface that is stored under one of a device's names.
pub(super) fn stored_as<'a>(model: &'a Model, device: &Device) -> Option<&'a Interface> {
    let mut all = model.interfaces.values();
    all.find(|one| one.netns == device.netns && device.is_named(&one.device))
}

/// Another interface that a device belongs to, although one is stored under a name of it: the one whose
/// programs it has, or the one that is stored under its name and not an alternative one.
pub(super) fn of_same_device<'a>(
    pins: &Pins,
    all: &'a [Interface],
    interface: &Interface,
    device: &Device,
) -> Result<Option<&'a Interface>> {
    let rank = |one: &Interface| (one.device != device.name, one.slot);
    for other in all.iter().filter(|one| one.slot != interface.slot) {
        let is_first = other.netns == device.netns
            && device.is_named(&other.device)
            && rank(other) < rank(interface);
        if is_first || has_programs(pins, other.slot, device)? {
            return Ok(Some(other));
        }
    }
    Ok(None)
}

/// Nothing enforces what is stored for an interface, so a change would not be enforced either.
#[derive(Debug, thiserror::Error)]
#[error("{interface} is stored, and not enforced")]
pub struct NotEnforced {
    pub(super) interface: String,
}

impl Explain for NotEnforced {
    fn hint(&self) -> Option<Cow<'static, str>> {
        Some("`secgroup reconcile` attaches what is stored; then retry".into())
    }
}

/// Two interfaces are stored under names of one device.
#[derive(Debug, thiserror::Error)]
#[error("{} is a name of the device {device} now, which is attached as {holder}", interface.label())]
pub struct SameDevice {
    pub(super) interface: Interface,
    pub(super) device: String,
    pub(super) holder: String,
}

impl Explain for SameDevice {
    fn hint(&self) -> Option<Cow<'static, str>> {
        let id = &self.interface.id;
        Some(format!("`secgroup detach {id}` removes the one whose device is gone").into())
    }
}

/// Two interfaces answer to one name: one is stored under it, and the device of another one has it now.
#[derive(Debug, thiserror::Error)]
#[error("{name} is the stored name of {stored}, and the device of {holder} has it now")]
pub struct AmbiguousName {
    name: String,
    stored: String,
    holder: String,
}

impl AmbiguousName {
    pub(super) fn new(name: &str, stored: &Interface, holder: &Interface) -> Self {
        let [stored, holder] = [stored, holder].map(|interface| interface.id.to_string());
        Self { name: name.to_owned(), stored, holder }
    }
}

impl Explain for AmbiguousName {
    fn hint(&self) -> Option<Cow<'static, str>> {
        Some("name the interface by its id, which `secgroup status --output json` shows".into())
    }
}
