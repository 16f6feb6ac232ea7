//! A few rules, their policy tables, and their direct evaluation.
//!
//! The compiler has its own target. Here other code makes the tables, so that an error of the
//! compiler is not taken for one of the verdict logic.

use std::collections::BTreeSet;

use arbitrary::{Result, Unstructured};
use firewall_ebpf::interface::Direction;
use firewall_ebpf::policy::{ANY_V4, ANY_V6, NO_CLASS, Range, TRAFFIC_MAX, UNTRACKED, traffic};
use firewall_ebpf::prefix::Prefix;
use firewall_policy::{CompiledClass, CompiledPolicy};

use crate::packet::{NEAR_V4, NEAR_V6, is_near};

/// A rule, for both families.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    direction: Direction,
    /// Whether it applies only to the near network.
    is_near: bool,
    low: u32,
    high: u32,
    /// The number, optionally with [`UNTRACKED`].
    number: u32,
}

/// Ranges of traffic that match packets of the pools.
const SPANS: [(u32, u32); 8] = [
    (0, TRAFFIC_MAX),
    (traffic(6, 443), traffic(6, 443)),
    (traffic(6, 0), traffic(6, u16::MAX)),
    (traffic(17, 53), traffic(17, 443)),
    (traffic(17, 0), traffic(17, u16::MAX)),
    (traffic(1, 0x0800), traffic(1, 0x08ff)),
    (traffic(58, 0x8000), traffic(58, 0x80ff)),
    (traffic(47, 0), traffic(132, u16::MAX)),
];

/// Random rules.
///
/// # Errors
/// None in practice: exhausted bytes are read as zeros.
pub fn any(bytes: &mut Unstructured<'_>) -> Result<Vec<Rule>> {
    let count = bytes.int_in_range(1..=4)?;
    (1..=count).map(|number| rule(bytes, number)).collect()
}

fn rule(bytes: &mut Unstructured<'_>, number: u32) -> Result<Rule> {
    let (kind, span): (u8, u8) = (bytes.arbitrary()?, bytes.arbitrary()?);
    let (low, high) = SPANS[usize::from(span) % SPANS.len()];
    let is_near = kind & 2 != 0;
    // Rules with UNTRACKED apply to all addresses.
    let flag = if kind & 28 == 28 && !is_near { UNTRACKED } else { 0 };
    Ok(Rule {
        direction: Direction::ALL[usize::from(kind & 1)],
        is_near,
        low,
        high,
        number: number | flag,
    })
}

/// The numbers of the rules that allow traffic with an outside address.
pub fn allowing(
    rules: &[Rule],
    direction: Direction,
    outside: &[u8],
    traffic: u32,
) -> impl Iterator<Item = u32> {
    let near = is_near(outside);
    let allows = move |rule: &&Rule| {
        rule.direction == direction
            && (near || !rule.is_near)
            && (rule.low..=rule.high).contains(&traffic)
    };
    rules.iter().filter(allows).map(|rule| rule.number & !UNTRACKED)
}

/// Whether a rule makes traffic untracked.
#[must_use]
pub fn has_untracked(rules: &[Rule]) -> bool {
    rules.iter().any(|rule| rule.number & UNTRACKED != 0)
}

/// The policy tables of the rules.
#[must_use]
pub fn tables(rules: &[Rule]) -> CompiledPolicy {
    let mut policy = CompiledPolicy::deny_all();
    let [first, second, third] = NEAR_V4;
    let mut near_v6 = [0; 16];
    near_v6[..8].copy_from_slice(&NEAR_V6);
    policy.prefixes_v4.insert(Prefix::new([first, second, third, 0], 24), ANY_V6 + 1);
    policy.prefixes_v6.insert(Prefix::new(near_v6, 64), ANY_V6 + 2);
    policy.classes.clear();
    for (parent, is_near) in [(NO_CLASS, false), (NO_CLASS, false), (ANY_V4, true), (ANY_V6, true)]
    {
        let lists = Direction::ALL.map(|direction| {
            policy.lists.push(disjoint(rules, direction, is_near));
            number(policy.lists.len() - 1)
        });
        policy.classes.push(CompiledClass { parent, lists });
    }
    policy
}

fn number(count: usize) -> u32 {
    u32::try_from(count).expect("few ranges")
}

/// Splits the rules into disjoint ranges; the first of the rules that contain a range owns it.
fn disjoint(rules: &[Rule], direction: Direction, is_near: bool) -> Vec<Range> {
    let selected =
        rules.iter().filter(|rule| rule.direction == direction && rule.is_near == is_near);
    let selected: Vec<&Rule> = selected.collect();
    let edges: BTreeSet<u32> = selected.iter().flat_map(|rule| [rule.low, rule.high + 1]).collect();
    let edges: Vec<u32> = edges.into_iter().collect();
    let spans = edges.windows(2).filter_map(|pair| {
        let owner = selected.iter().find(|rule| rule.low <= pair[0] && pair[0] <= rule.high)?;
        Some(Range { low: pair[0], high: pair[1] - 1, rule: owner.number })
    });
    spans.collect()
}
