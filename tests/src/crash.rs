//! Kills a program right before one of its system calls.
//!
//! State outside of a process changes only by its system calls, so a kill before each of them
//! covers a crash at any time. Calls that cannot change anything are left out.

use std::collections::HashMap;
use std::io::{self, Read as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// Commands of `bpf(2)` whose effect outlives the process (include/uapi/linux/bpf.h): map updates,
/// pins, links, test runs. Creating a map or loading a program is not one: it is freed with the
/// process unless it is pinned.
const BPF: [u64; 11] = [2, 3, 6, 8, 9, 10, 26, 27, 28, 29, 34];

/// System calls that change something outside of the process. Netlink messages are left out: on a
/// kernel with TCX they only read.
const CALLS: [libc::c_long; 16] = [
    libc::SYS_write,
    libc::SYS_pwrite64,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_unlinkat,
    libc::SYS_mkdirat,
    libc::SYS_renameat2,
    libc::SYS_flock,
    libc::SYS_exit_group,
    // Used by older libraries.
    libc::SYS_unlink,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_rename,
    libc::SYS_fchmod,
];

/// A system call that may change something outside of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    number: u64,
    /// The command of `bpf(2)`, its first argument.
    command: Option<u64>,
    /// It returned an error, and so has changed nothing.
    failed: bool,
}

impl Call {
    fn of(number: u64, [first, _, third, ..]: [u64; 6]) -> Option<Self> {
        let is = |call: libc::c_long| u64::try_from(call) == Ok(number);
        if is(libc::SYS_bpf) {
            let command = Some(first);
            return BPF.contains(&first).then_some(Self { number, command, failed: false });
        }
        let creates = is(libc::SYS_openat) && third & libc::O_CREAT as u64 != 0;
        let changes = creates || CALLS.into_iter().any(is);
        changes.then_some(Self { number, command: None, failed: false })
    }
}

/// The result of a traced run.
#[derive(Debug)]
pub struct Traced {
    /// Its calls, without those that cannot change anything.
    pub calls: Vec<Call>,
    /// Whether it was killed; otherwise it ended normally.
    pub killed: bool,
    /// Its standard error.
    pub stderr: String,
}

/// Runs a program to its end, or kills it right before the call with this index in
/// [`Traced::calls`].
#[expect(clippy::zombie_processes, reason = "`follow` waits for its end")]
pub fn run(mut command: Command, until: Option<usize>) -> Traced {
    // SAFETY: between fork and exec only `ptrace` is called, which is a plain system call.
    unsafe { command.pre_exec(|| ptrace::traceme().map_err(io::Error::from)) };
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let child = child.unwrap_or_else(|error| panic!("start {command:?}: {error}"));
    let leader = Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
    // It stops at the program's first instruction.
    waitpid(leader, None).unwrap_or_else(|error| panic!("wait for {command:?}: {error}"));
    let options =
        Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_EXITKILL;
    ptrace::setoptions(leader, options).unwrap_or_else(|error| panic!("trace: {error}"));
    resume(leader, None);
    let (calls, killed) = follow(leader, until);
    let mut stderr = String::new();
    if let Some(mut pipe) = child.stderr {
        let _ = pipe.read_to_string(&mut stderr);
    }
    Traced { calls, killed, stderr }
}

fn follow(leader: Pid, until: Option<usize>) -> (Vec<Call>, bool) {
    let (mut calls, mut killed) = (Vec::<Call>::new(), false);
    // The index of the call that each thread is in.
    let mut pending = HashMap::new();
    loop {
        // Any thread of the program, but no children of other test threads.
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        match waitpid(None, Some(flags)).unwrap_or_else(|error| panic!("wait: {error}")) {
            WaitStatus::PtraceSyscall(thread) => {
                match stop(thread) {
                    Some(Stop::Before(_)) if until == Some(calls.len()) => {
                        // A killed thread does not enter the call.
                        kill(leader, Signal::SIGKILL).unwrap_or_else(|error| panic!("{error}"));
                        killed = true;
                        continue;
                    }
                    Some(Stop::Before(call)) => {
                        pending.insert(thread, calls.len());
                        calls.push(call);
                    }
                    Some(Stop::After { failed }) => {
                        if let Some(call) = pending.remove(&thread) {
                            calls[call].failed = failed;
                        }
                    }
                    None => {}
                }
                resume(thread, None);
            }
            WaitStatus::PtraceEvent(thread, ..) | WaitStatus::Stopped(thread, Signal::SIGSTOP) => {
                resume(thread, None);
            }
            WaitStatus::Stopped(thread, signal) => resume(thread, Some(signal)),
            WaitStatus::Exited(ended, _) | WaitStatus::Signaled(ended, ..) if ended == leader => {
                return (calls, killed);
            }
            _ => {}
        }
    }
}

fn resume(thread: Pid, signal: Option<Signal>) {
    // Fails if the thread was killed in the meantime.
    let _ = ptrace::syscall(thread, signal);
}

/// The point at which a thread has stopped.
enum Stop {
    /// Before a call that may change something.
    Before(Call),
    /// After any call.
    After { failed: bool },
}

fn stop(thread: Pid) -> Option<Stop> {
    let info = ptrace::syscall_info(thread).ok()?;
    match info.op {
        libc::PTRACE_SYSCALL_INFO_ENTRY => {
            // SAFETY: `op` selects this variant.
            let entry = unsafe { info.u.entry };
            Call::of(entry.nr, entry.args).map(Stop::Before)
        }
        libc::PTRACE_SYSCALL_INFO_EXIT => {
            // SAFETY: as above.
            let exit = unsafe { info.u.exit };
            Some(Stop::After { failed: exit.is_error != 0 })
        }
        _ => None,
    }
}

/// Indexes of the calls before which to kill, from the calls of a complete run: every call, but in
/// a series of equal calls only the first two and the last. If these are more than `limit`, an
/// evenly spread selection of them.
#[must_use]
pub fn kill_points(calls: &[Call], limit: usize) -> Vec<usize> {
    let mut kill_points = Vec::new();
    let mut start = 0;
    for series in calls.chunk_by(PartialEq::eq) {
        let last = series.len() - 1;
        if !series[0].failed {
            kill_points.extend([0, 1.min(last), last].map(|at| start + at));
        }
        start += series.len();
    }
    kill_points.dedup();
    if kill_points.len() <= limit {
        return kill_points;
    }
    (0..limit).map(|at| kill_points[at * (kill_points.len() - 1) / (limit - 1)]).collect()
}

#[cfg(test)]
mod tests {
    use super::{Call, kill_points};

    #[test]
    fn a_series_of_equal_calls_has_three_kill_points() {
        let [one, other] = [1, 2].map(|number| Call { number, command: None, failed: false });
        let failed = Call { failed: true, ..one };
        let calls = [&[one; 9][..], &[other], &[failed; 2], &[one; 2], &[other; 3]].concat();
        assert_eq!(kill_points(&calls, 99), [0, 1, 8, 9, 12, 13, 14, 15, 16]);
        assert_eq!(kill_points(&calls, 3), [0, 12, 16]);
        assert_eq!(kill_points(&[], 3), [0; 0]);
    }
}
