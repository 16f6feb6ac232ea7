//! Simulates older and smaller kernels with a seccomp filter.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

// Classic BPF (include/uapi/linux/bpf_common.h) over `struct seccomp_data`.
const LOAD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
const NUMBER: u32 = 0;
const FIRST_ARGUMENT: u32 = 16;

/// Makes one command of `bpf(2)`, or all of them, fail with `errno` in the program and its
/// children.
pub fn without_bpf(command: &mut Command, bpf_command: Option<u32>, errno: i32) {
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let bpf = u32::try_from(libc::SYS_bpf).expect("a number of a system call");
    let errno = u32::try_from(errno).expect("a number of an error");
    // Without a command, both branches return the error.
    let elsewhere = u8::from(bpf_command.is_some());
    let filter = [
        step(LOAD, 0, 0, NUMBER),
        step(JUMP_IF_EQUAL, 0, 3, bpf),
        step(LOAD, 0, 0, FIRST_ARGUMENT),
        step(JUMP_IF_EQUAL, 0, elsewhere, bpf_command.unwrap_or(0)),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | errno),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let install = move || {
        let mut filter = filter;
        let program = libc::sock_fprog { len: 6, filter: filter.as_mut_ptr() };
        // SAFETY: the program points at `filter`, of 6 steps, which the kernel copies.
        let result = unsafe {
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program)
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: between fork and exec only a plain system call is made.
    unsafe {
        command.pre_exec(install);
    }
}
