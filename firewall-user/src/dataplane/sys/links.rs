//! Pinned links.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{address, bpf, owned, raw};

// include/uapi/linux/bpf.h.
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_LINK_DETACH: libc::c_int = 34;

#[repr(C)]
struct ObjAttr {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

#[repr(C)]
struct InfoAttr {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// `bpf_link_info` up to where XDP's and TCX's links both have the device.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    pad: u32,
    device: u32,
    attach_type: u32,
}

/// `bpf_attr` of a command about a link.
#[repr(C)]
struct LinkAttr {
    link_fd: u32,
}

/// Opens a pinned link.
fn open(pin: &Path) -> io::Result<OwnedFd> {
    let pathname = CString::new(pin.as_os_str().as_bytes())?;
    let mut attr = ObjAttr { pathname: address(pathname.as_ptr()), bpf_fd: 0, file_flags: 0 };
    owned(bpf(BPF_OBJ_GET, &mut attr)?)
}

/// Detaches the program of a pinned link from its device at once. Removing the pin alone does so too,
/// but only some time after the call, when the kernel frees the pin.
pub(in crate::dataplane) fn detach(pin: &Path) -> io::Result<()> {
    let fd = match open(pin) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        result => result?,
    };
    bpf(BPF_LINK_DETACH, &mut LinkAttr { link_fd: raw(fd.as_fd()) }).map(drop)
}

/// The index of the device that a pinned XDP or TCX link is attached to; 0 if the device was removed.
pub(in crate::dataplane) fn device(pin: &Path) -> io::Result<u32> {
    info(pin).map(|info| info.device)
}

/// The id of the program that a pinned link runs.
pub(in crate::dataplane) fn program(pin: &Path) -> io::Result<u32> {
    info(pin).map(|info| info.program)
}

/// What the kernel tells about a pinned link.
fn info(pin: &Path) -> io::Result<LinkInfo> {
    let fd = open(pin)?;
    let mut info = LinkInfo::default();
    let mut attr = InfoAttr {
        bpf_fd: raw(fd.as_fd()),
        info_len: u32::try_from(size_of::<LinkInfo>()).unwrap_or(0),
        info: address(&raw mut info),
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    // Volatile: the compiler does not see that the kernel wrote it.
    // SAFETY: a local variable, whose every bit pattern is a value.
    Ok(unsafe { (&raw const info).read_volatile() })
}
