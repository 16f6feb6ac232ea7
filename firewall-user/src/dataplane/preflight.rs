//! What has to be there before anything changes: privilege and kernel features.

use std::fs;

use aya::programs::ProgramType;

use crate::dataplane::error::{DataplaneError, Result};

/// Capabilities by their number in include/uapi/linux/capability.h.
const NEEDED: [(u32, &str, &str); 2] = [
    (39, "CAP_BPF", "load programs and make maps"),
    (12, "CAP_NET_ADMIN", "attach programs to an interface"),
];

/// Checks that this process may do what every changing command does.
///
/// # Errors
/// Names the capability that is missing.
pub fn capabilities() -> Result<()> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    missing(effective).map_or(Ok(()), |(name, purpose)| {
        Err(DataplaneError::new(
            format!("missing capability {name}, needed to {purpose}"),
            "run as root, or with CAP_BPF and CAP_NET_ADMIN (systemd: AmbientCapabilities=)",
        ))
    })
}

/// The first needed capability that is not in the set.
fn missing(effective: u64) -> Option<(&'static str, &'static str)> {
    // CAP_SYS_ADMIN (21) includes CAP_BPF (kernel/bpf/syscall.c, bpf_capable).
    let has = |bit: u32| effective >> bit & 1 == 1 || (bit == 39 && effective >> 21 & 1 == 1);
    NEEDED.into_iter().find(|(bit, ..)| !has(*bit)).map(|(_, name, purpose)| (name, purpose))
}

/// Checks that the kernel runs the program types we need, by asking it.
///
/// # Errors
/// Names what is missing.
pub fn kernel() -> Result<()> {
    for kind in [ProgramType::Xdp, ProgramType::SchedClassifier] {
        if let Ok(false) = aya::sys::is_program_supported(kind) {
            return Err(DataplaneError::new(
                format!("this kernel has no {kind:?} programs"),
                "secgroup needs Linux 6.6 or newer with CONFIG_BPF_SYSCALL and CONFIG_NET_CLS_ACT",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_missing_capability_is_named() {
        assert_eq!(missing(u64::MAX), None);
        assert_eq!(missing(0).map(|m| m.0), Some("CAP_BPF"));
        assert_eq!(missing(1 << 39).map(|m| m.0), Some("CAP_NET_ADMIN"));
        assert_eq!(missing(1 << 21 | 1 << 12), None);
    }
}
