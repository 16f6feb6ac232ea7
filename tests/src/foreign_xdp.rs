//! An XDP program that does not belong to secgroup; it passes every packet.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

use aya::programs::loaded_programs;

use crate::Namespace;

/// The program's name in the kernel.
pub const NAME: &CStr = c"foreign_xdp";

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;

/// `XDP_FLAGS_SKB_MODE` and `XDP_FLAGS_DRV_MODE`.
const GENERIC: u32 = 1 << 1;
const NATIVE: u32 = 1 << 2;

/// The program, attached until this is dropped.
pub struct ForeignXdp {
    _link: OwnedFd,
    id: u32,
}

#[repr(C)]
#[derive(Default)]
struct ProgramAttr {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

#[repr(C)]
struct LinkAttr {
    program: u32,
    device: u32,
    attach_type: u32,
    flags: u32,
}

impl ForeignXdp {
    /// Attaches the program to a device, in native or generic mode.
    #[must_use]
    pub fn attach(namespace: &Namespace, device: &str, native: bool) -> Self {
        let shown = namespace.ip(&format!("-oneline link show {device}"));
        let index = shown.split(':').next().and_then(|index| index.parse().ok());
        let index = index.unwrap_or_else(|| panic!("no index of {device} in {shown}"));
        let flags = if native { NATIVE } else { GENERIC };
        let link = namespace.run(|| attach(index, flags));
        let link =
            link.unwrap_or_else(|error| panic!("attach to the XDP hook of {device}: {error}"));
        let ours = loaded_programs().flatten().filter(|program| program.name() == NAME.to_bytes());
        let id = ours.map(|program| program.id()).max().expect("the program that was just loaded");
        Self { _link: link, id }
    }

    /// The program's id in the kernel.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }
}

fn attach(device: u32, flags: u32) -> io::Result<OwnedFd> {
    // r0 = XDP_PASS; exit
    let code: [u64; 2] = [0x2_0000_00b7, 0x95];
    let mut program = ProgramAttr {
        kind: BPF_PROG_TYPE_XDP,
        instructions: 2,
        code: code.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        ..ProgramAttr::default()
    };
    program.name[..NAME.to_bytes().len()].copy_from_slice(NAME.to_bytes());
    let program = bpf(BPF_PROG_LOAD, &mut program)?;
    let number = u32::try_from(program.as_raw_fd()).map_err(io::Error::other)?;
    let mut link = LinkAttr { program: number, device, attach_type: BPF_XDP, flags };
    bpf(BPF_LINK_CREATE, &mut link)
}

fn bpf<T>(command: libc::c_int, attr: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: `attr` is the command's attribute, and what it points to outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = RawFd::try_from(result).map_err(io::Error::other)?;
    // SAFETY: the kernel has just created this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
