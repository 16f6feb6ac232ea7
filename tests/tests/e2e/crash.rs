//! Commands that are killed, at every moment: what packets meet then is exactly the policy from before
//! or exactly the one from after, and `reconcile` completes what the store says.

mod apply;
mod attach;
mod policies;

use std::path::{Path, PathBuf};
use std::{env, fs};

use secgroup_tests::Secgroup;
use secgroup_tests::crash::{Traced, kill_points, run};

use policies::{Met, Probe};

/// So many moments are tried of each command, unless the environment asks for all of them.
const USUAL: usize = 40;
const ASK: &str = "SECGROUP_EVERY_MOMENT";

/// Kills a command at every moment. `prepare` makes the ground for each run, `check` looks at what a
/// killed one has left.
fn at_every_moment(
    secgroup: &Secgroup<'_>,
    mut line: impl FnMut() -> Vec<String>,
    mut check: impl FnMut(&str),
) {
    let Traced { calls, killed, stderr: said } = run(secgroup.command(line()), None);
    assert!(!killed && said.is_empty(), "undisturbed, it said {said}");
    assert!(calls.len() > 20, "few calls to be killed at: {calls:?}");
    check("undisturbed");
    let limit = if env::var_os(ASK).is_some() { usize::MAX } else { USUAL };
    let moments = kill_points(&calls, limit);
    eprintln!("{} calls, killed at {} of them", calls.len(), moments.len());
    let mut deaths = 0;
    for moment in moments {
        let traced = run(secgroup.command(line()), Some(moment));
        deaths += usize::from(traced.killed);
        check(&format!("killed before call {moment}, {:?}", calls[moment]));
    }
    // Another run may need some calls fewer.
    assert!(deaths > 20, "killed {deaths} times only");
}

/// Every pin, without the number of its bank: a policy is now in one, now in the other.
fn pins(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    collect(directory, &mut found);
    found.sort();
    found
}

fn collect(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        collect(&path, found);
        let name = path.file_name().unwrap().to_str().unwrap();
        let is_table = directory.ends_with("tables");
        let banks = ["_0_", "_1_"].into_iter().find(|bank| is_table && name.contains(bank));
        found.push(
            banks.map_or(path.clone(), |bank| path.with_file_name(name.replacen(bank, "_x_", 1))),
        );
    }
}

/// What an interface's state is called.
fn state(secgroup: &Secgroup<'_>) -> Option<String> {
    let status = secgroup.run(["status", "--output", "json"]);
    let status: serde_json::Value = serde_json::from_str(&status.stdout).ok()?;
    Some(status["NetworkInterfaces"][0]["State"].as_str()?.to_owned())
}

/// Asserts that packets meet one of two policies; tells whether it is the second.
#[track_caller]
fn is_after(probe: &Probe<'_>, [before, after]: [&Met; 2], when: &str) -> bool {
    let met = probe.ask();
    assert!(met == *before || met == *after, "{when}: {met:?} is neither {before:?} nor {after:?}");
    met == *after
}
