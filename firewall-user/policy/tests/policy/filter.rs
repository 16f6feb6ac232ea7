//! The compiler of filters against the reference evaluator, on random entries that may end.

use std::net::IpAddr;

use firewall_ebpf::abi::filter::{BLOCK, DENY, entry_counter};
use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::limits::MAX_ENDS;
use firewall_ebpf::abi::policy::{ANY_V4, ANY_V6, NO_CLASS, TIMED, TRAFFIC_MAX, traffic};
use firewall_ebpf::abi::prefix::Prefix;
use firewall_policy::filter::{
    CompiledFilter, FilterMismatch, ResolvedEntry, check_filter, compile_filter, evaluate_filter,
    filter_entries, filter_probes, first_match,
};
use firewall_policy::model::{
    Acl, AclId, Action, Interface, InterfaceId, Model, PortRange, SubnetId, Traffic, VpcId,
};
use firewall_policy::probes::Asked;
use firewall_policy::verdicts::denials;
use firewall_policy::{Probe, ResolvedRule};
use ipnet::IpNet;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::random::{at_edge, config, probe, rules};

/// The times at which entries end, and those at which they are looked up.
const ENDS: [u64; 4] = [100, 200, 300, 400];

/// A search in the tables as the kernel program does it.
fn search(filter: &CompiledFilter, probe: Probe, now: u64) -> Option<u32> {
    let tables = &filter.tables;
    let (any, longest) = match probe.outside {
        IpAddr::V4(v4) => {
            let all = (0..=32).rev().map(|length| Prefix::new(v4.octets(), length));
            (ANY_V4, all.filter_map(|one| tables.prefixes_v4.get(&one)).next())
        }
        IpAddr::V6(v6) => {
            let all = (0..=128).rev().map(|length| Prefix::new(v6.octets(), length));
            (ANY_V6, all.filter_map(|one| tables.prefixes_v6.get(&one)).next())
        }
    };
    let mut class = longest.copied().unwrap_or(any);
    let of = traffic(probe.protocol, probe.port);
    for _ in 0..=MAX_ENDS {
        let row = tables.classes[usize::try_from(class).expect("fits")];
        let list = tables.list(row.lists[probe.direction as usize]);
        let range = list.iter().find(|range| range.low <= of && of <= range.high)?;
        let counter = usize::try_from(entry_counter(range.rule)).expect("fits");
        // In these tests the entry with the counter n ends at `ENDS[n % 4]`.
        if range.rule & TIMED == 0 || ENDS[counter % 4] > now {
            return Some(range.rule);
        }
        class = row.parent;
        assert_ne!(class, NO_CLASS, "an entry that ends leaves a class");
    }
    panic!("the chain of classes is longer than the kernel follows");
}

/// Entries from rules; `salt` chooses what rules do not have.
fn entries(rules: &[ResolvedRule], salt: &[u8]) -> Vec<ResolvedEntry> {
    let entry = |(counter, (rule, salt)): (u32, (&ResolvedRule, &u8))| ResolvedEntry {
        counter,
        is_block: salt & 0x30 == 0,
        action: if salt & 1 == 0 || salt & 0x30 == 0 { Action::Deny } else { Action::Allow },
        direction: (salt & 0x30 != 0).then_some(rule.direction),
        traffic: rule.traffic,
        networks: rule.networks.clone(),
        end: (salt & 6 == 0).then(|| ENDS[usize::try_from(counter % 4).expect("fits")]),
    };
    let mut all: Vec<_> = (0..).zip(rules.iter().zip(salt)).map(entry).collect();
    let mut next = u32::try_from(all.len()).expect("fits");
    for direction in Direction::ALL {
        for network in ["0.0.0.0/0", "::/0"] {
            all.push(ResolvedEntry {
                counter: next,
                is_block: false,
                action: Action::Deny,
                direction: Some(direction),
                traffic: Traffic::All,
                networks: network.parse::<IpNet>().expect("a network").into(),
                end: None,
            });
            next += 1;
        }
    }
    all
}

fn cleaned(mut probe: Probe) -> Probe {
    // As the parser has it: only a family's own ICMP has types.
    let own_icmp = if probe.outside.is_ipv4() { 1 } else { 58 };
    if !matches!(probe.protocol, 6 | 17) && probe.protocol != own_icmp {
        probe.port = 0;
    }
    probe
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn tables_and_reference_evaluator_agree_on_filters(
        rules in rules(40),
        salt in vec(any::<u8>(), 80),
        probes in vec(probe(), 60),
        now in select(vec![0_u64, 100, 150, 200, 250, 300, 400, 1000]),
    ) {
        let entries = entries(&rules, &salt);
        let filter = compile_filter(&entries).expect("forty entries fit");
        for list in filter.tables.lists.iter().skip(1) {
            prop_assert_eq!(list[0].low, 0, "every packet finds an entry");
            prop_assert_eq!(list[list.len() - 1].high, TRAFFIC_MAX);
            prop_assert!(list.windows(2).all(|pair| pair[0].high + 1 == pair[1].low));
        }
        let mut results = Vec::new();
        for raw in probes {
            let probe = cleaned(at_edge(&rules, raw));
            let found = search(&filter, probe, now);
            prop_assert_eq!(found, evaluate_filter(&entries, probe, now), "{:?} at {}", probe, now);
            results.push((probe, found));
        }
        let asked = Asked { from: now, to: now };
        prop_assert_eq!(check_filter(&entries, asked, &results), Ok(()));
        // The order of the entries is part of the contents, and nothing else is.
        prop_assert_eq!(compile_filter(&entries).expect("fits"), filter);
    }

    #[test]
    fn denials_are_what_the_reference_evaluator_denies_otherwise(
        rules in rules(30),
        salts in vec(any::<(u8, u8)>(), 60),
        probes in vec(probe(), 80),
    ) {
        let lasting = |mut entries: Vec<ResolvedEntry>| {
            entries.iter_mut().for_each(|entry| entry.end = None);
            entries
        };
        let of = |salt: fn(&(u8, u8)) -> u8| -> Vec<u8> { salts.iter().map(salt).collect() };
        let old = lasting(entries(&rules, &of(|(one, _)| *one)));
        // Half of the entries are others, and some are left out.
        let new = of(|(one, other)| if other & 8 == 0 { *one } else { *other });
        let mut new = lasting(entries(&rules, &new));
        let mut at = 0;
        new.retain(|_| {
            at += 1;
            salts.get(at).is_some_and(|(_, other)| other & 3 != 0)
        });
        // Some that both have come before them.
        let first: Vec<ResolvedEntry> = old.iter().take(usize::from(salts[0].0 & 3)).cloned().collect();
        let found: Vec<_> = denials(&first, &old, &new).collect();
        let [old, new] = [old, new].map(|entries| [&first[..], &entries].concat());
        for raw in probes {
            let probe = cleaned(at_edge(&rules, raw));
            let denying = |entries: &[ResolvedEntry]| {
                let first = first_match(entries, probe, 0)?;
                (first.action == Action::Deny).then_some(first.counter)
            };
            let number = traffic(probe.protocol, probe.port);
            let here: Vec<_> = found.iter().filter(|one| {
                one.direction == probe.direction
                    && one.network.contains(&probe.outside)
                    && (one.traffic.0..=one.traffic.1).contains(&number)
            }).map(|one| (one.is_allowed, one.number)).collect();
            let expected = match (denying(&old), denying(&new)) {
                (None, Some(number)) => vec![(false, number)],
                (Some(number), None) => vec![(true, number)],
                _ => vec![],
            };
            prop_assert_eq!(here, expected, "{:?}", probe);
        }
    }
}

fn entry(counter: u32, action: Action, port: u16, network: &str) -> ResolvedEntry {
    ResolvedEntry {
        counter,
        is_block: false,
        action,
        direction: Some(Direction::Ingress),
        traffic: Traffic::Tcp(PortRange { from: port, to: port }),
        networks: network.parse::<IpNet>().expect("a network").into(),
        end: None,
    }
}

fn last() -> Vec<ResolvedEntry> {
    entries(&[], &[])
        .into_iter()
        .map(|one| ResolvedEntry { counter: one.counter + 100, ..one })
        .collect()
}

#[test]
fn a_prefix_that_changes_nothing_is_left_out() {
    let deny = ResolvedEntry { traffic: Traffic::All, ..entry(0, Action::Deny, 0, "10.0.0.0/8") };
    let within = entry(1, Action::Allow, 80, "10.1.0.0/16");
    let filter =
        compile_filter(&[vec![deny.clone(), within.clone()], last()].concat()).expect("fits");
    assert_eq!(filter.tables.prefixes_v4.len(), 1);
    let filter = compile_filter(&[vec![within, deny], last()].concat()).expect("fits");
    assert_eq!(filter.tables.prefixes_v4.len(), 2);
    assert!(filter.word().has_prefixes(true) && !filter.word().has_prefixes(false));
}

#[test]
fn the_networks_of_a_list_share_a_class() {
    let networks =
        (0..1000_u32).map(|n| IpNet::from(IpAddr::from((0x0a00_0000 + 2 * n).to_be_bytes())));
    let list =
        ResolvedEntry { networks: networks.collect(), ..entry(0, Action::Deny, 443, "::/0") };
    let filter = compile_filter(&[vec![list], last()].concat()).expect("fits");
    assert_eq!(filter.tables.prefixes_v4.len(), 1000);
    // The two "any" classes and those that they were copied from, and one.
    assert!(filter.tables.classes.len() <= 6, "{} classes", filter.tables.classes.len());
}

#[test]
fn entries_with_too_many_ends_are_refused() {
    let timed = |n: u32| ResolvedEntry {
        end: Some(u64::from(n) + 1),
        ..entry(n, Action::Deny, u16::try_from(n).expect("fits"), "10.0.0.0/8")
    };
    let fitting: Vec<_> = (0..MAX_ENDS).map(timed).collect();
    assert!(compile_filter(&[fitting, last()].concat()).is_ok());
    let more: Vec<_> = (0..=MAX_ENDS).map(timed).collect();
    let error = compile_filter(&[more, last()].concat()).expect_err("refused");
    assert!(error.to_string().contains("different ends of entries"), "{error}");
}

#[test]
fn a_wrong_result_is_reported() {
    let entries = [vec![entry(0, Action::Allow, 80, "10.0.0.0/8")], last()].concat();
    let probes = filter_probes(&entries);
    let asked = Asked { from: 0, to: 0 };
    let mut results: Vec<_> =
        probes.iter().map(|probe| (*probe, evaluate_filter(&entries, *probe, 0))).collect();
    assert_eq!(check_filter(&entries, asked, &results), Ok(()));
    let allowed =
        results.iter().position(|(_, found)| found.expect("present") & DENY == 0).expect("present");
    for wrong in [
        None,
        Some(results[allowed].1.expect("present") | DENY),
        Some(results[allowed].1.expect("present") | BLOCK),
    ] {
        results[allowed].1 = wrong;
        let FilterMismatch { probe, found, .. } =
            check_filter(&entries, asked, &results).expect_err("refused");
        assert_eq!((probe, found), (probes[allowed], wrong));
    }
}

#[test]
fn an_entry_with_another_end_makes_another_filter() {
    let with = |end| {
        let timed = ResolvedEntry { end, ..entry(0, Action::Deny, 80, "10.0.0.0/8") };
        compile_filter(&[vec![timed], last()].concat()).expect("fits")
    };
    let (one, other) = (with(Some(100)), with(Some(200)));
    assert_eq!(one.tables, other.tables);
    assert_ne!(one.word().generation(), other.word().generation());
    assert_eq!(with(Some(100)), one);
}

#[test]
fn an_interface_has_the_filter_of_its_subnet_unless_it_has_its_own() {
    let mut model = Model::default();
    let default = Acl::new_default(VpcId::default_vpc()).unwrap();
    let new = || {
        let id = AclId::random().unwrap();
        Acl::deny_all(id.clone(), VpcId::default_vpc(), id.as_str(), [].into())
    };
    let closed = new();
    // The default one of another VPC has the smallest id, and is that of none of its interfaces.
    let other = Acl { id: AclId::of_digits("00000000"), is_default: true, ..new() };
    let mut interface = Interface::new(InterfaceId::random().unwrap(), 0, "eth0", None);
    let (own, closed_id) = (default.id.clone(), closed.id.clone());
    for acl in [default, closed, Acl { vpc: VpcId::of_digits("00000001"), ..other }] {
        model.acls.insert(acl.id.clone(), acl);
    }
    let has_filter = |model: &Model, one: &Interface| filter_entries(model, one, &|n| n).is_some();
    assert!(!has_filter(&model, &interface), "the default one allows everything");
    model.subnets.get_mut(&SubnetId::default_subnet()).unwrap().acl = Some(closed_id);
    assert!(has_filter(&model, &interface));
    interface.acl = Some(own);
    assert!(!has_filter(&model, &interface));
}
