//! The `bpf(2)` commands that aya lacks: maps of any type ([`create`]) and their entries ([`entries`]), a map's
//! memory, and its values mapped into this process ([`mapped`]), pinned links ([`links`]), loaded programs
//! ([`programs`]), a probe for TCX; the number of a network namespace ([`netns`]), and removing pins ([`unpin`]).

pub(super) mod create;
pub(super) mod entries;
pub(super) mod helper;
pub(super) mod links;
pub(super) mod mapped;
pub(super) mod memory;
pub(super) mod netns;
pub(super) mod programs;
pub(super) mod tcx_probe;
pub(super) mod unpin;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use aya::Pod;

fn bpf<T>(command: libc::c_int, attr: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: `attr` is the command's attribute, fully initialised, and its pointers are to buffers
    // that the callers in this module keep alive and large enough for the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[repr(C)]
struct InfoAttr {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// What the kernel knows about a link or a program, in a structure of plain numbers that begins as the kernel's
/// does. `info` has what the kernel reads.
fn read_info<T: Copy>(fd: BorrowedFd<'_>, mut info: T) -> io::Result<T> {
    // include/uapi/linux/bpf.h.
    const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
    let info_len = u32::try_from(size_of::<T>()).unwrap_or(0);
    let mut attr = InfoAttr { bpf_fd: raw(fd), info_len, info: address(&raw mut info) };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    // Volatile: the compiler does not see that the kernel wrote it.
    // SAFETY: a local variable, whose every bit pattern is a value.
    Ok(unsafe { (&raw const info).read_volatile() })
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
    // SAFETY: the types that are passed here have no padding, so every byte is initialised.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}

/// The file descriptor that a command returned.
fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just opened it for this process, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
