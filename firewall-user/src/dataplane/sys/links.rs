//! Pinned links.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{address, bpf, owned, raw, read_info};

// include/uapi/linux/bpf.h.
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_LINK_DETACH: libc::c_int = 34;
const BPF_TCX_INGRESS: u32 = 46;
const BPF_TCX_EGRESS: u32 = 47;

/// The most programs that one hook of a device can have (`BPF_MPROG_MAX`).
const MOST: usize = 64;

#[repr(C)]
struct ObjAttr {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// `bpf_link_info` up to where XDP's and TCX's links both have the device.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    pad: u32,
    device: u32,
    attach_type: u32,
}

/// `bpf_attr` of a query for the programs of a hook.
#[repr(C)]
struct QueryAttr {
    device: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    programs: u64,
    count: u32,
    pad: u32,
    program_flags: u64,
    links: u64,
    link_flags: u64,
    revision: u64,
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

/// A pinned XDP or TCX link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dataplane) struct Attachment {
    /// The id of the link.
    pub(in crate::dataplane) link: u32,
    /// The id of its program.
    pub(in crate::dataplane) program: u32,
    /// The index of its device in the namespace that the device is in; 0 if the device was removed.
    pub(in crate::dataplane) device: u32,
}

/// What a pinned link is attached to.
pub(in crate::dataplane) fn attachment(pin: &Path) -> io::Result<Attachment> {
    let fd = open(pin)?;
    let info = read_info(fd.as_fd(), LinkInfo::default())?;
    Ok(Attachment { link: info.id, program: info.program, device: info.device })
}

/// The TCX programs on a device of this thread's network namespace, in their order: of each the id, and that of its
/// link, 0 if it has none.
///
/// # Errors
/// `ENODEV`: it has no such device. `EINVAL`: the kernel has no TCX (before Linux 6.6). `EPERM` without
/// `CAP_NET_ADMIN`.
pub(in crate::dataplane) fn on_tcx(device: u32, is_egress: bool) -> io::Result<Vec<(u32, u32)>> {
    let (mut programs, mut links) = ([0_u32; MOST], [0_u32; MOST]);
    let mut attr = QueryAttr {
        device,
        attach_type: if is_egress { BPF_TCX_EGRESS } else { BPF_TCX_INGRESS },
        query_flags: 0,
        attach_flags: 0,
        programs: address(programs.as_mut_ptr()),
        count: u32::try_from(MOST).unwrap_or(0),
        pad: 0,
        program_flags: 0,
        links: address(links.as_mut_ptr()),
        link_flags: 0,
        revision: 0,
    };
    bpf(BPF_PROG_QUERY, &mut attr)?;
    // Volatile: the compiler does not see that the kernel wrote them. The unused rest is zero, no program's id.
    // SAFETY: local variables of plain numbers.
    let (programs, links) =
        unsafe { ((&raw const programs).read_volatile(), (&raw const links).read_volatile()) };
    Ok(programs.into_iter().zip(links).filter(|(program, _)| *program != 0).collect())
}
