//! Large policies: the time of an admission compared with one lookup in the same trie, and of a
//! policy change.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use aya::{Ebpf, EbpfLoader};
use firewall_ebpf::abi::helper::{LIST_HEADER, MAX_PROBED, pack_query};
use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::limits::ABI_VERSION;
use firewall_ebpf::abi::policy::{Active, traffic};
use firewall_user::dataplane::instance;
use firewall_user::dataplane::object::shapes::Sizes;
use firewall_user::dataplane::tables::maps::Maps;
use firewall_user::dataplane::tables::policy::{Flags, Wanted};
use firewall_user::model::{PortRange, Tracking, Traffic};
use firewall_user::policy::{InternedPolicy, PolicyInterner, ResolvedRule};
use ipnet::IpNet;

use super::subject::Scratch;
use crate::interrupt;

/// Numbers of rules of the policies, each rule for another address.
const RULES: [u32; 4] = [100, 1_000, 10_000, 100_000];
/// Entries of the prefix list.
const ENTRIES: u32 = 1_000_000;
/// Lists of lookups for each policy.
const LISTS: u32 = 200;
/// Rounds, in each of which every program runs.
const ROUNDS: usize = 5;
const TCP: u8 = 6;

/// The times of one policy.
#[derive(Clone, Copy, Debug)]
pub struct Admission {
    /// Rules, which equals prefixes.
    pub rules: u32,
    /// Nanoseconds of one lookup in its trie, without reading the key.
    pub lookup: f64,
    /// Nanoseconds of an admission, without reading the key.
    pub admission: f64,
}

/// Seconds of a policy change.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// The change.
    pub what: &'static str,
    /// To compile the new policy, incrementally if there is an old one.
    pub compiled: f64,
    /// To find the differences to the active tables.
    pub planned: f64,
    /// To write it to the inactive bank or half.
    pub written: f64,
    /// From its activation until the old one is released: mostly the wait for an RCU grace period.
    pub settled: f64,
    /// Bytes of the policy in the kernel.
    pub memory: u64,
}

/// Measures admissions and changes.
///
/// # Errors
/// A kernel operation fails, or a lookup returns a wrong result.
pub fn measure(bench_object: &str) -> Result<(Vec<Admission>, Vec<Change>)> {
    let pins = Scratch::new("scale");
    let sizes = Sizes { rules: 262_144, interfaces: 8 };
    let mut maps = instance::ensure_maps(pins.pins(), &sizes)?;
    let (mut admissions, mut changes) = (Vec::new(), Vec::new());
    for (slot, count) in (0_u16..).zip(RULES) {
        interrupt::check()?;
        let mut rules: Vec<_> = (1..=count).map(|n| rule(n, 80, vec![address(n)])).collect();
        let mut policies = Policies::default();
        let change = policies.change(&mut maps, slot, "100,000 rules", &rules)?;
        admissions.push(admission(&pins, bench_object, &maps, slot, count)?);
        if count == RULES[RULES.len() - 1] {
            changes.push(change);
            rules.push(rule(count + 1, 81, vec![address(7)]));
            changes.push(policies.change(&mut maps, slot, "one more rule", &rules)?);
        }
    }
    interrupt::check()?;
    let slot = 7;
    let networks = (1..=ENTRIES).map(address).collect();
    let list = rule(1, 443, networks);
    let mut rules = vec![list];
    let mut policies = Policies::default();
    changes.push(policies.change(&mut maps, slot, "1,000,000 prefixes", &rules)?);
    rules.push(rule(2, 81, vec![address(7)]));
    changes.push(policies.change(&mut maps, slot, "one more rule", &rules)?);
    Ok((admissions, changes))
}

pub(super) fn rule(number: u32, port: u16, networks: Vec<IpNet>) -> ResolvedRule {
    let traffic = Traffic::Tcp(PortRange { from: port, to: port });
    ResolvedRule {
        number,
        direction: Direction::Ingress,
        traffic,
        networks: networks.into(),
        end: None,
    }
}

/// Spreads numbers over all addresses: an odd factor is a bijection.
pub(super) fn spread(number: u32) -> u32 {
    number.wrapping_mul(2_654_435_761)
}

/// The address of a rule or an entry by its number.
pub(super) fn address(number: u32) -> IpNet {
    IpNet::from(IpAddr::V4(Ipv4Addr::from(spread(number))))
}

/// The successive policies of a slot.
#[derive(Default)]
pub(super) struct Policies {
    interner: PolicyInterner,
    active: Option<(Vec<ResolvedRule>, InternedPolicy)>,
}

impl Policies {
    pub(super) fn change(
        &mut self,
        maps: &mut Maps,
        slot: u16,
        what: &'static str,
        rules: &[ResolvedRule],
    ) -> Result<Change> {
        let begin = Instant::now();
        let policy = match &self.active {
            Some((old, known)) => {
                self.interner.compile_after((old, known), rules, Tracking::Auto)?
            }
            None => self.interner.compile(rules, Tracking::Auto)?,
        };
        let compiled = begin.elapsed().as_secs_f64();
        let known = self.active.as_ref().map(|(_, policy)| policy);
        let wanted = Wanted {
            slot,
            interner: &self.interner,
            policy: &policy,
            known,
            flags: Flags::default(),
        };
        let begin = Instant::now();
        let plan = maps.plan(&wanted)?;
        let planned = begin.elapsed().as_secs_f64();
        let begin = Instant::now();
        let shadow = maps.shadow(&wanted, plan, &mut |_| {})?;
        maps.publish(&[&shadow])?;
        let written = begin.elapsed().as_secs_f64();
        let begin = Instant::now();
        maps.flip(vec![shadow], None)?;
        let settled = begin.elapsed().as_secs_f64();
        let memory = maps.policy_memory(slot)?.unwrap_or(0);
        self.active = Some((rules.to_vec(), policy));
        Ok(Change { what, compiled, planned, written, settled, memory })
    }
}

/// A list of lookups for addresses with a rule and a port without: the longest path.
fn list(active: Active, count: u32, from: u32) -> Vec<u8> {
    let mut list = active.0.to_ne_bytes().to_vec();
    list.resize(LIST_HEADER as usize, 0);
    for n in 0..MAX_PROBED {
        list.extend(pack_query(Direction::Ingress, traffic(TCP, 22)).to_ne_bytes());
        list.extend([0; 4]);
        let number = 1 + spread(from * MAX_PROBED + n) % count;
        list.extend(spread(number).to_be_bytes());
    }
    list
}

fn admission(
    pins: &Scratch,
    bench_object: &str,
    maps: &Maps,
    slot: u16,
    count: u32,
) -> Result<Admission> {
    let active = maps.active(slot)?;
    let trie = pins.pins().table(slot, active.tables().bank, "PREFIXES_V4");
    let mut bench = EbpfLoader::new()
        .map_pin_path("BENCH_PREFIXES", trie)
        .load_file(bench_object)
        .context("load the bench object")?;
    for name in ["list_v4", "longest_v4"] {
        program(&mut bench, name)?.load()?;
    }
    let probe = pins.pins().root().join(format!("abi{ABI_VERSION}/programs/probe_v4"));
    let mut admit = SchedClassifier::from_pin(probe)?;
    let lists: Vec<_> = (0..LISTS).map(|from| list(active, count, from)).collect();
    let mut least = [f64::INFINITY; 3];
    for _ in 0..ROUNDS {
        let floor = time(program(&mut bench, "list_v4")?, &lists)?;
        let lookup = time(program(&mut bench, "longest_v4")?, &lists)?;
        let admission = time(&mut admit, &lists)?;
        for (least, now) in least.iter_mut().zip([floor, lookup, admission]) {
            *least = least.min(now);
        }
    }
    let [floor, lookup, admission] = least;
    Ok(Admission { rules: count, lookup: lookup - floor, admission: admission - floor })
}

fn program<'a>(bench: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier> {
    Ok(bench.program_mut(name).with_context(|| format!("no program {name}"))?.try_into()?)
}

/// Nanoseconds of one lookup.
fn time(program: &mut SchedClassifier, lists: &[Vec<u8>]) -> Result<f64> {
    let mut total = 0.0;
    for list in lists {
        let options = TestRunOptions { data_in: Some(list), ..TestRunOptions::default() };
        let run = program.test_run(options)?;
        ensure!(run.return_value == MAX_PROBED, "{} lookups done", run.return_value);
        total += run.duration.as_secs_f64() * 1e9;
    }
    let lookups = f64::from(MAX_PROBED) * f64::from(LISTS);
    Ok(total / lookups)
}

/// Prints the figures.
pub fn print(admissions: &[Admission], changes: &[Change]) {
    println!(
        "\nadmission compared with one lookup in the policy's trie, nanoseconds, best of {ROUNDS}"
    );
    println!("{:>8} {:>8} {:>10} {:>8}", "RULES", "LOOKUP", "ADMISSION", "X");
    for Admission { rules, lookup, admission } in admissions {
        println!("{rules:>8} {lookup:>8.0} {admission:>10.0} {:>8.2}", admission / lookup);
    }
    println!("\nchanges of a policy, milliseconds");
    let columns = ["COMPILED", "PLANNED", "WRITTEN", "SETTLED"];
    let heads: String = columns.map(|column| format!(" {column:>9}")).concat();
    println!("{:22}{heads} {:>10}", "WHAT", "MEMORY");
    for Change { what, compiled, planned, written, settled, memory } in changes {
        let times =
            [compiled, planned, written, settled].map(|time| format!(" {:>9.2}", time * 1e3));
        println!("{what:22}{} {:>6} MiB", times.concat(), memory >> 20);
    }
}
