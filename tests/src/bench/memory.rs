//! Memory of rules and flows, as the kernel counts it.

use std::net::{IpAddr, Ipv6Addr};

use anyhow::{Context as _, Result};
use firewall_user::config::Config;
use firewall_user::dataplane::instance;
use firewall_user::dataplane::tables::maps::Maps;
use firewall_user::policy::ResolvedRule;
use ipnet::IpNet;

use super::scale::{Policies, address, rule};
use super::subject::Scratch;

/// Enough rules that the constant memory of a policy is negligible per rule.
const MANY: u32 = 10_000;
const SLOT: u16 = 0;
const NO_MEMORY: &str = "the kernel does not report the memory of maps (needs Linux 6.4)";

/// The memory of an item.
#[derive(Clone, Debug)]
pub struct Memory {
    /// The item.
    pub what: String,
    /// Bytes, on average.
    pub bytes: f64,
}

/// Creates maps of the default sizes, and policies of each kind.
///
/// # Errors
/// A kernel operation fails, or the kernel does not report memory.
pub fn measure() -> Result<Vec<Memory>> {
    let pins = Scratch::new("memory");
    let config = Config::default().maps;
    let mut maps = instance::ensure_maps(pins.pins(), &config.shared())?;
    maps.ensure_interface_tables([(SLOT, config.of_interface())])?;
    let mut items = shared(&maps)?;
    let mut add = |what: &str, bytes: f64| items.push(Memory { what: what.to_owned(), bytes });

    let empty = policy(&mut maps, &[])?;
    add("a policy without rules", empty);
    let numbers = || 1..=MANY;
    let ports = |n: u32| -> Result<_> {
        Ok(rule(n, u16::try_from(2 * n)?, vec![IpNet::V4("10.0.0.0/8".parse()?)]))
    };
    let same_network = numbers().map(ports).collect::<Result<Vec<_>>>()?;
    let other_networks = |network: fn(u32) -> IpNet| -> Vec<_> {
        numbers().map(|n| rule(n, 80, vec![network(n)])).collect()
    };
    let list = |network: fn(u32) -> IpNet| vec![rule(1, 80, numbers().map(network).collect())];
    for (what, rules) in [
        ("a rule of the same network", same_network),
        ("a rule of another IPv4 network", other_networks(address)),
        ("a rule of another IPv6 network", other_networks(address_v6)),
        ("an IPv4 entry of a prefix list", list(address)),
        ("an IPv6 entry of a prefix list", list(address_v6)),
    ] {
        add(what, (policy(&mut maps, &rules)? - empty) / f64::from(MANY));
    }
    let counters = |maps: &Maps| maps.rule_counter_usage()?.memory.context(NO_MEMORY);
    let before = counters(&maps)?;
    maps.add_rule_counters(numbers())?;
    add("the counter of a rule", (counters(&maps)? - before) as f64 / f64::from(MANY));
    Ok(items)
}

/// The maps that all interfaces share, and the flow tables of one.
fn shared(maps: &Maps) -> Result<Vec<Memory>> {
    let tables = maps.occupancy(&[])?;
    let shared = maps.shared_memory().context(NO_MEMORY)?;
    let own = maps.interface_tables(SLOT)?.and_then(|own| own.memory()).context(NO_MEMORY)?;
    let mut items: Vec<_> = tables
        .iter()
        .map(|table| Memory {
            what: format!(
                "flow table {}, IPv{}, empty (capacity {})",
                table.table.name(),
                if table.is_v6 { 6 } else { 4 },
                table.capacity
            ),
            bytes: table.memory.unwrap_or(0) as f64,
        })
        .collect();
    for (what, bytes) in [("all tables of an interface", own), ("the shared maps", shared)] {
        items.push(Memory { what: what.to_owned(), bytes: bytes as f64 });
    }
    Ok(items)
}

/// The memory of a policy.
fn policy(maps: &mut Maps, rules: &[ResolvedRule]) -> Result<f64> {
    Policies::default().change(maps, SLOT, "a policy", rules)?;
    Ok(maps.policy_memory(SLOT)?.context(NO_MEMORY)? as f64)
}

fn address_v6(number: u32) -> IpNet {
    let IpAddr::V4(low) = address(number).addr() else { return address(number) };
    let high = 0x2001_0db8_u128 << 96;
    IpNet::from(IpAddr::V6(Ipv6Addr::from_bits(high | u128::from(low.to_bits()))))
}

/// Prints the figures.
pub fn print(items: &[Memory]) {
    println!("\nmemory as the kernel counts it, with the default sizes of maps, bytes");
    for Memory { what, bytes } in items {
        println!("{what:44} {bytes:>12.1}");
    }
}
