//! The compiler against the reference evaluator, on random rules, and what it promises of the
//! tables it makes.

use std::env;
use std::mem::transmute;
use std::net::IpAddr;

use firewall_ebpf::admit::admit;
use firewall_ebpf::host::{CompiledPolicy, HostTables};
use firewall_ebpf::interface::Direction;
use firewall_ebpf::parse::{V4, V6};
use firewall_ebpf::policy::{ANY_V4, ANY_V6, MAX_RULE, NO_CLASS, UNTRACKED, traffic};
use firewall_ebpf::tables::{Policy as _, Prefixes};
use firewall_user::model::{IcmpMatch, PortRange, Tracking, Traffic};
use firewall_user::policy::{Question, ResolvedRule, compile, evaluate, is_untracked};
use ipnet::IpNet;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use proptest::test_runner::RngSeed;

/// What the compiled tables say, asked as the kernel program asks; perhaps with [`UNTRACKED`].
fn ask(tables: &HostTables, question: Question) -> Option<u32> {
    let Question { direction, outside, protocol, port } = question;
    let (active, wanted) = (tables.active(), traffic(protocol, port));
    match outside {
        IpAddr::V4(v4) => admit(tables, active, direction, u32::from_ne_bytes(v4.octets()), wanted),
        IpAddr::V6(v6) => {
            // SAFETY: same size, and any bytes are an address as it lies in a packet.
            let raw = unsafe { transmute::<[u8; 16], V6>(v6.octets()) };
            admit(tables, active, direction, raw, wanted)
        }
    }
}

/// Whether the tables have traffic to or from anywhere go without flows.
fn is_marked(tables: &HostTables, question: Question) -> bool {
    let Question { direction, outside, protocol, port } = question;
    let (active, wanted) = (tables.active(), traffic(protocol, port));
    let found = match outside {
        IpAddr::V4(_) => Prefixes::<V4>::rule_for_anywhere(tables, active, direction, wanted),
        IpAddr::V6(_) => Prefixes::<V6>::rule_for_anywhere(tables, active, direction, wanted),
    };
    found.is_some_and(|rule| rule & UNTRACKED != 0)
}

/// Addresses that share prefixes of many lengths, so that networks made of them nest and touch.
const ADDRESSES: [&str; 10] = [
    "10.0.0.0",
    "10.0.0.1",
    "10.1.2.3",
    "10.1.2.131",
    "138.1.2.3",
    "255.255.255.255",
    "2001:db8::1",
    "2001:db8::8000:0:0:1",
    "2001:db8:1::",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
];

fn address() -> impl Strategy<Value = IpAddr> {
    select(&ADDRESSES[..]).prop_map(|text| text.parse().expect("an address"))
}

fn network() -> impl Strategy<Value = IpNet> {
    let length = prop_oneof![
        1 => Just(0),
        3 => select(vec![1_u8, 7, 8, 9, 15, 16, 24, 31, 32, 48, 63, 64, 65, 127, 128]),
        4 => 0_u8..=128,
    ];
    (address(), length).prop_map(|(address, length)| {
        let most = if address.is_ipv4() { 32 } else { 128 };
        // Not truncated: the compiler and the evaluator must read host bits alike.
        IpNet::new(address, length.min(most)).expect("not longer than the address")
    })
}

const PORTS: [u16; 9] = [0, 1, 22, 79, 80, 81, 443, 65_534, 65_535];

fn ports() -> impl Strategy<Value = PortRange> {
    let port = prop_oneof![3 => select(&PORTS[..]), 1 => any::<u16>()];
    (port.clone(), port).prop_map(|(a, b)| PortRange { from: a.min(b), to: a.max(b) })
}

fn icmp() -> impl Strategy<Value = IcmpMatch> {
    let byte = || select(vec![0_u8, 3, 4, 8, 128, 255]);
    prop_oneof![
        Just(IcmpMatch::Any),
        byte().prop_map(IcmpMatch::Type),
        (byte(), byte()).prop_map(|(kind, code)| IcmpMatch::TypeCode(kind, code)),
    ]
}

fn rule() -> impl Strategy<Value = ResolvedRule> {
    let traffic = prop_oneof![
        1 => Just(Traffic::All),
        6 => ports().prop_map(Traffic::Tcp),
        4 => ports().prop_map(Traffic::Udp),
        2 => icmp().prop_map(Traffic::Icmp),
        2 => icmp().prop_map(Traffic::Icmpv6),
        2 => select(vec![0_u8, 2, 5, 7, 16, 18, 47, 57, 59, 255]).prop_map(Traffic::Other),
    ];
    (select(&Direction::ALL[..]), traffic, vec(network(), 0..5)).prop_map(
        |(direction, traffic, networks)| ResolvedRule { number: 0, direction, traffic, networks },
    )
}

/// Rules about anywhere that are often all there is between tracked and untracked: the whole of a
/// protocol, in one piece or in two that meet, or that do not quite.
fn wide_rules() -> impl Strategy<Value = Vec<ResolvedRule>> {
    let cut = select(vec![(0, 0), (79, 80), (80, 80), (80, 82), (65_534, 65_535)]);
    let network = select(vec!["0.0.0.0/0", "::/0", "0.0.0.0/1"]);
    let wide = (select(&Direction::ALL[..]), 0_u8..3, cut, network);
    let rules = wide.prop_map(|(direction, protocol, (to, from), network)| {
        let network: IpNet = network.parse().expect("a network");
        let of = |from, to| match protocol {
            0 => Traffic::All,
            1 => Traffic::Tcp(PortRange { from, to }),
            _ => Traffic::Udp(PortRange { from, to }),
        };
        let parts = [of(0, to), of(from, u16::MAX)];
        parts.map(|traffic| ResolvedRule { number: 0, direction, traffic, networks: vec![network] })
    });
    vec(rules, 0..4).prop_map(|rules| rules.into_iter().flatten().collect())
}

/// Rules with numbers that are neither dense nor in order.
fn rules(most: usize) -> impl Strategy<Value = Vec<ResolvedRule>> {
    (vec(rule(), 0..most), wide_rules(), any::<u32>()).prop_map(|(mut rules, wide, salt)| {
        rules.extend(wide);
        for (number, rule) in (1_u32..).zip(&mut rules) {
            // Odd factors permute 31 bits: distinct, and never 0.
            rule.number = number.wrapping_mul(salt | 1) & MAX_RULE;
        }
        rules
    })
}

/// A question, often about the very edge of a rule.
fn question() -> impl Strategy<Value = (Index, Index, u8, Question)> {
    let port = prop_oneof![3 => select(&PORTS[..]), 1 => any::<u16>()];
    let traffic = prop_oneof![
        4 => (Just(6_u8), port.clone()),
        3 => (Just(17), port),
        2 => (select(vec![1_u8, 58]), (select(vec![0_u16, 3, 4, 8, 128, 255]), 0_u16..5)
            .prop_map(|(kind, code)| kind << 8 | code)),
        2 => (any::<u8>(), Just(0)),
    ];
    let random = prop_oneof![
        3 => address(),
        1 => any::<[u8; 4]>().prop_map(IpAddr::from),
        1 => any::<[u8; 16]>().prop_map(IpAddr::from),
    ];
    (any::<Index>(), any::<Index>(), 0_u8..6, select(&Direction::ALL[..]), random, traffic)
        .prop_map(|(rule, network, edge, direction, outside, (protocol, port))| {
            (rule, network, edge, Question { direction, outside, protocol, port })
        })
}

/// Moves a question to the edge of some rule's network.
fn at_edge(
    rules: &[ResolvedRule],
    (rule, network, edge, question): (Index, Index, u8, Question),
) -> Question {
    if rules.is_empty() {
        return question;
    }
    let networks = &rule.get(rules).networks;
    if networks.is_empty() || edge > 3 {
        return question;
    }
    let network = network.get(networks);
    let beside = |address: IpAddr, up: bool| match address {
        IpAddr::V4(v4) => {
            let bits = v4.to_bits();
            IpAddr::from(
                (if up { bits.wrapping_add(1) } else { bits.wrapping_sub(1) }).to_be_bytes(),
            )
        }
        IpAddr::V6(v6) => {
            let bits = v6.to_bits();
            IpAddr::from(
                (if up { bits.wrapping_add(1) } else { bits.wrapping_sub(1) }).to_be_bytes(),
            )
        }
    };
    let outside = match edge {
        0 => network.network(),
        1 => network.broadcast(),
        2 => beside(network.network(), false),
        _ => beside(network.broadcast(), true),
    };
    Question { outside, ..question }
}

/// The seed is fixed, so that a failure is there again in the next run; `PROPTEST_CASES` and
/// `PROPTEST_RNG_SEED` still have the last word.
fn config(cases: u32) -> ProptestConfig {
    let asked = |name| env::var_os(name).is_some();
    let base = ProptestConfig::default();
    ProptestConfig {
        cases: if asked("PROPTEST_CASES") { base.cases } else { cases },
        rng_seed: if asked("PROPTEST_RNG_SEED") { base.rng_seed } else { RngSeed::Fixed(6) },
        failure_persistence: None,
        ..base
    }
}

proptest! {
    #![proptest_config(config(200))]

    #[test]
    fn the_compiled_policy_says_what_the_rules_say(
        rules in rules(60),
        questions in vec(question(), 100),
    ) {
        check(&rules, questions)?;
    }
}

proptest! {
    #![proptest_config(config(10))]

    #[test]
    fn hundreds_of_rules_too(rules in rules(600), questions in vec(question(), 200)) {
        check(&rules, questions)?;
    }
}

fn check(
    rules: &[ResolvedRule],
    questions: Vec<(Index, Index, u8, Question)>,
) -> Result<(), TestCaseError> {
    let policy = compile(rules, Tracking::Auto).expect("hundreds of rules fit");
    well_formed(&policy)?;
    let tables = HostTables::new(1, policy);
    let always = compile(rules, Tracking::Always).expect("hundreds of rules fit");
    well_formed(&always)?;
    prop_assert!(always.ranges.iter().all(|range| range.rule & UNTRACKED == 0));
    let always = HostTables::new(1, always);
    for raw in questions {
        let mut question = at_edge(rules, raw);
        let is_v4 = question.outside.is_ipv4();
        // As the parser has it: only a family's own ICMP has types.
        let has_ports =
            matches!(question.protocol, 6 | 17) || question.protocol == if is_v4 { 1 } else { 58 };
        if !has_ports {
            question.port = 0;
        }
        let allowing: Vec<u32> = evaluate(rules, question).collect();
        for tables in [&tables, &always] {
            match ask(tables, question).map(|rule| rule & !UNTRACKED) {
                Some(rule) => prop_assert!(
                    allowing.contains(&rule),
                    "{question:?}: the tables name rule {rule}, allowing are {allowing:?}"
                ),
                None => prop_assert!(
                    allowing.is_empty(),
                    "{question:?}: the tables refuse, allowing are {allowing:?}"
                ),
            }
        }
        let expected = is_untracked(rules, question);
        let found = ask(&tables, question).is_some_and(|rule| rule & UNTRACKED != 0);
        prop_assert_eq!(found, expected, "{:?}: untracked", question);
        prop_assert_eq!(is_marked(&tables, question), expected, "{:?}: marked", question);
        prop_assert!(!is_marked(&always, question));
    }
    Ok(())
}

/// What the kernel's search relies on.
fn well_formed(policy: &CompiledPolicy) -> Result<(), TestCaseError> {
    let mut owned = vec![false; policy.ranges.len()];
    for (number, class) in (0_u32..).zip(&policy.classes) {
        let is_any = number == ANY_V4 || number == ANY_V6;
        prop_assert_eq!(class.parent == NO_CLASS, is_any, "class {}", number);
        // Outer networks come first or are "any": no chain of parents is a circle.
        prop_assert!(is_any || class.parent < number, "class {number} inside {}", class.parent);
        for direction in Direction::ALL {
            let (start, len) = (class.start[direction as usize], class.len[direction as usize]);
            let span =
                usize::try_from(start).expect("fits")..usize::try_from(start + len).expect("fits");
            let ranges = &policy.ranges[span.clone()];
            prop_assert!(ranges.iter().all(|range| range.low <= range.high));
            prop_assert!(ranges.iter().all(|range| range.rule & !UNTRACKED != 0));
            for range in ranges.iter().filter(|range| range.rule & UNTRACKED != 0) {
                prop_assert!(is_any, "class {number} has the mark: {range:?}");
                let (low, high) = (range.low >> 16, range.high >> 16);
                prop_assert!(low == high && (low == 6 || low == 17), "{range:?}");
            }
            prop_assert!(
                ranges.windows(2).all(|pair| pair[0].high < pair[1].low),
                "class {number}: ranges overlap or are out of order: {ranges:?}"
            );
            for at in span {
                prop_assert!(!owned[at], "range {at} belongs to two classes");
                owned[at] = true;
            }
        }
    }
    prop_assert!(owned.iter().all(|owned| *owned), "a range belongs to no class");
    let classes = policy.prefixes_v4.values().chain(policy.prefixes_v6.values());
    let mut classes: Vec<u32> = classes.copied().collect();
    classes.sort_unstable();
    let expected: Vec<u32> = (2..).take(policy.classes.len() - 2).collect();
    prop_assert_eq!(classes, expected, "each class but the two \"any\" is that of one prefix");
    Ok(())
}

proptest! {
    #![proptest_config(config(200))]

    #[test]
    fn the_order_of_rules_and_networks_does_not_matter(
        rules in rules(40),
        order in Just((0..48_usize).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let shuffled: Vec<_> = order
            .into_iter()
            .filter_map(|at| rules.get(at).cloned())
            .map(|mut rule| {
                rule.networks.reverse();
                rule
            })
            .collect();
        for tracking in Tracking::ALL {
            prop_assert_eq!(compile(&shuffled, tracking), compile(&rules, tracking));
        }
    }

    #[test]
    fn a_rule_only_adds(
        (rules, some) in rules(40).prop_flat_map(|rules| {
            let len = rules.len();
            (Just(rules.clone()), subsequence(rules, 0..=len))
        }),
        questions in vec(question(), 60),
    ) {
        let all = HostTables::new(1, compile(&rules, Tracking::Auto).expect("fits"));
        let fewer = HostTables::new(1, compile(&some, Tracking::Auto).expect("fits"));
        for raw in questions {
            let question = at_edge(&rules, raw);
            if ask(&fewer, question).is_some() {
                prop_assert!(ask(&all, question).is_some(), "more rules refuse {:?}", question);
            }
        }
    }
}

fn tcp(number: u32, from: u16, to: u16, networks: Vec<IpNet>) -> ResolvedRule {
    let traffic = Traffic::Tcp(PortRange { from, to });
    ResolvedRule { number, direction: Direction::Ingress, traffic, networks }
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
        let question = Question { direction: Direction::Ingress, outside, protocol: 6, port };
        assert_eq!(ask(&tables, question), Some(owner), "port {port}");
    }
}

/// A rule about anywhere.
fn wide(number: u32, direction: Direction, traffic: Traffic, network: &str) -> ResolvedRule {
    let networks = vec![network.parse().expect("a network")];
    ResolvedRule { number, direction, traffic, networks }
}

/// Whether a TCP packet to port 80, coming in, goes without a flow, by tables and by evaluator.
fn untracked_at_80(rules: &[ResolvedRule], outside: &str) -> bool {
    let outside = outside.parse().expect("an address");
    let question = Question { direction: Direction::Ingress, outside, protocol: 6, port: 80 };
    let policy = compile(rules, Tracking::Auto).expect("fits");
    let found = ask(&HostTables::new(1, policy), question);
    let found = found.is_some_and(|rule| rule & UNTRACKED != 0);
    assert_eq!(found, is_untracked(rules, question), "{rules:?}");
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
        (vec![web(v4)], false, "no answer is allowed"),
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

/// The mark is TCP's and UDP's alone, so a rule of all protocols is cut at their borders.
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
            let question = Question { direction, outside, protocol, port };
            let expected = if marked { 7 | UNTRACKED } else { 7 };
            assert_eq!(ask(&tables, question), Some(expected), "{question:?}");
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
            let question = Question { direction: Direction::Ingress, outside, protocol: 6, port };
            assert_eq!(ask(&tables, question), Some(expected), "{tracking:?}: port {port}");
        }
    }
}

/// Entries of a compiled policy: what it takes in memory.
fn entries(policy: &CompiledPolicy) -> usize {
    let prefixes = policy.prefixes_v4.len() + policy.prefixes_v6.len();
    prefixes + policy.classes.len() + policy.ranges.len()
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
    assert!(policy.ranges.len() < 2 * usize::from(count), "{} ranges", policy.ranges.len());
}

#[test]
fn one_rule_for_thousands_of_networks_takes_one_range_each() {
    let networks: Vec<IpNet> = (0..5000_u32)
        .map(|n| {
            let [_, _, a, b] = n.to_be_bytes();
            IpNet::from(IpAddr::from([172, 16, a, b]))
        })
        .collect();
    let policy = compile(&[tcp(1, 80, 80, networks)], Tracking::Auto).expect("fits");
    assert_eq!((policy.prefixes_v4.len(), policy.ranges.len()), (5000, 5000));
}

#[test]
fn a_chain_of_every_prefix_length_is_walked_to_its_end() {
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
            let question = Question {
                direction: Direction::Ingress,
                outside,
                protocol: 6,
                port: u16::from(length),
            };
            assert_eq!(ask(&tables, question), Some(u32::from(length) + 1), "{address}/{length}");
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_with_the_count_it_needs() {
    let networks: Vec<IpNet> = (0..(1_u32 << 20) + 3)
        .map(|n| IpNet::from(IpAddr::from((0x0a00_0000 + n).to_be_bytes())))
        .collect();
    let error = compile(&[tcp(1, 80, 80, networks)], Tracking::Auto)
        .expect_err("more than a million prefixes");
    assert_eq!((error.what, error.needed), ("prefixes", (1 << 20) + 3));
    assert!(error.to_string().contains("3 more than the"), "{error}");
}
