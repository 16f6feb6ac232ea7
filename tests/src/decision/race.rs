//! The programs of a [`Kernel`](super::Kernel) on several threads at the same time.

use std::hint::spin_loop;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use aya::programs::ProgramFd;
use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::reason::Verdict;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// Linux: `enum bpf_cmd`.
const BPF_PROG_TEST_RUN: libc::c_long = 10;

const TCX_NEXT: u32 = u32::MAX;

/// The fields of Linux' `union bpf_attr` for a test run.
#[derive(Default)]
#[repr(C)]
struct TestRun {
    program: u32,
    returned: u32,
    size_in: u32,
    size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_size_in: u32,
    context_size_out: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    unused: u32,
}

/// The TC programs. Not XDP: before and after each of its test runs the kernel patches the dispatcher of
/// XDP programs for milliseconds, one run at a time.
pub struct Runner {
    /// For ingress and egress of the interface.
    pub(super) programs: [ProgramFd; 2],
}

impl Runner {
    /// Decides a frame several times; returns the verdict of the last.
    #[must_use]
    pub fn run(&self, frame: &[u8], direction: Direction, repeat: u32) -> Verdict {
        let program = self.programs[direction as usize].as_fd().as_raw_fd();
        let mut run = TestRun {
            program: u32::try_from(program).expect("an open file"),
            size_in: u32::try_from(frame.len()).expect("a frame"),
            data_in: frame.as_ptr().addr() as u64,
            repeat,
            ..TestRun::default()
        };
        // SAFETY: the frame outlives the call, which only reads it.
        let done = unsafe {
            libc::syscall(libc::SYS_bpf, BPF_PROG_TEST_RUN, &raw mut run, size_of::<TestRun>())
        };
        assert_eq!(done, 0, "test run: {}", io::Error::last_os_error());
        if run.returned == TCX_NEXT { Verdict::Pass } else { Verdict::Drop }
    }
}

/// Where two threads wait for each other, without sleeping: they leave within a fraction of a
/// microsecond if both run.
#[derive(Default)]
pub struct Meeting(AtomicU32);

impl Meeting {
    /// Waits for the other thread, for the `number`-th time, counted from 0.
    pub fn wait(&self, number: u32) {
        self.0.fetch_add(1, Ordering::SeqCst);
        let mut turns = 0_u32;
        while self.0.load(Ordering::SeqCst) < 2 * (number + 1) {
            spin_loop();
            turns += 1;
            // The other one may wait for a processor.
            if turns.is_multiple_of(10_000) {
                thread::yield_now();
            }
        }
    }
}

/// Runs one closure on CPU 0 and the other on CPU 1, at the same time.
pub fn on_two_cpus<A: Send, B: Send>(
    first: impl FnOnce() -> A + Send,
    second: impl FnOnce() -> B + Send,
) -> (A, B) {
    thread::scope(|scope| {
        let second = scope.spawn(|| {
            pin(1);
            second()
        });
        let first = scope.spawn(|| {
            pin(0);
            first()
        });
        let first = first.join().unwrap_or_else(|panic| resume_unwind(panic));
        (first, second.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}

fn pin(cpu: usize) {
    let mut only = CpuSet::new();
    only.set(cpu).expect("a CPU's number");
    sched_setaffinity(Pid::from_raw(0), &only)
        .unwrap_or_else(|error| panic!("run on CPU {cpu}: {error}"));
}
