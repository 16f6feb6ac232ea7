//! The demo: services and clients in namespaces, a protected interface between them, and each step
//! printed with its expected and actual result.

mod attempt;
mod evidence;
mod lab;
mod part;
mod screen;
mod services;
mod shell;

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail};

use self::lab::Lab;
use self::part::Part;
use self::screen::Screen;
use self::services::Services;
use crate::{Secgroup, interrupt};

/// Runs the demo with a built `secgroup`; whether all results were as expected.
pub fn run(program: &Path) -> Result<bool> {
    if !program.is_file() {
        bail!("no {}: run the demo by `cargo xtask demo`", program.display());
    }
    // Before anything is created, and before the first thread, which inherits the signal mask.
    interrupt::catch()?;
    let start = Instant::now();
    let mut screen = Screen::new();
    let result = run_parts(program, &mut screen);
    // Also after a failure: the checks until then count.
    let all_passed = screen.close(start.elapsed())?;
    result?;
    Ok(all_passed)
}

/// Runs both parts. All that it creates is removed when it returns, also on failure.
fn run_parts(program: &Path, screen: &mut Screen) -> Result<()> {
    screen
        .print("secgroup demo: real traffic between network namespaces; no packet leaves them")?;
    let lab = Lab::new();
    lab.describe(screen)?;
    // Declared after the lab, so that the services are dropped before their namespaces.
    let hosts = [&lab.office, &lab.server, &lab.container];
    let [_office, server, container] = hosts.map(Services::start);

    screen.part("Part 1: a server protects its own interface")?;
    screen.print("The commands run on the server.")?;
    Part {
        lab: &lab,
        secgroup: &Secgroup::of(program, &lab.server.namespace),
        inside: &lab.server,
        services: &server,
        device: "eth0",
        options: &[],
    }
    .run_all(screen)?;

    screen.part(
        "Part 2: a host protects a container, at the host's end of the container's veth pair",
    )?;
    screen.print(
        "The commands run on that host. Packets that it receives from the container are egress.",
    )?;
    Part {
        lab: &lab,
        secgroup: &Secgroup::of(program, &lab.host.namespace),
        inside: &lab.container,
        services: &container,
        device: "veth0",
        options: &["--orientation", "guest"],
    }
    .run_all(screen)
}
