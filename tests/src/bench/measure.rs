//! Measures nanoseconds of a packet by test runs.

use std::iter::repeat_with;

use anyhow::{Context as _, Result, ensure};
use aya::Ebpf;
use aya::maps::ProgramArray;
use aya::programs::{ProgramFd, SchedClassifier, TestRun as _, TestRunOptions, Xdp};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// Test runs of one measurement.
const REPEAT: u32 = 25_000;
/// Measurements of a row in a round.
const SAMPLES: usize = 4;

/// Pins this process to CPU 0, so that per-CPU memory and the flow table stay in its caches.
///
/// # Errors
/// The system call fails.
pub fn pin_to_one_cpu() -> Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(0).context("choose CPU 0")?;
    sched_setaffinity(Pid::from_raw(0), &cpus).context("pin to CPU 0")
}

/// The hook of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// XDP.
    Xdp,
    /// TCX.
    Tcx,
}

impl Hook {
    /// Both hooks.
    pub const ALL: [Self; 2] = [Self::Xdp, Self::Tcx];

    /// The printed name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::Tcx => "tcx",
        }
    }

    /// The program that turns every packet into another SYN, and the map with its tail call's
    /// program.
    const fn renewer(self) -> (&'static str, &'static str) {
        match self {
            Self::Xdp => ("renew_xdp", "BENCH_NEXT_XDP"),
            Self::Tcx => ("renew_tcx", "BENCH_NEXT_TCX"),
        }
    }

    /// secgroup's program for received packets.
    #[must_use]
    pub const fn receive(self) -> &'static str {
        match self {
            Self::Xdp => "sg_xdp_rx",
            Self::Tcx => "sg_tcx_rx",
        }
    }
}

/// The expected verdict; another one means that something else was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The packet passes.
    Pass,
    /// The packet is dropped.
    Drop,
}

impl Expected {
    fn matches(self, hook: Hook, value: u32) -> bool {
        match (hook, self) {
            (Hook::Xdp, Self::Pass) => value == 2,
            (Hook::Xdp, Self::Drop) => value == 1,
            // TCX_NEXT of secgroup, TCX_PASS of the empty program.
            (Hook::Tcx, Self::Pass) => value == u32::MAX || value == 0 || value == 2,
            (Hook::Tcx, Self::Drop) => value == 2 || value == 1,
        }
    }
}

/// Loads a program of an object.
///
/// # Errors
/// There is no such program, or it does not load.
pub fn load(ebpf: &mut Ebpf, hook: Hook, name: &str) -> Result<()> {
    let program = ebpf.program_mut(name).with_context(|| format!("no program {name}"))?;
    match hook {
        Hook::Xdp => <&mut Xdp>::try_from(program)?.load(),
        Hook::Tcx => <&mut SchedClassifier>::try_from(program)?.load(),
    }
    .with_context(|| format!("load {name}"))
}

/// Runs a program; returns whole nanoseconds of one run as the kernel measures them, and the
/// verdict of the last.
fn test_run(
    ebpf: &Ebpf,
    hook: Hook,
    name: &str,
    options: TestRunOptions<'_>,
) -> Result<(u32, u32)> {
    let program = ebpf.program(name).with_context(|| format!("no program {name}"))?;
    let result = match hook {
        Hook::Xdp => <&Xdp>::try_from(program)?.test_run(options),
        Hook::Tcx => <&SchedClassifier>::try_from(program)?.test_run(options),
    }
    .with_context(|| format!("run {name}"))?;
    Ok((u32::try_from(result.duration.as_nanos())?, result.return_value))
}

/// Nanoseconds of the same frame in every run, including the overhead of the test run; several
/// samples.
///
/// # Errors
/// The program returns another verdict.
pub fn repeated(
    ebpf: &Ebpf,
    hook: Hook,
    name: &str,
    frame: &[u8],
    expected: Expected,
) -> Result<Vec<f64>> {
    let sample = || {
        // The kernel's own measurement, although in whole nanoseconds: measured from outside, a run
        // of XDP takes ten milliseconds more, in which the kernel patches its dispatcher.
        let options =
            TestRunOptions { data_in: Some(frame), repeat: REPEAT, ..TestRunOptions::default() };
        let (nanoseconds, verdict) = test_run(ebpf, hook, name, options)?;
        ensure!(expected.matches(hook, verdict), "{name}: returned {verdict}, not {expected:?}");
        Ok(f64::from(nanoseconds))
    };
    repeat_with(sample).take(SAMPLES).collect()
}

/// A program's descriptor, for [`renewed`].
///
/// # Errors
/// There is no such program.
pub fn descriptor(ebpf: &Ebpf, name: &str) -> Result<ProgramFd> {
    let program = ebpf.program(name).with_context(|| format!("no program {name}"))?;
    Ok(program.fd()?.try_clone()?)
}

/// Nanoseconds of a SYN of another connection in every run, which the renewing program creates
/// and passes to `next` by a tail call; several samples. `frame` becomes the last SYN, from which the
/// next measurement continues.
///
/// # Errors
/// The program returns another verdict.
pub fn renewed(
    renewer: &mut Ebpf,
    hook: Hook,
    next: &ProgramFd,
    frame: &mut Vec<u8>,
    expected: Expected,
) -> Result<Vec<f64>> {
    let (name, next_map) = hook.renewer();
    let map = renewer.map_mut(next_map).with_context(|| format!("no map {next_map}"))?;
    ProgramArray::try_from(map)?.set(0, next, 0)?;
    let sample = || {
        let mut after = vec![0; frame.len()];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut after),
            repeat: REPEAT,
            ..TestRunOptions::default()
        };
        let (nanoseconds, verdict) = test_run(renewer, hook, name, options)?;
        ensure!(expected.matches(hook, verdict), "{name}: returned {verdict}, not {expected:?}");
        *frame = after;
        Ok(f64::from(nanoseconds))
    };
    repeat_with(sample).take(SAMPLES).collect()
}
