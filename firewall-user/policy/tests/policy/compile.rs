//! The compiler against the reference evaluator, on random rules, and the invariants of its tables.

use std::collections::BTreeSet;
use std::mem::transmute;
use std::net::IpAddr;

use crate::random::{at_edge, config, probe, rules};
use firewall_ebpf::abi::address::{V4, V6};
use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::policy::{ANY_V4, ANY_V6, NO_CLASS, UNTRACKED, traffic};
use firewall_ebpf::backend::host::HostTables;
use firewall_ebpf::verdict::lookup::lookup_rule;
use firewall_ebpf::verdict::tables::{Interface as _, Rules};
use firewall_policy::model::{PortRange, Tracking, Traffic};
use firewall_policy::{CompiledPolicy, Probe, ResolvedRule, compile, evaluate, is_untracked};
use ipnet::IpNet;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, subsequence};

/// The rule that the kernel program's own lookup finds in the tables, perhaps with [`UNTRACKED`].
fn lookup(tables: &HostTables, probe: Probe) -> Option<u32> {
    let Probe { direction, outside, protocol, port } = probe;
    let (active, traffic) = (tables.active(), traffic(protocol, port));
    match outside {
        IpAddr::V4(v4) => {
            lookup_rule(tables, active, direction, u32::from_ne_bytes(v4.octets()), traffic)
        }
        IpAddr::V6(v6) => {
            // SAFETY: same size, and any bytes are an address as in a packet.
            let raw = unsafe { transmute::<[u8; 16], V6>(v6.octets()) };
            lookup_rule(tables, active, direction, raw, traffic)
        }
    }
}

/// Whether the tables mark traffic to or from anywhere as untracked.
fn is_marked(tables: &HostTables, probe: Probe) -> bool {
    let Probe { direction, outside, protocol, port } = probe;
    let (active, traffic) = (tables.active(), traffic(protocol, port));
    let found = match outside {
        IpAddr::V4(_) => Rules::<V4>::lookup_anywhere(tables, active, direction, traffic),
        IpAddr::V6(_) => Rules::<V6>::lookup_anywhere(tables, active, direction, traffic),
    };
    found.is_some_and(|rule| rule & UNTRACKED != 0)
}

proptest! {
    #![proptest_config(config(200))]

    #[test]
    fn tables_and_reference_evaluator_agree(
        rules in rules(60),
        probes in vec(probe(), 100),
    ) {
        check(&rules, probes)?;
    }
}

proptest! {
    #![proptest_config(config(10))]

    #[test]
    fn tables_and_reference_evaluator_agree_on_hundreds_of_rules(rules in rules(600), probes in vec(probe(), 200)) {
        check(&rules, probes)?;
    }
}

fn check(
    rules: &[ResolvedRule],
    probes: Vec<(Index, Index, u8, Probe)>,
) -> Result<(), TestCaseError> {
    let policy = compile(rules, Tracking::Auto).expect("hundreds of rules fit");
    well_formed(&policy)?;
    let tables = HostTables::new(1, policy);
    let always = compile(rules, Tracking::Always).expect("hundreds of rules fit");
    well_formed(&always)?;
    prop_assert!(always.lists.iter().flatten().all(|range| range.rule & UNTRACKED == 0));
    let always = HostTables::new(1, always);
    for raw in probes {
        let mut probe = at_edge(rules, raw);
        let is_v4 = probe.outside.is_ipv4();
        // As the parser has it: only a family's own ICMP has types.
        let has_ports =
            matches!(probe.protocol, 6 | 17) || probe.protocol == if is_v4 { 1 } else { 58 };
        if !has_ports {
            probe.port = 0;
        }
        let allowing: Vec<u32> = evaluate(rules, probe).collect();
        for tables in [&tables, &always] {
            match lookup(tables, probe).map(|rule| rule & !UNTRACKED) {
                Some(rule) => prop_assert!(
                    allowing.contains(&rule),
                    "{probe:?}: the tables name rule {rule}, allowing are {allowing:?}"
                ),
                None => prop_assert!(
                    allowing.is_empty(),
                    "{probe:?}: the tables have none, allowing are {allowing:?}"
                ),
            }
        }
        let expected = is_untracked(rules, probe);
        let found = lookup(&tables, probe).is_some_and(|rule| rule & UNTRACKED != 0);
        prop_assert_eq!(found, expected, "{:?}: untracked", probe);
        prop_assert_eq!(is_marked(&tables, probe), expected, "{:?}: marked", probe);
        prop_assert!(!is_marked(&always, probe));
    }
    Ok(())
}

/// What the kernel's search relies on, and that nothing is duplicated or unused.
fn well_formed(policy: &CompiledPolicy) -> Result<(), TestCaseError> {
    for list in &policy.lists {
        prop_assert!(list.iter().all(|range| range.low <= range.high));
        prop_assert!(list.iter().all(|range| range.rule & !UNTRACKED != 0));
        prop_assert!(
            list.windows(2).all(|pair| pair[0].high < pair[1].low),
            "ranges overlap or are out of order: {list:?}"
        );
    }
    let mut used = vec![false; policy.lists.len()];
    used[0] = true;
    for (number, class) in (0_u32..).zip(&policy.classes) {
        let is_any = number == ANY_V4 || number == ANY_V6;
        prop_assert_eq!(class.parent == NO_CLASS, is_any, "class {}", number);
        // Outer networks come first or are "any": no chain of parents is a cycle.
        prop_assert!(is_any || class.parent < number, "class {number} inside {}", class.parent);
        prop_assert!(is_any || class.lists != [0, 0], "class {number} allows nothing");
        for list in class.lists {
            used[usize::try_from(list).expect("fits")] = true;
            let marked = policy.list(list).iter().filter(|range| range.rule & UNTRACKED != 0);
            for range in marked {
                prop_assert!(is_any, "class {number} has the mark: {range:?}");
                let (low, high) = (range.low >> 16, range.high >> 16);
                prop_assert!(low == high && (low == 6 || low == 17), "{range:?}");
            }
        }
    }
    prop_assert!(used.iter().all(|used| *used), "a list belongs to no class");
    let different: BTreeSet<_> = policy.lists.iter().collect();
    prop_assert_eq!(different.len(), policy.lists.len(), "a list is there twice");
    let different: BTreeSet<_> = policy.classes[2..].iter().collect();
    prop_assert_eq!(different.len(), policy.classes.len() - 2, "a class is there twice");
    let classes = policy.prefixes_v4.values().chain(policy.prefixes_v6.values());
    let classes: BTreeSet<u32> = classes.copied().collect();
    let expected: BTreeSet<u32> = (2..).take(policy.classes.len() - 2).collect();
    prop_assert_eq!(classes, expected, "each class but the two \"any\" is that of a prefix");
    Ok(())
}

proptest! {
    #![proptest_config(config(200))]

    #[test]
    fn the_order_of_rules_does_not_matter(
        rules in rules(40),
        order in Just((0..48_usize).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let shuffled: Vec<_> = order
            .into_iter()
            .filter_map(|at| rules.get(at).cloned())
            .collect();
        for tracking in Tracking::ALL {
            prop_assert_eq!(compile(&shuffled, tracking), compile(&rules, tracking));
        }
    }

    #[test]
    fn a_rule_only_adds_allowed_traffic(
        (rules, some) in rules(40).prop_flat_map(|rules| {
            let len = rules.len();
            (Just(rules.clone()), subsequence(rules, 0..=len))
        }),
        probes in vec(probe(), 60),
    ) {
        let all = HostTables::new(1, compile(&rules, Tracking::Auto).expect("fits"));
        let fewer = HostTables::new(1, compile(&some, Tracking::Auto).expect("fits"));
        for raw in probes {
            let probe = at_edge(&rules, raw);
            if lookup(&fewer, probe).is_some() {
                prop_assert!(lookup(&all, probe).is_some(), "more rules allow less: {:?}", probe);
            }
        }
    }
}

fn tcp(number: u32, from: u16, to: u16, networks: Vec<IpNet>) -> ResolvedRule {
    let traffic = Traffic::Tcp(PortRange { from, to });
    ResolvedRule {
        number,
        direction: Direction::Ingress,
        traffic,
        networks: networks.into(),
        end: None,
    }
}

/// Several rules may allow the same; flows and counters name the oldest of them.
#[test]
fn the_rule_with_the_lowest_number_owns_what_several_allow() {
    let network: IpNet = "10.0.0.0/8".parse().expect("a network");
    let rules = [
        tcp(7, 10, 30, vec![network]),
        tcp(3, 20, 40, vec![network]),
        tcp(9, 1, 50, vec![network]),
    ];
    let tables = HostTables::new(1, compile(&rules, Tracking::Auto).expect("fits"));
    let outside = IpAddr::from([10, 1, 1, 1]);
    for (port, owner) in [(9, 9), (10, 7), (19, 7), (20, 3), (40, 3), (41, 9), (50, 9)] {
        let probe = Probe { direction: Direction::Ingress, outside, protocol: 6, port };
        assert_eq!(lookup(&tables, probe), Some(owner), "port {port}");
    }
}

/// A rule of one network.
fn wide(number: u32, direction: Direction, traffic: Traffic, network: &str) -> ResolvedRule {
    let network: IpNet = network.parse().expect("a network");
    let networks = network.into();
    ResolvedRule { number, direction, traffic, networks, end: None }
}

/// Whether an ingress TCP packet to port 80 needs no flow: tables and evaluator agree.
fn untracked_at_80(rules: &[ResolvedRule], outside: &str) -> bool {
    let outside = outside.parse().expect("an address");
    let probe = Probe { direction: Direction::Ingress, outside, protocol: 6, port: 80 };
    let policy = compile(rules, Tracking::Auto).expect("fits");
    let found = lookup(&HostTables::new(1, policy), probe);
    let found = found.is_some_and(|rule| rule & UNTRACKED != 0);
    assert_eq!(found, is_untracked(rules, probe), "{rules:?}");
    found
}

#[test]
fn traffic_goes_untracked_as_in_ec2() {
    const HTTP: Traffic = Traffic::Tcp(PortRange { from: 80, to: 80 });
    let tcp = |from, to| Traffic::Tcp(PortRange { from, to });
    let web = |network| wide(1, Direction::Ingress, HTTP, network);
    let back = |number, traffic, network| wide(number, Direction::Egress, traffic, network);
    let (v4, v6) = ("0.0.0.0/0", "::/0");
    for (rules, expected, why) in [
        (vec![web(v4), back(2, Traffic::All, v4)], true, "a rule of all protocols covers TCP"),
        (vec![web(v4), back(2, tcp(0, 65_535), v4)], true, "all ports of the protocol will do"),
        (vec![web(v4), back(2, tcp(1, 65_535), v4)], false, "one port is missing"),
        (
            vec![web(v4), back(2, tcp(0, 1023), v4), back(3, tcp(1000, 65_535), v4)],
            true,
            "two rules add up",
        ),
        (
            vec![web(v4), back(2, tcp(0, 1023), v4), back(3, tcp(1025, 65_535), v4)],
            false,
            "two rules that leave a port out",
        ),
        (vec![web(v4), back(2, Traffic::All, v6)], false, "the other family does not count"),
        (vec![web("10.0.0.0/8"), back(2, Traffic::All, v4)], false, "a narrow network is tracked"),
        (vec![web(v4), back(2, Traffic::All, "0.0.0.0/1")], false, "half of all is not anywhere"),
        (vec![web(v4)], false, "no reply is allowed"),
        (
            vec![web("10.0.0.0/8"), web(v4), back(2, Traffic::All, v4)],
            true,
            "the widest of several rules decides",
        ),
        (
            vec![wide(1, Direction::Ingress, Traffic::All, v4), back(2, tcp(0, 65_535), v4)],
            true,
            "TCP within a rule of all protocols",
        ),
    ] {
        assert_eq!(untracked_at_80(&rules, "10.1.2.3"), expected, "{why}");
        assert!(!untracked_at_80(&rules, "2001:db8::1"), "{why}: in the other family");
    }
}

/// Only TCP and UDP are marked, so the range of a rule of all protocols is cut at their borders.
#[test]
fn protocols_without_ports_are_always_tracked() {
    let rules = Direction::ALL.map(|direction| wide(7, direction, Traffic::All, "::/0"));
    let policy = compile(&rules, Tracking::Auto).expect("fits");
    let tables = HostTables::new(1, policy);
    for direction in Direction::ALL {
        for (protocol, port, marked) in [
            (0, 0, false),
            (5, 65_535, false),
            (6, 0, true),
            (6, 65_535, true),
            (7, 0, false),
            (16, 65_535, false),
            (17, 0, true),
            (17, 65_535, true),
            (18, 0, false),
            (58, 0x8000, false),
            (255, 65_535, false),
        ] {
            let outside = "2001:db8::1".parse().expect("an address");
            let probe = Probe { direction, outside, protocol, port };
            let expected = if marked { 7 | UNTRACKED } else { 7 };
            assert_eq!(lookup(&tables, probe), Some(expected), "{probe:?}");
        }
    }
}

#[test]
fn a_rule_that_is_narrower_does_not_hide_the_one_that_needs_no_flow() {
    let narrow = "10.0.0.0/8".parse().expect("a network");
    let rules = [
        tcp(1, 1, 100, vec![narrow]),
        wide(2, Direction::Ingress, Traffic::Tcp(PortRange { from: 80, to: 80 }), "0.0.0.0/0"),
        wide(3, Direction::Egress, Traffic::All, "0.0.0.0/0"),
    ];
    for (tracking, at_80) in [(Tracking::Auto, 2 | UNTRACKED), (Tracking::Always, 1)] {
        let tables = HostTables::new(1, compile(&rules, tracking).expect("fits"));
        let outside = IpAddr::from([10, 1, 1, 1]);
        for (port, expected) in [(79, 1), (80, at_80), (81, 1)] {
            let probe = Probe { direction: Direction::Ingress, outside, protocol: 6, port };
            assert_eq!(lookup(&tables, probe), Some(expected), "{tracking:?}: port {port}");
        }
    }
}

/// Entries of a compiled policy: its size in memory.
fn entries(policy: &CompiledPolicy) -> usize {
    let prefixes = policy.prefixes_v4.len() + policy.prefixes_v6.len();
    prefixes + policy.classes.len() + policy.ranges()
}

/// Wide rules are not copied into the narrow networks they enclose, which would be quadratic.
#[test]
fn memory_is_linear_in_rules() {
    let everywhere: IpNet = "0.0.0.0/0".parse().expect("a network");
    for count in [500_u32, 1000, 2000, 4000] {
        let wide = (1..=count).map(|n| {
            let port = u16::try_from(n * 2).expect("a port");
            tcp(n, port, port, vec![everywhere])
        });
        let narrow = (1..=count).map(|n| {
            let [_, _, a, b] = n.to_be_bytes();
            let host = IpNet::from(IpAddr::from([10, 0, a, b]));
            tcp(count + n, 1, 65_535, vec![host])
        });
        let rules: Vec<_> = wide.chain(narrow).collect();
        let policy = compile(&rules, Tracking::Auto).expect("thousands of rules fit");
        let (needed, rules) = (entries(&policy), rules.len());
        assert!(needed <= 3 * rules + 2, "{rules} rules need {needed} entries");
    }
}

/// Each interval begins and ends somewhere: n of them cut the ports into 2n - 1 pieces at most.
#[test]
fn ranges_that_overlap_in_every_way_stay_linear() {
    let everywhere: IpNet = "::/0".parse().expect("a network");
    let count = 3000_u16;
    let nested: Vec<_> =
        (0..count).map(|n| tcp(u32::from(count - n), n, u16::MAX - n, vec![everywhere])).collect();
    let policy = compile(&nested, Tracking::Auto).expect("fits");
    assert!(policy.ranges() < 2 * usize::from(count), "{} ranges", policy.ranges());
}

#[test]
fn one_rule_for_thousands_of_networks_takes_one_range_and_one_class() {
    let networks: Vec<IpNet> = (0..5000_u32)
        .map(|n| {
            let [_, _, a, b] = n.to_be_bytes();
            IpNet::from(IpAddr::from([172, 16, a, b]))
        })
        .collect();
    let policy = compile(&[tcp(1, 80, 80, networks)], Tracking::Auto).expect("fits");
    assert_eq!((policy.prefixes_v4.len(), policy.classes.len(), policy.ranges()), (5000, 3, 1));
}

#[test]
fn a_chain_of_every_prefix_length_is_searched_to_its_end() {
    for (address, bits) in [("10.1.2.3", 32_u8), ("2001:db8::1", 128)] {
        let outside: IpAddr = address.parse().expect("an address");
        let rules: Vec<_> = (0..=bits)
            .map(|length| {
                let network = IpNet::new(outside, length).expect("a network").trunc();
                tcp(u32::from(length) + 1, u16::from(length), u16::from(length), vec![network])
            })
            .collect();
        let tables = HostTables::new(1, compile(&rules, Tracking::Auto).expect("fits"));
        for length in 0..=bits {
            let probe = Probe {
                direction: Direction::Ingress,
                outside,
                protocol: 6,
                port: u16::from(length),
            };
            assert_eq!(lookup(&tables, probe), Some(u32::from(length) + 1), "{address}/{length}");
        }
    }
}
