//! Attaching an interface's programs, or replacing them without a gap.

use aya::Ebpf;
use aya::programs::{SchedClassifier, Xdp};
use firewall_ebpf::abi::interface::Direction;

use crate::dataplane::error::{Context, Result};
use crate::dataplane::hooks::attached::{hook_here, transmits_here};
use crate::dataplane::hooks::detach::detach_place;
use crate::dataplane::hooks::hook::{Hook, tc_hook};
use crate::dataplane::hooks::links::attached_link;
use crate::dataplane::hooks::load::{Loader, Settings};
use crate::dataplane::hooks::slow_path::{Kind, Variant};
use crate::dataplane::hooks::{clsact, orphans, programs, refusal, slow_path, tcx, xdp};
use crate::dataplane::host::device::Device;
use crate::dataplane::host::netns;
use crate::dataplane::object;
use crate::dataplane::pins::{Pins, Place};
use crate::dataplane::tables::maps::Maps;
use crate::model::{HookChoice, Interface};
use crate::policy::port_security;

/// The program at XDP in the kernel object.
const XDP: &str = "sg_xdp_rx";

/// The result of attaching.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The hook of the receive program.
    pub hook: Hook,
    /// The device, as it was before.
    pub device: Device,
}

/// Attaches an interface's programs, or replaces them where they are attached already: packets
/// meet the old program or the new one, never none. Programs that are equal
/// already stay.
///
/// The policy of the slot must be active before, and its tables must exist.
///
/// `device` must be the one that the programs are on already, where they are on one.
///
/// # Errors
/// The device does not exist any more, or the kernel refuses its hook. What was attached stays attached, or,
/// where the mode of XDP was to change, a TC program replaces it.
pub fn attach(
    maps: &mut Maps,
    loader: &mut Loader<'_>,
    interface: &Interface,
    device: &Device,
) -> Result<Attached> {
    device.require_supported()?;
    let (slot, pins) = (interface.slot, maps.pins.clone());
    let settings = settings(interface, device);
    let digest = settings.digest(maps, interface.hook)?;
    netns::within(device.netns.as_deref(), || {
        let before = hook_here(&pins, slot, device)?;
        let (loaded, half) = maps.loaded(slot)?;
        let tc = tc_hook(interface.hook);
        if let Some(hook) = before
            && loaded == digest
            && is_chosen(interface.hook, hook, tc)
            && transmits_here(&pins, slot, device)?
            // One that is left is of a process that was killed while it replaced a program.
            && !Place::CLSACT.iter().any(|place| pins.next_program(slot, *place).exists())
        {
            record_place(maps, interface, device)?;
            return Ok(Attached { hook, device: device.clone() });
        }
        if before.is_none() {
            programs::refuse_unpinned(&pins, device)?;
        }
        // The other record, so that programs that stay attached keep their settings.
        let half = 1 - half;
        let record = settings.record();
        maps.set_settings((slot, half), record)?;
        // Programs that are replaced one after the other are not those of a digest meanwhile.
        maps.set_loaded(slot, (0, 1 - half))?;
        let object = loader.open(maps, &settings, (half, &record))?;
        let mut attempt =
            Attempt { maps, pins: &pins, object, interface, device, settings: &settings };
        let hook = attempt.receive(tc)?;
        if let Err(error) = attempt.tc("sg_tcx_tx", tc.transmit()) {
            if before.is_some_and(|before| before.receive() != hook.receive()) {
                // The program on the earlier hook stays: with both, every packet would count twice.
                detach_place(&pins, slot, hook.receive())?;
            }
            return Err(error);
        }
        // Only now, with the new programs in place, are those of other places detached.
        let kept = [hook.receive(), tc.transmit()];
        let mut others = Place::ALL.into_iter().filter(|place| !kept.contains(place));
        others.try_for_each(|place| detach_place(&pins, slot, place))?;
        // Before the digest, so that it is repeated if this process is killed meanwhile.
        maps.remove_foreign_flows(interface)?;
        maps.set_loaded(slot, (digest, half))?;
        record_place(maps, interface, device)?;
        if tc != Hook::Clsact {
            // Beside them every packet would be decided twice, and most dropped.
            Place::CLSACT.into_iter().try_for_each(|place| orphans::remove(device, place, None))?;
        }
        Ok(Attached { hook, device: device.clone() })
    })
}

/// Whether the programs that are loaded for an interface are those of its settings, as far as
/// [`attach`] recorded them: a process that was killed may have replaced them for settings that were not stored.
///
/// # Errors
/// A map cannot be read.
pub fn is_current(maps: &Maps, interface: &Interface, device: &Device) -> Result<bool> {
    let (loaded, _) = maps.loaded(interface.slot)?;
    Ok(loaded == settings(interface, device).digest(maps, interface.hook)?)
}

/// Records a device that is where it is stored; of one that moved the place that it left stays recorded.
fn record_place(maps: &mut Maps, interface: &Interface, device: &Device) -> Result<()> {
    if device.netns == interface.netns {
        maps.record_device(interface.slot, device.index)?;
    }
    Ok(())
}

/// The settings of an interface's programs on a device.
#[must_use]
pub fn settings(interface: &Interface, device: &Device) -> Settings {
    Settings {
        slot: interface.slot,
        orientation: device.path(interface.orientation),
        has_ethernet: device.has_ethernet,
        non_ip: interface.non_ip,
        ether_types: interface.ether_types.clone(),
        tcp_checks: interface.tcp,
        tcp_loose: interface.is_tcp_loose(),
        revalidate: interface.revalidate,
        max_per_source: interface.max_flows_per_source,
        timeouts: interface.timeouts.clone(),
        port: port_security(interface),
    }
}

/// Whether a hook is what a choice allows, so that what is attached there may stay.
fn is_chosen(choice: HookChoice, hook: Hook, tc: Hook) -> bool {
    match choice {
        HookChoice::Xdp => hook == Hook::Xdp,
        HookChoice::XdpGeneric => hook == Hook::XdpGeneric,
        HookChoice::Auto => hook == Hook::Xdp || hook == tc,
        HookChoice::Tcx | HookChoice::Clsact => hook == tc,
    }
}

/// One attempt to attach an interface's programs, in the network namespace of its device.
struct Attempt<'a> {
    maps: &'a mut Maps,
    pins: &'a Pins,
    object: Ebpf,
    interface: &'a Interface,
    device: &'a Device,
    settings: &'a Settings,
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
        self.tc("sg_tcx_rx", tc.receive()).map(|()| tc)
    }

    fn xdp(&mut self, hook: Hook, tc: Hook) -> Result<()> {
        let Self { pins, interface, device, .. } = *self;
        if !device.has_ethernet {
            return Err(refusal::no_ethernet(device, tc));
        }
        self.slow_path(Kind::Xdp, self.settings.orientation.received())?;
        let program: &mut Xdp = object::program(&mut self.object, XDP)?;
        program.load().context(format_args!("load {XDP}"))?;
        let is_generic = hook == Hook::XdpGeneric;
        let attached = attached_link(pins, interface.slot, Place::Xdp, device)?;
        if attached.is_some() && device.xdp_is_generic != Some(is_generic) {
            // The mode belongs to the link, and a device takes one mode at a time. A TC program
            // enforces the policy in between, and stays if the new mode is refused.
            self.tc("sg_tcx_rx", tc.receive())?;
            detach_place(pins, interface.slot, Place::Xdp)?;
        }
        let program: &mut Xdp = object::program(&mut self.object, XDP)?;
        xdp::attach(program, pins, interface.slot, device, (hook, tc))
    }

    /// Loads the slow path that programs of a type call.
    fn slow_path(&mut self, kind: Kind, direction: Direction) -> Result<()> {
        let Settings { tcp_checks: checks, has_ethernet, revalidate: revalidates, .. } =
            *self.settings;
        let variant = Variant { kind, direction, checks, has_ethernet, revalidates };
        slow_path::ensure(self.maps, variant)
    }

    /// Attaches a TC program, by TCX or clsact.
    fn tc(&mut self, name: &str, place: Place) -> Result<()> {
        let orientation = self.settings.orientation;
        self.slow_path(
            Kind::Tc,
            match place {
                Place::Transmit | Place::ClsactTransmit => orientation.transmitted(),
                _ => orientation.received(),
            },
        )?;
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
