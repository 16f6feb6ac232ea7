//! The time of commands with as many interfaces and groups as the default configuration allows.

mod containers;
mod groups;

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use firewall_ebpf::abi::limits::ABI_VERSION;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike as _};

use self::containers::Sender::{Container, Host};
use self::containers::{COUNT, Containers, address, device};
use self::groups::{ALL, GROUPS, POOL, POOL_PORT};
use crate::secgroup::CommandOutput;
use crate::{Secgroup, interrupt};

/// Ports that rules allow, in the order of the steps.
const FIRST: u16 = 5100;
const SECOND: u16 = 5101;
const OWN: u16 = 5102;
const COMMON: u16 = 5103;
const LAST: usize = COUNT - 1;

/// The time of a command.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// From start to end.
    pub wall: Duration,
    /// CPU time of the program in user mode.
    pub user: Duration,
    /// CPU time of the program in the kernel.
    pub kernel: Duration,
}

/// A command and its time.
#[derive(Clone, Debug)]
pub struct Step {
    /// The command.
    pub what: &'static str,
    /// Its time.
    pub cost: Cost,
}

/// Runs the commands of such a host. After each change, packets verify that it is active.
///
/// # Errors
/// A verdict is wrong, or a signal was received. Panics if a command fails.
pub fn measure() -> Result<Vec<Step>> {
    let containers = Containers::new()?;
    let secgroup = Secgroup::inside(&containers.host);
    // The default configuration.
    secgroup.configure("");
    let file = tempfile::NamedTempFile::new().context("create a file for a document")?;
    let apply = format!("apply {}", file.path().display());
    let document = |port| std::fs::write(file.path(), groups::document(port)).context("write it");
    let mut bench = Bench { secgroup: &secgroup, steps: Vec::new() };

    document(FIRST)?;
    bench.step("apply all groups, nothing attached", &apply)?;
    bench.attach_all()?;
    for number in [0, LAST] {
        containers.require_passed(Host, number, FIRST)?;
        containers.require_dropped(&secgroup, Host, number, SECOND)?;
    }
    containers.require_passed(Container(0), LAST, POOL_PORT)?;
    containers.require_dropped(&secgroup, Container(1), LAST, POOL_PORT)?;

    document(SECOND)?;
    bench.step("apply, another rule in every group", &apply)?;
    for number in [0, LAST] {
        containers.require_passed(Host, number, SECOND)?;
        containers.require_dropped(&secgroup, Host, number, FIRST)?;
    }
    bench.step("apply, no change", &apply)?;

    let rule = |group: &str, port: u16| {
        format!("rule add {group} ingress --protocol udp --port {port} --cidr 10.80.0.0/16")
    };
    bench.step("rule add, a group of one interface", &rule(&groups::own(LAST), OWN))?;
    containers.require_passed(Host, LAST, OWN)?;
    containers.require_dropped(&secgroup, Host, 0, OWN)?;
    bench.step("rule add, a group of all", &rule(ALL, COMMON))?;
    for number in [0, LAST] {
        containers.require_passed(Host, number, COMMON)?;
    }

    let mut fewer = groups::of(0);
    fewer.retain(|group| group != POOL);
    bench.step("attach, without a group that rules of all name", &attach(0, &fewer))?;
    containers.require_dropped(&secgroup, Container(0), LAST, POOL_PORT)?;
    containers.require_passed(Container(2), LAST, POOL_PORT)?;
    bench.step("status", "status")?;
    bench.step("reconcile, no change", "reconcile")?;
    containers.require_passed(Host, LAST, COMMON)?;
    containers.require_dropped(&secgroup, Host, LAST, FIRST)?;
    // As after a reboot: the store is left, and nothing in the kernel.
    let pins = secgroup.pin_dir().join(format!("abi{ABI_VERSION}"));
    std::fs::remove_dir_all(&pins).with_context(|| format!("remove {}", pins.display()))?;
    containers.require_passed(Host, LAST, FIRST)?;
    bench.step("reconcile, all interfaces after a reboot", "reconcile")?;
    containers.require_passed(Host, LAST, COMMON)?;
    containers.require_dropped(&secgroup, Host, LAST, FIRST)?;
    bench.step("detach --all", "detach --all")?;
    containers.require_passed(Host, LAST, FIRST)?;
    Ok(bench.steps)
}

struct Bench<'a> {
    secgroup: &'a Secgroup<'a>,
    steps: Vec<Step>,
}

impl Bench<'_> {
    fn step(&mut self, what: &'static str, line: &str) -> Result<()> {
        interrupt::check()?;
        let cost = timed(&mut self.secgroup.command(line.split_whitespace()))
            .with_context(|| format!("secgroup {line}"))?;
        self.steps.push(Step { what, cost });
        Ok(())
    }

    /// Attaches every interface; records the first, the second and the last.
    fn attach_all(&mut self) -> Result<()> {
        for number in 0..COUNT {
            eprint!("\rattach {} of {COUNT} interfaces", number + 1);
            let what = match number {
                0 => "attach, the first",
                1 => "attach, the second",
                _ => "attach, the last",
            };
            self.step(what, &attach(number, &groups::of(number)))?;
            if !matches!(number, 0 | 1 | LAST) {
                self.steps.pop();
            }
        }
        eprintln!();
        Ok(())
    }
}

fn attach(number: usize, groups: &[String]) -> String {
    let groups: String = groups.iter().map(|group| format!(" --group {group}")).collect();
    let (device, address) = (device(number), address(number));
    format!("attach {device} --orientation guest --address {address}{groups}")
}

/// Runs a command that must succeed, while no other child process runs.
fn timed(command: &mut Command) -> Result<Cost> {
    let before = children()?;
    let start = Instant::now();
    let output = CommandOutput::of(command);
    let wall = start.elapsed();
    ensure!(output.code == Some(0), "{output}");
    let after = children()?;
    let [user, kernel] = [0, 1].map(|kind| after[kind].saturating_sub(before[kind]));
    Ok(Cost { wall, user, kernel })
}

/// User and kernel CPU time of child processes that have ended.
fn children() -> Result<[Duration; 2]> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("read CPU times")?;
    let duration = |time: TimeVal| {
        Duration::from_micros(u64::try_from(time.num_microseconds()).unwrap_or_default())
    };
    Ok([usage.user_time(), usage.system_time()].map(duration))
}

/// Prints the figures.
pub fn print(steps: &[Step]) {
    println!(
        "\ncommands on a host with {COUNT} interfaces and {GROUPS} groups, milliseconds, on one CPU"
    );
    println!("{:50} {:>8} {:>8} {:>8}", "COMMAND", "WALL", "PROGRAM", "KERNEL");
    for Step { what, cost: Cost { wall, user, kernel } } in steps {
        let [wall, user, kernel] = [wall, user, kernel].map(|time| time.as_secs_f64() * 1e3);
        println!("{what:50} {wall:>8.0} {user:>8.0} {kernel:>8.0}");
    }
}
