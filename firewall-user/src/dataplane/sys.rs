//! The `bpf(2)` commands that aya does not have: entries of any map ([`entries`]), links by their
//! pins, and a probe.

pub(super) mod entries;

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use aya::Pod;
use aya::util::KernelVersion;

// Commands and attribute: include/uapi/linux/bpf.h.
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_LINK_DETACH: libc::c_int = 34;

const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
const BPF_TCX_INGRESS: u32 = 46;

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

/// `bpf_attr` of a program, as far as a smallest one needs it.
#[repr(C)]
struct ProgramAttr {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
}

#[repr(C)]
struct NewLinkAttr {
    program_fd: u32,
    device: u32,
    attach_type: u32,
    flags: u32,
}

fn bpf<T>(command: libc::c_int, attr: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: `attr` is the command's attribute, fully initialised, and its pointers are to
    // buffers that the callers below keep alive and large enough for the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn raw(map: BorrowedFd<'_>) -> u32 {
    // A file descriptor is never negative.
    u32::try_from(map.as_raw_fd()).unwrap_or(u32::MAX)
}

fn address<T>(pointer: *const T) -> u64 {
    pointer as u64
}

/// The bytes of a value, as the kernel reads them.
pub(super) fn bytes<T: Pod>(value: &T) -> &[u8] {
    // SAFETY: a `Pod` has no padding that anyone looks at, and any bytes of it may be read.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}

/// The bytes that a map takes, as the kernel counts them (`map_mem_usage`, Linux 6.4). Kernels before
/// that tell what keys and values would take if it were full.
pub(super) fn memory(map: BorrowedFd<'_>) -> Option<u64> {
    if KernelVersion::current().is_ok_and(|version| version < KernelVersion::new(6, 4, 0)) {
        return None;
    }
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", map.as_raw_fd())).ok()?;
    text.lines().find_map(|line| line.strip_prefix("memlock:")?.trim().parse().ok())
}

/// Asks for a TCX link on a device that cannot be, which changes nothing on any kernel; returns
/// how the kernel refuses it, which tells whether it knows TCX at all.
///
/// # Errors
/// The kernel does not take even the smallest program, so nothing can be said.
pub(super) fn refuse_tcx() -> io::Result<io::Error> {
    // r0 = 0; exit
    const CODE: [u64; 2] = [0xb7, 0x95];
    let mut program = ProgramAttr {
        kind: BPF_PROG_TYPE_SCHED_CLS,
        instructions: 2,
        code: address(CODE.as_ptr()),
        license: address(c"GPL".as_ptr()),
        log_level: 0,
        log_size: 0,
        log: 0,
    };
    let program = owned(bpf(BPF_PROG_LOAD, &mut program)?)?;
    let mut link = NewLinkAttr {
        program_fd: raw(program.as_fd()),
        // The kernel's numbers end at the largest positive one.
        device: u32::MAX,
        attach_type: BPF_TCX_INGRESS,
        flags: 0,
    };
    match bpf(BPF_LINK_CREATE, &mut link) {
        Err(error) => Ok(error),
        Ok(link) => {
            drop(owned(link)?);
            Err(io::Error::other("a link to no device"))
        }
    }
}

/// The file descriptor that a command returned.
fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Opens a pinned link.
fn open_link(pin: &Path) -> io::Result<OwnedFd> {
    let pathname = CString::new(pin.as_os_str().as_bytes())?;
    let mut attr = ObjAttr { pathname: address(pathname.as_ptr()), bpf_fd: 0, file_flags: 0 };
    owned(bpf(BPF_OBJ_GET, &mut attr)?)
}

/// Takes the program of a pinned link off its device at once. Removing the pin alone does so too,
/// but only some time after the call, when the kernel frees the pin.
pub(super) fn detach_link(pin: &Path) -> io::Result<()> {
    let fd = match open_link(pin) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        result => result?,
    };
    bpf(BPF_LINK_DETACH, &mut LinkAttr { link_fd: raw(fd.as_fd()) }).map(drop)
}

/// The number of the device that a pinned XDP or TCX link hangs on; 0 if that device is gone.
pub(super) fn link_device(pin: &Path) -> io::Result<u32> {
    let fd = open_link(pin)?;
    let mut info = LinkInfo::default();
    let mut attr = InfoAttr {
        bpf_fd: raw(fd.as_fd()),
        info_len: u32::try_from(size_of::<LinkInfo>()).unwrap_or(0),
        info: address(&raw mut info),
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    // Volatile, because the kernel wrote it behind the compiler's back.
    // SAFETY: a field of a local variable.
    Ok(unsafe { (&raw const info.device).read_volatile() })
}
