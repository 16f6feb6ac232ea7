//! The hooks of programs: which one an interface has, and why.

use crate::dataplane::host::device::Device;
use crate::dataplane::host::preflight;
use crate::dataplane::pins::Place;
use crate::model::HookChoice;

/// The hook of a receive program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Native XDP: in the driver, before the kernel allocates a socket buffer.
    Xdp,
    /// Generic XDP: in the kernel, after it has allocated one.
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

    /// The place of the receive program.
    pub(super) const fn receive(self) -> Place {
        match self {
            Self::Xdp | Self::XdpGeneric => Place::Xdp,
            Self::Tcx => Place::Receive,
            Self::Clsact => Place::ClsactReceive,
        }
    }

    /// The place of the transmit program beside this receive program.
    pub(super) const fn transmit(self) -> Place {
        match self {
            Self::Clsact => Place::ClsactTransmit,
            Self::Xdp | Self::XdpGeneric | Self::Tcx => Place::Transmit,
        }
    }
}

/// The hook of an interface's TC programs: the chosen one, else TCX where the kernel has it.
pub(super) fn tc_hook(choice: HookChoice) -> Hook {
    match choice {
        HookChoice::Tcx => Hook::Tcx,
        HookChoice::Clsact => Hook::Clsact,
        HookChoice::Auto | HookChoice::Xdp | HookChoice::XdpGeneric if preflight::has_tcx() => {
            Hook::Tcx
        }
        HookChoice::Auto | HookChoice::Xdp | HookChoice::XdpGeneric => Hook::Clsact,
    }
}

/// Why an interface's receive program is on that hook.
#[must_use]
pub fn why(choice: HookChoice, hook: Hook, device: &Device) -> String {
    if choice != HookChoice::Auto {
        return "as configured".to_owned();
    }
    let kind = device.kind.as_deref().or(device.bus.as_deref());
    let why = match (kind, hook) {
        (None, _) => "auto uses native XDP on hardware only".to_owned(),
        (Some(kind), Hook::Xdp | Hook::XdpGeneric) => {
            format!("{kind} hardware whose driver has native XDP")
        }
        (Some(kind), Hook::Tcx | Hook::Clsact) if device.is_hardware() => {
            format!("this {kind} device refused native XDP")
        }
        (Some(kind), Hook::Tcx | Hook::Clsact) => {
            format!("native XDP would switch off the receive offload of {kind}")
        }
    };
    if hook == Hook::Clsact { format!("{why}, and this kernel has no TCX") } else { why }
}
