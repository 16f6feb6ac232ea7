//! Nanoseconds of a packet.

use anyhow::{Context as _, Result, ensure};
use aya::Ebpf;
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions, Xdp};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// Runs of one measurement of a packet that may be repeated.
const REPEAT: u32 = 25_000;
/// Measurements of such a packet in a round.
const SAMPLES: usize = 4;
/// Packets of one measurement where each has to be another.
const SINGLES: u32 = 4_000;

/// Keeps this process on one CPU: per-CPU memory stays warm, and so does the flow table.
///
/// # Errors
/// The kernel refuses.
pub fn pin_to_one_cpu() -> Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(0).context("choose CPU 0")?;
    sched_setaffinity(Pid::from_raw(0), &cpus).context("stay on CPU 0")
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

    /// As printed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::Tcx => "tcx",
        }
    }

    /// The program of the product.
    #[must_use]
    pub const fn receive(self) -> &'static str {
        match self {
            Self::Xdp => "sg_xdp_rx",
            Self::Tcx => "sg_tcx_rx",
        }
    }
}

/// What the program is to answer; another answer means that something else was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The packet goes on.
    Pass,
    /// It ends.
    Drop,
}

impl Answer {
    fn is(self, hook: Hook, value: u32) -> bool {
        match (hook, self) {
            (Hook::Xdp, Self::Pass) => value == 2,
            (Hook::Xdp, Self::Drop) => value == 1,
            // TCX_NEXT of the product, TCX_PASS of the empty program.
            (Hook::Tcx, Self::Pass) => value == u32::MAX || value == 0 || value == 2,
            (Hook::Tcx, Self::Drop) => value == 2 || value == 1,
        }
    }
}

/// Loads a program of an object.
///
/// # Errors
/// It is not there, or the kernel refuses it.
pub fn load(ebpf: &mut Ebpf, hook: Hook, name: &str) -> Result<()> {
    let program = ebpf.program_mut(name).with_context(|| format!("no program {name}"))?;
    match hook {
        Hook::Xdp => <&mut Xdp>::try_from(program)?.load(),
        Hook::Tcx => <&mut SchedClassifier>::try_from(program)?.load(),
    }
    .with_context(|| format!("load {name}"))
}

/// Runs a frame; nanoseconds of one run, by the kernel's count in whole ones, and the answer.
fn run(ebpf: &Ebpf, hook: Hook, name: &str, frame: &[u8], repeat: u32) -> Result<(u32, u32)> {
    let program = ebpf.program(name).with_context(|| format!("no program {name}"))?;
    let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::default() };
    let result = match hook {
        Hook::Xdp => <&Xdp>::try_from(program)?.test_run(options),
        Hook::Tcx => <&SchedClassifier>::try_from(program)?.test_run(options),
    }
    .with_context(|| format!("run {name}"))?;
    Ok((u32::try_from(result.duration.as_nanos())?, result.return_value))
}

/// Nanoseconds of a frame that is the same every time, the harness' floor included; several times.
///
/// # Errors
/// The program answers otherwise.
pub fn repeated(
    ebpf: &Ebpf,
    hook: Hook,
    name: &str,
    frame: &[u8],
    want: Answer,
) -> Result<Vec<f64>> {
    let sample = || {
        // The kernel's own figure, though it is in whole nanoseconds: from outside, a run of XDP
        // takes ten milliseconds more, in which the kernel patches its dispatcher.
        let (nanoseconds, answer) = run(ebpf, hook, name, frame, REPEAT)?;
        ensure!(want.is(hook, answer), "{name}: answered {answer}, not {want:?}");
        Ok(f64::from(nanoseconds))
    };
    (0..SAMPLES).map(|_| sample()).collect()
}

/// Nanoseconds of frames that are each another, the harness' floor included; once.
///
/// # Errors
/// The program answers otherwise.
pub fn singles(
    ebpf: &Ebpf,
    hook: Hook,
    name: &str,
    mut frame: impl FnMut() -> Vec<u8>,
    want: Answer,
) -> Result<Vec<f64>> {
    let mut total = 0.0;
    for _ in 0..SINGLES {
        let (nanoseconds, answer) = run(ebpf, hook, name, &frame(), 1)?;
        ensure!(want.is(hook, answer), "{name}: answered {answer}, not {want:?}");
        total += f64::from(nanoseconds);
    }
    Ok(vec![total / f64::from(SINGLES)])
}
