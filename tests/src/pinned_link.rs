//! What another root process can do to the pinned links of an instance.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;

use firewall_ebpf::abi::limits::ABI_VERSION;

use crate::Secgroup;

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_LINK_UPDATE: libc::c_int = 29;
const BPF_LINK_DETACH: libc::c_int = 34;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;

#[repr(C)]
struct ObjectAttr {
    path: u64,
    fd: u32,
    flags: u32,
}

#[repr(C)]
struct LinkAttr {
    link: u32,
    program: u32,
    flags: u32,
    old: u32,
}

#[repr(C)]
struct ProgramAttr {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
    log: [u64; 2],
}

/// Detaches the link of a place of the first interface (`rx`, `tx`, `xdp`); its pin stays.
pub fn detach_link(secgroup: &Secgroup<'_>, place: &str) {
    let link = open(secgroup, place);
    bpf(BPF_LINK_DETACH, &mut LinkAttr { link: number(&link), program: 0, flags: 0, old: 0 })
        .unwrap_or_else(|error| panic!("detach the link {place}: {error}"));
}

/// Puts a TC program that passes every packet into such a link.
pub fn replace_program(secgroup: &Secgroup<'_>, place: &str) {
    let link = open(secgroup, place);
    // r0 = TC_ACT_OK; exit
    let code: [u64; 2] = [0xb7, 0x95];
    let mut program = ProgramAttr {
        kind: BPF_PROG_TYPE_SCHED_CLS,
        instructions: 2,
        code: code.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log: [0; 2],
    };
    let program = owned(bpf(BPF_PROG_LOAD, &mut program)).expect("load a program");
    let mut attr = LinkAttr { link: number(&link), program: number(&program), flags: 0, old: 0 };
    bpf(BPF_LINK_UPDATE, &mut attr)
        .unwrap_or_else(|error| panic!("replace the program of the link {place}: {error}"));
}

fn open(secgroup: &Secgroup<'_>, place: &str) -> OwnedFd {
    let path = secgroup.pin_dir().join(format!("abi{ABI_VERSION}/links/0_{place}"));
    let name = CString::new(path.as_os_str().as_bytes()).expect("a path");
    let mut attr = ObjectAttr { path: name.as_ptr() as u64, fd: 0, flags: 0 };
    owned(bpf(BPF_OBJ_GET, &mut attr))
        .unwrap_or_else(|error| panic!("open {}: {error}", path.display()))
}

fn number(fd: &OwnedFd) -> u32 {
    u32::try_from(fd.as_raw_fd()).expect("a descriptor")
}

fn owned(result: io::Result<libc::c_long>) -> io::Result<OwnedFd> {
    let fd = RawFd::try_from(result?).map_err(io::Error::other)?;
    // SAFETY: the kernel has just created this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bpf<T>(command: libc::c_int, attr: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: `attr` is the command's attribute, and what it points to outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
