//! Commands killed at any moment: packets are decided by exactly the old policy or exactly the new
//! one, and `reconcile` applies what is stored.

mod apply;
mod attach;
mod calls;
mod deny;
mod policies;

use std::path::{Path, PathBuf};
use std::{env, fs};

use secgroup_tests::Secgroup;
use secgroup_tests::crash::{Traced, kill_points, run};

use policies::{Probe, Reachable};

/// The number of moments tried for each command, unless the environment variable requests all.
const DEFAULT_MOMENTS: usize = 40;
const ALL_MOMENTS_VARIABLE: &str = "SECGROUP_EVERY_MOMENT";

/// Kills a command at every moment. `line` prepares each run and returns its arguments; `check`
/// inspects the state that a killed command leaves.
fn kill_at_every_moment(
    secgroup: &Secgroup<'_>,
    mut line: impl FnMut() -> Vec<String>,
    mut check: impl FnMut(&str),
) {
    let Traced { calls, killed, stderr: said } = run(secgroup.command(line()), None);
    assert!(!killed && said.is_empty(), "without a kill it printed {said}");
    assert!(calls.len() > 20, "too few calls: {calls:?}");
    check("not killed");
    let moments = kill_points(&calls, moments());
    eprintln!("{} calls, killed at {} of them", calls.len(), moments.len());
    let mut kills = 0;
    for moment in moments {
        let traced = run(secgroup.command(line()), Some(moment));
        kills += usize::from(traced.killed);
        check(&format!("killed before call {moment}, {:?}", calls[moment]));
    }
    // Another run may make fewer calls.
    assert!(kills > 20, "killed only {kills} times");
}

/// How many moments are tried.
fn moments() -> usize {
    if env::var_os(ALL_MOMENTS_VARIABLE).is_some() { usize::MAX } else { DEFAULT_MOMENTS }
}

/// Every pin, without the number of its bank or filter, because a policy alternates between the banks, and
/// each filter has another number.
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
        let filter = name.strip_prefix("filter_").and_then(|rest| rest.split_once('_'));
        let without = match (filter, banks) {
            (Some((_, table)), _) => Some(format!("filter_x_{table}")),
            (None, Some(bank)) => Some(name.replacen(bank, "_x_", 1)),
            (None, None) => None,
        };
        found.push(without.map_or(path.clone(), |name| path.with_file_name(name)));
    }
}

/// The state of the first interface, `None` if nothing is attached.
fn state(secgroup: &Secgroup<'_>) -> Option<String> {
    let status = secgroup.run(["status", "--output", "json"]);
    let status: serde_json::Value = serde_json::from_str(&status.stdout).ok()?;
    Some(status["NetworkInterfaces"][0]["State"].as_str()?.to_owned())
}

/// Asserts that one of two policies decides packets; returns whether it is the new one.
#[track_caller]
fn is_new_policy(probe: &Probe<'_>, [before, after]: [&Reachable; 2], when: &str) -> bool {
    let reachable = probe.reachable();
    assert!(
        reachable == *before || reachable == *after,
        "{when}: {reachable:?} is neither {before:?} nor {after:?}"
    );
    reachable == *after
}
