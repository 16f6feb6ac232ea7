//! Killing a program right before one of its system calls.
//!
//! What a process leaves behind when it dies changes only with its system calls, so to kill it before
//! each of them is to kill it at every moment. Of those that cannot change anything none is a
//! moment of its own.

use std::collections::HashMap;
use std::io::{self, Read as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// Commands of `bpf(2)` that change what outlives the process (include/uapi/linux/bpf.h): entries of
/// maps, pins, links, runs of a program. To make a map or load a program is none: it ends with the
/// process unless it is pinned.
const BPF: [u64; 11] = [2, 3, 6, 8, 9, 10, 26, 27, 28, 29, 34];

/// System calls that change something outside of the process. Messages to netlink are questions, unless
/// there is a qdisc to make.
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
    // The ways of older libraries.
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
    /// Of `bpf(2)`, whose first argument says what it does.
    command: Option<u64>,
    /// It was refused, and so has changed nothing.
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

/// What became of a traced program.
#[derive(Debug)]
pub struct Traced {
    /// The calls that it made, those that change nothing left out.
    pub calls: Vec<Call>,
    /// Whether it was killed; else it has ended by itself.
    pub killed: bool,
    /// What it said on standard error.
    pub said: String,
}

/// Runs a program to its end, or kills it right before it makes its call of this number, counted from
/// 0 among those that [`Traced::calls`] lists.
#[expect(clippy::zombie_processes, reason = "`follow` waits for its end")]
pub fn run(mut command: Command, until: Option<usize>) -> Traced {
    // SAFETY: between fork and exec only `ptrace` is called, which is a bare system call.
    unsafe { command.pre_exec(|| ptrace::traceme().map_err(io::Error::from)) };
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let child = child.unwrap_or_else(|error| panic!("start {command:?}: {error}"));
    let leader = Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
    // It stops at the first instruction of the program.
    waitpid(leader, None).unwrap_or_else(|error| panic!("wait for {command:?}: {error}"));
    let options =
        Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_EXITKILL;
    ptrace::setoptions(leader, options).unwrap_or_else(|error| panic!("trace: {error}"));
    resume(leader, None);
    let (calls, killed) = follow(leader, until);
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr {
        let _ = stderr.read_to_string(&mut said);
    }
    Traced { calls, killed, said }
}

fn follow(leader: Pid, until: Option<usize>) -> (Vec<Call>, bool) {
    let (mut calls, mut killed) = (Vec::<Call>::new(), false);
    // What each thread is doing.
    let mut under_way = HashMap::new();
    loop {
        // Any thread of the program, but nobody else's children.
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        match waitpid(None, Some(flags)).unwrap_or_else(|error| panic!("wait: {error}")) {
            WaitStatus::PtraceSyscall(thread) => {
                match stop(thread) {
                    Some(Stop::Before(_)) if until == Some(calls.len()) => {
                        // Dying, it does not make the call any more.
                        kill(leader, Signal::SIGKILL).unwrap_or_else(|error| panic!("{error}"));
                        killed = true;
                        continue;
                    }
                    Some(Stop::Before(call)) => {
                        under_way.insert(thread, calls.len());
                        calls.push(call);
                    }
                    Some(Stop::After { failed }) => {
                        if let Some(call) = under_way.remove(&thread) {
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
    // One that has been killed meanwhile cannot go on.
    let _ = ptrace::syscall(thread, signal);
}

/// Where a thread has stopped.
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
            // SAFETY: `op` says that this is the variant.
            let entry = unsafe { info.u.entry };
            Call::of(entry.nr, entry.args).map(Stop::Before)
        }
        libc::PTRACE_SYSCALL_INFO_EXIT => {
            // SAFETY: the same.
            let exit = unsafe { info.u.exit };
            Some(Stop::After { failed: exit.is_error != 0 })
        }
        _ => None,
    }
}

/// The moments worth dying at, of calls that a whole run made: before every one of them, but of a
/// series of calls of one kind only before the first two and the last. Of more than a limit, so many
/// that are spread evenly.
#[must_use]
pub fn moments(calls: &[Call], limit: usize) -> Vec<usize> {
    let mut moments = Vec::new();
    let mut start = 0;
    for series in calls.chunk_by(PartialEq::eq) {
        let last = series.len() - 1;
        if !series[0].failed {
            moments.extend([0, 1.min(last), last].map(|at| start + at));
        }
        start += series.len();
    }
    moments.dedup();
    if moments.len() <= limit {
        return moments;
    }
    (0..limit).map(|at| moments[at * (moments.len() - 1) / (limit - 1)]).collect()
}

#[cfg(test)]
mod tests {
    use super::{Call, moments};

    #[test]
    fn a_series_is_not_killed_everywhere() {
        let [one, other] = [1, 2].map(|number| Call { number, command: None, failed: false });
        let refused = Call { failed: true, ..one };
        let calls = [&[one; 9][..], &[other], &[refused; 2], &[one; 2], &[other; 3]].concat();
        assert_eq!(moments(&calls, 99), [0, 1, 8, 9, 12, 13, 14, 15, 16]);
        assert_eq!(moments(&calls, 3), [0, 12, 16]);
        assert_eq!(moments(&[], 3), [0; 0]);
    }
}
