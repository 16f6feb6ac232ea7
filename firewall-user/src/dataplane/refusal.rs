//! Why the kernel does not take a program onto a device, and what to do about it.

use aya::programs::{ProgramInfo, loaded_programs};

use crate::dataplane::attach::Hook;
use crate::dataplane::device::Device;
use crate::dataplane::error::{DataplaneError, chain, usual_cause};

/// XDP was refused on this hook; `tc` is what there is instead.
pub(super) fn xdp(
    device: &Device,
    hook: Hook,
    tc: Hook,
    error: &dyn std::error::Error,
) -> DataplaneError {
    let (name, tc) = (&device.name, tc.name());
    let text = chain(error);
    let operation = format!("attach {} to {name}", hook.name());
    let has = |code: i32| text.contains(&format!("os error {code})"));
    // Busy: in this mode; exists: in another one.
    if has(libc::EBUSY) || has(libc::EEXIST) {
        let holder = device.xdp_program.map_or_else(|| "another program".to_owned(), program_name);
        return DataplaneError::new(
            format!("{operation}: the XDP hook is taken by {holder}"),
            format!("use --hook {tc}, which others can share, or take that program off first"),
        );
    }
    if has(libc::ERANGE) || (has(libc::EINVAL) && device.mtu > 1500) {
        return DataplaneError::new(
            format!("{operation}: MTU {} is too large for this driver's native XDP", device.mtu),
            format!("use --hook {tc}, or make the MTU smaller (`ip link set mtu`)"),
        );
    }
    if has(libc::EOPNOTSUPP) {
        return DataplaneError::new(
            format!("{operation}: the driver has no native XDP"),
            format!("use --hook {tc} (or xdp-generic)"),
        );
    }
    let hint = usual_cause(&text).map_or_else(|| format!("use --hook {tc}"), str::to_owned);
    DataplaneError::new(format!("{operation}: {text}"), hint)
}

/// TCX was refused.
pub(super) fn tcx(device: &Device, error: &dyn std::error::Error) -> DataplaneError {
    let text = chain(error);
    let hint = if text.contains(&format!("os error {})", libc::EINVAL)) {
        "TCX needs Linux 6.6 or newer: use --hook clsact, or auto"
    } else {
        usual_cause(&text).unwrap_or_default()
    };
    DataplaneError::new(format!("attach TCX to {}: {text}", device.name), hint)
}

/// The qdisc or the filter was refused.
pub(super) fn clsact(device: &Device, error: &dyn std::error::Error) -> DataplaneError {
    let text = chain(error);
    let operation = format!("attach clsact to {}", device.name);
    if text.contains(&format!("os error {})", libc::ENOENT)) {
        return DataplaneError::new(
            format!("{operation}: this kernel has neither TCX nor clsact with BPF filters"),
            "it needs CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF; as modules they are \
             sch_ingress and cls_bpf",
        );
    }
    DataplaneError::new(format!("{operation}: {text}"), usual_cause(&text).unwrap_or_default())
}

/// XDP wants an Ethernet header.
pub(super) fn no_ethernet(device: &Device, tc: Hook) -> DataplaneError {
    DataplaneError::new(
        format!("attach XDP to {}: the device has no Ethernet header", device.name),
        format!("use --hook {}", tc.name()),
    )
}

/// The driver knows XDP only as it was before there were links.
pub(super) fn no_link(device: &Device, tc: Hook) -> DataplaneError {
    DataplaneError::new(
        format!("attach XDP to {}: the driver takes no BPF link", device.name),
        format!("use --hook {}", tc.name()),
    )
}

/// A program's name and id, as `bpftool prog` has them.
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
