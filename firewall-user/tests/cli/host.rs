//! A state directory of its own, and the commands that use it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use assert_cmd::cargo::CommandCargoExt as _;
use firewall_user::model::{Interface, InterfaceId, Model};
use firewall_user::store::Store;
use tempfile::TempDir;

/// A host with nothing on it.
pub(crate) struct Host {
    dir: TempDir,
}

/// What a command did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The words of `rule add` and `rule stage` of group web for TCP to a port.
pub(crate) const fn tcp<'a>(port: &'a str, cidr: &'a str) -> [&'a str; 8] {
    ["web", "ingress", "--protocol", "tcp", "--port", port, "--cidr", cidr]
}

impl Host {
    pub(crate) fn new() -> Self {
        Self { dir: TempDir::new().unwrap() }
    }

    /// Not there before the first command.
    pub(crate) fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// A place for files beside the state directory.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// A command that is not started yet.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::cargo_bin("secgroup").unwrap();
        command.env_clear();
        command.env("SECGROUP_STATE_DIR", self.state_dir());
        command.env("SECGROUP_CONFIG", self.config());
        // Nothing is pinned there: the kernel's state is not these tests' affair.
        command.env("SECGROUP_PIN_DIR", "/sys/fs/bpf/secgroup-nothing");
        command.stdin(Stdio::null()).args(args);
        command
    }

    /// The developer's own configuration must not decide a test.
    fn config(&self) -> PathBuf {
        let path = self.dir.path().join("config.toml");
        if !path.exists() {
            std::fs::write(&path, "").unwrap();
        }
        path
    }

    pub(crate) fn configure(&self, text: &str) {
        self.config();
        self.file("config.toml", text);
    }

    pub(crate) fn run(&self, args: &[&str]) -> Done {
        let output = self.command(args).output().unwrap();
        Done {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs a command that must succeed; returns what it printed.
    #[track_caller]
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let done = self.run(args);
        assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{args:?}");
        done.stdout
    }

    /// As [`Self::ok`], for a command that prints one id.
    #[track_caller]
    pub(crate) fn id(&self, args: &[&str]) -> String {
        let printed = self.ok(args);
        let id = printed.trim_end();
        assert!(!id.contains('\n'), "{printed}");
        id.to_owned()
    }

    pub(crate) fn store(&self) -> Store {
        Store::open(&self.state_dir()).unwrap()
    }

    /// Everything there is, and how often it changed.
    pub(crate) fn state(&self) -> (Model, u64) {
        let store = self.store();
        (store.model().unwrap(), store.generation().unwrap())
    }

    /// Attaches a group, as far as the store is concerned.
    pub(crate) fn attach(&self, device: &str, netns: Option<&str>, group: &str) {
        let mut store = self.store();
        let mut change = store.begin().unwrap();
        let (id, slot) = (InterfaceId::random().unwrap(), change.free_slot(64).unwrap());
        let interface = Interface {
            groups: vec![change.model().group(group).unwrap().id.clone()],
            ..Interface::new(id, slot, device, netns)
        };
        change.put_interface(&interface).unwrap();
        change.commit().unwrap();
    }

    /// Detaches everything, as far as the store is concerned: a change of a host with attached
    /// interfaces needs a BPF file system, which a machine that only tests may lack.
    pub(crate) fn detach_all(&self) {
        let mut store = self.store();
        let mut change = store.begin().unwrap();
        let slots: Vec<u16> = change.model().interfaces.keys().copied().collect();
        for slot in slots {
            change.delete_interface(slot).unwrap();
        }
        change.commit().unwrap();
    }
}
