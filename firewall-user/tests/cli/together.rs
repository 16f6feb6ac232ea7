//! Several commands at once.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use crate::host::Host;

#[test]
fn commands_at_the_same_time_on_a_fresh_host_succeed() {
    // A race is lost once in some dozen times.
    for _ in 0..20 {
        let host = Host::new();
        let running: Vec<_> = (0..8)
            .map(|number| {
                let name = format!("group {number}");
                let mut command = host.command(&["group", "create", &name, "--description", "d"]);
                command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
            })
            .collect();
        for child in running {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        let (model, generation) = host.state();
        assert_eq!((model.groups.len(), generation), (9, 8), "with the default group");
    }
}

#[test]
fn a_command_waits_for_another_and_prints_that() {
    let host = Host::new();
    host.ok(&["group", "create", "first", "--description", "d"]);
    let lock = File::create(host.state_dir().join("lock")).unwrap();
    lock.lock().unwrap();

    let mut command = host.command(&["group", "create", "second", "--description", "d"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut printed = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut printed).unwrap();
    let lock_path = host.state_dir().join("lock");
    assert_eq!(
        printed,
        format!(
            "secgroup: waiting for another secgroup command to finish (`fuser {}` finds it)\n",
            lock_path.display()
        )
    );
    assert_eq!(host.state().0.groups.len(), 2, "it waits before its change");
    assert_eq!(host.ok(&["group", "list"]).lines().count(), 3, "what only reads does not wait");

    lock.unlock().unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(host.state().0.groups.len(), 3);
}

#[test]
fn additions_to_one_group_at_the_same_time_are_all_kept() {
    let host = Host::new();
    host.ok(&["group", "create", "web", "--description", "d"]);
    let running: Vec<_> = (1..=8)
        .map(|port| {
            let port = port.to_string();
            let args = ["rule", "add", "web", "ingress", "--protocol", "tcp", "--cidr", "::/0"];
            let mut command = host.command(&[&args[..], &["--port", &port]].concat());
            command.stdout(Stdio::null()).spawn().unwrap()
        })
        .collect();
    for mut child in running {
        assert!(child.wait().unwrap().success());
    }
    let (model, _) = host.state();
    let numbers: Vec<_> =
        model.group("web").unwrap().rules.iter().map(|rule| rule.number).collect();
    // Those before are of the default network ACL's entries and of the default group's rules.
    assert_eq!(numbers, (11..=20).collect::<Vec<u32>>());
}
