//! Loaded programs by their ids: names and maps.

use std::io;
use std::os::fd::AsFd as _;

use super::{address, bpf, owned, read_info};

// include/uapi/linux/bpf.h.
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;

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

/// A loaded program.
///
/// # Errors
/// `ENOENT`: there is none with this id. `EPERM`: it takes CAP_SYS_ADMIN.
pub(in crate::dataplane) fn by_id(id: u32) -> io::Result<LoadedProgram> {
    let fd = owned(bpf(BPF_PROG_GET_FD_BY_ID, &mut IdAttr { id, next_id: 0, open_flags: 0 })?)?;
    let mut maps = [0_u32; MAX_MAPS];
    let info = ProgramInfo {
        map_count: u32::try_from(MAX_MAPS).unwrap_or(0),
        maps: address(maps.as_mut_ptr()),
        ..ProgramInfo::default()
    };
    let info = read_info(fd.as_fd(), info)?;
    // Volatile, as in `read_info`.
    // SAFETY: a local variable, whose every bit pattern is a value.
    let maps = unsafe { (&raw const maps).read_volatile() };
    let name = info.name.split(|byte| *byte == 0).next().unwrap_or_default();
    let count = usize::try_from(info.map_count).unwrap_or(MAX_MAPS).min(MAX_MAPS);
    Ok(LoadedProgram {
        id,
        name: String::from_utf8_lossy(name).into_owned(),
        maps: maps[..count].to_vec(),
    })
}
