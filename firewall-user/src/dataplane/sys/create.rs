//! Creating maps of any type.

use std::io;
use std::os::fd::OwnedFd;

use aya::maps::MapType;

use super::{bpf, owned};

// include/uapi/linux/bpf.h.
const BPF_MAP_CREATE: libc::c_int = 0;
/// `BPF_OBJ_NAME_LEN`.
const NAME_LENGTH: usize = 16;

/// `bpf_attr` of creating a map, up to the last field that is set.
#[repr(C)]
struct MapAttr {
    kind: u32,
    key: u32,
    value: u32,
    entries: u32,
    flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    name: [u8; NAME_LENGTH],
}

/// A map to be created; sizes in bytes.
pub(in crate::dataplane) struct NewMap<'a> {
    /// As `bpftool map` shows it: at most 15 characters of A to Z, 0 to 9 and `_`.
    pub(in crate::dataplane) name: &'a str,
    pub(in crate::dataplane) kind: MapType,
    pub(in crate::dataplane) key: usize,
    pub(in crate::dataplane) value: usize,
    pub(in crate::dataplane) entries: u32,
    pub(in crate::dataplane) flags: u32,
}

/// Creates a map.
pub(in crate::dataplane) fn create(map: &NewMap<'_>) -> io::Result<OwnedFd> {
    let size = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    let mut name = [0; NAME_LENGTH];
    for (to, from) in name[..NAME_LENGTH - 1].iter_mut().zip(map.name.bytes()) {
        *to = from;
    }
    let mut attr = MapAttr {
        kind: map.kind as u32,
        key: size(map.key),
        value: size(map.value),
        entries: map.entries,
        flags: map.flags,
        inner_map_fd: 0,
        numa_node: 0,
        name,
    };
    owned(bpf(BPF_MAP_CREATE, &mut attr)?)
}
