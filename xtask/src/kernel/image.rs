//! The files of a machine in the emulator: busybox, network tools, modules, and the built tests at the
//! paths that they have here.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::cpio::Archive;
use super::{END, KERNEL_WARNING, SUITE_SECONDS, Suite};
use crate::setup::emulator;
use crate::setup::kernels::{Kernel, module_file};
use crate::{exec, paths};

/// Modules of the tests' networks, where they are not built into the kernel.
const MODULES: [&str; 7] = ["veth", "bridge", "tun", "8021q", "sch_ingress", "cls_bpf", "cls_u32"];

/// Programs that the tests run and that busybox lacks, or has with fewer options.
const PROGRAMS: [&str; 4] = ["ip", "tc", "ping", "setpriv"];

const SERVICES: [&str; 2] = ["/etc/passwd", "/etc/group"];

/// Writes the archive; returns where it is.
pub(super) fn build(kernel: &Kernel, suites: &[Suite]) -> Result<PathBuf> {
    let mut archive = Archive::default();
    for directory in ["/dev", "/proc", "/sys", "/tmp", "/run", "/etc", "/root", "/var"] {
        archive.directory(directory);
    }
    archive.link("/var/run", "/run");
    archive.file("/bin/busybox", &read(&emulator::busybox())?);
    let mut programs = Programs { archive: &mut archive, libraries: BTreeSet::new() };
    for name in PROGRAMS {
        let path =
            exec::find(name).with_context(|| format!("build the image of a machine: no {name}"))?;
        programs.add(&path, &format!("/usr/bin/{name}"))?;
    }
    for file in SERVICES {
        programs.archive.file(file, &read(Path::new(file))?);
    }
    for path in [paths::tested(), paths::bpf_object()] {
        let place = as_in_repository(&path);
        programs.add(&path, &place)?;
    }
    for suite in suites {
        let stripped = stripped(&suite.binary)?;
        programs.add(&stripped, &place_of(suite))?;
    }
    archive.directory(&format!("{}/tests", paths::root().display()));
    let loads = modules(&mut archive, kernel, &MODULES)?;
    archive.file("/init", init(&loads, kernel, suites).as_bytes());

    let path = paths::target().join("kernels").join(format!("{}.cpio", kernel.release));
    let parent = path.parent().context("a place for the archive")?;
    fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
    fs::write(&path, archive.finish()).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("read {}", path.display()))
}

/// The path at which the tests find a built file: in `target`, also if this build has another target
/// directory.
fn as_in_repository(path: &Path) -> String {
    let inside = path.strip_prefix(paths::target()).unwrap_or(path);
    paths::root().join("target").join(inside).display().to_string()
}

fn place_of(suite: &Suite) -> String {
    format!("/suites/{}", suite.name)
}

/// Programs with the libraries that they are linked with.
pub(super) struct Programs<'a> {
    pub(super) archive: &'a mut Archive,
    pub(super) libraries: BTreeSet<String>,
}

impl Programs<'_> {
    pub(super) fn add(&mut self, path: &Path, place: &str) -> Result<()> {
        self.archive.file(place, &read(path)?);
        // Fails for a statically linked program and for a file that is no program.
        let listed = exec::output(Command::new("ldd").arg(path), "list libraries");
        for library in listed.iter().flat_map(|text| text.split_whitespace()) {
            if library.starts_with('/') && self.libraries.insert(library.to_owned()) {
                self.archive.file(library, &read(Path::new(library))?);
            }
        }
        Ok(())
    }
}

/// A copy without debug information, which is most of the file.
fn stripped(binary: &Path) -> Result<PathBuf> {
    let copy = binary.with_extension("stripped");
    let mut strip = Command::new("strip");
    strip.arg("--strip-debug").arg(binary).arg("-o").arg(&copy);
    exec::run(&mut strip, "strip a test")?;
    Ok(copy)
}

/// Adds the modules and what they need; returns them in the order in which they load.
pub(super) fn modules(
    archive: &mut Archive,
    kernel: &Kernel,
    names: &[&str],
) -> Result<Vec<String>> {
    let tree = kernel.modules();
    let builtin = fs::read_to_string(tree.join("modules.builtin")).unwrap_or_default();
    let mut loads = Vec::new();
    let mut wanted: Vec<String> = names.iter().rev().map(|&name| name.to_owned()).collect();
    while let Some(name) = wanted.pop() {
        if loads.contains(&name) {
            continue;
        }
        let Some(file) = module_file(&tree, &name) else {
            if builtin.lines().any(|line| line.replace('-', "_").ends_with(&format!("/{name}.ko")))
            {
                continue;
            }
            bail!("build the image of a machine: Linux {} has no module {name}", kernel.release);
        };
        let bytes = unpacked(&file)?;
        let missing: Vec<String> =
            depends(&bytes).into_iter().filter(|one| !loads.contains(one)).collect();
        let builtin_only = missing.iter().all(|one| module_file(&tree, one).is_none());
        if missing.is_empty() || builtin_only {
            archive.file(&format!("/modules/{name}.ko"), &bytes);
            loads.push(name);
        } else {
            // Again, after its dependencies.
            wanted.push(name);
            wanted.extend(missing);
        }
    }
    Ok(loads)
}

/// A module's bytes, decompressed.
fn unpacked(file: &Path) -> Result<Vec<u8>> {
    let applet = match file.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xzcat",
        Some("gz") => "zcat",
        _ => return read(file),
    };
    let output = Command::new(emulator::busybox()).arg(applet).arg(file).output();
    let output = output.with_context(|| format!("unpack {}", file.display()))?;
    if !output.status.success() {
        bail!("unpack {}: {applet} ended with {}", file.display(), output.status);
    }
    Ok(output.stdout)
}

/// The dependencies in a module's description: `depends=stp,llc`.
fn depends(module: &[u8]) -> Vec<String> {
    const FIELD: &[u8] = b"\0depends=";
    let at = module.windows(FIELD.len()).position(|window| window == FIELD);
    let names = at.map(|at| &module[at + FIELD.len()..]).unwrap_or_default();
    let names = names.split(|byte| *byte == 0).next().unwrap_or_default();
    let names = String::from_utf8_lossy(names);
    names.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

/// The first program: mounts, modules, and one suite after another, named as cargo names them. Nothing is mounted
/// at /tmp, because the repository, and with it the programs, may be there; all of the image is in memory.
fn init(loads: &[String], kernel: &Kernel, suites: &[Suite]) -> String {
    let root = paths::root().display();
    let release = &kernel.release;
    let version = release.trim_end_matches("-cloud-amd64");
    let mut script = format!(
        "#!/bin/busybox sh\n\
         /bin/busybox --install -s /bin\n\
         export PATH=/usr/bin:/bin\n\
         mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev\n\
         chmod 1777 /tmp; mount -t tmpfs run /run; mount -t bpf bpf /sys/fs/bpf\n\
         export CARGO_MANIFEST_DIR={root}/tests CARGO_TARGET_DIR={root}/target\n\
         export HOME=/root SECGROUP_BPF_OBJECT={object}\n\
         cd {root}/tests\n",
        object = as_in_repository(&paths::bpf_object()),
    );
    for name in loads {
        let _ = writeln!(script, "insmod /modules/{name}.ko || echo \"no module {name}\"");
    }
    for suite in suites {
        let Suite { name, source, filters, .. } = suite;
        // The report takes the suite's name from the last word.
        let _ = writeln!(script, "echo '     Running {source} (/Linux {version}: {name}-0)'");
        let place = place_of(suite);
        let filters = filters.join(" ");
        let _ =
            writeln!(script, "timeout -s KILL {SUITE_SECONDS} {place} --test-threads=2 {filters}");
    }
    // Warnings of the kernel, without stalls, which emulation causes.
    let _ = writeln!(
        script,
        "dmesg | grep -E 'WARNING: |BUG: |Oops' | grep -v stall | sed 's/^/{KERNEL_WARNING} /'\n\
         echo '{END}'\n\
         poweroff -f"
    );
    script
}
