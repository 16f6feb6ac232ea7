//! Blocks and ends, as far as they concern the store: what is refused, in which words, and what is printed.

use std::io::Write as _;
use std::process::Stdio;

use firewall_user::model::{NewBlock, Peer, parse_target};

use crate::fixture::Fixture;
use crate::host::Host;

const NOT_YET: &str = "secgroup: no interface is attached, so nothing is dropped yet: it takes effect with \
                       `secgroup attach`\n";

/// Runs a command that must succeed on a host without interfaces.
#[track_caller]
fn block(host: &Host, args: &[&str]) -> String {
    let done = host.run(&[&["block"], args].concat());
    assert_eq!((done.code, done.stderr.as_str()), (0, NOT_YET), "{args:?}");
    done.stdout
}

#[test]
fn what_cannot_be_blocked_is_refused_with_a_hint() {
    let fixture = Fixture::new();
    let target = "write for example 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32; --prefix-list names a prefix list";
    let see = "`secgroup block list` shows what is blocked";
    for (args, code, message, hint) in [
        (
            "192.0.2.7/24",
            2,
            "192.0.2.7 is not the first address of 192.0.2.0/24",
            "write 192.0.2.7 for this one address, or 192.0.2.0/24 for the network",
        ),
        ("office", 2, "\"office\" is not an IP address or network", target),
        ("lsit", 2, "\"lsit\" is not an IP address or network", target),
        (
            "127.0.0.1",
            2,
            "no packet on a network has an address of 127.0.0.1/32",
            "name the address that packets have: `secgroup flows list` shows those of flows",
        ),
        (
            "0.0.0.0/0",
            2,
            "0.0.0.0/0 is every IPv4 address",
            "`secgroup panic` drops everything but the management networks; --force makes the change anyway",
        ),
        (
            "224.0.0.0/3",
            2,
            "224.0.0.0/3 has the address 255.255.255.255, without which no DHCP client gets an address",
            "name the addresses that are meant; --force makes the change anyway",
        ),
        (
            "fe80::/10",
            2,
            "fe80::/10 has the addresses of IPv6 neighbour discovery, without which IPv6 does not work",
            "name the addresses that are meant; --force makes the change anyway",
        ),
    ] {
        let stderr = format!("error: block {args}: {message}\nhint: {hint}");
        fixture.refuses(&["block", args], code, &stderr);
    }
    fixture.refuses(
        &["block", "--prefix-list", "none"],
        3,
        "error: block prefix list none: there is no prefix list \"none\"\n\
         hint: `secgroup prefix-list list` shows the prefix lists",
    );
    fixture.refuses(
        &["block", "192.0.2.7", "--interface", "eth9"],
        3,
        "error: block 192.0.2.7: there is no attached interface \"eth9\"\n\
         hint: `secgroup status` shows the interfaces",
    );
    fixture.refuses(
        &["block", "192.0.2.7", "--reason", "a\"b"],
        2,
        "error: block 192.0.2.7: reason \"a\\\"b\" contains '\"'\n\
         hint: use letters, digits, spaces and ._-:/()#,@[]+=&;{}!$*",
    );
    fixture.refuses(
        &["block", "192.0.2.7", "--until", "2020-01-01T00:00:00Z"],
        2,
        "error: block 192.0.2.7: 2020-01-01T00:00:00Z is over\n\
         hint: compare it with the clock, which `date` shows",
    );
    fixture.refuses(
        &["block"],
        2,
        "error: block: there is nothing to block\n\
         hint: name addresses, networks or, with --prefix-list, prefix lists; `secgroup block list` shows what \
         is blocked",
    );
    fixture.refuses(
        &["unblock", "192.0.2.7"],
        3,
        &format!("error: unblock 192.0.2.7: 192.0.2.7/32 is not blocked\nhint: {see}"),
    );
    for (args, message) in [
        (&["unblock"][..], "error: unblock: there is nothing to unblock"),
        (
            &["unblock", "--all", "192.0.2.7"],
            "error: unblock 192.0.2.7: --all leaves no target to be named",
        ),
    ] {
        let hint = "name what is blocked, or --all; `secgroup block list` shows it";
        fixture.refuses(args, 2, &format!("{message}\nhint: {hint}"));
    }
}

/// Blocks a target on interfaces, or everywhere, as far as the store is concerned.
fn store_blocks(host: &Host, target: &str, places: &[Option<&str>]) {
    let mut store = host.store();
    let mut change = store.begin().unwrap();
    for place in places {
        let interface = place.map(|device| {
            let found = change.model().interfaces.values().find(|one| one.device == device);
            found.unwrap().id.clone()
        });
        let target = Peer::from(parse_target(target).unwrap());
        change
            .add_block(NewBlock { target, interface, reason: None, end: None, created: 0 })
            .unwrap();
    }
    change.commit().unwrap();
}

#[test]
fn blocks_of_other_interfaces_are_not_named() {
    let fixture = Fixture::new();
    let see = "\nhint: `secgroup block list` shows what is blocked";
    let unblock = ["unblock", "192.0.2.7", "--interface", "eth0"];
    let refused = |text: &str| {
        let stderr = format!("error: unblock 192.0.2.7: 192.0.2.7/32 is not blocked{text}{see}");
        fixture.refuses(&unblock, 3, &stderr);
    };
    store_blocks(&fixture.host, "192.0.2.7", &[Some("tap0")]);
    store_blocks(&fixture.host, "192.0.2.0/24", &[Some("tap0")]);
    refused("");
    store_blocks(&fixture.host, "192.0.2.0/28", &[Some("eth0")]);
    refused(" by itself: the block of 192.0.2.0/28 on eth0 contains it");
    // The first in the order of their numbers.
    store_blocks(&fixture.host, "192.0.2.7", &[None]);
    fixture.refuses(
        &["unblock", "192.0.2.9"],
        3,
        &format!(
            "error: unblock 192.0.2.9: 192.0.2.9/32 is not blocked by itself: the block of 192.0.2.0/24 on \
             vm1/tap0 contains it{see}"
        ),
    );
    let fixture = Fixture::new();
    store_blocks(&fixture.host, "192.0.2.7", &[None]);
    let alone =
        "192.0.2.7/32 is not blocked on that interface alone: it is blocked on every interface";
    fixture.refuses(&unblock, 3, &format!("error: unblock 192.0.2.7: {alone}{see}"));
}

#[test]
fn a_second_reason_is_not_said_to_be_another_end() {
    let host = Host::new();
    block(&host, &["192.0.2.7", "--reason", "first"]);
    let again = block(&host, &["192.0.2.7", "--reason", "second"]);
    assert_eq!(again, "192.0.2.7/32 is blocked already, now with this reason\n");
    assert!(host.ok(&["block", "list"]).ends_with("second\n"));
    let until = ["192.0.2.7", "--until", "2034-01-01T00:00:00Z", "--reason"];
    let timed = block(&host, &[&until[..], &["third"]].concat());
    assert!(timed.starts_with("192.0.2.7/32 was blocked already, now until 2034"), "{timed}");
}

#[test]
fn a_list_named_list_is_blocked_only_where_it_is_meant() {
    let host = Host::new();
    host.id(&["prefix-list", "create", "list", "--family", "ipv4", "--entry", "192.0.2.0/24"]);
    let empty = host.ok(&["block", "list"]);
    assert_eq!(empty.lines().count(), 1, "{empty}");
    assert_eq!(block(&host, &["--prefix-list", "list"]), "prefix list list blocked\n");
    assert_eq!(host.ok(&["block", "list"]).lines().count(), 2);
    let stderr = "error: delete prefix list list: prefix list list is used by a block\n\
                  hint: first: secgroup unblock --prefix-list list\n";
    let done = host.run(&["prefix-list", "delete", "list"]);
    assert_eq!((done.code, done.stderr.as_str()), (1, stderr));
    let within = host.run(&["unblock", "192.0.2.7"]);
    assert_eq!(
        within.stderr,
        "error: unblock 192.0.2.7: 192.0.2.7/32 is not blocked by itself: the block of prefix list list contains \
         it\nhint: `secgroup block list` shows what is blocked\n"
    );
    assert_eq!(host.ok(&["unblock", "--prefix-list", "list"]), "prefix list list unblocked\n");
    host.ok(&["prefix-list", "delete", "list"]);
}

#[test]
fn a_second_block_replaces_the_end_and_says_so() {
    let host = Host::new();
    assert_eq!(block(&host, &["192.0.2.7"]), "192.0.2.7/32 blocked\n");
    assert_eq!(block(&host, &["192.0.2.7"]), "192.0.2.7/32 is blocked already\n");
    let timed = block(&host, &["192.0.2.7", "--for", "2h", "--reason", "scan"]);
    assert!(timed.starts_with("192.0.2.7/32 was blocked already, now until 20"), "{timed}");
    let list = host.ok(&["block", "list"]);
    assert!(list.contains("1h 59m") || list.contains("2h 0m"), "{list}");
    assert!(list.ends_with("scan\n"), "{list}");
    assert_eq!(
        block(&host, &["192.0.2.7"]),
        "192.0.2.7/32 was blocked already, now without an end\n"
    );
    assert!(host.ok(&["block", "list"]).ends_with("scan\n"), "the reason stays");
    assert_eq!(host.ok(&["unblock", "192.0.2.7"]), "192.0.2.7/32 unblocked\n");
    assert_eq!(host.ok(&["unblock", "192.0.2.7", "--if-exists"]), "");
}

#[test]
fn targets_are_read_from_standard_input_as_one_change() {
    let host = Host::new();
    let run = |text: &str, args: &[&str]| {
        let mut command = host.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (stdout, stderr) = run("192.0.2.7\nnowhere\n", &["block", "-"]);
    assert_eq!(stdout, "");
    assert!(stderr.contains("block -: line 2 of standard input: \"nowhere\" is not"), "{stderr}");
    assert_eq!(host.ok(&["block", "list"]).lines().count(), 1, "nothing is blocked");
    let addresses: String = (1..=30).map(|last| format!("192.0.2.{last} ; x\n")).collect();
    let (stdout, _) = run(&addresses, &["block", "-", "--for", "1d"]);
    assert_eq!(stdout, "30 blocked, 0 changed, 0 unchanged\n");
    assert_eq!(host.state().1, 1, "one change");
    let (stdout, _) = run(&addresses, &["unblock", "-"]);
    assert_eq!(stdout, "30 unblocked\n");
    let (stdout, stderr) = run("# nobody\n", &["block", "-"]);
    assert_eq!(stdout, "");
    assert_eq!(stderr, "secgroup: standard input has no address, so nothing is blocked\n");
}

#[test]
fn a_rule_with_an_end_is_listed_exported_and_applied() {
    let host = Host::new();
    host.id(&["group", "create", "web", "--description", "d"]);
    let rule = ["web", "ingress", "--protocol", "tcp", "--port", "22", "--cidr", "192.0.2.7/32"];
    let add = |more: &[&str]| host.run(&[&["rule", "add"], &rule[..], more].concat());
    let id = add(&["--until", "2034-01-01T00:00:00Z"]).stdout.trim().to_owned();
    let hint = format!(
        "hint: `secgroup rule set-end web {id}` with --for, --until or --never changes its end\n"
    );
    let again = add(&[]);
    assert_eq!(again.code, 1);
    assert!(again.stderr.ends_with(&hint), "{}", again.stderr);
    // It exists, with an end; only another time of the clock differs.
    assert_eq!(add(&["--for", "1h", "--if-not-exists"]).stdout.trim(), id);
    let until = add(&["--until", "2034-01-01 00:00:00", "--if-not-exists"]);
    assert!(until.code == 0 || until.stderr.contains("its end is"), "{until:?}");
    let never = add(&["--if-not-exists"]);
    assert_eq!(
        never.stderr,
        format!(
            "error: add rule to group web: rule {id} exists already, and its end is 2034-01-01T00:00:00Z, not \
             never\nhint: --if-not-exists accepts what exists only if it is the same\n"
        )
    );
    let list = host.ok(&["rule", "list"]);
    assert!(list.lines().next().unwrap().contains("LEFT"), "{list}");
    assert!(
        host.ok(&["rule", "list", "--output", "json"])
            .contains("\"EndsAt\": \"2034-01-01T00:00:00Z\"")
    );
    let document = host.ok(&["export", "web"]);
    assert_eq!(document.matches("\"EndsAt\": \"2034-01-01T00:00:00Z\"").count(), 1);
    let same = host.file("same.json", &document);
    assert_eq!(host.ok(&["apply", &same]), "");

    let later = host.file("later.json", &document.replace("2034-01-01", "2035-01-01"));
    let text = format!("~ web {id} ingress tcp 22 from 192.0.2.7/32 until 2035-01-01T00:00:00Z\n");
    assert_eq!(host.ok(&["apply", &later]), text);
    let number = host.state().0.group("web").unwrap().rules.iter().map(|one| one.number).max();
    host.ok(&["rule", "set-end", "web", &id, "--never"]);
    assert!(!host.ok(&["rule", "list"]).contains("LEFT"));
    let after = host.state().0.group("web").unwrap().rules.iter().map(|one| one.number).max();
    assert_eq!(number, after);

    let past = host.file("past.json", &document.replace("2034-01-01", "2020-01-01"));
    let done = host.run(&["apply", &past]);
    assert_eq!(done.stdout, format!("- web {id} ingress tcp 22 from 192.0.2.7/32\n"));
    assert_eq!(
        done.stderr,
        "secgroup: warning: SecurityGroups[0].IpPermissions[0].IpRanges[0]: it ended at 2020-01-01T00:00:00Z and \
         is left out\n"
    );
    let bad = host.file("bad.json", &document.replace("2034-01-01T00:00:00Z", "soon"));
    let done = host.run(&["apply", &bad]);
    assert!(
        done.stderr.contains("IpRanges[0].EndsAt: \"soon\" is not a time with an offset"),
        "{done:?}"
    );
}

#[test]
fn what_has_ended_is_removed_by_the_next_change_which_says_so() {
    let host = Host::new();
    host.id(&["group", "create", "web", "--description", "d"]);
    let id = host.id(&[
        "rule",
        "add",
        "web",
        "ingress",
        "--protocol",
        "all",
        "--cidr",
        "192.0.2.7/32",
        "--for",
        "1s",
    ]);
    block(&host, &["192.0.2.8", "--for", "1s"]);
    // Two clocks are compared: the end itself is no event that can be waited for.
    while !host.ok(&["rule", "list"]).contains("ended")
        || !host.ok(&["block", "list"]).contains("ended")
    {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(!host.ok(&["export"]).contains("EndsAt"));
    let (_, before) = host.state();
    let dry = host.run(&["apply", &host.file("none.json", &host.ok(&["export"])), "--dry-run"]);
    assert_eq!((dry.code, host.state().1), (0, before), "{dry:?}");
    let done = host.run(&["block", "192.0.2.8"]);
    assert_eq!(done.stdout, "192.0.2.8/32 blocked\n");
    let lines: Vec<_> = done.stderr.lines().collect();
    assert!(lines[0].starts_with(&format!("secgroup: rule {id} of group web ended ")), "{lines:?}");
    assert!(lines[0].ends_with(" ago and was removed"), "{lines:?}");
    assert!(lines[1].starts_with("secgroup: the block of 192.0.2.8/32 ended "), "{lines:?}");
    assert_eq!(host.state().1, before + 1, "one change");
    assert!(!host.ok(&["rule", "list"]).contains(&id));
}
