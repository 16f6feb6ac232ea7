//! Everything in `abi/` has a digest: sizes, offsets, numbers, names, and the results of the functions
//! that compute indexes and words. A change of the digest needs another `ABI_VERSION`, so that a
//! program never opens maps of another layout.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::mem::{align_of, offset_of, size_of};
use std::path::Path;

use firewall_ebpf::abi::address::{V4, V6};
use firewall_ebpf::abi::block::{BLOCK_BANKS, Blocking};
use firewall_ebpf::abi::bloom;
use firewall_ebpf::abi::bloom::{BITS, Bit, LINES, Line};
use firewall_ebpf::abi::counter::{Counter, UserCounter, counter_index, rule_stride, rule_stripes};
use firewall_ebpf::abi::event::{EVENT_SPACE, Event, event_index};
use firewall_ebpf::abi::filter::{
    BLOCK, DENY, Filter, MAX_FILTERS, TABLE_SETS, entry_counter, entry_number, filter_index,
};
use firewall_ebpf::abi::flow::{
    EPOCH_TIMED, FIN_EGRESS, Flow, FlowKey4, FlowKey6, HEARD_EGRESS, HEARD_INGRESS,
    INITIATOR_EGRESS, NO_SCALE, NUMBERS_KNOWN, PROVEN, QUERY_FROM_INSIDE, QUERY_FROM_OUTSIDE,
    REPLIED, SYN_EGRESS, SYN_INGRESS, Table, Tier, UNCONFIRMED_EGRESS, UNCONFIRMED_FIN_EGRESS,
    UNCONFIRMED_FIN_INGRESS, UNCONFIRMED_INGRESS,
};
use firewall_ebpf::abi::fragment::FirstFragment;
use firewall_ebpf::abi::helper::{
    LIST_HEADER, MAX_BLOOM_KEYS, MAX_EXPIRED, MAX_PROBED, MAX_SET_ACTIVE, SET_ACTIVE_ENTRY,
    SET_BLOCKING, SET_WATCH, pack_explained, pack_query, unpack_explained, unpack_query,
};
use firewall_ebpf::abi::interface::{
    Call, Direction, EtherTypes, FRAGMENT_TIMEOUT, MAX_ETHER_TYPES, NonIp, Orientation,
    SETTINGS_EACH, SLOW_PATH_PROGRAMS, SLOW_PATHS, Settings, TIMEOUT_SPACE, TcpChecks,
    UDP_STREAM_AGE, has_fast_path, record_index, settings_index, shared_slow_path, slow_path_index,
};
use firewall_ebpf::abi::limits::{
    ABI_VERSION, MAX_CLASSES, MAX_ENDS, MAX_EXTENSION_HEADERS, MAX_INTERFACES, MAX_PAGES,
    MAX_PREFIXES, MAX_VLAN_TAGS,
};
use firewall_ebpf::abi::policy::{
    ANY_V4, ANY_V6, Active, Class, Half, Has, LEAF, List, MAX_LIST, MAX_RULE, NO_CLASS, PAGE, Page,
    Range, TIMED, TRAFFIC_MAX, UNTRACKED, index, rule_number, traffic,
};
use firewall_ebpf::abi::port::{MAX_OWN, OWN_V6, Own4, Own6, PortChecks, PortSecurity, mac_word};
use firewall_ebpf::abi::prefix::Prefix;
use firewall_ebpf::abi::reason::{REASON_SPACE, Reason, Verdict, verdict};
use firewall_ebpf::abi::record::{
    ACCOUNTS_EACH, AUDIT, Account, CELLS, Cell, Count, EGRESS, FLUSH_ALL, FLUSH_SELF_TEST,
    FRAGMENT, FRAME, HASH_WORDS, Key, Note, Record, SELF_TEST, TICK, Watch, account_index,
};
use firewall_ebpf::abi::state::State;

/// Every version and its digest. A new version gets a new line; lines never change.
const DIGESTS: [(u32, u64); 7] = [
    (1, 0xd383_6986_33da_e372),
    (2, 0xfd8e_9136_bba5_babc),
    (3, 0x8432_eb30_9985_f8e0),
    (4, 0x78f2_b9d8_f36e_553f),
    (5, 0x0385_0f43_e0fe_919e),
    // A value of a map that only userspace uses.
    (6, 0x0385_0f43_e0fe_919e),
    (7, 0xdafd_04ca_988b_b314),
];

macro_rules! layout {
    ($text:ident; $($type:ident { $($field:ident),* $(,)? })*) => {$(
        // Exhaustive: a new field does not compile until it is listed.
        let _ = |value: $type| { let $type { $($field: _),* } = value; };
        let _ = writeln!($text, "{} {} {}", stringify!($type), size_of::<$type>(), align_of::<$type>());
        $(
            let size = field_size(|value: &$type| &value.$field);
            let _ = writeln!($text, "  {} {} {size}", stringify!($field), offset_of!($type, $field));
        )*
    )*};
}

macro_rules! constants {
    ($text:ident; $($name:ident)*) => {$(
        let _ = writeln!($text, "{} {}", stringify!($name), $name);
    )*};
}

fn field_size<T, F>(_: fn(&T) -> &F) -> usize {
    size_of::<F>()
}

/// The whole of `abi/`, as text.
fn manifest() -> String {
    let mut text = String::new();
    layout!(text;
        FlowKey4 { inside, outside, inside_port, outside_port, slot, protocol, query }
        FlowKey6 { inside, outside, inside_port, outside_port, slot, protocol, query }
        Flow {
            last_seen, packets, bytes, next_seq, last_ack, state, flags, scales, pending, rule, filter,
            created, epoch, ack_low, ack_high, limit, window,
        }
        FirstFragment { seen, end, reserved }
        Settings {
            timeouts, fragment_timeout, udp_stream_age, non_ip, tcp_loose,
            reserved, max_per_source, ether_types, port,
        }
        Counter { packets, bytes }
        Class { parent, lists }
        List { len, at, high, rule }
        Range { low, high, rule }
        Half { slot, bank, half }
        Own4 { address, mask }
        Own6 { address, mask }
        PortSecurity { v6, v4, mac, checks, reserved }
        Key {
            source, destination, ports, ether_type, protocol, family, device, slot, reason, flags,
            generation, decided_by,
        }
        Record {
            first, last, packets, bytes, key, frame_length, captured, tcp_flags, reserved, frame,
        }
        Cell {
            key, added, taken, due, last, first, lock, tcp_flags, frame_length, captured, reserved,
            frame,
        }
        Account { seen, lost, used_until, reserved }
    );
    constants!(text;
        FIN_EGRESS HEARD_EGRESS HEARD_INGRESS INITIATOR_EGRESS NO_SCALE NUMBERS_KNOWN PROVEN
        SYN_EGRESS SYN_INGRESS UNCONFIRMED_EGRESS UNCONFIRMED_FIN_EGRESS UNCONFIRMED_FIN_INGRESS
        UNCONFIRMED_INGRESS UDP_STREAM_AGE
        QUERY_FROM_INSIDE QUERY_FROM_OUTSIDE REPLIED BITS LINES EVENT_SPACE LIST_HEADER
        MAX_BLOOM_KEYS MAX_EXPIRED MAX_PROBED MAX_SET_ACTIVE SET_ACTIVE_ENTRY
        FRAGMENT_TIMEOUT MAX_CLASSES MAX_EXTENSION_HEADERS MAX_INTERFACES MAX_PAGES MAX_PREFIXES
        MAX_VLAN_TAGS ANY_V4 ANY_V6 LEAF MAX_LIST MAX_RULE NO_CLASS PAGE TRAFFIC_MAX UNTRACKED
        REASON_SPACE TIMEOUT_SPACE SETTINGS_EACH SLOW_PATHS SLOW_PATH_PROGRAMS MAX_ETHER_TYPES MAX_OWN OWN_V6
        BLOCK BLOCK_BANKS DENY EPOCH_TIMED MAX_ENDS MAX_FILTERS SET_BLOCKING TABLE_SETS TIMED
        ACCOUNTS_EACH AUDIT CELLS EGRESS FLUSH_ALL FLUSH_SELF_TEST FRAGMENT FRAME HASH_WORDS SELF_TEST SET_WATCH TICK
    );
    let sizes = [size_of::<V4>(), size_of::<V6>(), size_of::<Line>(), size_of::<Page>()];
    let _ = writeln!(text, "addresses, line, page {sizes:?}");
    numbers(&mut text);
    words(&mut text);
    text
}

/// Enums that are stored, loaded or counted by.
fn numbers(text: &mut String) {
    for reason in Reason::ALL {
        let number = *reason as u8;
        let _ =
            writeln!(text, "reason {number} {} {}", reason.name(), verdict(number.into()).name());
    }
    let _ = writeln!(text, "{} {}", Verdict::Pass.name(), Verdict::Drop.name());
    for event in Event::ALL {
        let _ = writeln!(text, "event {} {event:?}", *event as u8);
    }
    for state in State::ALL {
        let _ = writeln!(text, "state {} {}", *state as u8, state.name());
    }
    for tier in Tier::ALL {
        let _ = writeln!(text, "tier {} {}", tier as u8, tier.name());
    }
    for table in Table::ALL {
        let (number, lru) = (table as u8, table.lru_index(3));
        let _ = writeln!(text, "table {number} {} {} {lru}", table.name(), table.tier().name());
    }
    for protocol in [6, 17, 1] {
        let _ = writeln!(text, "proven {protocol} {:?}", Table::proven(protocol));
    }
    for direction in Direction::ALL {
        let _ = writeln!(text, "direction {} {}", direction as u8, direction.name());
    }
    for orientation in [Orientation::Host, Orientation::Guest] {
        let _ = writeln!(text, "orientation {} {}", orientation as u8, orientation.name());
    }
    for checks in TcpChecks::ALL {
        let fast = [false, true].map(|ethernet| has_fast_path(ethernet, checks));
        let _ = writeln!(text, "tcp {} {} {fast:?}", checks as u8, checks.name());
    }
    for non_ip in NonIp::ALL {
        let _ = writeln!(text, "non-ip {} {}", non_ip as u8, non_ip.name());
    }
    for counter in UserCounter::ALL {
        let _ = writeln!(text, "user counter {} {counter:?} {}", counter as u8, counter.index(3));
    }
}

/// Indexes and packed words.
fn words(text: &mut String) {
    let egress = Direction::Egress;
    let _ = writeln!(text, "counter_index {}", counter_index(3, egress, 5));
    let stripes = [(4096, 2), (131_072, 64), (16_777_216, 2)].map(|(rules, cpus)| {
        (rule_stripes(rules, cpus), rule_stride(rules), rule_stride(rules - 1))
    });
    let _ = writeln!(text, "rule stripes {stripes:?}");
    let _ = writeln!(text, "event_index {}", event_index(3, Event::Promoted));
    let _ = writeln!(text, "traffic {}", traffic(6, 443));
    let _ = writeln!(text, "query {} {:?}", pack_query(egress, 9), unpack_query(1 << 31 | 9));
    let explained = pack_explained(egress, 9);
    let _ = writeln!(text, "explained {explained} {:?}", unpack_explained(explained));
    let types = EtherTypes([0x88f7, 0, 0, 0, 0, 0, 0, 0x88e5]);
    let known = [0x88f7, 0x88e5, 0x88f8].map(|one| types.contains(one));
    let _ = writeln!(text, "ether types {} {known:?}", size_of::<EtherTypes>());
    let _ = writeln!(text, "index {} {}", index(3, 1), settings_index(3, 1));
    let call = Call::new(7, 9);
    let _ = writeln!(
        text,
        "call {:#x} {} {} {:#x}",
        call.0,
        call.settings(),
        call.device(),
        call.with_decision(5, true).0
    );
    let passed = [call.with_passed_blocks(true), call.with_passed_blocks(false)];
    let passed = passed.map(|call| (call.0, call.settings(), call.has_passed_blocks()));
    let _ = writeln!(text, "passed blocks {passed:x?}");
    let slow_path = slow_path_index(shared_slow_path(TcpChecks::Strict, false, true), egress);
    let records = [true, false].map(|ethernet| record_index(ethernet, egress));
    let _ = writeln!(text, "slow path {slow_path} records {records:?}");
    let watch = Watch::new(Watch::DROPS | Watch::PASSES, 7);
    let _ = writeln!(text, "watch {watch:x?} {} {}", watch.has(Watch::DROPS, 6), watch.has(1, 7));
    let accounts = [15, 16].map(|reason| account_index(3, reason));
    let _ = writeln!(text, "accounts {accounts:?}");
    let note = Note::new(7, 9);
    let _ = writeln!(text, "note {note:x?} {} {}", note.generation(), note.decided_by());
    let count = Count::one(60);
    let _ = writeln!(text, "count {count:x?} {} {}", count.packets(), count.bytes());
    let checks = [
        PortChecks::NONE,
        PortChecks::ADDRESSES,
        PortChecks::SERVICES,
        PortChecks::BRIDGE,
        PortChecks::MAC,
    ];
    let _ = writeln!(text, "checks {checks:?} mac {:#x}", mac_word([1, 2, 3, 4, 5, 6]));
    let Bit(bit) = bloom::bit([1, 2, 3, 4, 5]);
    let place = Bit(bit);
    let _ = writeln!(text, "bit {bit} {} {} {}", place.line(1), place.word(), place.mask());
    let prefix = Prefix::new([10, 1, 255, 7], 23);
    let _ = writeln!(text, "prefix {:?} {}", prefix.octets(), prefix.length());
    // Each flag of the active word on its own.
    let tables = Half { slot: 3, bank: 0, half: 0 };
    let empty = Has::default();
    let mut active = vec![
        Active::new(tables, empty, 7),
        Active::new(Half { bank: 1, ..tables }, empty, 7),
        Active::new(Half { half: 1, ..tables }, empty, 7),
        Active::new(tables, empty, 7).with_audit(true),
        Active::new(tables, empty, 7).with_blocks(true),
        Active::new(tables, empty, 7).with_filter(Some(0)),
        Active::new(tables, empty, 7).with_filter(Some(0x1ff)),
    ];
    for family in 0..2 {
        let mut has = [empty; 4];
        has[0].prefixes[family] = true;
        has[1].untracked[family] = true;
        has[2].anywhere[family][0] = true;
        has[3].anywhere[family][1] = true;
        active.extend(has.map(|has| Active::new(tables, has, 7)));
    }
    for Active(word) in active {
        let _ = writeln!(text, "active {word:#x}");
    }
    let filtered = Active::new(tables, empty, 7).with_filter(Some(5));
    let _ = writeln!(text, "filter index {} {}", filter_index(5), filtered.filter_index());
    let _ = writeln!(text, "entry {} {}", entry_number(5), entry_counter(DENY | TIMED | BLOCK | 6));
    let _ = writeln!(text, "rule {:#x}", rule_number(u32::MAX));
    for has in [[false; 2], [true, false], [false, true]] {
        let (filter, blocking) = (Filter::new(u64::MAX << 33, has), Blocking::new(has, 1, 0));
        let _ = writeln!(text, "has {filter:x?} {:#x} {blocking:x?}", filter.generation());
    }
    let _ = writeln!(text, "blocking {:x?}", Blocking::new([false; 2], 0, 1));
}

/// FNV-1a, 64 bits: no secret is involved, only accidents.
fn digest(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[test]
fn a_changed_abi_has_another_version() {
    let text = manifest();
    let present = (ABI_VERSION, digest(&text));
    assert_eq!(
        DIGESTS.last(),
        Some(&present),
        "the digest of abi/ changed: raise ABI_VERSION, and append ({}, {:#018x}) to DIGESTS\n{text}",
        ABI_VERSION + 1,
        present.1
    );
    let versions: BTreeSet<u32> = DIGESTS.iter().map(|(version, _)| *version).collect();
    assert_eq!(versions.len(), DIGESTS.len(), "each version has one digest");
}

#[test]
fn the_digest_covers_every_public_item_of_the_room() {
    let room = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/abi");
    let this = include_str!("abi.rs");
    let mut missing = Vec::new();
    for entry in fs::read_dir(room).expect("list abi/") {
        let path = entry.expect("list abi/").path();
        let source = fs::read_to_string(&path).expect("read a file of abi/");
        // Items at the top level start in the first column; methods belong to a type that is listed.
        for line in source.lines() {
            let Some(item) = ["const fn ", "const ", "fn ", "struct ", "enum ", "type "]
                .iter()
                .find_map(|kind| line.strip_prefix("pub ")?.strip_prefix(kind))
            else {
                continue;
            };
            let end = item.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(item.len());
            let name = &item[..end];
            let listed =
                this.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == name);
            if !listed {
                missing.push(format!("{}: {name}", path.display()));
            }
        }
    }
    assert!(missing.is_empty(), "list in tests/abi.rs:\n{}", missing.join("\n"));
}
