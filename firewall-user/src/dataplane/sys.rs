//! The `bpf(2)` commands that aya does not have: reading in batches, removal from any map, links by
//! their pins, and a probe.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use aya::Pod;

// Commands and attribute: include/uapi/linux/bpf.h. Batches: Linux 5.6.
const BPF_MAP_LOOKUP_ELEM: libc::c_int = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_MAP_DELETE_ELEM: libc::c_int = 3;
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_LINK_DETACH: libc::c_int = 34;
const BPF_MAP_LOOKUP_BATCH: libc::c_int = 24;

const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
const BPF_TCX_INGRESS: u32 = 46;

/// Flag of an update: only where there is no such entry.
const BPF_NOEXIST: u64 = 1;

/// Entries asked for at once when a map is read.
const CHUNK: usize = 4096;

#[repr(C)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

#[repr(C)]
struct ElemAttr {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

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

/// The bytes that a map takes, as the kernel counts them (`map_mem_usage`, Linux 6.4).
pub(super) fn memory(map: BorrowedFd<'_>) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", map.as_raw_fd())).ok()?;
    text.lines().find_map(|line| line.strip_prefix("memlock:")?.trim().parse().ok())
}

/// Every entry of a hash map (LRU or not). Walks buckets, so it ends even on a map that changes
/// all the time; an entry that moves meanwhile may be missed or seen twice.
pub(super) fn dump<K: Pod, V: Pod>(map: BorrowedFd<'_>) -> io::Result<Vec<(K, V)>> {
    dump_some(map, usize::MAX)
}

/// As [`dump`], but stops some time after `enough` entries.
pub(super) fn dump_some<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    enough: usize,
) -> io::Result<Vec<(K, V)>> {
    let mut entries = Vec::new();
    let mut chunk = CHUNK;
    let mut position: Option<u64> = None;
    loop {
        let mut keys: Vec<K> = Vec::with_capacity(chunk);
        let mut values: Vec<V> = Vec::with_capacity(chunk);
        let mut next = 0_u64;
        let mut attr = BatchAttr {
            in_batch: position.as_ref().map_or(0, |at| address(at)),
            out_batch: address(&raw mut next),
            keys: address(keys.as_mut_ptr()),
            values: address(values.as_mut_ptr()),
            count: u32::try_from(chunk).unwrap_or(u32::MAX),
            map_fd: raw(map),
            elem_flags: 0,
            flags: 0,
        };
        let done = match bpf(BPF_MAP_LOOKUP_BATCH, &mut attr) {
            Ok(_) => false,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
            // One bucket holds more than a chunk.
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                chunk *= 2;
                continue;
            }
            Err(error) => return Err(error),
        };
        let count = usize::try_from(attr.count).unwrap_or(0).min(chunk);
        // SAFETY: the kernel filled `count` keys and values, of K's and V's sizes (checked when the
        // map was opened), and any bytes are valid ones (`Pod`).
        unsafe {
            keys.set_len(count);
            values.set_len(count);
        }
        entries.extend(keys.into_iter().zip(values));
        if done || entries.len() >= enough {
            return Ok(entries);
        }
        // Volatile, because the kernel wrote it behind the compiler's back.
        // SAFETY: a local variable.
        position = Some(unsafe { (&raw const next).read_volatile() });
    }
}

/// Whether a map has an entry.
pub(super) fn has<K: Pod, V: Pod + Default>(map: BorrowedFd<'_>, key: &K) -> io::Result<bool> {
    let mut value = V::default();
    let (key, value) = (address(std::ptr::from_ref(key)), address(&raw mut value));
    let mut attr = ElemAttr { map_fd: raw(map), pad: 0, key, value, flags: 0 };
    match bpf(BPF_MAP_LOOKUP_ELEM, &mut attr) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes one entry, unless one of its key is there; whether it was written.
pub(super) fn insert<K: Pod, V: Pod>(map: BorrowedFd<'_>, key: &K, value: &V) -> io::Result<bool> {
    let (key, value) = (address(std::ptr::from_ref(key)), address(std::ptr::from_ref(value)));
    let mut attr = ElemAttr { map_fd: raw(map), pad: 0, key, value, flags: BPF_NOEXIST };
    match bpf(BPF_MAP_UPDATE_ELEM, &mut attr) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes one entry; whether it was there.
pub(super) fn remove<K: Pod>(map: BorrowedFd<'_>, key: &K) -> io::Result<bool> {
    let key = std::ptr::from_ref(key);
    let mut attr = ElemAttr { map_fd: raw(map), pad: 0, key: address(key), value: 0, flags: 0 };
    match bpf(BPF_MAP_DELETE_ELEM, &mut attr) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
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
