//! Whether what is stored is enforced: the state of each interface in the kernel.

use anyhow::Result;
use firewall_ebpf::abi::policy::Active;

use super::Control;
use crate::dataplane::hooks::attached;
use crate::dataplane::hooks::hook::{self, Hook};
use crate::dataplane::hooks::programs::{self, Unpinned};
use crate::dataplane::host::device::{self, Device};
use crate::dataplane::instance;
use crate::dataplane::tables::maps::Maps;
use crate::model::Interface;

/// The state of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its programs run and its policy is active.
    Enforcing,
    /// As enforcing, but packets to drop are counted and passed.
    Auditing,
    /// It is stored and its device exists, but packets pass without a decision, or not with this one.
    NotEnforcing,
    /// Its device does not exist, so that there are no packets to decide about.
    DeviceMissing,
}

impl State {
    /// The word in `secgroup status`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enforcing => "enforcing",
            Self::Auditing => "auditing",
            Self::NotEnforcing => "not-enforcing",
            Self::DeviceMissing => "device-missing",
        }
    }

    /// Whether the programs run with an active policy.
    #[must_use]
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Enforcing | Self::Auditing)
    }
}

/// What the kernel does for a stored interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enforcement {
    /// The state.
    pub state: State,
    /// The hook of the program for received packets, if that is attached.
    pub hook: Option<Hook>,
    /// Why the program is on this hook, and which other program runs before it.
    pub hook_reason: String,
    /// What is missing; empty unless the state is [`State::NotEnforcing`].
    pub missing: Vec<&'static str>,
    /// Programs of this project on the device whose pins are not in the pin directory.
    pub unpinned: Vec<Unpinned>,
    /// The word that says which policy is active.
    pub active: Active,
    /// The device.
    pub device: Option<Device>,
}

impl Enforcement {
    /// What is lost, in one line; `None` if nothing is.
    #[must_use]
    pub fn loss(&self) -> Option<String> {
        (self.state == State::NotEnforcing).then(|| self.missing.join(", and "))
    }
}

impl Control {
    /// What the kernel does for a stored interface. `maps`: see [`Control::maps`].
    ///
    /// # Errors
    /// The device, its links or its filters cannot be read.
    pub fn enforcement(&self, maps: Option<&Maps>, interface: &Interface) -> Result<Enforcement> {
        let mut found = Enforcement {
            state: State::DeviceMissing,
            hook: None,
            hook_reason: String::new(),
            missing: Vec::new(),
            unpinned: Vec::new(),
            active: maps.map_or(Ok(Active::default()), |maps| maps.active(interface.slot))?,
            device: None,
        };
        let netns = interface.netns.as_deref();
        let Some(device) = device::lookup(netns, &interface.device)? else { return Ok(found) };
        let pins = self.pins();
        found.hook = attached::hook(pins, interface, &device)?;
        let transmits = attached::transmits(pins, interface, &device)?;
        let is_attached = found.hook.is_some() || transmits;
        found.unpinned = programs::unpinned(pins, interface.slot, netns, &device, is_attached)?;
        if let Some(hook) = found.hook {
            found.hook_reason = hook::why(interface.hook, hook, &device);
            if let Some(other) = attached::preceding_filter(pins, interface, &device)? {
                found.hook_reason += &format!("; but {other} runs before it");
            }
        }
        let absent = [
            (maps.is_some(), "nothing is pinned in the pin directory"),
            (maps.is_none() || found.active.is_present(), "no policy is active"),
            (
                maps.is_none() || found.hook.is_some(),
                "the program for received packets is not on it",
            ),
            (maps.is_none() || transmits, "the program for sent packets is not on it"),
        ];
        let absent = absent.into_iter().filter_map(|(is_there, text)| (!is_there).then_some(text));
        found.missing = absent.collect();
        found.state = if !found.missing.is_empty() {
            State::NotEnforcing
        } else if found.active.is_audit() {
            State::Auditing
        } else {
            State::Enforcing
        };
        found.device = Some(device);
        Ok(found)
    }

    /// Whether this build's maps are pinned in the pin directory.
    #[must_use]
    pub fn has_pins(&self) -> bool {
        instance::exists(self.pins())
    }
}
