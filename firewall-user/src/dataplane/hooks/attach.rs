//! Attaching an interface's programs, or replacing them without a gap.

use aya::Ebpf;
use aya::programs::{SchedClassifier, Xdp};

use crate::dataplane::error::{Context, Result};
use crate::dataplane::hooks::attached::hook_here;
use crate::dataplane::hooks::detach::detach_place;
use crate::dataplane::hooks::hook::{Hook, tc_hook};
use crate::dataplane::hooks::links::attached_link;
use crate::dataplane::hooks::load::{self, Settings};
use crate::dataplane::hooks::{clsact, refusal, tcx, xdp};
use crate::dataplane::host::device::{self, Device};
use crate::dataplane::host::netns;
use crate::dataplane::object;
use crate::dataplane::object::shapes::Sizes;
use crate::dataplane::pins::{Pins, Place};
use crate::model::{HookChoice, Interface};

/// The result of attaching.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The hook of the receive program.
    pub hook: Hook,
    /// The device, as it was before.
    pub device: Device,
}

/// Attaches an interface's programs, or replaces them where they are attached already: packets
/// meet the old program or the new one, never none.
///
/// The policy of the slot must be active before.
///
/// # Errors
/// The device does not exist, or the kernel refuses its hook. What was attached stays attached, or,
/// where the mode of XDP was to change, a TC program replaces it.
pub fn attach(pins: &Pins, sizes: &Sizes, interface: &Interface, traced: bool) -> Result<Attached> {
    let device = device::find(interface.netns.as_deref(), &interface.device)?;
    let settings = Settings {
        slot: interface.slot,
        orientation: interface.orientation,
        has_ethernet: device.has_ethernet,
        non_ip: interface.non_ip,
        tcp_checks: interface.tcp,
        tcp_loose: interface.is_tcp_loose(),
        revalidate: interface.revalidate,
        timeouts: interface.timeouts.clone(),
    };
    let object = load::open(pins, sizes, &settings)?;
    let names = Names::new(traced);
    netns::within(interface.netns.as_deref(), || {
        let mut attempt = Attempt { pins, object, names, interface, device: &device };
        let before = hook_here(pins, interface.slot, &device)?;
        let tc = tc_hook(interface.hook);
        let hook = attempt.receive(tc)?;
        if let Err(error) = attempt.tc(names.transmit, tc.transmit()) {
            if before.is_some_and(|before| before.receive() != hook.receive()) {
                // The program on the earlier hook stays: with both, every packet would count twice.
                detach_place(pins, interface.slot, hook.receive())?;
            }
            return Err(error);
        }
        // Only now, with the new programs in place, are those of other places detached.
        let kept = [hook.receive(), tc.transmit()];
        let mut others = Place::ALL.into_iter().filter(|place| !kept.contains(place));
        others.try_for_each(|place| detach_place(pins, interface.slot, place))?;
        Ok(Attached { hook, device: device.clone() })
    })
}

/// The names of an interface's programs in the kernel object.
#[derive(Clone, Copy)]
struct Names {
    xdp: &'static str,
    receive: &'static str,
    transmit: &'static str,
}

impl Names {
    const fn new(traced: bool) -> Self {
        if traced {
            let (xdp, receive) = ("sg_xdp_rx_trace", "sg_tcx_rx_trace");
            Self { xdp, receive, transmit: "sg_tcx_tx_trace" }
        } else {
            Self { xdp: "sg_xdp_rx", receive: "sg_tcx_rx", transmit: "sg_tcx_tx" }
        }
    }
}

/// One attempt to attach an interface's programs, in the network namespace of its device.
struct Attempt<'a> {
    pins: &'a Pins,
    object: Ebpf,
    names: Names,
    interface: &'a Interface,
    device: &'a Device,
}

impl Attempt<'_> {
    /// Attaches the receive program to the configured hook, or to the one that suits the device.
    fn receive(&mut self, tc: Hook) -> Result<Hook> {
        let configured = match self.interface.hook {
            HookChoice::Xdp => Some(Hook::Xdp),
            HookChoice::XdpGeneric => Some(Hook::XdpGeneric),
            HookChoice::Auto | HookChoice::Tcx | HookChoice::Clsact => None,
        };
        if let Some(hook) = configured {
            return self.xdp(hook, tc).map(|()| hook);
        }
        let suits_xdp = self.interface.hook == HookChoice::Auto && self.device.is_hardware();
        // A driver without native XDP is no error here: `status` shows the hook.
        if suits_xdp && self.xdp(Hook::Xdp, tc).is_ok() {
            return Ok(Hook::Xdp);
        }
        self.tc(self.names.receive, tc.receive()).map(|()| tc)
    }

    fn xdp(&mut self, hook: Hook, tc: Hook) -> Result<()> {
        let Self { pins, interface, device, names, .. } = *self;
        if !device.has_ethernet {
            return Err(refusal::no_ethernet(device, tc));
        }
        let program: &mut Xdp = object::program(&mut self.object, names.xdp)?;
        program.load().context(format_args!("load {}", names.xdp))?;
        let is_generic = hook == Hook::XdpGeneric;
        let link = pins.link(interface.slot, Place::Xdp);
        if attached_link(&link, device)?.is_some() && device.xdp_is_generic != Some(is_generic) {
            // The mode belongs to the link, and a device takes one mode at a time. A TC program
            // enforces the policy in between, and stays if the new mode is refused.
            self.tc(names.receive, tc.receive())?;
            detach_place(pins, interface.slot, Place::Xdp)?;
        }
        let program: &mut Xdp = object::program(&mut self.object, names.xdp)?;
        xdp::attach(program, pins, interface.slot, device, (hook, tc))
    }

    /// Attaches a TC program, by TCX or clsact.
    fn tc(&mut self, name: &str, place: Place) -> Result<()> {
        let Self { pins, interface, device, .. } = *self;
        let program: &mut SchedClassifier = object::program(&mut self.object, name)?;
        program.load().context(format_args!("load {name}"))?;
        if Place::CLSACT.contains(&place) {
            clsact::attach(program, pins, interface.slot, device, place)
        } else {
            tcx::attach(program, pins, interface.slot, device, place)
        }
    }
}
