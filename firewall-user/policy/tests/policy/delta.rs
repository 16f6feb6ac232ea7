//! One policy after another in the same tables: after each single write packets get the verdict of the
//! old policy until the swap, and that of the new one afterwards.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::iter;
use std::net::IpAddr;

use crate::random::{at_edge, config, probe, rules};
use firewall_ebpf::abi::address::{V4, V6};
use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::policy::{Active, Class, Half, List, Page, UNTRACKED, traffic};
use firewall_ebpf::abi::prefix::Prefix;
use firewall_ebpf::verdict::lookup;
use firewall_ebpf::verdict::lookup::lookup_rule;
use firewall_ebpf::verdict::tables::{Ends, Policy, Prefixes, TableSet};
use firewall_policy::delta::{Bank, PrefixWrites, Room, Writes, plan};
use firewall_policy::model::{Networks, PortRange, Tracking, Traffic};
use firewall_policy::{
    CompiledPolicy, InternedPolicy, PolicyInterner, Probe, ResolvedRule, evaluate, is_untracked,
};
use ipnet::IpNet;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// A bank in ordinary memory.
struct Memory {
    v4: BTreeMap<Prefix<4>, [u32; 2]>,
    v6: BTreeMap<Prefix<16>, [u32; 2]>,
    rows: Vec<[Class; 2]>,
    pages: Vec<Page>,
    room: Room,
    active: Active,
}

impl Memory {
    /// With a policy in both halves and room for changes.
    fn of(policy: &CompiledPolicy) -> Self {
        let (arena, rows) = policy.lay_out();
        let count = |len: usize| u32::try_from(len).expect("fits");
        let room = Room {
            next_class: count(rows.len()),
            classes: count(rows.len()) + 600,
            next_word: arena.next,
            pages: count(arena.pages.len()) + 100,
        };
        let mut memory = Self {
            v4: policy.prefixes_v4.iter().map(|(prefix, class)| (*prefix, [*class; 2])).collect(),
            v6: policy.prefixes_v6.iter().map(|(prefix, class)| (*prefix, [*class; 2])).collect(),
            rows: rows.into_iter().map(|row| [row; 2]).collect(),
            pages: arena.pages,
            room,
            active: Active::new(Half::default(), policy.has(), 0),
        };
        memory.rows.resize(index(room.classes), [Class::EMPTY; 2]);
        memory.pages.resize(index(room.pages), [0; 1024]);
        memory
    }

    /// Makes writes one by one, with a check after each.
    fn write(&mut self, writes: &Writes, mut check: impl FnMut(&Self)) {
        for (number, page) in &writes.pages {
            self.pages[index(*number)] = *page;
            check(self);
        }
        for (class, rows) in &writes.rows {
            self.rows[index(*class)] = *rows;
            check(self);
        }
        write_prefixes(self, |memory| &mut memory.v4, &writes.v4, &mut check);
        write_prefixes(self, |memory| &mut memory.v6, &writes.v6, &mut check);
    }

    fn lookup(&self, probe: Probe) -> Option<u32> {
        let Probe { direction, outside, protocol, port } = probe;
        let traffic = traffic(protocol, port);
        match outside {
            IpAddr::V4(v4) => {
                lookup_rule(self, self.active, direction, u32::from_ne_bytes(v4.octets()), traffic)
            }
            IpAddr::V6(v6) => {
                let octets = v6.octets();
                let half = |at: usize| octets[at..at + 8].try_into().expect("eight bytes");
                let address: V6 = [0, 8].map(|at| u64::from_ne_bytes(half(at)));
                lookup_rule(self, self.active, direction, address, traffic)
            }
        }
    }
}

fn write_prefixes<const N: usize>(
    memory: &mut Memory,
    trie: impl Fn(&mut Memory) -> &mut BTreeMap<Prefix<N>, [u32; 2]>,
    writes: &PrefixWrites<N>,
    check: &mut impl FnMut(&Memory),
) {
    for (prefix, classes) in &writes.put {
        trie(memory).insert(*prefix, *classes);
        check(memory);
    }
    for prefix in &writes.removed {
        trie(memory).remove(prefix).expect("a known prefix");
        check(memory);
    }
}

fn index(number: u32) -> usize {
    usize::try_from(number).expect("fits")
}

impl Bank for Memory {
    type Error = Infallible;

    fn half(&self) -> usize {
        self.active.half()
    }

    fn room(&self) -> Room {
        self.room
    }

    fn class_v4(&self, prefix: &Prefix<4>) -> Result<u32, Infallible> {
        Ok(self.v4[prefix][self.active.half()])
    }

    fn class_v6(&self, prefix: &Prefix<16>) -> Result<u32, Infallible> {
        Ok(self.v6[prefix][self.active.half()])
    }

    fn row(&self, class: u32) -> Result<Class, Infallible> {
        Ok(self.rows[index(class)][self.active.half()])
    }

    fn page(&self, number: u32) -> Result<Page, Infallible> {
        Ok(self.pages[index(number)])
    }
}

/// No rule of these tests is timed.
impl Ends for Memory {
    fn has_rule_ended(&self, _: u32) -> bool {
        false
    }

    fn has_entry_ended(&self, _: u32) -> bool {
        false
    }
}

impl Policy for Memory {
    fn class(&self, set: TableSet, class: u32, direction: Direction) -> Option<(List, u32)> {
        let row = self.rows.get(index(class))?[set.half];
        Some((row.lists[direction as usize], row.parent))
    }

    fn search(&self, _: TableSet, at: u32, len: u32, traffic: u32) -> Option<u32> {
        let page = |number| self.pages.get(index(number));
        lookup::search(at.into(), len.into(), u64::from(traffic) + 1, page)
    }
}

fn longest<const N: usize>(
    trie: &BTreeMap<Prefix<N>, [u32; 2]>,
    octets: [u8; N],
    half: usize,
) -> Option<u32> {
    let host = Prefix::host(octets);
    let mut prefixes = iter::once(host).chain(host.enclosing());
    prefixes.find_map(|prefix| Some(trie.get(&prefix)?[half]))
}

impl Prefixes<V4> for Memory {
    fn longest_prefix(&self, set: TableSet, address: V4) -> Option<u32> {
        longest(&self.v4, address.to_ne_bytes(), set.half)
    }
}

impl Prefixes<V6> for Memory {
    fn longest_prefix(&self, set: TableSet, address: V6) -> Option<u32> {
        let mut octets = [0; 16];
        octets[..8].copy_from_slice(&address[0].to_ne_bytes());
        octets[8..].copy_from_slice(&address[1].to_ne_bytes());
        longest(&self.v6, octets, set.half)
    }
}

/// Probes with the results of the reference evaluator.
struct Results(Vec<(Probe, Vec<u32>, bool)>);

impl Results {
    fn new(rules: &[ResolvedRule], probes: &[Probe]) -> Self {
        let evaluated = |probe: &Probe| {
            let allowing = evaluate(rules, *probe).collect();
            (*probe, allowing, is_untracked(rules, *probe))
        };
        Self(probes.iter().map(evaluated).collect())
    }

    fn check(&self, memory: &Memory, when: &str) {
        for (probe, allowing, untracked) in &self.0 {
            let found = memory.lookup(*probe);
            let rule = found.map(|rule| rule & !UNTRACKED);
            assert!(
                rule.map_or(allowing.is_empty(), |rule| allowing.contains(&rule)),
                "{when}: {probe:?}: found {rule:?}, allowing are {allowing:?}"
            );
            let marked = found.is_some_and(|rule| rule & UNTRACKED != 0);
            assert_eq!(marked, *untracked, "{when}: {probe:?}: untracked");
        }
    }
}

/// Replaces one policy by another, with checks after each write. Returns how much was written, or
/// `None` where there was no room.
fn replace(
    memory: &mut Memory,
    interner: &PolicyInterner,
    [old, new]: [&InternedPolicy; 2],
    [before, after]: [&Results; 2],
) -> Option<usize> {
    let Ok(delta) = plan(interner, old, new, memory);
    let (delta, new) = (delta?, interner.extract(new));
    memory.write(&delta.before, |memory| before.check(memory, "before the swap"));
    before.check(memory, "before the swap");
    let tables = memory.active.tables();
    memory.active = Active::new(Half { half: 1 - tables.half, ..tables }, new.has(), 0);
    after.check(memory, "after the swap");
    memory.write(&delta.after, |memory| after.check(memory, "after the swap"));
    memory.room = delta.room;

    // Both halves are equal now, and so the next plan may rely on that.
    assert!(memory.v4.values().chain(memory.v6.values()).all(|[one, other]| one == other));
    assert!(memory.rows.iter().all(|[one, other]| one == other));
    assert!(memory.v4.keys().eq(new.prefixes_v4.keys()));
    assert!(memory.v6.keys().eq(new.prefixes_v6.keys()));
    Some(delta.before.len())
}

/// Changes of rules: from which rule on some are removed, how many, and which are added.
fn changes() -> impl Strategy<Value = Vec<(Index, Index, Vec<ResolvedRule>)>> {
    vec((any::<Index>(), any::<Index>(), rules(6)), 1..8)
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn packets_get_the_verdict_of_the_old_policy_or_of_the_new_one(
        first in rules(30),
        changes in changes(),
        raw in vec(probe(), 24),
    ) {
        let mut rules = first;
        rules.sort_by_key(|rule| rule.number);
        let mut interner = PolicyInterner::default();
        let mut policy = interner.compile(&rules, Tracking::Auto).expect("fits");
        let mut memory = Memory::of(&interner.extract(&policy));
        let probes: Vec<Probe> = raw.into_iter().map(|raw| at_edge(&rules, raw)).map(parsed).collect();
        let mut number = 1000;
        for (from, count, new) in changes {
            let before = Results::new(&rules, &probes);
            let old = rules.clone();
            if !rules.is_empty() {
                let from = from.index(rules.len());
                let count = count.index(4).min(rules.len() - from);
                rules.drain(from..from + count);
            }
            for mut rule in new {
                number += 1;
                rule.number = number;
                rules.push(rule);
            }
            rules.sort_by_key(|rule| rule.number);
            let next = interner.compile_after((&old, &policy), &rules, Tracking::Auto).expect("fits");
            check_independence_of_the_interner(&interner, &next, &rules, Tracking::Auto)?;
            let always = interner.compile_after((&old, &policy), &rules, Tracking::Always);
            check_independence_of_the_interner(&interner, &always.expect("fits"), &rules, Tracking::Always)?;
            let same = interner.extract(&policy) == interner.extract(&next);
            prop_assert_eq!(policy.digest() == next.digest(), same);
            let after = Results::new(&rules, &probes);
            let done = replace(&mut memory, &interner, [&policy, &next], [&before, &after]);
            prop_assert!(done.is_some(), "there is room");
            policy = next;
        }
    }
}

/// Policy and digest are those of a new interner.
fn check_independence_of_the_interner(
    interner: &PolicyInterner,
    policy: &InternedPolicy,
    rules: &[ResolvedRule],
    tracking: Tracking,
) -> Result<(), TestCaseError> {
    let mut own = PolicyInterner::default();
    let alone = own.compile(rules, tracking).expect("fits");
    prop_assert_eq!(interner.extract(policy), own.extract(&alone));
    prop_assert_eq!(policy.digest(), alone.digest());
    prop_assert_eq!(interner.rules([policy]), own.rules([&alone]));
    prop_assert_eq!(interner.contents(policy), own.extract(&alone).has());
    Ok(())
}

/// As the parser makes it: only the ICMP of the own family has types.
fn parsed(probe: Probe) -> Probe {
    let icmp = if probe.outside.is_ipv4() { 1 } else { 58 };
    let has_ports = matches!(probe.protocol, 6 | 17) || probe.protocol == icmp;
    Probe { port: if has_ports { probe.port } else { 0 }, ..probe }
}

fn tcp(number: u32, from: u16, to: u16, network: IpNet) -> ResolvedRule {
    let direction = Direction::Ingress;
    let traffic = Traffic::Tcp(PortRange { from, to });
    ResolvedRule { number, direction, traffic, networks: network.into(), end: None }
}

fn host(n: u32) -> IpNet {
    let [_, a, b, c] = n.to_be_bytes();
    IpNet::from(IpAddr::from([10, a, b, c]))
}

fn net24(n: u32) -> IpNet {
    IpNet::new(host(n).addr(), 24).expect("a length")
}

/// How much a change writes depends on the change, not on the policy.
#[test]
fn a_small_change_of_a_large_policy_is_small() {
    let mut rules: Vec<_> = (1..=20_000).map(|n| tcp(n, 80, 80, host(n))).collect();
    let everywhere: IpNet = "0.0.0.0/0".parse().expect("a network");
    rules.extend((1..=5000_u16).map(|n| tcp(30_000 + u32::from(n), 2 * n, 2 * n, everywhere)));
    let mut interner = PolicyInterner::default();
    let old = interner.compile(&rules, Tracking::Auto).expect("fits");
    let none = Results::new(&[], &[]);
    for (what, most, change) in [
        ("another rule for an address", 2, tcp(70_001, 81, 81, host(7))),
        ("a rule for a new address", 2, tcp(70_002, 80, 80, host(50_000))),
        ("a rule for anywhere", 1 + 5001 * 3 / 1024 + 3, tcp(70_003, 9, 9, everywhere)),
        (
            "a wide network that encloses nothing",
            2,
            tcp(70_004, 1, 9, "172.16.0.0/12".parse().expect("a network")),
        ),
    ] {
        let mut memory = Memory::of(&interner.extract(&old));
        let mut changed = rules.clone();
        changed.push(change);
        let new = interner.compile(&changed, Tracking::Auto).expect("fits");
        let written =
            replace(&mut memory, &interner, [&old, &new], [&none, &none]).expect("there is room");
        assert!(written <= most, "{what}: {written} writes, at most {most} expected");
        // The reverse change.
        let written =
            replace(&mut memory, &interner, [&new, &old], [&none, &none]).expect("there is room");
        assert!(written <= most + 1, "{what}, undone: {written} writes");
    }
}

/// A prefix list is one class: one rule more for all its entries changes one row.
#[test]
fn a_rule_for_thousands_of_networks_writes_one_row() {
    let networks: Networks = (0..10_000).map(host).collect();
    let rule = |number, port| ResolvedRule {
        networks: networks.clone(),
        ..tcp(number, port, port, host(0))
    };
    let mut interner = PolicyInterner::default();
    let old = interner.compile(&[rule(1, 80)], Tracking::Auto).expect("fits");
    let new = interner.compile(&[rule(1, 80), rule(2, 443)], Tracking::Auto).expect("fits");
    let none = Results::new(&[], &[]);
    let mut memory = Memory::of(&interner.extract(&old));
    let written =
        replace(&mut memory, &interner, [&old, &new], [&none, &none]).expect("there is room");
    assert!(written <= 2, "{written} writes: a row, and a page of two ranges");
}

/// A class stays in the row that most of its prefixes have. The others get another row, and the classes
/// within them another parent.
#[test]
fn a_rule_for_most_of_a_prefix_list_does_not_rewrite_the_prefixes() {
    let networks: Vec<IpNet> = (0..1000).map(|n| net24(n << 8)).collect();
    let all = ResolvedRule { networks: networks.clone().into(), ..tcp(1, 80, 80, host(0)) };
    let most =
        ResolvedRule { networks: networks[10..].to_vec().into(), ..tcp(2, 443, 443, host(0)) };
    let within = [5, 99].map(|n| host(n << 8 | 7)).to_vec();
    let within = ResolvedRule { networks: within.into(), ..tcp(3, 22, 22, host(0)) };
    let old_rules = [all.clone(), within.clone()];
    let new_rules = [all, most, within];
    let mut interner = PolicyInterner::default();
    let old = interner.compile(&old_rules, Tracking::Auto).expect("fits");
    let new = interner.compile(&new_rules, Tracking::Auto).expect("fits");

    let outsides = [5, 6, 9, 10, 98, 99, 999, 1000]
        .into_iter()
        .flat_map(|n| [7, 8].map(|last| host(n << 8 | last).addr()));
    let probes: Vec<_> = outsides
        .flat_map(|outside| [22, 80, 443].map(|port| (outside, port)))
        .map(|(outside, port)| Probe { direction: Direction::Ingress, outside, protocol: 6, port })
        .collect();
    let [before, after] = [&old_rules[..], &new_rules].map(|rules| Results::new(rules, &probes));
    let mut memory = Memory::of(&interner.extract(&old));
    let written = replace(&mut memory, &interner, [&old, &new], [&before, &after]);
    assert!(written.is_some_and(|written| written < 20), "{written:?} writes");
    let written = replace(&mut memory, &interner, [&new, &old], [&after, &before]);
    assert!(written.is_some_and(|written| written < 20), "{written:?} writes, undone");
}

/// Where the tables are full there is no plan: they have to be rewritten.
#[test]
fn without_room_there_is_no_plan() {
    let mut interner = PolicyInterner::default();
    let old = interner.compile(&[tcp(1, 80, 80, host(1))], Tracking::Auto).expect("fits");
    let rules: Vec<_> = (1..=50).map(|n| tcp(n, 80, 80, host(n))).collect();
    let new = interner.compile(&rules, Tracking::Auto).expect("fits");
    let mut memory = Memory::of(&interner.extract(&old));
    memory.room.classes = memory.room.next_class + 48;
    let Ok(delta) = plan(&interner, &old, &new, &memory);
    assert_eq!(delta, None);
    memory.room.classes += 1;
    let Ok(delta) = plan(&interner, &old, &new, &memory);
    assert!(delta.is_some());
    // Numbers of another interner mean something else.
    let other = PolicyInterner::default().compile(&rules, Tracking::Auto).expect("fits");
    let Ok(delta) = plan(&interner, &old, &other, &memory);
    assert_eq!(delta, None);
}
