//! `prefix-list load`

use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::fixture::Fixture;
use crate::host::{Done, Host};

const DROP: &str = "\u{feff}; Spamhaus DROP List 2026/11/29\r\n\
    192.0.2.0/24 ; SBL1\r\n\
    \r\n\
    # an address\r\n\
    198.51.100.7\r\n";

#[test]
fn a_file_becomes_the_entries_of_a_list() {
    let host = Host::new();
    let file = host.file("drop.txt", DROP);
    let done = host.run(&["prefix-list", "load", "drop", &file, "--create", "--dry-run"]);
    let diff = "+ prefix-list drop 192.0.2.0/24\n\
                + prefix-list drop 198.51.100.7/32\n\
                prefix-list drop: 2 added, 0 removed, 0 unchanged\n";
    let stdout = format!("+ prefix-list drop (new) ipv4\n{diff}");
    assert_eq!(done, Done { code: 4, stdout, stderr: String::new() });
    assert!(!host.state_dir().exists(), "--dry-run makes no store");
    let printed = host.ok(&["prefix-list", "load", "drop", &file, "--create"]);
    assert!(printed.starts_with("+ prefix-list drop pl-") && printed.ends_with(diff), "{printed}");

    assert_eq!(
        host.ok(&["prefix-list", "load", "drop", &file, "--create"]),
        "prefix-list drop: 0 added, 0 removed, 2 unchanged\n"
    );
    let shown = host.ok(&["prefix-list", "show", "drop"]);
    assert!(shown.contains("version  1\n") && !shown.contains("SBL1"), "{shown}");
    assert_eq!(
        host.ok(&["prefix-list", "load", "drop", &file, "--descriptions"]),
        "~ prefix-list drop 192.0.2.0/24 (SBL1)\n\
         prefix-list drop: 0 added, 0 removed, 1 described, 1 unchanged\n"
    );
    let shown = host.ok(&["prefix-list", "show", "drop"]);
    assert!(shown.contains("version  2\n") && shown.contains("192.0.2.0/24     SBL1\n"), "{shown}");
    // Another file of the same networks without comments.
    let file = host.file("other.txt", "198.51.100.7/32\n192.0.2.0/24\n203.0.113.0/24");
    assert_eq!(
        host.ok(&["prefix-list", "load", "drop", &file]),
        "~ prefix-list drop 192.0.2.0/24\n\
         + prefix-list drop 203.0.113.0/24\n\
         prefix-list drop: 1 added, 0 removed, 1 described, 1 unchanged\n"
    );
}

#[test]
fn a_list_is_read_from_standard_input() {
    let host = Host::new();
    let mut command = host.command(&["prefix-list", "load", "six", "-", "--create"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"2001:db8::/32\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.ends_with("six: 1 added, 0 removed, 0 unchanged\n"), "{printed}");
    let list = &host.state().0.prefix_lists;
    assert_eq!(list.values().next().unwrap().family.name(), "ipv6");
}

#[test]
fn long_differences_are_cut_and_json_has_all() {
    let host = Host::new();
    host.configure("[limits]\nentries_per_prefix_list = 2000\n");
    let networks: Vec<String> =
        (0..1500).map(|n| format!("10.{}.{}.0/24", n >> 8, n & 255)).collect();
    let file = host.file("many.txt", &networks.join("\n"));
    let load = |more: &[&str]| {
        host.run(&[&["prefix-list", "load", "many", &file, "--create"], more].concat())
    };
    let done = load(&["--dry-run"]);
    assert_eq!(done.stdout.lines().count(), 1 + 10 + 1 + 1, "{}", done.stdout);
    assert!(done.stdout.contains("\n+ prefix-list many 1490 more\n"), "{}", done.stdout);
    assert_eq!(load(&["--dry-run", "--full"]).stdout.lines().count(), 1 + 1500 + 1);
    let done = load(&["--dry-run", "--output", "json"]);
    let document: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(done.code, 4);
    assert_eq!(document["Added"], json!(networks));
    assert_eq!(
        [&document["Created"], &document["DryRun"], &document["PrefixListId"]],
        [&json!(true), &json!(true), &Value::Null]
    );
    assert_eq!(load(&[]).code, 0);

    // A file that was cut short.
    let file = host.file("cut.txt", &networks[..700].join("\n"));
    let done = host.run(&["prefix-list", "load", "many", &file, "--output", "json"]);
    let document: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(document["Removed"], json!(networks[700..]));
    assert_eq!((&document["Entries"], &document["Added"]), (&json!(700), &json!([])));
    assert_eq!(
        done.stderr,
        "secgroup: warning: prefix list many goes from 1500 entries to 700; the file may be incomplete\n"
    );
}

#[test]
fn what_is_made_of_a_file_is_said() {
    let host = Host::new();
    let text = "10.1.2.3/8 # it's ours\n10.0.0.0/8\n192.0.2.9/24\n::1\n192.0.2.0/25\n192.0.2.0/25\n\
                10.0.0.9/30\n10.0.0.9/29\n10.0.0.9/28\n";
    let file = host.file("mixed.txt", text);
    let load = ["prefix-list", "load", "mixed", &file, "--create", "--only-family"];
    let done = host.run(&[&load[..], &["--descriptions", "--family", "ipv4"]].concat());
    assert_eq!(
        (done.code, done.stdout.lines().last()),
        (0, Some("prefix-list mixed: 6 added, 0 removed, 0 unchanged"))
    );
    assert_eq!(
        done.stderr,
        "secgroup: line 1 has host bits and is stored as 10.0.0.0/8\n\
         secgroup: line 3 has host bits and is stored as 192.0.2.0/24\n\
         secgroup: line 7 has host bits and is stored as 10.0.0.8/30\n\
         secgroup: 2 more lines have host bits, which are not stored\n\
         secgroup: 1 description is shortened, or has _ in place of other characters\n\
         secgroup: 2 lines repeated\n\
         secgroup: 1 line of the other family left out\n"
    );
}

#[test]
fn an_empty_file_empties_a_list_only_on_request() {
    let host = Host::new();
    let file = host.file("drop.txt", DROP);
    host.ok(&["prefix-list", "load", "drop", &file, "--create"]);
    let empty = host.file("empty.txt", "# 0 entries\n");
    let done = host.run(&["prefix-list", "load", "drop", &empty, "--allow-empty"]);
    assert_eq!(done.code, 0);
    assert!(done.stdout.ends_with("0 added, 2 removed, 0 unchanged\n"), "{}", done.stdout);
    assert!(done.stderr.contains("from 2 entries to 0"), "{}", done.stderr);
    let args = ["prefix-list", "load", "new", &empty, "--create", "--allow-empty"];
    host.ok(&[&args[..], &["--family", "ipv6"]].concat());
}

#[test]
fn a_list_that_is_blocked_keeps_neighbour_discovery() {
    let host = Host::new();
    let good = host.file("good.txt", "2001:db8::/32\n");
    host.ok(&["prefix-list", "load", "bogons", &good, "--create"]);
    let bad = host.file("bad.txt", "2001:db8::/32\nfe80::/10\n");
    let load = ["prefix-list", "load", "bogons", &bad];
    host.ok(&load);
    let why = "the entry fe80::/10 of prefix list bogons has the addresses of IPv6 neighbour discovery, \
               without which IPv6 does not work\nhint: name the addresses that are meant; --force makes the \
               change anyway\n";
    let done = host.run(&["block", "--prefix-list", "bogons"]);
    assert_eq!(done.code, 2);
    assert!(done.stderr.ends_with(why), "{}", done.stderr);

    host.ok(&["prefix-list", "load", "bogons", &good]);
    assert_eq!(host.run(&["block", "--prefix-list", "bogons"]).code, 0);
    let before = host.state();
    let done = host.run(&load);
    let stderr = format!("error: load prefix list bogons: {why}");
    assert_eq!(done, Done { code: 2, stdout: String::new(), stderr });
    assert_eq!(host.state(), before);
    host.ok(&[&load[..], &["--force"]].concat());
    // What was accepted once is not asked for again.
    let more = host.file("more.txt", "2001:db8::/32\nfe80::/10\n2001:db8:1::/48\n");
    host.ok(&["prefix-list", "load", "bogons", &more]);
}

#[test]
fn a_list_that_is_blocked_is_checked_however_it_changes() {
    let host = Host::new();
    host.id(&["prefix-list", "create", "bogons", "--family", "ipv4", "--entry", "192.0.2.0/24"]);
    let free = host.ok(&["export"]);
    assert_eq!(host.run(&["block", "--prefix-list", "bogons"]).code, 0);
    let why = "the entry 224.0.0.0/3 of prefix list bogons has the address 255.255.255.255, without which no \
               DHCP client gets an address\nhint: name the addresses that are meant; --force makes the change \
               anyway\n";
    let document = host.file("bogons.json", &free.replace("192.0.2.0/24", "224.0.0.0/3"));
    let file = host.file("bogons.txt", "224.0.0.0/3\n");
    let add = ["prefix-list", "add", "bogons", "--entry", "224.0.0.0/3"];
    let apply = ["apply", &document];
    let dry_run = ["apply", &document, "--dry-run"];
    let load = ["prefix-list", "load", "bogons", &file];
    let before = host.state();
    for (args, what) in [
        (&add[..], "add to prefix list bogons".to_owned()),
        (&apply, format!("apply {document}")),
        (&dry_run, format!("apply {document}")),
        (&load, "load prefix list bogons".to_owned()),
    ] {
        let stderr = format!("error: {what}: {why}");
        assert_eq!(host.run(args), Done { code: 2, stdout: String::new(), stderr }, "{args:?}");
    }
    assert_eq!(host.state(), before);
    host.ok(&["prefix-list", "add", "bogons", "--entry", "198.51.100.0/24"]);
    host.ok(&[&apply[..], &["--force"]].concat());
    host.ok(&["prefix-list", "add", "bogons", "--entry", "198.51.100.0/24"]);
    assert_eq!(host.run(&["unblock", "--all"]).code, 0);
    host.ok(&["prefix-list", "add", "bogons", "--entry", "240.0.0.0/4"]);
}

#[test]
fn files_that_are_no_list_are_refused_before_anything_changes() {
    let fixture = Fixture::new();
    let write = "\nhint: write a CIDR or an address on each line; # and ; begin comments";
    let cut = "\nhint: check that the file is complete: a line that was cut off can look like this; a network \
               of this size is written with its first address";
    let only = "\nhint: --only-family leaves the other family out";
    let many = (0..1001).map(|n| format!("10.0.{}.{}\n", n >> 8, n & 255)).collect::<String>();
    let limit = "prefix list office would have 1001 entries, and the limit is 1000\nhint: \
                 entries_per_prefix_list in the configuration's [limits] sets the limit";
    for (args, text, code, why) in [
        ("office", "10.0.0.0/8\n<html>\n", 1, format!(
            "{{file}}: line 2: \"<html>\" is not a CIDR or an address{write}"
        )),
        ("office", "a\nb\nc\nd\ne\n", 1, format!(
            "{{file}}: line 1: \"a\" is not a CIDR or an address; line 2: \"b\" is not a CIDR or an \
             address; line 3: \"c\" is not a CIDR or an address; and 2 more lines{write}"
        )),
        ("office", "10.0.0.0/8\n10.98.0.0/2", 1, format!(
            "{{file}}: line 2: 10.98.0.0/2 has host bits, and would be 0.0.0.0/2{cut}"
        )),
        ("office", "x\n10.98.0.0/2", 1, format!(
            "{{file}}: line 1: \"x\" is not a CIDR or an address; line 2: 10.98.0.0/2 has host bits, and \
             would be 0.0.0.0/2{write}"
        )),
        ("office", "10.0.0.0/8\n0.0.0.0/0\n", 1, format!(
            "{{file}}: line 2: 0.0.0.0/0 is every address{write}"
        )),
        ("office", "10.0.0.0/8\n\n::1\n", 1, format!(
            "{{file}}: line 3: ::1/128 is not an IPv4 network{only}"
        )),
        ("six", "10.0.0.0/8\n10.0.0.1\n", 1, format!(
            "{{file}}: line 1: 10.0.0.0/8 is not an IPv6 network; and 1 more line{only}"
        )),
        ("six --only-family", "10.0.0.0/8\n", 1,
            "{file}: it has no networks\nhint: check the download; --allow-empty empties the list".into()
        ),
        ("office", "# nothing\n\n", 1,
            "{file}: it has no networks\nhint: check the download; --allow-empty empties the list".into()
        ),
        ("new --create", "", 1,
            "{file}: it has no networks, so that the family of a new list is not known\nhint: name it with \
             --family".into()
        ),
        ("new --create --family ipv6", "", 1,
            "{file}: it has no networks\nhint: check the download; --allow-empty empties the list".into()
        ),
        ("office", &many, 1, limit.into()),
        ("office --create --family ipv6", "::1\n", 1,
            "prefix list office is IPv4, not IPv6\nhint: the family is fixed: make a prefix list of another \
             name".into()
        ),
        ("none", "10.0.0.0/8\n", 3,
            "there is no prefix list \"none\"\nhint: --create creates it; `secgroup prefix-list list` shows \
             those that there are".into()
        ),
        ("pl-0123456789abcdef0 --create", "10.0.0.0/8\n", 2,
            "prefix list name \"pl-0123456789abcdef0\" starts with pl-\nhint: choose another prefix list \
             name".into()
        ),
    ] {
        let file = fixture.host.file("list.txt", text);
        let mut words = args.split(' ');
        let list = words.next().unwrap();
        let args = [&["prefix-list", "load", list, &file], &words.collect::<Vec<_>>()[..]].concat();
        let why = why.replace("{file}", &file);
        for dry_run in [&[][..], &["--dry-run"]] {
            let args = [&args[..], dry_run].concat();
            fixture.refuses(&args, code, &format!("error: load prefix list {list}: {why}"));
        }
    }
    let missing = fixture.host.file("gone", "") + "2";
    fixture.refuses(
        &["prefix-list", "load", "office", &missing],
        1,
        &format!(
            "error: load prefix list office: read {missing}: No such file or directory (os error 2)"
        ),
    );
}
