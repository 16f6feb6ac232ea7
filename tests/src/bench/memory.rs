//! What a rule and a flow take, as the kernel counts it.

use std::net::{IpAddr, Ipv6Addr};

use anyhow::{Context as _, Result};
use firewall_user::config::Config;
use firewall_user::dataplane::instance;
use firewall_user::dataplane::object::shapes::Sizes;
use firewall_user::dataplane::tables::maps::Maps;
use firewall_user::policy::ResolvedRule;
use ipnet::IpNet;

use super::scale::{Policies, address, rule};
use super::subject::Scratch;

/// Enough that what any policy takes does not count.
const MANY: u32 = 10_000;
const SLOT: u16 = 0;
const UNTOLD: &str = "the kernel does not tell what a map takes (Linux 6.4)";

/// What something takes.
#[derive(Clone, Debug)]
pub struct Memory {
    /// Which thing.
    pub what: String,
    /// Bytes, on average.
    pub bytes: f64,
}

/// Makes maps as large as they are for everybody, and policies of each kind.
///
/// # Errors
/// The kernel refuses, or does not tell.
pub fn measure() -> Result<Vec<Memory>> {
    let pins = Scratch::new("memory");
    let mut maps = instance::ensure_maps(pins.pins(), &Sizes::from(Config::default().maps))?;
    let mut taken = shared(&maps)?;
    let mut add = |what: &str, bytes: f64| taken.push(Memory { what: what.to_owned(), bytes });

    let empty = policy(&mut maps, &[])?;
    add("a policy without rules", empty);
    let numbers = || 1..=MANY;
    let ports = |n: u32| -> Result<_> {
        Ok(rule(n, u16::try_from(2 * n)?, vec![IpNet::V4("10.0.0.0/8".parse()?)]))
    };
    let in_one = numbers().map(ports).collect::<Result<Vec<_>>>()?;
    let own = |network: fn(u32) -> IpNet| -> Vec<_> {
        numbers().map(|n| rule(n, 80, vec![network(n)])).collect()
    };
    let list = |network: fn(u32) -> IpNet| vec![rule(1, 80, numbers().map(network).collect())];
    for (what, rules) in [
        ("a rule more for a network", in_one),
        ("a rule with an IPv4 network of its own", own(address)),
        ("a rule with an IPv6 network of its own", own(address_v6)),
        ("an IPv4 entry of a prefix list", list(address)),
        ("an IPv6 entry of a prefix list", list(address_v6)),
    ] {
        add(what, (policy(&mut maps, &rules)? - empty) / f64::from(MANY));
    }
    let counters = |maps: &Maps| maps.rule_counter_usage()?.memory.context(UNTOLD);
    let before = counters(&maps)?;
    maps.add_rule_counters(numbers())?;
    add("the counter of a rule", (counters(&maps)? - before) as f64 / f64::from(MANY));
    Ok(taken)
}

/// The maps that are there before the first interface.
fn shared(maps: &Maps) -> Result<Vec<Memory>> {
    let tables = maps.occupancy(&[]);
    let all = maps.shared_memory().context(UNTOLD)?;
    let of_flows: u64 = tables.iter().filter_map(|table| table.memory).sum();
    let mut taken: Vec<_> = tables
        .iter()
        .map(|table| Memory {
            what: format!(
                "a flow, {}, IPv{} (room for {})",
                table.tier.name(),
                if table.is_v6 { 6 } else { 4 },
                table.capacity
            ),
            bytes: table.bytes_per_entry().unwrap_or(0) as f64,
        })
        .collect();
    for (what, bytes) in
        [("all flow tables", of_flows), ("all other maps that interfaces share", all - of_flows)]
    {
        taken.push(Memory { what: what.to_owned(), bytes: bytes as f64 });
    }
    Ok(taken)
}

/// What a policy takes.
fn policy(maps: &mut Maps, rules: &[ResolvedRule]) -> Result<f64> {
    Policies::default().change(maps, SLOT, "a policy of a kind", rules)?;
    Ok(maps.policy_memory(SLOT)?.context(UNTOLD)? as f64)
}

fn address_v6(number: u32) -> IpNet {
    let IpAddr::V4(low) = address(number).addr() else { return address(number) };
    let high = 0x2001_0db8_u128 << 96;
    IpNet::from(IpAddr::V6(Ipv6Addr::from_bits(high | u128::from(low.to_bits()))))
}

/// The figures, for people.
pub fn print(taken: &[Memory]) {
    println!(
        "\nmemory as the kernel counts it, with the sizes of maps that nobody has changed, bytes"
    );
    for Memory { what, bytes } in taken {
        println!("{what:44} {bytes:>12.1}");
    }
}
