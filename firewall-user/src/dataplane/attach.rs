//! Programs onto devices: choosing the hook, attaching, replacing without a gap, detaching.

use std::path::Path;

use aya::Ebpf;
use aya::programs::links::{FdLink, LinkOrder, PinnedLink};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions, TcAttachType};
use aya::programs::xdp::{XdpLink, XdpMode};
use aya::programs::{ProgramInfo, SchedClassifier, Xdp};

use crate::dataplane::device::Device;
use crate::dataplane::error::{Context, Result};
use crate::dataplane::maps::Sizes;
use crate::dataplane::object::{self, Fixed};
use crate::dataplane::pins::{self, Pins, Place};
use crate::dataplane::{clsact, device, netns, preflight, refusal, sys};
use crate::model::{HookChoice, Interface};

/// Where the receive program ended up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Native XDP: in the driver, before the kernel allocates anything.
    Xdp,
    /// Generic XDP: in the kernel, after it has.
    XdpGeneric,
    /// TCX.
    Tcx,
    /// A filter of clsact.
    Clsact,
}

impl Hook {
    /// The word used in the CLI.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::XdpGeneric => "xdp-generic",
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }

    const fn place(self) -> Place {
        match self {
            Self::Xdp | Self::XdpGeneric => Place::Xdp,
            Self::Tcx => Place::Receive,
            Self::Clsact => Place::ClsactReceive,
        }
    }

    const fn mode(self) -> XdpMode {
        match self {
            Self::XdpGeneric => XdpMode::Skb,
            Self::Xdp | Self::Tcx | Self::Clsact => XdpMode::Driver,
        }
    }

    /// How the transmit program hangs beside this receive program.
    const fn transmit(self) -> Place {
        match self {
            Self::Clsact => Place::ClsactTransmit,
            Self::Xdp | Self::XdpGeneric | Self::Tcx => Place::Transmit,
        }
    }
}

/// Where TC programs are to hang on an interface: TCX where the kernel has it, unless asked for
/// otherwise.
fn tc_hook(choice: HookChoice) -> Hook {
    match choice {
        HookChoice::Tcx => Hook::Tcx,
        HookChoice::Clsact => Hook::Clsact,
        HookChoice::Auto | HookChoice::Xdp | HookChoice::XdpGeneric if preflight::has_tcx() => {
            Hook::Tcx
        }
        HookChoice::Auto | HookChoice::Xdp | HookChoice::XdpGeneric => Hook::Clsact,
    }
}

/// What an attachment came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The hook of the receive program.
    pub hook: Hook,
    /// The device, as it was found.
    pub device: Device,
}

/// Attaches an interface's programs, or replaces them where they are attached already: packets
/// meet the old program or the new one, never none.
///
/// The policy of the slot has to be in force before.
///
/// # Errors
/// The device or its hook is not to be had; what was attached stays attached, or, where the mode of XDP
/// was to change, a TC program guards in its place.
pub fn attach(pins: &Pins, sizes: &Sizes, interface: &Interface, traced: bool) -> Result<Attached> {
    let device = device::find(interface.netns.as_deref(), &interface.device)?;
    let fixed = Fixed {
        slot: interface.slot,
        orientation: interface.orientation,
        has_ethernet: device.has_ethernet,
        non_ip: interface.non_ip,
        tcp_checks: interface.tcp,
        pick_up: interface.is_tcp_loose(),
        revalidate: interface.revalidate,
        timeouts: interface.timeouts.clone(),
    };
    let object = object::open(pins, sizes, &fixed)?;
    let suffix = if traced { "_trace" } else { "" };
    let names = Names {
        xdp: format!("sg_xdp_rx{suffix}"),
        receive: format!("sg_tcx_rx{suffix}"),
        transmit: format!("sg_tcx_tx{suffix}"),
    };
    netns::within(interface.netns.as_deref(), || {
        let mut attempt = Attempt { pins, object, names, interface, device: &device };
        let was = attempt.hook()?;
        let tc = tc_hook(interface.hook);
        let hook = attempt.receive(tc)?;
        let transmit = tc.transmit();
        let name = attempt.names.transmit.clone();
        if let Err(error) = attempt.tc(&name, transmit) {
            if was.is_some_and(|was| was.place() != hook.place()) {
                // The hook from before still has its program: the new one would count all twice.
                remove(pins, interface.slot, hook.place())?;
            }
            return Err(error);
        }
        // Only now, with the new hooks in place, do the other ones go.
        let others = Place::ALL.into_iter().filter(|one| ![hook.place(), transmit].contains(one));
        others.into_iter().try_for_each(|place| remove(pins, interface.slot, place))?;
        Ok(Attached { hook, device: device.clone() })
    })
}

struct Names {
    xdp: String,
    receive: String,
    transmit: String,
}

/// One interface's programs on their way to its device.
struct Attempt<'a> {
    pins: &'a Pins,
    object: Ebpf,
    names: Names,
    interface: &'a Interface,
    device: &'a Device,
}

impl Attempt<'_> {
    fn hook(&self) -> Result<Option<Hook>> {
        hook_here(self.pins, self.interface.slot, self.device)
    }

    /// The receive program, on the hook that was asked for or that suits the device.
    fn receive(&mut self, tc: Hook) -> Result<Hook> {
        let asked = match self.interface.hook {
            HookChoice::Xdp => Some(Hook::Xdp),
            HookChoice::XdpGeneric => Some(Hook::XdpGeneric),
            HookChoice::Auto | HookChoice::Tcx | HookChoice::Clsact => None,
        };
        if let Some(hook) = asked {
            return self.xdp(hook, tc).map(|()| hook);
        }
        let suits = self.interface.hook == HookChoice::Auto && self.device.is_hardware();
        // A driver without native XDP is no error here: `status` says what it came to.
        if suits && self.xdp(Hook::Xdp, tc).is_ok() {
            return Ok(Hook::Xdp);
        }
        let name = self.names.receive.clone();
        self.tc(&name, tc.place()).map(|()| tc)
    }

    fn xdp(&mut self, hook: Hook, tc: Hook) -> Result<()> {
        let Self { pins, interface, device, .. } = *self;
        if !device.has_ethernet {
            return Err(refusal::no_ethernet(device, tc));
        }
        let name = self.names.xdp.clone();
        let program: &mut Xdp = object::named(&mut self.object, &name)?;
        program.load().map_err(|error| object::refused(&format!("load {name}"), &error))?;
        let path = pins.link(interface.slot, Place::Xdp);
        let is_generic = hook == Hook::XdpGeneric;
        if live_link(&path, device)?.is_some() && device.xdp_is_generic != Some(is_generic) {
            // The mode belongs to the link, and a device takes one mode at a time. A TC program
            // guards in between, and stays if the new mode is refused.
            let receive = self.names.receive.clone();
            self.tc(&receive, tc.place())?;
            remove(pins, interface.slot, Place::Xdp)?;
        }
        let program: &mut Xdp = object::named(&mut self.object, &name)?;
        if let Some(link) = live_link(&path, device)? {
            let link = XdpLink::try_from(link).context(format!("open link {}", path.display()))?;
            program
                .attach_to_link(link)
                .context(format!("replace the XDP program of {}", device.name))?;
        } else {
            pins::remove(&path)?;
            let id = program
                .attach_to_if_index(device.index, hook.mode())
                .map_err(|error| refusal::xdp(device, hook, tc, &error))?;
            let link = program.take_link(id).context(format!("attach XDP to {}", device.name))?;
            // aya fell back to netlink, whose attachment nothing could keep or replace atomically.
            let link = FdLink::try_from(link).map_err(|_| refusal::no_link(device, tc))?;
            link.pin(&path).context(format!("pin link {}", path.display()))?;
        }
        let path = pins.program(interface.slot, Place::Xdp);
        pins::remove(&path)?;
        program.pin(&path).context(format!("pin program {}", path.display()))
    }

    /// A TC program, by TCX or clsact.
    fn tc(&mut self, name: &str, place: Place) -> Result<()> {
        let Self { pins, interface, device, .. } = *self;
        let program: &mut SchedClassifier = object::named(&mut self.object, name)?;
        program.load().map_err(|error| object::refused(&format!("load {name}"), &error))?;
        if Place::CLSACT.contains(&place) {
            return clsact::attach(program, pins, interface.slot, device, place);
        }
        let path = pins.link(interface.slot, place);
        if let Some(link) = live_link(&path, device)? {
            let link = SchedClassifierLink::try_from(link)
                .context(format!("open link {}", path.display()))?;
            program
                .attach_to_link(link)
                .context(format!("replace the TCX program of {}", device.name))?;
        } else {
            pins::remove(&path)?;
            let direction = match place {
                Place::Transmit => TcAttachType::Egress,
                _ => TcAttachType::Ingress,
            };
            // First, so that no other program can end the chain with "pass" before us.
            let order = TcAttachOptions::TcxOrder(LinkOrder::first());
            let id = program
                .attach_with_options(&device.name, direction, order)
                .map_err(|error| refusal::tcx(device, &error))?;
            let link = program.take_link(id).context(format!("attach TCX to {}", device.name))?;
            let link = FdLink::try_from(link).context(format!("attach TCX to {}", device.name))?;
            link.pin(&path).context(format!("pin link {}", path.display()))?;
        }
        let path = pins.program(interface.slot, place);
        pins::remove(&path)?;
        program.pin(&path).context(format!("pin program {}", path.display()))
    }
}

/// Why an interface's receive program is on that hook.
#[must_use]
pub fn why(choice: HookChoice, hook: Hook, device: &Device) -> String {
    if choice != HookChoice::Auto {
        return "as asked for".to_owned();
    }
    let kind = device.kind.as_deref().or(device.bus.as_deref());
    let why = match (kind, hook) {
        (None, _) => "native XDP is for hardware".to_owned(),
        (Some(kind), Hook::Xdp | Hook::XdpGeneric) => {
            format!("{kind} hardware whose driver has native XDP")
        }
        (Some(kind), Hook::Tcx | Hook::Clsact) if device.is_hardware() => {
            format!("native XDP was not to be had of this {kind} device")
        }
        (Some(kind), Hook::Tcx | Hook::Clsact) => {
            format!("native XDP would switch off the receive offload of {kind}")
        }
    };
    if hook == Hook::Clsact { format!("{why}, and this kernel has no TCX") } else { why }
}

/// The pinned link, if it still hangs on this device: a device that was removed leaves a link to
/// nothing, also when another of the same name took its place.
fn live_link(path: &Path, device: &Device) -> Result<Option<FdLink>> {
    if !path.exists() {
        return Ok(None);
    }
    let attached_to = sys::link_device(path).context(format!("open link {}", path.display()))?;
    if attached_to != device.index {
        return Ok(None);
    }
    let link = PinnedLink::from_pin(path).context(format!("open link {}", path.display()))?;
    Ok(Some(link.into()))
}

/// The hook that an interface's receive program hangs on, if it hangs on its device.
///
/// # Errors
/// A link cannot be read, or filters cannot be listed.
pub fn hook(pins: &Pins, interface: &Interface, device: &Device) -> Result<Option<Hook>> {
    netns::within(interface.netns.as_deref(), || hook_here(pins, interface.slot, device))
}

fn hook_here(pins: &Pins, slot: u16, device: &Device) -> Result<Option<Hook>> {
    if live_link(&pins.link(slot, Place::Xdp), device)?.is_some() {
        let is_generic = device.xdp_is_generic.unwrap_or(false);
        return Ok(Some(if is_generic { Hook::XdpGeneric } else { Hook::Xdp }));
    }
    if live_link(&pins.link(slot, Place::Receive), device)?.is_some() {
        return Ok(Some(Hook::Tcx));
    }
    let is_attached = clsact::is_attached(pins, slot, device, Place::ClsactReceive)?;
    Ok(is_attached.then_some(Hook::Clsact))
}

/// Whether the transmit program of an interface hangs on its device.
///
/// # Errors
/// A link cannot be read, or filters cannot be listed.
pub fn transmits(pins: &Pins, interface: &Interface, device: &Device) -> Result<bool> {
    let slot = interface.slot;
    if live_link(&pins.link(slot, Place::Transmit), device)?.is_some() {
        return Ok(true);
    }
    netns::within(interface.netns.as_deref(), || {
        clsact::is_attached(pins, slot, device, Place::ClsactTransmit)
    })
}

/// A filter of somebody else that clsact asks before ours, in words. There was none when ours was
/// attached.
///
/// # Errors
/// Filters cannot be listed.
pub fn precedes(pins: &Pins, interface: &Interface, device: &Device) -> Result<Option<String>> {
    netns::within(interface.netns.as_deref(), || {
        let mut others = Place::CLSACT
            .into_iter()
            .map(|place| clsact::precedes(pins, interface.slot, device, place));
        others.find_map(Result::transpose).transpose()
    })
}

/// Takes an interface's programs off its device. Enforcement ends here.
///
/// # Errors
/// A pin cannot be removed.
pub fn detach(pins: &Pins, slot: u16) -> Result<()> {
    Place::ALL.into_iter().try_for_each(|place| remove(pins, slot, place))
}

fn remove(pins: &Pins, slot: u16, place: Place) -> Result<()> {
    if Place::CLSACT.contains(&place) {
        return clsact::detach_place(pins, slot, place);
    }
    let link = pins.link(slot, place);
    // Before the pin goes: the kernel frees a pin later, and until then the program would go on,
    // with a policy that is gone already.
    sys::detach_link(&link).context(format!("detach link {}", link.display()))?;
    pins::remove(&link)?;
    pins::remove(&pins.program(slot, place))
}

/// The kernel's number of an interface's receive program.
///
/// # Errors
/// The interface has none.
pub fn program_id(pins: &Pins, slot: u16) -> Result<u32> {
    let places = [Place::Xdp, Place::Receive, Place::ClsactReceive];
    let paths = places.map(|place| pins.program(slot, place));
    let path = paths.iter().find(|path| path.exists()).unwrap_or(&paths[0]);
    let info = ProgramInfo::from_pin(path).context(format!("open program {}", path.display()))?;
    Ok(info.id())
}
