//! Privileges and kernel features that are required before anything changes.

use std::error::Error as StdError;
use std::io;

use aya::maps::MapType;
use aya::programs::ProgramType;
use aya::sys::BpfHelper;
use nix::errno::Errno;
use procfs::process::Process;

use crate::dataplane::error::{DataplaneError, Result, errno};
use crate::dataplane::object::shapes;
use crate::dataplane::sys::tcx_probe;

/// What a command does to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Write maps of programs that are attached.
    Maps,
    /// Also load, attach or detach programs.
    Programs,
}

/// A capability that work requires.
struct Capability {
    /// Its number in include/uapi/linux/capability.h.
    number: u32,
    name: &'static str,
    purpose: &'static str,
    /// Whether `CAP_SYS_ADMIN` includes it.
    is_in_sys_admin: bool,
}

const SYS_ADMIN: u32 = 21;

/// In the order in which work requires them: maps require the first one only.
const NEEDED: [Capability; 3] = [
    Capability {
        number: 39,
        name: "CAP_BPF",
        purpose: "load programs and create maps",
        is_in_sys_admin: true,
    },
    Capability {
        number: 38,
        name: "CAP_PERFMON",
        // Without it the verifier refuses every comparison of pointers as a leak.
        purpose: "load programs with pointer arithmetic",
        is_in_sys_admin: true,
    },
    Capability {
        number: 12,
        name: "CAP_NET_ADMIN",
        purpose: "attach programs to an interface",
        is_in_sys_admin: false,
    },
];

/// Checks that this process has the capabilities for its work.
///
/// # Errors
/// Names the capability that is missing.
pub fn capabilities(work: Work) -> Result<()> {
    let status = Process::myself().and_then(|process| process.status());
    let effective = status.map_or(0, |status| status.capeff);
    missing(work, effective).map_or(Ok(()), |Capability { name, purpose, .. }| {
        Err(DataplaneError::new(
            format!("missing capability {name}, needed to {purpose}"),
            "run as root, or with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN (systemd: \
             AmbientCapabilities=)",
        ))
    })
}

/// The first needed capability that is not in the set.
fn missing(work: Work, effective: u64) -> Option<&'static Capability> {
    let has = |number: u32| effective >> number & 1 == 1;
    let needed = match work {
        Work::Maps => &NEEDED[..1],
        Work::Programs => &NEEDED,
    };
    let may = |one: &Capability| has(one.number) || one.is_in_sys_admin && has(SYS_ADMIN);
    needed.iter().find(|one| !may(one))
}

const NEEDS: &str = "secgroup needs CONFIG_BPF_SYSCALL and CONFIG_NET, and is tested on Linux 6.1 and \
                     newer; `uname -r` prints the running one";

/// The newest helpers of the kernel that the programs call.
const HELPERS: [(ProgramType, BpfHelper, &str); 3] = [
    (ProgramType::SchedClassifier, BpfHelper::BPF_FUNC_jiffies64, "helper bpf_jiffies64"),
    (ProgramType::Xdp, BpfHelper::BPF_FUNC_xdp_get_buff_len, "multi-buffer XDP"),
    (ProgramType::Xdp, BpfHelper::BPF_FUNC_xdp_load_bytes, "multi-buffer XDP"),
];

/// Checks that the kernel has every required feature, by probing for each.
///
/// # Errors
/// Names what is missing.
pub fn kernel() -> Result<()> {
    for (kind, what) in [
        (ProgramType::Xdp, "XDP programs"),
        (ProgramType::SchedClassifier, "traffic control programs"),
    ] {
        require(what, aya::sys::is_program_supported(kind))?;
    }
    for kind in shapes::map_types() {
        require(map_name(kind), aya::sys::is_map_supported(kind))?;
    }
    HELPERS.into_iter().try_for_each(|(program, helper, what)| {
        require(what, aya::sys::is_helper_supported(program, helper))
    })
}

/// Whether the kernel has TCX; true where the probe fails, and attaching shows it.
#[must_use]
pub fn has_tcx() -> bool {
    tcx_probe::refusal().ok().and_then(|error| has_tcx_by(&error)).unwrap_or(true)
}

fn require<E: StdError + 'static>(what: &str, answer: std::result::Result<bool, E>) -> Result<()> {
    match answer {
        Ok(false) => Err(DataplaneError::new(format!("this kernel has no {what}"), NEEDS)),
        Err(error) if errno(&error) == Some(Errno::ENOSYS) => {
            Err(DataplaneError::new("this kernel has no bpf system call", NEEDS))
        }
        Ok(true) | Err(_) => Ok(()),
    }
}

/// What the refusal of a TCX link to no device means; `None` for an error number of neither kind,
/// which a security module may return.
///
/// From 6.6 on, `tcx_link_attach` (kernel/bpf/tcx.c) looks for the device before anything else:
/// ENODEV. Built without `CONFIG_NET_XGRESS`, it is a stub that returns EINVAL. An older kernel
/// returns EINVAL from `link_create` (kernel/bpf/syscall.c), as for every unknown attach type.
fn has_tcx_by(refusal: &io::Error) -> Option<bool> {
    match refusal.raw_os_error() {
        Some(libc::ENODEV) => Some(true),
        Some(libc::EINVAL) => Some(false),
        _ => None,
    }
}

/// As the kernel's documentation names it.
const fn map_name(kind: MapType) -> &'static str {
    match kind {
        MapType::LruHash => "LRU hash maps",
        MapType::LpmTrie => "longest-prefix tries",
        MapType::ArrayOfMaps => "arrays of maps",
        MapType::PerCpuArray => "per-CPU arrays",
        MapType::ProgramArray => "program arrays",
        MapType::PerCpuHash => "per-CPU hash maps",
        MapType::RingBuf => "ring buffers",
        _ => "hash maps and arrays",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_missing_capability_is_named() {
        let name = |work, effective| missing(work, effective).map(|one| one.name);
        assert_eq!(name(Work::Programs, u64::MAX), None);
        assert_eq!(name(Work::Programs, 0), Some("CAP_BPF"));
        assert_eq!(name(Work::Programs, 1 << 39), Some("CAP_PERFMON"));
        assert_eq!(name(Work::Programs, 1 << 39 | 1 << 38), Some("CAP_NET_ADMIN"));
        assert_eq!(name(Work::Programs, 1 << 39 | 1 << 38 | 1 << 12), None);
        assert_eq!(name(Work::Programs, 1 << 21), Some("CAP_NET_ADMIN"));
        assert_eq!(name(Work::Programs, 1 << 21 | 1 << 12), None);
        assert_eq!(name(Work::Maps, 1 << 39), None);
        assert_eq!(name(Work::Maps, 1 << 12), Some("CAP_BPF"));
    }

    #[test]
    fn the_error_number_of_a_refusal_shows_whether_the_kernel_has_tcx() {
        for (code, knows) in [
            (libc::ENODEV, Some(true)),
            (libc::EINVAL, Some(false)),
            (libc::EPERM, None),
            (libc::EACCES, None),
            (libc::EBADF, None),
        ] {
            assert_eq!(has_tcx_by(&io::Error::from_raw_os_error(code)), knows, "{code}");
        }
    }

    #[test]
    fn a_missing_feature_is_refused_and_a_failed_probe_is_not() {
        let error = |code| Err(io::Error::from_raw_os_error(code));
        let result = |answer| require("clock", answer).map_err(|error| error.to_string());
        assert_eq!(result(Ok(true)), Ok(()));
        assert_eq!(result(error(libc::EPERM)), Ok(()));
        assert_eq!(result(Ok(false)), Err("this kernel has no clock".to_owned()));
        assert_eq!(
            result(error(libc::ENOSYS)),
            Err("this kernel has no bpf system call".to_owned())
        );
    }

    #[test]
    fn every_map_type_has_a_name_of_its_own() {
        for kind in shapes::map_types() {
            let plain = matches!(kind, MapType::Hash | MapType::Array);
            assert_eq!(map_name(kind) == "hash maps and arrays", plain, "{kind:?}");
        }
    }
}
