//! The time of whole commands with a large policy: the store, the compiler, the kernel's tables and
//! the wait for an RCU grace period.

use std::fs;
use std::time::Instant;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::scale::address;
use crate::{Pair, Secgroup};

/// Rules of the group, each for another address.
const RULES: u32 = 100_000;
/// How often a rule is added and removed.
const ROUNDS: u16 = 5;

const CONFIG: &str = "[limits]\nrules_per_group = 200000\nrules_per_interface = 1000000\n";

/// Seconds of a command.
#[derive(Clone, Copy, Debug)]
pub struct CommandTime {
    /// The command.
    pub what: &'static str,
    /// The minimum of its rounds.
    pub seconds: f64,
}

/// Measures the commands.
///
/// # Errors
/// A file cannot be written. A command that fails panics, as in tests.
pub fn measure() -> Result<Vec<CommandTime>> {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.configure(CONFIG);
    let ranges: Vec<_> =
        (1..=RULES).map(|number| json!({"CidrIp": address(number).to_string()})).collect();
    let permissions =
        json!([{"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": ranges}]);
    let group = json!({
        "GroupId": "sg-0123456789abcdef0", "GroupName": "big", "Description": "x",
        "IpPermissions": permissions, "IpPermissionsEgress": [],
    });
    fs::create_dir_all(secgroup.state_dir())?;
    let document = secgroup.state_dir().join("big.json");
    fs::write(&document, json!({"SecurityGroups": [group]}).to_string())
        .with_context(|| format!("write {}", document.display()))?;

    let time = |line: &str| {
        let begin = Instant::now();
        secgroup.ok(line);
        begin.elapsed().as_secs_f64()
    };
    let mut all = vec![
        CommandTime {
            what: "apply of 100,000 rules",
            seconds: time(&format!("apply {}", document.display())),
        },
        CommandTime { what: "attach", seconds: time("attach eth0 --group big") },
    ];
    let (mut add, mut remove) = (f64::INFINITY, f64::INFINITY);
    for port in 1..=ROUNDS {
        let rule = format!("big ingress --protocol tcp --port {port} --cidr 192.0.2.7/32");
        add = add.min(time(&format!("rule add {rule}")));
        remove = remove.min(time(&format!("rule remove {rule}")));
    }
    all.push(CommandTime { what: "rule add", seconds: add });
    all.push(CommandTime { what: "rule remove", seconds: remove });
    Ok(all)
}

/// Prints the figures.
pub fn print(all: &[CommandTime]) {
    println!(
        "\nwhole commands on a group of 100,000 rules, milliseconds (rule add and remove: best of {ROUNDS})"
    );
    for CommandTime { what, seconds } in all {
        println!("{what:24} {:>8.0}", seconds * 1e3);
    }
}
