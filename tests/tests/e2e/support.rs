//! Helpers that several tests use.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use secgroup_tests::Secgroup;
use secgroup_tests::udp;
use secgroup_tests::wait::{MAX_WAIT, wait_until};

/// The state of the first attached interface, as `status` reports it.
pub(crate) fn interface_state(secgroup: &Secgroup<'_>) -> String {
    let status = secgroup.status();
    status["NetworkInterfaces"][0]["State"].as_str().unwrap().to_owned()
}

/// The value of a series in a text of metrics; the series is named with its labels as written.
pub(crate) fn metric(text: &str, series: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    let line = line.unwrap_or_else(|| panic!("no {series} in\n{text}"));
    line.parse().unwrap_or_else(|error| panic!("{series} {line}: {error}"))
}

/// The number of flows that a filter of `flows count` selects.
pub(crate) fn count_flows(secgroup: &Secgroup<'_>, filter: &str) -> u64 {
    secgroup.json(&format!("flows count {filter}"))["Count"].as_u64().unwrap()
}

/// Exchanges datagrams with echo servers over every socket, until all of the flows are proven: a packet of
/// the initiator has followed a reply at least 2 s after the flow began. Returns how often.
pub(crate) fn exchange_until_proven(secgroup: &Secgroup<'_>, sockets: &[UdpSocket]) -> u64 {
    let proven = || count_flows(secgroup, "--protocol udp --tier proven");
    let expected = proven() + u64::try_from(sockets.len()).unwrap();
    let mut times = 0;
    wait_until(MAX_WAIT, "UDP flows to be proven", || {
        assert!(sockets.iter().all(|socket| udp::is_echoed(socket, MAX_WAIT)));
        times += 1;
        proven() == expected
    });
    times
}

/// Stops the threads that poll a flag when it is dropped, so also when the test panics.
pub(crate) struct StopOnDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A file system that is unmounted when this is dropped.
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    pub(crate) fn new(kind: &str, at: &Path, options: &str) -> Self {
        mount(Some("none"), at, Some(kind), MsFlags::empty(), Some(options)).unwrap();
        Self(at.to_owned())
    }

    /// A file or directory on itself.
    pub(crate) fn bind(at: &Path) -> Self {
        mount(Some(at), at, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        Self(at.to_owned())
    }

    /// A small file system of its own for the store of an instance that has none yet.
    pub(crate) fn for_store(secgroup: &Secgroup<'_>) -> Self {
        fs::create_dir(secgroup.state_dir()).unwrap();
        Self::new("tmpfs", &secgroup.state_dir(), "size=1m,mode=0700")
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn set_read_only(&self, is_read_only: bool) {
        let flag = if is_read_only { MsFlags::MS_RDONLY } else { MsFlags::empty() };
        let flags = MsFlags::MS_REMOUNT | flag;
        // A process that waits for a deadline looks at the store now and then.
        wait_until(MAX_WAIT, "the file system to be remounted", || {
            mount(None::<&str>, &self.0, None::<&str>, flags, None::<&str>).is_ok()
        });
    }

    /// Fills it but for some pages of 4 KiB.
    pub(crate) fn fill_but(&self, pages: u64) {
        let path = self.0.join("filler");
        let mut file = File::create(&path).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
        let length = file.metadata().unwrap().len();
        file.set_len(length - length % 4096 - pages * 4096).unwrap();
    }

    pub(crate) fn free(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}
