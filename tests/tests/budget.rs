//! The instructions that the verifier processes for each program, against a committed budget.
//!
//! A program over its budget needs a review: instructions cost time on every load, the verifier
//! rejects a program at one million, and a sudden increase usually means that a loop is no longer
//! bounded as before. `cargo xtask budget --update` writes a new budget.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fmt::Write as _;
use std::fs;

use aya::programs::{ProgramInfo, SchedClassifier, Xdp};
use firewall_ebpf::abi::interface::{NonIp, Orientation, TcpChecks};
use firewall_ebpf::abi::port::PortSecurity;
use firewall_user::dataplane::hooks::load::{self, Settings};
use firewall_user::dataplane::object::shapes::Sizes;
use firewall_user::dataplane::tables::interface::FlowSizes;
use firewall_user::dataplane::tables::maps::Maps;
use firewall_user::dataplane::{Pins, instance, object};
use secgroup_tests::{PinDirectory, root};

/// The budget's file.
const FILE: &str = "firewall-ebpf/verifier-budget.toml";

/// Set by `cargo xtask budget --update`.
const UPDATE: &str = "SECGROUP_BUDGET_UPDATE";

const HEADER: &str = "\
# The instructions that the verifier may process, by program; a test enforces it.
# Written by `cargo xtask budget --update`: the measured numbers plus a twentieth, because kernels differ.
";

/// Instructions by program.
type Counts = BTreeMap<String, u32>;

#[test]
fn every_program_is_within_its_budget() {
    let measured = measure();
    let file = root().join(FILE);
    if env::var_os(UPDATE).is_some() {
        fs::write(&file, render(&measured)).unwrap_or_else(|error| panic!("write {FILE}: {error}"));
    }
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("read {FILE}: {error}"));
    let budget: Counts = toml::from_str(&text).unwrap_or_else(|error| panic!("{FILE}: {error}"));
    let table = table(&measured, &budget);
    println!("{table}");
    let names = |counts: &Counts| counts.keys().cloned().collect::<Vec<_>>();
    assert_eq!(
        names(&measured),
        names(&budget),
        "the budget lists every program and no other\n{table}"
    );
    let over = measured.iter().any(|(name, count)| *count > budget[name]);
    assert!(!over, "a program is over its verifier budget; see {FILE}\n{table}");
}

/// The highest count of each program over all load-time configurations of an interface: the
/// verifier skips code that a configuration does not use.
fn measure() -> Counts {
    let directory = PinDirectory::new();
    let pins = Pins::new(directory.path());
    let sizes = Sizes { rules: 16, interfaces: 1 };
    let maps = instance::ensure_maps(&pins, &sizes).expect("make the maps");
    let flows = FlowSizes { new: 16, udp: 16, tcp: 16, fragments: 16, sources: 0 };
    maps.ensure_interface_tables([(0, flows)]).expect("make the tables of flows");

    let mut worst = Counts::new();
    for orientation in [Orientation::Host, Orientation::Guest] {
        for (has_ethernet, tcp_checks) in [true, false]
            .into_iter()
            .flat_map(|has_ethernet| TcpChecks::ALL.map(|checks| (has_ethernet, checks)))
        {
            let fixed = Settings {
                slot: 0,
                orientation,
                has_ethernet,
                non_ip: NonIp::Control,
                ether_types: BTreeSet::new(),
                tcp_checks,
                tcp_loose: true,
                revalidate: true,
                max_per_source: None,
                timeouts: BTreeMap::new(),
                // With a MAC address that is checked.
                port: PortSecurity { mac: 1, ..PortSecurity::default() },
            };
            for (name, count) in load(&maps, &fixed) {
                let highest = worst.entry(name).or_default();
                *highest = count.max(*highest);
            }
        }
    }
    worst
}

/// Loads every program of the object and reads the kernel's instruction count.
fn load(maps: &Maps, fixed: &Settings) -> Counts {
    let record = fixed.record();
    let mut object = load::open(maps, fixed, (0, &record)).expect("open the kernel object");
    let names: Vec<String> = object.programs().map(|(name, _)| name.to_owned()).collect();
    names
        .into_iter()
        .map(|name| {
            let info = if let Ok(program) = object::program::<Xdp>(&mut object, &name) {
                program.load().and_then(|()| program.info())
            } else {
                let program: &mut SchedClassifier =
                    object::program(&mut object, &name).expect("a program of a known type");
                program.load().and_then(|()| program.info())
            };
            let info = info.unwrap_or_else(|error| panic!("load {name} as {fixed:?}: {error:?}"));
            (name, verified_instructions(&info))
        })
        .collect()
}

fn verified_instructions(info: &ProgramInfo) -> u32 {
    info.verified_instruction_count().expect("a kernel with the count (Linux 5.16)")
}

fn render(measured: &Counts) -> String {
    let mut text = HEADER.to_owned();
    for (name, count) in measured {
        let _ = writeln!(text, "{name} = {}", count + count / 20);
    }
    text
}

fn table(measured: &Counts, budget: &Counts) -> String {
    let mut text =
        format!("{:<12} {:>10} {:>10}  instructions verified\n", "program", "now", "budget");
    for (name, count) in measured {
        let limit = budget.get(name).map_or_else(|| "none".to_owned(), u32::to_string);
        let over = if budget.get(name).is_some_and(|limit| count > limit) { "  OVER" } else { "" };
        let _ = writeln!(text, "{name:<12} {count:>10} {limit:>10}{over}");
    }
    text
}
