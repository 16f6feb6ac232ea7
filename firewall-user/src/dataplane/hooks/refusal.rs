//! Errors of attaching: the kernel's error number as a reason and a hint.

use std::error::Error as StdError;

use aya::programs::{ProgramInfo, loaded_programs};
use nix::errno::Errno;

use crate::dataplane::error::{DataplaneError, chain, errno, usual_hint};
use crate::dataplane::hooks::hook::Hook;
use crate::dataplane::host::device::Device;

/// The kernel refused XDP; `tc` is the alternative.
pub(super) fn xdp(
    device: &Device,
    hook: Hook,
    tc: Hook,
    error: &(dyn StdError + 'static),
) -> DataplaneError {
    let (name, tc) = (&device.name, tc.name());
    let (reason, hint) = match errno(error) {
        // Busy: in this mode; exists: in another one.
        Some(Errno::EBUSY | Errno::EEXIST) => {
            let holder =
                device.xdp_program.map_or_else(|| "another program".to_owned(), program_name);
            (
                format!("the XDP hook is taken by {holder}"),
                format!("use --hook {tc}, which others can share, or detach that program first"),
            )
        }
        Some(errno) if errno == Errno::ERANGE || errno == Errno::EINVAL && device.mtu > 1500 => (
            format!("MTU {} is too large for this driver's native XDP", device.mtu),
            format!("use --hook {tc}, or make the MTU smaller (`ip link set mtu`)"),
        ),
        Some(Errno::EOPNOTSUPP) => {
            ("the driver has no native XDP".to_owned(), format!("use --hook {tc} (or xdp-generic)"))
        }
        errno => {
            let hint = errno.and_then(usual_hint);
            (chain(error), hint.map_or_else(|| format!("use --hook {tc}"), str::to_owned))
        }
    };
    DataplaneError::new(format!("attach {} to {name}: {reason}", hook.name()), hint)
}

/// The kernel refused TCX.
pub(super) fn tcx(device: &Device, error: &(dyn StdError + 'static)) -> DataplaneError {
    let hint = match errno(error) {
        Some(Errno::EINVAL) => "TCX needs Linux 6.6 or newer: use --hook clsact, or auto",
        errno => errno.and_then(usual_hint).unwrap_or_default(),
    };
    DataplaneError::new(format!("attach TCX to {}: {}", device.name, chain(error)), hint)
}

/// The kernel refused the qdisc or the filter.
pub(super) fn clsact(device: &Device, error: &(dyn StdError + 'static)) -> DataplaneError {
    let (reason, hint) = match errno(error) {
        Some(Errno::ENOENT) => (
            "this kernel has neither TCX nor clsact with BPF filters".to_owned(),
            "it needs CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF; as modules they are \
             sch_ingress and cls_bpf",
        ),
        errno => (chain(error), errno.and_then(usual_hint).unwrap_or_default()),
    };
    DataplaneError::new(format!("attach clsact to {}: {reason}", device.name), hint)
}

/// XDP needs an Ethernet header.
pub(super) fn no_ethernet(device: &Device, tc: Hook) -> DataplaneError {
    DataplaneError::new(
        format!("attach XDP to {}: the device has no Ethernet header", device.name),
        format!("use --hook {}", tc.name()),
    )
}

/// The driver has XDP, but not by BPF links.
pub(super) fn no_link(device: &Device, tc: Hook) -> DataplaneError {
    DataplaneError::new(
        format!("attach XDP to {}: the driver does not support BPF links", device.name),
        format!("use --hook {}", tc.name()),
    )
}

/// A program's name and id, as `bpftool prog` prints them.
pub(super) fn program_name(id: u32) -> String {
    let name = loaded_programs()
        .flatten()
        .find(|program| program.id() == id)
        .and_then(|program: ProgramInfo| program.name_as_str().map(str::to_owned));
    match name {
        Some(name) if !name.is_empty() => format!("program {name} (id {id})"),
        _ => format!("program id {id}"),
    }
}
