//! A guest for the tests: a kernel with busybox and bash, started by a script in a network namespace of a test.
//! It takes commands on its serial line.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::cpio::Archive;
use super::image::{Programs, modules, read};
use crate::exec;
use crate::paths;
use crate::setup::emulator;
use crate::setup::kernels::Kernel;

/// The module of the tests that start it, and a part of the names of these tests.
pub(crate) const TESTS: &str = "real_guest";

/// The kernel that it runs.
pub(crate) const KERNEL: &str = "6.1";

const MODULES: [&str; 2] = ["virtio_pci", "virtio_net"];

const COMMAND_LINE: &str =
    "console=ttyS0 quiet loglevel=2 panic=-1 mitigations=off nowatchdog ipv6.autoconf=0";

/// Writes the image and the script that starts it: `target/kernels/guest`. Arguments of the script are
/// added to qemu's.
pub(crate) fn build(kernel: &Kernel) -> Result<()> {
    let mut archive = Archive::default();
    for directory in ["/dev", "/proc", "/sys", "/tmp", "/www"] {
        archive.directory(directory);
    }
    archive.file("/bin/busybox", &read(&emulator::busybox())?);
    archive.file("/www/index.html", b"served by the guest\n");
    // Its sockets: those of a statically linked busybox look for libraries that the image does not have.
    let bash = exec::find("bash").context("build the image of a guest: no bash")?;
    Programs { archive: &mut archive, libraries: BTreeSet::new() }.add(&bash, "/bin/bash")?;
    let loads = modules(&mut archive, kernel, &MODULES)?;
    archive.file("/init", init(&loads).as_bytes());
    let directory = paths::target().join("kernels");
    fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
    let image = directory.join("guest.cpio");
    fs::write(&image, archive.finish()).with_context(|| format!("write {}", image.display()))?;

    let mut qemu = emulator::qemu();
    qemu.args(["-machine", "q35", "-cpu", "Nehalem", "-accel", "tcg", "-smp", "1", "-m", "256M"])
        .args(["-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot"])
        .args(["-append", COMMAND_LINE, "-kernel"])
        .arg(kernel.image())
        .arg("-initrd")
        .arg(&image);
    let script = script();
    let text = format!("#!/bin/sh\nexec {} \"$@\"\n", exec::shell_words(&qemu));
    fs::write(&script, text).with_context(|| format!("write {}", script.display()))?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("make {} executable", script.display()))
}

fn script() -> PathBuf {
    paths::target().join("kernels/guest")
}

/// The first program: network, two servers, and then commands, each answered by its output and exit code.
fn init(loads: &[String]) -> String {
    let mut script = String::from(
        "#!/bin/busybox sh\n\
         /bin/busybox --install -s /bin\n\
         export PATH=/bin\n\
         mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev\n",
    );
    for name in loads {
        let _ = writeln!(script, "insmod /modules/{name}.ko");
    }
    script.push_str(
        "echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad\n\
         ip link set lo up; ip link set eth0 up\n\
         ip addr add 10.78.0.2/24 dev eth0; ip addr add fd78::2/64 dev eth0\n\
         ip route add default via 10.78.0.1; ip -6 route add default via fd78::1\n\
         httpd -p 80 -h /www; httpd -p 81 -h /www\n\
         stty -echo\n\
         echo guest: ready\n\
         while read -r line; do sh -c \"$line\"; echo \"guest: ended with $?\"; done\n\
         poweroff -f\n",
    );
    script
}
