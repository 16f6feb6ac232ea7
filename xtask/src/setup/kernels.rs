//! Debian's kernels, unpacked and not installed. Their packages are found through separate package
//! lists: the machine's sources stay as they are.

use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::debian;
use crate::{exec, paths};

/// The name of the newest of all releases.
const NEWEST: &str = "newest";

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The suites with the kernels of Debian 12 itself.
const OWN: &[(&str, &str)] = &[("debian", "bookworm"), ("debian-security", "bookworm-security")];
/// The suites with the others.
const ALL: &[(&str, &str)] = &[
    ("debian", "bullseye"),
    ("debian-security", "bullseye-security"),
    ("debian", "bookworm"),
    ("debian-security", "bookworm-security"),
    ("debian", "bookworm-backports"),
    ("debian", "trixie"),
    ("debian", "trixie-backports"),
    ("debian", "sid"),
];

/// An unpacked kernel.
pub(crate) struct Kernel {
    /// As `uname -r` prints it.
    pub(crate) release: String,
    directory: PathBuf,
}

impl Kernel {
    /// The file that the emulator boots.
    pub(crate) fn image(&self) -> PathBuf {
        let boot = self.directory.join("boot").join(format!("vmlinuz-{}", self.release));
        // Newer packages copy it to /boot when they are installed.
        if boot.exists() { boot } else { self.modules().join("vmlinuz") }
    }

    /// The directory of its modules.
    pub(crate) fn modules(&self) -> PathBuf {
        // Debian 13 has merged /lib into /usr/lib.
        let trees = ["usr/lib/modules", "lib/modules"];
        let trees = trees.map(|tree| self.directory.join(tree).join(&self.release));
        let [new, old] = trees;
        if new.exists() { new } else { old }
    }
}

/// The kernel of a version (`6.1`) or the newest one, downloaded if it is not there yet.
pub(crate) fn ensure(wanted: &str) -> Result<Kernel> {
    let kernels = paths::tools().join("kernels");
    let present = fs::read_dir(&kernels).into_iter().flatten().flatten();
    let present = present.filter_map(|entry| entry.file_name().into_string().ok());
    let present = choose(wanted, present.filter(|name| !name.ends_with(".part")));
    // Only the package lists have the newest one.
    if let Some(release) = present.filter(|_| wanted != NEWEST) {
        return Ok(Kernel { directory: kernels.join(&release), release });
    }
    if !debian::is_debian() {
        bail!("set up: kernels for tests are Debian's, and this is another system");
    }
    exec::step(&format!("looking for Debian's kernel {wanted}, to boot it in tests"));
    let lists = Lists::of(wanted)?;
    let release = lists.newest(wanted)?;
    let directory = kernels.join(&release);
    if directory.exists() {
        return Ok(Kernel { directory, release });
    }
    // It gets its name when it is complete.
    let part = kernels.join(format!("{release}.part"));
    let _ = fs::remove_dir_all(&part);
    // Newer ones are split into three packages.
    for package in lists.parts(&release)? {
        debian::unpack(|| lists.command("apt-get"), &package, &part)?;
    }
    fs::rename(&part, &directory).with_context(|| format!("write {}", directory.display()))?;
    Ok(Kernel { directory, release })
}

/// The highest release of a version.
fn choose(wanted: &str, releases: impl Iterator<Item = String>) -> Option<String> {
    let fits = |release: &String| {
        wanted == NEWEST || release.strip_prefix(wanted).is_some_and(|rest| rest.starts_with('.'))
    };
    releases.filter(fits).max_by(|one, other| compare(one, other))
}

/// Number by number: 6.12.9 is older than 6.12.10.
fn compare(one: &str, other: &str) -> Ordering {
    let numbers = |release: &str| -> Vec<u64> {
        let numbers = release.split(|c: char| !c.is_ascii_digit());
        numbers.filter_map(|number| number.parse().ok()).collect()
    };
    numbers(one).cmp(&numbers(other))
}

/// Separate package lists.
struct Lists {
    directory: PathBuf,
}

impl Lists {
    fn of(wanted: &str) -> Result<Self> {
        let (name, suites) = match wanted {
            "6.1" | "6.12" => ("bookworm", OWN),
            _ => ("all", ALL),
        };
        let directory = paths::tools().join("apt").join(name);
        for part in ["state/lists/partial", "cache/archives/partial"] {
            let path = directory.join(part);
            fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        }
        let sources: String = suites
            .iter()
            .map(|(archive, suite)| {
                format!("deb [signed-by={KEYRING}] http://deb.debian.org/{archive} {suite} main\n")
            })
            .collect();
        for (file, text) in [("sources.list", sources.as_str()), ("status", "")] {
            let path = directory.join(file);
            fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        }
        let lists = Self { directory };
        debian::update_by(lists.command("apt-get"));
        Ok(lists)
    }

    fn command(&self, program: &str) -> Command {
        let at = |path: &str| self.directory.join(path).display().to_string();
        let mut command = if program == "apt-get" { debian::apt() } else { Command::new(program) };
        for option in [
            format!("Dir::Etc::sourcelist={}", at("sources.list")),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            "Dir::Etc::preferences=/dev/null".to_owned(),
            "Dir::Etc::preferencesparts=/dev/null".to_owned(),
            format!("Dir::State={}", at("state")),
            format!("Dir::State::status={}", at("status")),
            format!("Dir::Cache={}", at("cache")),
            // No descriptions and icons.
            "Acquire::Languages=none".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        command
    }

    /// The newest release of a version, by the names of packages: a kernel has three numbers in its
    /// name, a metapackage two.
    fn newest(&self, wanted: &str) -> Result<String> {
        let mut search = self.command("apt-cache");
        search.args(["search", "--names-only", "^linux-image-[0-9.+deb-]*-cloud-amd64$"]);
        let found = exec::output(&mut search, "search for kernels")?;
        let releases = found.lines().filter_map(|line| {
            let release = line.split(' ').next()?.strip_prefix("linux-image-")?;
            (release.split('.').count() >= 3).then(|| release.to_owned())
        });
        choose(wanted, releases).with_context(|| format!("kernel {wanted}: Debian has none now"))
    }

    /// The packages of a release.
    fn parts(&self, release: &str) -> Result<Vec<String>> {
        let image = format!("linux-image-{release}");
        let mut show = self.command("apt-cache");
        let shown =
            exec::output(show.args(["show", "--no-all-versions", &image]), "show a kernel")?;
        let depends = shown.lines().find_map(|line| line.strip_prefix("Depends: "));
        let others = depends.unwrap_or_default().split(", ");
        let others = others.filter_map(|one| one.split(' ').next());
        let ours = others.filter(|one| one.starts_with("linux-") && one.ends_with(release));
        let parts = ours.map(str::to_owned);
        Ok([image.clone()].into_iter().chain(parts).collect())
    }
}

/// The file of a module.
pub(crate) fn module_file(modules: &Path, name: &str) -> Option<PathBuf> {
    let mut directories = vec![modules.join("kernel")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            let file = entry.file_name();
            let stem = file.to_str().and_then(|file| file.split(".ko").next());
            if path.is_dir() {
                directories.push(path);
            } else if stem.is_some_and(|stem| stem.replace('-', "_") == name) {
                return Some(path);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::choose;

    #[test]
    fn the_newest_of_a_version_is_chosen() {
        let releases = ["6.1.0-9-cloud-amd64", "6.1.0-56-cloud-amd64", "6.12.9+deb12-cloud-amd64"];
        let releases = || releases.into_iter().map(str::to_owned);
        assert_eq!(choose("6.1", releases()).unwrap(), "6.1.0-56-cloud-amd64");
        assert_eq!(choose("6.12", releases()).unwrap(), "6.12.9+deb12-cloud-amd64");
        assert_eq!(choose("newest", releases()).unwrap(), "6.12.9+deb12-cloud-amd64");
        assert_eq!(choose("6", releases()).unwrap(), "6.12.9+deb12-cloud-amd64");
        assert_eq!(choose("5.10", releases()), None);
    }
}
