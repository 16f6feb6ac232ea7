//! Attributes of devices that Debian 12's `ip` does not set.

use std::io;

use libc::c_void;
use nix::errno::Errno;

use crate::Namespace;
use crate::socket::{device_index, open};

// include/uapi/linux/if_link.h
const IFLA_GSO_MAX_SIZE: u16 = 41;
const IFLA_GRO_MAX_SIZE: u16 = 58;
const IFLA_GSO_IPV4_MAX_SIZE: u16 = 63;
const IFLA_GRO_IPV4_MAX_SIZE: u16 = 64;

/// The largest packet that a device takes and merges, in bytes, of both families: over 65,536 it is
/// BIG TCP. Returns `false` if the kernel has no such size for IPv4 (before Linux 6.3).
#[must_use]
pub fn set_largest_packet(namespace: &Namespace, device: &str, bytes: u32) -> bool {
    let set = |attributes: &[u16]| set_attributes(namespace, device, attributes, bytes);
    set(&[IFLA_GSO_MAX_SIZE, IFLA_GRO_MAX_SIZE])
        .unwrap_or_else(|error| panic!("{device}: set the largest packet to {bytes}: {error}"));
    match set(&[IFLA_GSO_IPV4_MAX_SIZE, IFLA_GRO_IPV4_MAX_SIZE]) {
        Ok(()) => has_attribute_v4(),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => false,
        Err(error) => panic!("{device}: set the largest IPv4 packet to {bytes}: {error}"),
    }
}

/// An older kernel ignores an attribute that it does not know.
fn has_attribute_v4() -> bool {
    let release = nix::sys::utsname::uname().expect("uname");
    let release = release.release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map(|part| part.parse().unwrap_or(0_u32));
    (numbers.next(), numbers.next()) >= (Some(6), Some(3))
}

/// `RTM_NEWLINK` with attributes of 32 bits.
fn set_attributes(
    namespace: &Namespace,
    device: &str,
    attributes: &[u16],
    value: u32,
) -> io::Result<()> {
    let mut body = Vec::new();
    // struct ifinfomsg: family and padding, type, index, flags, change.
    body.extend([0_u8; 4]);
    body.extend(device_index(namespace, device).to_ne_bytes());
    body.extend([0_u8; 8]);
    for attribute in attributes {
        body.extend(8_u16.to_ne_bytes());
        body.extend(attribute.to_ne_bytes());
        body.extend(value.to_ne_bytes());
    }
    let flags = u16::try_from(libc::NLM_F_REQUEST | libc::NLM_F_ACK).expect("16 bits");
    let mut message = Vec::new();
    // struct nlmsghdr: length, type, flags, sequence number, port.
    message.extend(u32::try_from(16 + body.len()).expect("a short message").to_ne_bytes());
    message.extend(libc::RTM_NEWLINK.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0_u8; 8]);
    message.extend(body);

    let socket = open(namespace, libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE);
    let socket = std::os::fd::AsRawFd::as_raw_fd(&socket);
    // SAFETY: the message outlives the call.
    let sent = unsafe { libc::send(socket, message.as_ptr().cast::<c_void>(), message.len(), 0) };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut reply = [0_u8; 4096];
    // SAFETY: the buffer outlives the call and has that many bytes.
    let received =
        unsafe { libc::recv(socket, reply.as_mut_ptr().cast::<c_void>(), reply.len(), 0) };
    if received < 20 {
        return Err(io::Error::last_os_error());
    }
    // struct nlmsgerr after the header: 0 or a negative error number.
    match i32::from_ne_bytes([reply[16], reply[17], reply[18], reply[19]]) {
        0 => Ok(()),
        error => Err(Errno::from_raw(-error).into()),
    }
}
