//! Tun and tap devices: the device receives what the test writes.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::Namespace;
use crate::network::{End, wait_until_idle, wait_until_ready};
use crate::process::output;
use crate::wait::{MAX_WAIT, wait_for};

/// Whether a device has an Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bare IP packets.
    Tun,
    /// Ethernet frames.
    Tap,
}

/// A tun or tap device, deleted when this is dropped.
pub struct Tun {
    file: File,
}

impl Tun {
    /// Creates a device in the namespace of an end, and waits until it is up and idle.
    #[must_use]
    pub fn new(end: End<'_>, kind: Kind) -> Self {
        let End { namespace, device, addresses } = end;
        let tun = Self { file: namespace.run(|| open(device, kind)) };
        for address in addresses {
            let nodad = if address.contains(':') { "nodad" } else { "" };
            namespace.ip(&format!("address add {address} dev {device} {nodad}"));
        }
        namespace.ip(&format!("link set {device} up"));
        match kind {
            Kind::Tap => wait_until_ready(&[end]),
            // It has no link layer, so it sends no multicast reports.
            Kind::Tun => wait_until_idle(&[end]),
        }
        tun
    }

    /// Lets the device receive a packet, or a frame.
    pub fn send(&self, packet: &[u8]) {
        let sent = (&self.file).write(packet);
        let sent = sent.unwrap_or_else(|error| panic!("write {packet:02x?} to a tun: {error}"));
        assert_eq!(sent, packet.len(), "a tun accepts only whole packets");
    }

    /// The next packet or frame that the device has transmitted, if any.
    #[must_use]
    pub fn transmitted(&self) -> Option<Vec<u8>> {
        let mut packet = vec![0; 1 << 16];
        match (&self.file).read(&mut packet) {
            Ok(length) => packet.truncate(length),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
            Err(error) => panic!("read from a tun: {error}"),
        }
        Some(packet)
    }

    /// Waits for the device to transmit a matching packet, and skips all others.
    #[must_use]
    pub fn receive(&self, matches: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        wait_for(MAX_WAIT, "a tun to transmit", || {
            self.transmitted().filter(|packet| matches(packet))
        })
    }
}

impl AsRawFd for Tun {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl Tun {
    /// Creates a device whose link layer is neither Ethernet nor bare IP.
    #[must_use]
    pub fn of_another_link_layer(namespace: &Namespace, device: &str) -> Self {
        let tun = Self { file: namespace.run(|| open(device, Kind::Tun)) };
        let layer = libc::c_ulong::from(libc::ARPHRD_IEEE80211);
        // SAFETY: the command takes a number.
        let set = unsafe { libc::ioctl(tun.file.as_raw_fd(), libc::TUNSETLINK, layer) };
        assert_eq!(set, 0, "set the link layer of {device}: {}", std::io::Error::last_os_error());
        tun
    }

    /// Opens a macvtap device as the guest that it belongs to: the guest's frames are written, and read what
    /// is for it. The device is not deleted with this.
    #[must_use]
    pub fn of_macvtap(namespace: &Namespace, device: &str) -> Self {
        // `ip netns exec` mounts the sysfs of the namespace.
        let number = format!("cat /sys/class/net/{device}/tap*/dev");
        let number = output(Command::new("ip").args([
            "netns",
            "exec",
            namespace.name(),
            "sh",
            "-c",
            &number,
        ]));
        let (major, minor) = number.trim().split_once(':').expect("MAJOR:MINOR");
        let directory = tempfile::tempdir().expect("create a directory");
        let node = directory.path().join("tap");
        output(Command::new("mknod").arg(&node).args(["c", major, minor]));
        Self { file: open_at(&node, "", Kind::Tap) }
    }
}

fn open(name: &str, kind: Kind) -> File {
    open_at(Path::new("/dev/net/tun"), name, kind)
}

fn open_at(path: &Path, name: &str, kind: Kind) -> File {
    let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = file.unwrap_or_else(|error| panic!("open {}: {error}", path.display()));
    let kind = match kind {
        Kind::Tun => libc::IFF_TUN,
        Kind::Tap => libc::IFF_TAP,
    };
    // SAFETY: all of it is numbers and arrays of them, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let bytes = name.as_bytes();
    assert!(bytes.len() < request.ifr_name.len(), "{name} is too long for a device");
    for (to, from) in request.ifr_name.iter_mut().zip(bytes) {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    request.ifr_ifru.ifru_flags =
        libc::c_short::try_from(kind | libc::IFF_NO_PI).expect("two flags of a short");
    // SAFETY: the command takes an `ifreq`, which outlives the call.
    let created = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    assert_eq!(created, 0, "create {name}: {}", std::io::Error::last_os_error());
    file
}
