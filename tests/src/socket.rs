//! Socket operations that `std` does not have.

use std::ffi::CString;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd as _, OwnedFd};

use libc::{c_int, c_void, sockaddr_storage, socklen_t};

use crate::Namespace;

/// Creates a socket in a namespace.
#[must_use]
pub fn open(namespace: &Namespace, domain: c_int, kind: c_int, protocol: c_int) -> OwnedFd {
    namespace.run(|| new(domain, kind, protocol)).unwrap_or_else(|error| {
        panic!("create a socket ({domain}, {kind}, {protocol}) in {}: {error}", namespace.name())
    })
}

fn new(domain: c_int, kind: c_int, protocol: c_int) -> io::Result<OwnedFd> {
    // SAFETY: `socket` takes three integers.
    let fd = unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just created, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The socket domain of an address.
#[must_use]
pub(crate) fn domain(address: IpAddr) -> c_int {
    if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }
}

/// Sets an integer option.
pub fn set(socket: &impl AsRawFd, level: c_int, option: c_int, value: c_int) {
    try_set(socket, level, option, value)
        .unwrap_or_else(|error| panic!("set option {option} of level {level}: {error}"));
}

fn try_set(socket: &impl AsRawFd, level: c_int, option: c_int, value: c_int) -> io::Result<()> {
    let value = (&raw const value).cast::<c_void>();
    // SAFETY: the value is a `c_int`, as `length_of` gives, and outlives the call.
    let set =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value, length_of::<c_int>()) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes sends fail that exceed the known path MTU, instead of fragmenting.
pub fn never_fragment(socket: &impl AsRawFd, like: SocketAddr) {
    if like.is_ipv4() {
        set(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO);
    } else {
        set(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DO);
    }
}

/// The path MTU that the kernel has cached for a connected socket.
#[must_use]
pub fn path_mtu(socket: &impl AsRawFd, like: SocketAddr) -> u32 {
    let mtu = if like.is_ipv4() {
        get_bytes(socket, libc::IPPROTO_IP, libc::IP_MTU)
    } else {
        get_bytes(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU)
    };
    u32::from_ne_bytes(mtu)
}

/// The negotiated options of a TCP connection: `TCPI_OPT_ECN`, `TCPI_OPT_SYN_DATA` and others.
#[must_use]
pub fn tcp_options(stream: &TcpStream) -> u8 {
    // State, congestion state, retransmits, probes, backoff, options: a byte each.
    get_bytes::<6>(stream, libc::IPPROTO_TCP, libc::TCP_INFO)[5]
}

fn get_bytes<const N: usize>(socket: &impl AsRawFd, level: c_int, option: c_int) -> [u8; N] {
    let mut value = [0; N];
    let mut length = socklen_t::try_from(N).expect("few bytes");
    // SAFETY: the value has `length` bytes; both outlive the call.
    let got = unsafe {
        let value = value.as_mut_ptr().cast::<c_void>();
        libc::getsockopt(socket.as_raw_fd(), level, option, value, &raw mut length)
    };
    assert_eq!(got, 0, "read option {option}: {}", io::Error::last_os_error());
    value
}

/// Connects with TCP Fast Open (RFC 7413): the first write sends the SYN, with data if the server
/// gave a cookie before. Has to be called in the client's namespace.
pub fn connect_fast(to: SocketAddr) -> io::Result<TcpStream> {
    const TCP_FASTOPEN_CONNECT: c_int = 30;
    let socket = new(domain(to.ip()), libc::SOCK_STREAM, 0)?;
    try_set(&socket, libc::IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)?;
    let (address, length) = raw_address(to);
    // SAFETY: the address outlives the call, and the length is that of its family.
    let connected = unsafe {
        libc::connect(socket.as_raw_fd(), (&raw const address).cast::<libc::sockaddr>(), length)
    };
    if connected < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(TcpStream::from(socket))
}

fn raw_address(address: SocketAddr) -> (sockaddr_storage, socklen_t) {
    // SAFETY: it consists of integers and arrays of them, for which zero is valid.
    let mut storage: sockaddr_storage = unsafe { std::mem::zeroed() };
    match address {
        SocketAddr::V4(v4) => {
            // SAFETY: the storage is large and aligned enough for every kind of address.
            let to = unsafe { &mut *(&raw mut storage).cast::<libc::sockaddr_in>() };
            to.sin_family = family(libc::AF_INET);
            to.sin_port = v4.port().to_be();
            to.sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
            (storage, length_of::<libc::sockaddr_in>())
        }
        SocketAddr::V6(v6) => {
            // SAFETY: as above.
            let to = unsafe { &mut *(&raw mut storage).cast::<libc::sockaddr_in6>() };
            to.sin6_family = family(libc::AF_INET6);
            to.sin6_port = v6.port().to_be();
            to.sin6_addr.s6_addr = v6.ip().octets();
            (storage, length_of::<libc::sockaddr_in6>())
        }
    }
}

fn family(domain: c_int) -> libc::sa_family_t {
    libc::sa_family_t::try_from(domain).expect("a small number")
}

fn length_of<T>() -> socklen_t {
    socklen_t::try_from(size_of::<T>()).expect("a small size")
}

/// An ICMP error that reached a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpError {
    /// The error of the socket, for example `EHOSTUNREACH`.
    pub errno: c_int,
    /// ICMP type.
    pub kind: u8,
    /// ICMP code.
    pub code: u8,
    /// The sender's address.
    pub by: IpAddr,
}

/// Makes a socket queue ICMP errors for [`next_icmp_error`].
pub fn enable_error_queue(socket: &impl AsRawFd, address: IpAddr) {
    if address.is_ipv4() {
        set(socket, libc::IPPROTO_IP, libc::IP_RECVERR, 1);
    } else {
        set(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1);
    }
}

/// The next ICMP error in a socket's error queue, if any.
#[must_use]
pub fn next_icmp_error(socket: &impl AsRawFd) -> Option<IcmpError> {
    let mut data = [0_u8; 2048];
    // `u64` for the alignment of control messages.
    let mut control = [0_u64; 64];
    let mut part =
        libc::iovec { iov_base: data.as_mut_ptr().cast::<c_void>(), iov_len: data.len() };
    // SAFETY: it consists of integers and pointers, for which zero is valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast::<c_void>();
    message.msg_controllen = size_of_val(&control);
    let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
    // SAFETY: everything that the message points to outlives the call.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
    if received < 0 {
        let error = io::Error::last_os_error();
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "read the error queue: {error}");
        return None;
    }
    // SAFETY: the kernel has filled the message; each header that the macros return is in
    // `control`, and its data has the type that it names.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            match ((*header).cmsg_level, (*header).cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR) => {
                    return Some(read_error(
                        libc::CMSG_DATA(header).cast::<libc::sock_extended_err>(),
                    ));
                }
                _ => header = libc::CMSG_NXTHDR(&raw const message, header),
            }
        }
    }
    panic!("a message of the error queue without an error");
}

/// # Safety
/// The sender's address has to follow the error, as the kernel writes it.
unsafe fn read_error(error: *const libc::sock_extended_err) -> IcmpError {
    // SAFETY: the caller guarantees both; the reads need no alignment.
    let (error, address) = unsafe {
        (error.read_unaligned(), error.add(1).cast::<libc::sockaddr_in6>().read_unaligned())
    };
    let by = if i32::from(address.sin6_family) == libc::AF_INET6 {
        IpAddr::V6(Ipv6Addr::from(address.sin6_addr.s6_addr))
    } else {
        // `sin_addr` has the offset of `sin6_flowinfo`.
        IpAddr::V4(Ipv4Addr::from(address.sin6_flowinfo.to_ne_bytes()))
    };
    let errno = c_int::try_from(error.ee_errno).expect("an error number");
    IcmpError { errno, kind: error.ee_type, code: error.ee_code, by }
}

/// The index of a device.
#[must_use]
pub fn device_index(namespace: &Namespace, device: &str) -> u32 {
    let name = CString::new(device).expect("a name without NUL");
    // SAFETY: the name outlives the call and ends with NUL.
    let index = namespace.run(|| unsafe { libc::if_nametoindex(name.as_ptr()) });
    assert_ne!(index, 0, "no device {device} in {}", namespace.name());
    index
}

/// A packet socket that sends raw frames over a device.
pub struct PacketSocket {
    socket: OwnedFd,
}

impl PacketSocket {
    /// Binds to a device.
    #[must_use]
    pub fn new(namespace: &Namespace, device: &str) -> Self {
        let socket = open(namespace, libc::AF_PACKET, libc::SOCK_RAW, 0);
        let index = device_index(namespace, device);
        // SAFETY: it consists of integers and arrays of them, for which zero is valid.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = family(libc::AF_PACKET);
        address.sll_ifindex = c_int::try_from(index).expect("an interface's number");
        let length = length_of::<libc::sockaddr_ll>();
        // SAFETY: the address outlives the call, and the length is its size.
        let bound = unsafe {
            libc::bind(socket.as_raw_fd(), (&raw const address).cast::<libc::sockaddr>(), length)
        };
        assert_eq!(bound, 0, "bind to {device}: {}", io::Error::last_os_error());
        Self { socket }
    }

    /// Sends a frame.
    pub fn send(&self, frame: &[u8]) {
        let (start, length) = (frame.as_ptr().cast::<c_void>(), frame.len());
        loop {
            // SAFETY: the frame outlives the call, and has `length` bytes.
            let sent = unsafe { libc::send(self.socket.as_raw_fd(), start, length, 0) };
            if usize::try_from(sent) == Ok(length) {
                return;
            }
            let error = io::Error::last_os_error();
            assert_eq!(error.raw_os_error(), Some(libc::ENOBUFS), "send a frame: {error}");
        }
    }
}

/// Offloads that make fewer, larger packets.
#[derive(Clone, Copy, Debug)]
pub enum Offload {
    /// The device accepts TCP segments that are larger than its frames (TSO).
    TcpSegmentation,
    /// The kernel segments what the device cannot (GSO).
    Segmentation,
    /// Consecutive received segments are merged (GRO).
    Receive,
}

/// Switches an offload of a device on or off, as `ethtool -K` does.
pub fn set_offload(namespace: &Namespace, device: &str, offload: Offload, on: bool) {
    /// `struct ethtool_value`
    #[repr(C)]
    struct Value {
        command: u32,
        data: u32,
    }
    // linux/ethtool.h
    let command = match offload {
        Offload::TcpSegmentation => 0x1f,
        Offload::Segmentation => 0x24,
        Offload::Receive => 0x2c,
    };
    let mut value = Value { command, data: on.into() };
    let socket = open(namespace, libc::AF_INET, libc::SOCK_DGRAM, 0);
    // SAFETY: it consists of integers and pointers, for which zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(device.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the command takes an `ifreq` that points to a value; both outlive the call.
    let set = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    let error = io::Error::last_os_error();
    assert_eq!(set, 0, "{device}: switch {offload:?} to {on}: {error}");
}
