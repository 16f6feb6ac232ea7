//! A demonstration: services and clients in namespaces, a guarded interface between them, and each
//! step printed with what was expected and what happened.

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

/// Shows everything with a built `secgroup`; tells whether all happened as expected.
pub fn run(program: &Path) -> Result<bool> {
    if !program.is_file() {
        bail!("no {}: run the demo by `cargo xtask demo`", program.display());
    }
    // Before anything is made, and before the first thread, which inherits it.
    interrupt::catch()?;
    let start = Instant::now();
    let mut screen = Screen::new();
    let told = tell(program, &mut screen);
    // Also after a story that broke off: what it had checked by then was checked.
    let nothing_differed = screen.close(start.elapsed())?;
    told?;
    Ok(nothing_differed)
}

/// Tells the whole story. What it makes is gone when it returns, however it does.
fn tell(program: &Path, screen: &mut Screen) -> Result<()> {
    screen
        .say("secgroup demo: real traffic between network namespaces, nothing of it leaves them")?;
    let lab = Lab::new();
    lab.describe(screen)?;
    // After the lab, so that the services end before the namespaces they live in.
    let hosts = [&lab.office, &lab.server, &lab.container];
    let [_office, server, container] = hosts.map(Services::start);

    screen.part("Part 1: a server guards its own interface")?;
    screen.say("The commands run on the server.")?;
    Part {
        lab: &lab,
        secgroup: &Secgroup::of(program, &lab.server.namespace),
        inside: &lab.server,
        services: &server,
        device: "eth0",
        options: &[],
    }
    .show(screen)?;

    screen.part("Part 2: a host guards a container, at its own end of the container's veth")?;
    screen.say("The commands run on that host; what it receives from the container is egress.")?;
    Part {
        lab: &lab,
        secgroup: &Secgroup::of(program, &lab.host.namespace),
        inside: &lab.container,
        services: &container,
        device: "veth0",
        options: &["--orientation", "guest"],
    }
    .show(screen)
}
