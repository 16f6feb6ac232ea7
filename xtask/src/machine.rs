//! Whether this machine can load programs and create networks, checked before minutes of building.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::exec;

/// The directory of pinned maps and programs.
const BPFFS: &str = "/sys/fs/bpf";

/// The capabilities that chores need, by bit, with the reason.
const CAPABILITIES: [(u32, &str, &str); 4] = [
    (12, "CAP_NET_ADMIN", "create network devices and attach programs to them"),
    (21, "CAP_SYS_ADMIN", "create network namespaces"),
    (38, "CAP_PERFMON", "load programs that use pointers"),
    (39, "CAP_BPF", "load programs and create maps"),
];

/// Checks the capabilities for a chore (`test`), and mounts bpffs if it is not mounted.
pub(crate) fn prepare(chore: &str) -> Result<()> {
    capabilities(chore)?;
    mount_bpffs()
}

fn capabilities(chore: &str) -> Result<()> {
    let status = fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .context("/proc/self/status has no capabilities")?;
    if let Some(missing) = missing(effective) {
        bail!(
            "cargo xtask {chore} needs root's capabilities, missing here: {missing}.\n  \
             Run the same under `sudo --preserve-env=PATH,HOME`.\n  \
             In a container: start it with --privileged."
        );
    }
    Ok(())
}

fn missing(effective: u64) -> Option<String> {
    let missing: Vec<String> = CAPABILITIES
        .iter()
        .filter(|(bit, ..)| effective & (1 << bit) == 0)
        .map(|(_, name, why)| format!("{name} (to {why})"))
        .collect();
    (!missing.is_empty()).then(|| missing.join(", "))
}

fn mount_bpffs() -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("read /proc/self/mounts")?;
    if is_mounted(&mounts) {
        return Ok(());
    }
    exec::step(&format!("mount bpffs on {BPFFS}"));
    let mut mount = Command::new("mount");
    mount.args(["-t", "bpf", "bpf", BPFFS]);
    exec::run(&mut mount, "mount bpffs").context(
        "no bpffs for pinned programs; \
         in a container, pass the host's with --volume /sys/fs/bpf:/sys/fs/bpf",
    )
}

fn is_mounted(mounts: &str) -> bool {
    mounts.lines().any(|line| {
        let mut fields = line.split(' ').skip(1);
        fields.next() == Some(BPFFS) && fields.next() == Some("bpf")
    })
}

#[cfg(test)]
mod tests {
    use super::{is_mounted, missing};

    #[test]
    fn every_missing_capability_is_named() {
        assert_eq!(missing(u64::MAX), None);
        let text = missing(1 << 12 | 1 << 21).unwrap();
        assert!(text.contains("CAP_BPF") && text.contains("CAP_PERFMON"), "{text}");
        assert!(!text.contains("CAP_NET_ADMIN"), "{text}");
    }

    #[test]
    fn only_a_mount_of_type_bpf_counts() {
        assert!(is_mounted("proc /proc proc rw 0 0\nbpf /sys/fs/bpf bpf rw,nosuid 0 0\n"));
        assert!(!is_mounted("tmpfs /sys/fs/bpf tmpfs rw 0 0\n"));
        assert!(!is_mounted("bpf /sys/fs/bpf/other bpf rw 0 0\n"));
    }
}
