//! Concurrent commands.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use secgroup_tests::network::at;
use secgroup_tests::process::end_on_interrupt;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::{Pair, Secgroup};

use super::{CHANGES, assert_unchanged};

/// Starts a command, and waits until it reports that it waits for the lock.
fn spawn_waiting(secgroup: &Secgroup<'_>, line: &str) -> Child {
    let mut command = secgroup.command(line.split(' '));
    end_on_interrupt(&mut command);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut message = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut message).unwrap();
    let lock = secgroup.state_dir().join("lock");
    let expected = format!(
        "secgroup: waiting for another secgroup command to finish (`fuser {}` finds it)\n",
        lock.display()
    );
    assert_eq!(message, expected, "{line}");
    child
}

#[test]
fn a_command_waits_for_the_lock_and_can_be_interrupted() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    secgroup.ok("attach eth0 --group web");
    let lock = File::open(secgroup.state_dir().join("lock")).unwrap();
    lock.lock().unwrap();
    // While the lock is held, SIGINT ends a waiting command, which has changed nothing.
    assert_unchanged(&secgroup, &net.server, || {
        // A detachment is for an emergency, and does not wait for long.
        for line in CHANGES.into_iter().filter(|line| !line.starts_with("detach")) {
            let mut child = spawn_waiting(&secgroup, line);
            kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
            assert_eq!(child.wait().unwrap().code(), None, "{line}: ended by the signal");
        }
        // Commands that only read do not wait.
        secgroup.ok("status");
        secgroup.ok("stats");
    });
    // The command continues when the lock is released.
    let mut child = spawn_waiting(&secgroup, "mode eth0 enforce");
    lock.unlock().unwrap();
    assert!(child.wait().unwrap().success());
    secgroup.ok("detach eth0");
    assert_eq!(secgroup.run(["status"]).stdout, "nothing is attached\n");
}

#[test]
fn concurrent_changes_all_become_active() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    let running: Vec<_> = (1..=8)
        .map(|port| {
            let line = format!("rule add web ingress --protocol tcp --port {port} --cidr ::/0");
            let attach = "attach eth0 --group web";
            let line = if port == 4 { attach } else { &line };
            let mut command = secgroup.command(line.split(' '));
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for child in running {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(secgroup.json("status")["NetworkInterfaces"][0]["Rules"], 2 + 7);
    for port in 1..=8 {
        let server = TcpServer::echo(&net.server, at(Pair::SERVER, port)[1]);
        let allowed = port != 4;
        assert_eq!(tcp::reaches(&net.client, server.address()), allowed, "port {port}");
    }
}
