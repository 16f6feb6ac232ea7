//! A real systemd as the first process of namespaces of its own: processes, mounts, network, control groups. What
//! it may write are file systems in memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::process::Process;
use crate::secgroup::{CommandOutput, binary};
use crate::sweep;
use crate::wait::{MAX_WAIT, wait_for, wait_until};

/// Prepares the mounts, and becomes systemd. `$1` has the program and the units.
const START: &str = r#"
set -e
mount -t proc proc /proc
mount -t tmpfs tmpfs /mnt
cp -r "$1"/. /mnt/
mount -t tmpfs tmpfs /usr/local/sbin
mv /mnt/secgroup /usr/local/sbin/
mount -t tmpfs tmpfs /run
mkdir -p /run/netns /run/lock /run/systemd/system
mv /mnt/*.service /run/systemd/system/
umount /mnt
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /etc/systemd/system
for directory in /tmp /var/tmp /var/log /var/lib /root; do
    mount -t tmpfs -o mode=0755 tmpfs "$directory"
done
mount -t bpf -o mode=0700 bpf /sys/fs/bpf
mount -o remount,bind,ro /
# As systemd does where it is not in a container: units see what is mounted later.
mount --make-rshared /
cat > /run/systemd/system/test.target <<END
[Unit]
DefaultDependencies=no
Wants=secgroup.service
END
mkdir /run/systemd/system/secgroup.service.d
cat > /run/systemd/system/secgroup.service.d/log.conf <<END
[Service]
StandardError=append:/run/serve.log
END
exec env -i container=test PATH="$PATH" /usr/lib/systemd/systemd --system --unit=test.target \
    --log-target=console --log-level=warning --show-status=no
"#;

/// A running systemd with the units of `dist/systemd` and no others.
pub struct Systemd {
    /// `unshare`, whose end ends all.
    process: Process,
    cgroup: PathBuf,
    _directory: TempDir,
}

impl Systemd {
    /// Starts it with units, by name and text, and waits until it has started `secgroup.service`.
    #[must_use]
    pub fn start(units: &[(&str, String)]) -> Self {
        let name = format!("{}{}-systemd", sweep::PREFIX, std::process::id());
        let directory = tempfile::Builder::new().prefix(&name).tempdir().expect("a directory");
        fs::copy(binary(), directory.path().join("secgroup")).expect("copy the program");
        for (unit, text) in units {
            fs::write(directory.path().join(unit), text).expect("write a unit");
        }
        let cgroup = cgroup_root().join(&name);
        fs::create_dir(&cgroup).unwrap_or_else(|error| panic!("{}: {error}", cgroup.display()));
        let mut command = Command::new("bash");
        command.args([
            "-c",
            "echo $$ > \"$1\"/cgroup.procs; shift; exec unshare --mount --pid --fork --kill-child --ipc --uts --net \
             --cgroup --propagation private bash -c \"$@\"",
            "bash",
        ]);
        command.arg(&cgroup).args([START, "bash"]).arg(directory.path());
        let systemd = Self { process: Process::start(command), cgroup, _directory: directory };
        wait_until(MAX_WAIT, "systemd to start the unit", || {
            systemd.shell("systemctl is-active secgroup").stdout.trim() == "active"
        });
        systemd
    }

    /// Runs a command of a shell inside until it ends.
    #[must_use]
    pub fn shell(&self, line: &str) -> CommandOutput {
        let id = self.process.id();
        let init = wait_for(MAX_WAIT, "the first process", || {
            let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
            children.split_whitespace().next().map(str::to_owned)
        });
        CommandOutput::of(Command::new("nsenter").args(["-t", &init, "-a", "bash", "-c", line]))
    }

    /// As [`Self::shell`], for a command that must succeed; returns its output.
    pub fn ok(&self, line: &str) -> String {
        let output = self.shell(line);
        assert_eq!(output.code, Some(0), "{line}: {output}\n{}", self.log());
        output.stdout
    }

    /// What `secgroup serve` has reported.
    #[must_use]
    pub fn log(&self) -> String {
        self.shell("cat /run/serve.log").stdout
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        self.process.kill();
        // Its processes end some time after it.
        wait_until(MAX_WAIT, "the control group to be removed", || remove(&self.cgroup));
    }
}

/// Where control groups of version 2 are mounted.
fn cgroup_root() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("read the mounts");
    let mut lines = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mount = lines.find(|fields| fields.get(2) == Some(&"cgroup2"));
    PathBuf::from(mount.expect("control groups of version 2")[1])
}

/// Removes a control group with those in it; returns whether none is left.
fn remove(cgroup: &Path) -> bool {
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    let _ = fs::remove_dir(cgroup);
    !cgroup.exists()
}
