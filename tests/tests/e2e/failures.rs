//! Commands that are refused: each prints one line that names operation and object and one hint,
//! returns the documented exit code, and changes nothing.

mod capabilities;
mod capacity;
mod concurrency;
mod device;
mod kernel;
mod locations;
mod store;

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use aya::programs::{ProgramInfo, SchedClassifier, TcAttachType};
use firewall_user::dataplane::Pins;
use firewall_user::dataplane::tables::maps::Maps;
use secgroup_tests::secgroup::CommandOutput;
use secgroup_tests::{Namespace, Secgroup};

/// Everything that a refused command must not change.
#[derive(Debug, PartialEq, Eq)]
struct State {
    /// The length and a hash of the store's file. Readers create and remove its journals.
    store: Option<(usize, u64)>,
    /// Every pin with its inode, which changes when the pin is replaced.
    pins: BTreeMap<PathBuf, u64>,
    /// The words that select the active policies.
    active: Vec<u64>,
    /// By device: the XDP program, and the revision and programs of both TCX hooks.
    attached: BTreeMap<String, Vec<String>>,
}

impl State {
    fn of(secgroup: &Secgroup<'_>, namespace: &Namespace) -> Self {
        let mut pins = BTreeMap::new();
        list(secgroup.pin_dir(), &mut pins);
        let active = Maps::open(&Pins::new(secgroup.pin_dir())).map_or_else(
            |_| Vec::new(),
            |maps| {
                let slots = 0..u16::try_from(maps.sizes.interfaces).unwrap();
                slots.map(|slot| maps.active(slot).unwrap().0).collect()
            },
        );
        let links = namespace.ip("-oneline link show");
        let attached = links.lines().map(|line| {
            let device = line.split([':', '@']).nth(1).unwrap().trim().to_owned();
            // The mode, `prog/xdp`, and the next two words, `id 12`.
            let words: Vec<_> = line.split_whitespace().collect();
            let xdp = words.iter().enumerate().filter(|(_, word)| word.contains("xdp"));
            let xdp = xdp.flat_map(|(at, _)| &words[at..(at + 3).min(words.len())]);
            let mut programs = vec![xdp.copied().collect::<Vec<_>>().join(" ")];
            for hook in [TcAttachType::Ingress, TcAttachType::Egress] {
                let query = || SchedClassifier::query_tcx(device.as_str(), hook);
                // A kernel without TCX returns an error.
                let (revision, list) = namespace.run(query).unwrap_or_default();
                let ids: Vec<u32> = list.iter().map(ProgramInfo::id).collect();
                programs.push(format!("{revision} {ids:?}"));
            }
            (device, programs)
        });
        Self {
            store: fs::read(secgroup.state_dir().join("secgroup.db")).ok().map(|bytes| {
                let mut hasher = DefaultHasher::new();
                bytes.hash(&mut hasher);
                (bytes.len(), hasher.finish())
            }),
            pins,
            active,
            attached: attached.collect(),
        }
    }
}

fn list(directory: &Path, pins: &mut BTreeMap<PathBuf, u64>) {
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            list(&path, pins);
        }
        pins.insert(path, metadata.ino());
    }
}

/// Runs work that must change nothing.
#[track_caller]
fn assert_unchanged<T>(
    secgroup: &Secgroup<'_>,
    namespace: &Namespace,
    work: impl FnOnce() -> T,
) -> T {
    let before = State::of(secgroup, namespace);
    let result = work();
    assert_eq!(State::of(secgroup, namespace), before);
    result
}

/// Asserts that a command was refused with this exit code, error and hint.
#[track_caller]
fn assert_refused(answer: &CommandOutput, code: i32, error: &str, hint: &str) {
    let expected = format!("error: {error}\nhint: {hint}\n");
    let actual = (answer.code, answer.stdout.as_str(), answer.stderr.as_str());
    assert_eq!(actual, (Some(code), "", expected.as_str()));
}

/// The commands that change state, for an interface `eth0` with the group `web`.
const CHANGES: [&str; 5] = [
    "attach eth0 --group web",
    "rule add web ingress --protocol tcp --port 443 --cidr 10.0.0.0/8",
    "flows flush",
    "reconcile",
    "detach eth0",
];

/// The operation that a command names when it fails.
fn operation(line: &str) -> &str {
    match line.split(' ').next() {
        Some("rule") => "add rule to group web",
        Some("flows") => line,
        Some("reconcile") => "reconcile",
        Some("attach") => "attach eth0",
        Some("detach") if line.ends_with("--all") => "detach --all",
        Some("detach") => "detach eth0",
        _ => line,
    }
}
