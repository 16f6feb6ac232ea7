//! What a whole command takes where a policy is large: the store, the compiler, the kernel's tables
//! and the wait for packets that are being judged.

use std::fs;
use std::time::Instant;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::scale::address;
use crate::{Pair, Secgroup};

/// Rules of the group, each for an address of its own.
const RULES: u32 = 100_000;
/// How often a rule is added and removed.
const ROUNDS: u16 = 5;

const CONFIG: &str = "[limits]\nrules_per_group = 200000\nrules_per_interface = 1000000\n";

/// Seconds of a command.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// The command.
    pub what: &'static str,
    /// The least of its rounds.
    pub seconds: f64,
}

/// Measures the commands.
///
/// # Errors
/// A file cannot be written. A command that fails panics, as in tests.
pub fn measure() -> Result<Vec<Taken>> {
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
        Taken {
            what: "apply of 100,000 rules",
            seconds: time(&format!("apply {}", document.display())),
        },
        Taken { what: "attach", seconds: time("attach eth0 --group big") },
    ];
    let (mut add, mut remove) = (f64::INFINITY, f64::INFINITY);
    for port in 1..=ROUNDS {
        let rule = format!("big ingress --protocol tcp --port {port} --cidr 192.0.2.7/32");
        add = add.min(time(&format!("rule add {rule}")));
        remove = remove.min(time(&format!("rule remove {rule}")));
    }
    all.push(Taken { what: "rule add", seconds: add });
    all.push(Taken { what: "rule remove", seconds: remove });
    Ok(all)
}

/// The figures, for people.
pub fn print(all: &[Taken]) {
    println!(
        "\nwhole commands on a group of 100,000 rules, milliseconds (best of {ROUNDS} from the third on)"
    );
    for Taken { what, seconds } in all {
        println!("{what:24} {:>8.0}", seconds * 1e3);
    }
}
