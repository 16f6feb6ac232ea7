//! Loaded programs by their ids: names and maps, and which are attached by TCX.

use std::io;
use std::os::fd::AsFd as _;

use super::{address, bpf, owned, raw};

// include/uapi/linux/bpf.h.
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_TCX_INGRESS: u32 = 46;
const BPF_TCX_EGRESS: u32 = 47;

/// The most programs of one device and direction: the kernel's limit for TCX (`BPF_MPROG_MAX`).
const MAX_PROGRAMS: usize = 64;
/// The most maps of a program that are read: this project's programs have fewer.
const MAX_MAPS: usize = 64;
/// Length of a program's name (`BPF_OBJ_NAME_LEN`).
const NAME: usize = 16;

/// A loaded program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::dataplane) struct LoadedProgram {
    /// Its id.
    pub(in crate::dataplane) id: u32,
    /// Its name, cut by the kernel at 15 bytes.
    pub(in crate::dataplane) name: String,
    /// The ids of its maps.
    pub(in crate::dataplane) maps: Vec<u32>,
}

#[repr(C)]
struct IdAttr {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

#[repr(C)]
struct InfoAttr {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// `bpf_prog_info` up to the name.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct ProgramInfo {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    jited_len: u32,
    xlated_len: u32,
    jited: u64,
    xlated: u64,
    load_time: u64,
    created_by: u32,
    map_count: u32,
    maps: u64,
    name: [u8; NAME],
}

#[repr(C)]
struct QueryAttr {
    device: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    pad: u32,
    attach_flags_of: u64,
    links: u64,
    attach_flags_of_links: u64,
    revision: u64,
}

/// A loaded program.
///
/// # Errors
/// `ENOENT`: there is none with this id. `EPERM`: it takes CAP_SYS_ADMIN.
pub(in crate::dataplane) fn by_id(id: u32) -> io::Result<LoadedProgram> {
    let fd = owned(bpf(BPF_PROG_GET_FD_BY_ID, &mut IdAttr { id, next_id: 0, open_flags: 0 })?)?;
    let mut maps = [0_u32; MAX_MAPS];
    let mut info = ProgramInfo {
        map_count: u32::try_from(MAX_MAPS).unwrap_or(0),
        maps: address(maps.as_mut_ptr()),
        ..ProgramInfo::default()
    };
    let mut attr = InfoAttr {
        bpf_fd: raw(fd.as_fd()),
        info_len: u32::try_from(size_of::<ProgramInfo>()).unwrap_or(0),
        info: address(&raw mut info),
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    // Volatile: the compiler does not see that the kernel wrote them.
    // SAFETY: local variables, whose every bit pattern is a value.
    let (info, maps) =
        unsafe { ((&raw const info).read_volatile(), (&raw const maps).read_volatile()) };
    let name = info.name.split(|byte| *byte == 0).next().unwrap_or_default();
    let count = usize::try_from(info.map_count).unwrap_or(MAX_MAPS).min(MAX_MAPS);
    Ok(LoadedProgram {
        id,
        name: String::from_utf8_lossy(name).into_owned(),
        maps: maps[..count].to_vec(),
    })
}

/// The ids of the programs that are attached to a device of this thread's network namespace by TCX, in their
/// order.
///
/// # Errors
/// `ENODEV`: there is no such device. `EINVAL`: the kernel has no TCX (before Linux 6.6).
pub(in crate::dataplane) fn by_tcx(device: u32, is_ingress: bool) -> io::Result<Vec<u32>> {
    let mut ids = [0_u32; MAX_PROGRAMS];
    let mut attr = QueryAttr {
        device,
        attach_type: if is_ingress { BPF_TCX_INGRESS } else { BPF_TCX_EGRESS },
        query_flags: 0,
        attach_flags: 0,
        ids: address(ids.as_mut_ptr()),
        count: u32::try_from(MAX_PROGRAMS).unwrap_or(0),
        pad: 0,
        attach_flags_of: 0,
        links: 0,
        attach_flags_of_links: 0,
        revision: 0,
    };
    bpf(BPF_PROG_QUERY, &mut attr)?;
    // Volatile: the compiler does not see that the kernel wrote them.
    // SAFETY: local variables, whose every bit pattern is a value.
    let (count, ids) =
        unsafe { ((&raw const attr.count).read_volatile(), (&raw const ids).read_volatile()) };
    let count = usize::try_from(count).unwrap_or(MAX_PROGRAMS).min(MAX_PROGRAMS);
    Ok(ids[..count].to_vec())
}
