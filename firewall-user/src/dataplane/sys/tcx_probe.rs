//! A probe for TCX.

use std::io;
use std::os::fd::AsFd;

use super::{address, bpf, owned, raw};

// include/uapi/linux/bpf.h.
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
const BPF_TCX_INGRESS: u32 = 46;

/// `bpf_attr` of loading a program, up to the last field that is set.
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

/// Requests a TCX link on a device that cannot exist, which changes nothing on any kernel; returns
/// the kernel's refusal, whose error number shows whether it has TCX.
///
/// # Errors
/// The kernel refuses even the smallest program.
pub(in crate::dataplane) fn refusal() -> io::Result<io::Error> {
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
