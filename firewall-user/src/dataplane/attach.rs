//! Programs onto devices: choosing the hook, attaching, replacing without a gap, detaching.

use std::path::Path;

use aya::Ebpf;
use aya::programs::links::{FdLink, LinkOrder, PinnedLink};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions, TcAttachType};
use aya::programs::xdp::{XdpLink, XdpMode};
use aya::programs::{ProgramInfo, SchedClassifier, Xdp, loaded_programs};

use crate::dataplane::device::Device;
use crate::dataplane::error::{Context, DataplaneError, Result, chain, usual_cause};
use crate::dataplane::maps::Sizes;
use crate::dataplane::object::{self, Fixed};
use crate::dataplane::pins::{self, Pins, Place};
use crate::dataplane::{device, netns, sys};
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
}

impl Hook {
    /// The word used in the CLI.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::XdpGeneric => "xdp-generic",
            Self::Tcx => "tcx",
        }
    }

    const fn place(self) -> Place {
        match self {
            Self::Xdp | Self::XdpGeneric => Place::Xdp,
            Self::Tcx => Place::Receive,
        }
    }

    const fn mode(self) -> XdpMode {
        match self {
            Self::XdpGeneric => XdpMode::Skb,
            Self::Xdp | Self::Tcx => XdpMode::Driver,
        }
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
/// was to change, TCX guards in its place.
pub fn attach(pins: &Pins, sizes: &Sizes, interface: &Interface, traced: bool) -> Result<Attached> {
    let device = device::find(interface.netns.as_deref(), &interface.device)?;
    let fixed = Fixed {
        slot: interface.slot,
        orientation: interface.orientation,
        has_ethernet: device.has_ethernet,
        non_ip: interface.non_ip,
        tcp_checks: interface.tcp,
        pick_up: interface.picks_up(),
        timeouts: interface.timeouts.clone(),
    };
    let mut object = object::open(pins, sizes, &fixed)?;
    let suffix = if traced { "_trace" } else { "" };
    let names = Names {
        xdp: format!("sg_xdp_rx{suffix}"),
        receive: format!("sg_tcx_rx{suffix}"),
        transmit: format!("sg_tcx_tx{suffix}"),
    };
    netns::within(interface.netns.as_deref(), || {
        let was = hook(pins, interface.slot, &device)?;
        let hook = receive(pins, &mut object, &names, interface, &device)?;
        if let Err(error) =
            tcx(pins, &mut object, &names.transmit, interface, &device, Place::Transmit)
        {
            if was.is_some_and(|was| was.place() != hook.place()) {
                // The hook from before still has its program: the new one would count all twice.
                remove(pins, interface.slot, hook.place())?;
            }
            return Err(error);
        }
        // Only now, with the new hook in place, does the other one go.
        let other = if hook.place() == Place::Xdp { Place::Receive } else { Place::Xdp };
        remove(pins, interface.slot, other)?;
        Ok(Attached { hook, device: device.clone() })
    })
}

struct Names {
    xdp: String,
    receive: String,
    transmit: String,
}

/// The receive program, on the hook that was asked for or that suits the device.
fn receive(
    pins: &Pins,
    object: &mut Ebpf,
    names: &Names,
    interface: &Interface,
    device: &Device,
) -> Result<Hook> {
    let mut try_xdp = |hook| xdp(pins, object, names, interface, device, hook);
    match interface.hook {
        HookChoice::Xdp => return try_xdp(Hook::Xdp).map(|()| Hook::Xdp),
        HookChoice::XdpGeneric => return try_xdp(Hook::XdpGeneric).map(|()| Hook::XdpGeneric),
        // A driver without native XDP is no error here: `status` says what it came to.
        HookChoice::Auto if device.is_hardware() && try_xdp(Hook::Xdp).is_ok() => {
            return Ok(Hook::Xdp);
        }
        HookChoice::Auto | HookChoice::Tcx => {}
    }
    tcx(pins, object, &names.receive, interface, device, Place::Receive).map(|()| Hook::Tcx)
}

/// Why an interface's receive program is on that hook.
#[must_use]
pub fn why(choice: HookChoice, hook: Hook, device: &Device) -> String {
    if choice != HookChoice::Auto {
        return "as asked for".to_owned();
    }
    let Some(kind) = device.kind.as_deref().or(device.bus.as_deref()) else {
        return "native XDP is for hardware".to_owned();
    };
    match hook {
        Hook::Xdp | Hook::XdpGeneric => format!("{kind} hardware whose driver has native XDP"),
        Hook::Tcx if device.is_hardware() => {
            format!("native XDP was not to be had of this {kind} device")
        }
        Hook::Tcx => format!("native XDP would switch off the receive offload of {kind}"),
    }
}

fn xdp(
    pins: &Pins,
    object: &mut Ebpf,
    names: &Names,
    interface: &Interface,
    device: &Device,
    hook: Hook,
) -> Result<()> {
    if !device.has_ethernet {
        return Err(DataplaneError::new(
            format!("attach XDP to {}: the device has no Ethernet header", device.name),
            "use --hook tcx",
        ));
    }
    let name = &names.xdp;
    let program: &mut Xdp = object::named(object, name)?;
    program.load().map_err(|error| object::refused(&format!("load {name}"), &error))?;
    let path = pins.link(interface.slot, Place::Xdp);
    let is_generic = hook == Hook::XdpGeneric;
    if live_link(&path, device)?.is_some() && device.xdp_is_generic != Some(is_generic) {
        // The mode belongs to the link, and a device takes one mode at a time. TCX guards in
        // between, and stays if the new mode is refused.
        tcx(pins, object, &names.receive, interface, device, Place::Receive)?;
        remove(pins, interface.slot, Place::Xdp)?;
    }
    let program: &mut Xdp = object::named(object, name)?;
    if let Some(link) = live_link(&path, device)? {
        let link = XdpLink::try_from(link).context(format!("open link {}", path.display()))?;
        program
            .attach_to_link(link)
            .context(format!("replace the XDP program of {}", device.name))?;
    } else {
        pins::remove(&path)?;
        let id = program
            .attach_to_if_index(device.index, hook.mode())
            .map_err(|error| explain_xdp(device, hook, &error))?;
        let link = program.take_link(id).context(format!("attach XDP to {}", device.name))?;
        let link = FdLink::try_from(link).map_err(|_| {
            // aya fell back to netlink, whose attachment nothing could keep or replace atomically.
            DataplaneError::new(
                format!("attach XDP to {}: the driver takes no BPF link", device.name),
                "use --hook tcx",
            )
        })?;
        link.pin(&path).context(format!("pin link {}", path.display()))?;
    }
    let path = pins.program(interface.slot, Place::Xdp);
    pins::remove(&path)?;
    program.pin(&path).context(format!("pin program {}", path.display()))
}

fn tcx(
    pins: &Pins,
    object: &mut Ebpf,
    name: &str,
    interface: &Interface,
    device: &Device,
    place: Place,
) -> Result<()> {
    let program: &mut SchedClassifier = object::named(object, name)?;
    program.load().map_err(|error| object::refused(&format!("load {name}"), &error))?;
    let path = pins.link(interface.slot, place);
    if let Some(link) = live_link(&path, device)? {
        let link =
            SchedClassifierLink::try_from(link).context(format!("open link {}", path.display()))?;
        program
            .attach_to_link(link)
            .context(format!("replace the TCX program of {}", device.name))?;
    } else {
        pins::remove(&path)?;
        let direction = match place {
            Place::Transmit => TcAttachType::Egress,
            Place::Xdp | Place::Receive => TcAttachType::Ingress,
        };
        // First, so that no other program can end the chain with "pass" before us.
        let order = TcAttachOptions::TcxOrder(LinkOrder::first());
        let id = program
            .attach_with_options(&device.name, direction, order)
            .map_err(|error| explain_tcx(device, &error))?;
        let link = program.take_link(id).context(format!("attach TCX to {}", device.name))?;
        let link = FdLink::try_from(link).context(format!("attach TCX to {}", device.name))?;
        link.pin(&path).context(format!("pin link {}", path.display()))?;
    }
    let path = pins.program(interface.slot, place);
    pins::remove(&path)?;
    program.pin(&path).context(format!("pin program {}", path.display()))
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
/// A link cannot be read.
pub fn hook(pins: &Pins, slot: u16, device: &Device) -> Result<Option<Hook>> {
    if live_link(&pins.link(slot, Place::Xdp), device)?.is_some() {
        let is_generic = device.xdp_is_generic.unwrap_or(false);
        return Ok(Some(if is_generic { Hook::XdpGeneric } else { Hook::Xdp }));
    }
    Ok(live_link(&pins.link(slot, Place::Receive), device)?.map(|_| Hook::Tcx))
}

/// Whether the transmit program of an interface hangs on its device.
///
/// # Errors
/// A link cannot be read.
pub fn transmits(pins: &Pins, slot: u16, device: &Device) -> Result<bool> {
    Ok(live_link(&pins.link(slot, Place::Transmit), device)?.is_some())
}

/// Takes an interface's programs off its device. Enforcement ends here.
///
/// # Errors
/// A pin cannot be removed.
pub fn detach(pins: &Pins, slot: u16) -> Result<()> {
    Place::ALL.into_iter().try_for_each(|place| remove(pins, slot, place))
}

fn remove(pins: &Pins, slot: u16, place: Place) -> Result<()> {
    let link = pins.link(slot, place);
    // Before the pin goes: the kernel frees a pin later, and until then the program would go on,
    // with a policy that is gone already.
    sys::detach_link(&link).context(format!("detach link {}", link.display()))?;
    pins::remove(&link)?;
    pins::remove(&pins.program(slot, place))
}

fn explain_xdp(device: &Device, hook: Hook, error: &dyn std::error::Error) -> DataplaneError {
    let name = &device.name;
    let text = chain(error);
    let operation = format!("attach {} to {name}", hook.name());
    let has = |code: i32| text.contains(&format!("os error {code})"));
    // Busy: in this mode; exists: in another one.
    if has(libc::EBUSY) || has(libc::EEXIST) {
        let holder = device.xdp_program.map_or_else(|| "another program".to_owned(), program_name);
        return DataplaneError::new(
            format!("{operation}: the XDP hook is taken by {holder}"),
            "use --hook tcx, which others can share, or take that program off first",
        );
    }
    if has(libc::ERANGE) || (has(libc::EINVAL) && device.mtu > 1500) {
        return DataplaneError::new(
            format!("{operation}: MTU {} is too large for this driver's native XDP", device.mtu),
            "use --hook tcx, or make the MTU smaller (`ip link set mtu`)",
        );
    }
    if has(libc::EOPNOTSUPP) {
        return DataplaneError::new(
            format!("{operation}: the driver has no native XDP"),
            "use --hook tcx (or xdp-generic)",
        );
    }
    let hint = usual_cause(&text).unwrap_or("use --hook tcx");
    DataplaneError::new(format!("{operation}: {text}"), hint)
}

fn explain_tcx(device: &Device, error: &dyn std::error::Error) -> DataplaneError {
    let text = chain(error);
    let hint = if text.contains(&format!("os error {})", libc::EINVAL)) {
        "TCX needs Linux 6.6 or newer"
    } else {
        usual_cause(&text).unwrap_or_default()
    };
    DataplaneError::new(format!("attach TCX to {}: {text}", device.name), hint)
}

/// A program's name and id, as `bpftool prog` has them.
fn program_name(id: u32) -> String {
    let name = loaded_programs()
        .flatten()
        .find(|program| program.id() == id)
        .and_then(|program: ProgramInfo| program.name_as_str().map(str::to_owned));
    match name {
        Some(name) if !name.is_empty() => format!("program {name} (id {id})"),
        _ => format!("program id {id}"),
    }
}

/// The kernel's number of an interface's receive program.
///
/// # Errors
/// The interface has none.
pub fn program_id(pins: &Pins, slot: u16) -> Result<u32> {
    let place = if pins.program(slot, Place::Xdp).exists() { Place::Xdp } else { Place::Receive };
    let path = pins.program(slot, place);
    let info = ProgramInfo::from_pin(&path).context(format!("open program {}", path.display()))?;
    Ok(info.id())
}
