//! Commands that may be repeated: `--if-not-exists` and `--if-exists`.

use crate::fixture::Fixture;
use crate::host::{Done, Host};

const ACCEPTS: &str = "\nhint: --if-not-exists accepts what exists only if it is the same";

#[test]
fn creating_what_exists_in_the_same_form_changes_nothing() {
    let host = Host::new();
    let create = "group create web --description d --tag a=b --if-not-exists";
    let list = "prefix-list create office --family ipv4 --entry 192.0.2.0/24 --if-not-exists";
    let words = |line: &str| line.split(' ').map(ToOwned::to_owned).collect::<Vec<_>>();
    let run = |line: &str| {
        let words = words(line);
        host.ok(&words.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let ids = [run(create), run(list)];
    let add = "rule add web ingress --protocol tcp --port 80 --cidr 10.0.0.0/8 --if-not-exists";
    let rule = run(add);
    run("prefix-list add office --entry 198.51.100.0/24 --description x --if-not-exists");
    let before = host.state();
    assert_eq!(run(create), ids[0]);
    assert_eq!(run(add), rule);
    run("prefix-list add office --entry 198.51.100.0/24 --description x --if-not-exists");
    assert_eq!(host.state(), before);
    // What is missing is added; the ids are in the order of the networks.
    let both =
        run("rule add web ingress --protocol tcp --port 80 --cidr 11.0.0.0/8 --cidr 10.0.0.0/8 \
         --if-not-exists");
    let both: Vec<_> = both.lines().collect();
    assert_eq!((both.len(), both[1]), (2, rule.trim_end()));
    run(
        "prefix-list add office --entry 198.51.100.0/24 203.0.113.0/24 --description x --if-not-exists",
    );
    assert_eq!(host.state().0.prefix_list("office").unwrap().entries.len(), 3);
}

#[test]
fn what_exists_in_another_form_is_refused_with_the_difference() {
    let fixture = Fixture::new();
    let refuses = |line: &str, stderr: &str| {
        let words: Vec<_> = line.split(' ').chain(["--if-not-exists"]).collect();
        fixture.refuses(&words, 1, &format!("error: {stderr}"));
    };
    let group = "create group web: group web exists already, and its";
    refuses(
        "group create web --description other",
        &format!("{group} description is \"web servers\", not \"other\"{ACCEPTS}"),
    );
    refuses(
        "group create WEB --description x",
        &format!(
            "create group WEB: group web exists already, and its name is \"web\", not \"WEB\"{ACCEPTS}"
        ),
    );
    refuses(
        "rule add web ingress --protocol tcp --port 80 --cidr 10.0.0.0/8 --description x",
        &format!(
            "add rule to group web: rule {{http}} exists already, and its description is \"\", not \"x\"{ACCEPTS}"
        ),
    );
    let list = "create prefix list office: prefix list office exists already, and its";
    refuses(
        "prefix-list create office --family ipv4 --entry 10.0.0.0/8 11.0.0.0/8 12.0.0.0/8 13.0.0.0/8",
        &format!(
            "{list} list of entries is 192.0.2.0/24, not 10.0.0.0/8, 11.0.0.0/8, 12.0.0.0/8, 1 more{ACCEPTS}"
        ),
    );
    refuses(
        "prefix-list create office --family ipv4 --entry 192.0.2.0/24 --tag a=b",
        &format!("{list} list of tags is \"\", not \"a=b\"{ACCEPTS}"),
    );
    refuses(
        "prefix-list create office --family ipv6",
        "create prefix list office: prefix list office is IPv4, not IPv6\n\
         hint: the family is fixed: make a prefix list of another name",
    );
    refuses(
        "prefix-list add office --entry 192.0.2.0/24 --description x",
        &format!(
            "add to prefix list office: entry 192.0.2.0/24 of prefix list office exists already, and its \
             description is \"\", not \"x\"{ACCEPTS}"
        ),
    );
}

#[test]
fn removing_what_is_absent_changes_nothing() {
    let host = Host::new();
    host.ok(&["group", "create", "web", "--description", "d"]);
    host.ok(&["prefix-list", "create", "office", "--family", "ipv4"]);
    let before = host.state();
    for line in [
        "group delete nope",
        "prefix-list delete nope",
        "prefix-list remove office --entry 10.0.0.0/8",
        "rule remove web sgr-0123456789abcdef0",
        "rule remove web ingress --protocol tcp --port 80 --cidr 10.0.0.0/8",
    ] {
        let words: Vec<_> = line.split(' ').collect();
        assert_eq!(host.run(&words).code, 3, "{line}");
        host.ok(&[&words[..], &["--if-exists"]].concat());
        assert_eq!(host.state(), before, "{line}");
    }
    // The group of a rule, and the list of an entry, must exist.
    for line in
        ["rule remove nope sgr-0123456789abcdef0", "prefix-list remove nope --entry 10.0.0.0/8"]
    {
        let words: Vec<_> = line.split(' ').chain(["--if-exists"]).collect();
        assert_eq!(host.run(&words).code, 3, "{line}");
    }
    // A malformed id is never absent.
    assert_eq!(host.run(&["group", "delete", "sg-1", "--if-exists"]).code, 2);
}

#[test]
fn host_bits_are_stored_without_them_and_named() {
    let host = Host::new();
    host.ok(&["group", "create", "web", "--description", "d"]);
    let done = host.run(&[
        "rule",
        "add",
        "web",
        "ingress",
        "--protocol",
        "all",
        "--cidr",
        "10.0.0.1/8",
        "--cidr",
        "192.0.2.0/24",
    ]);
    let Done { code, stdout, stderr } = done;
    assert_eq!((code, stdout.lines().count()), (0, 2));
    assert_eq!(stderr, "secgroup: 10.0.0.1/8 was stored as 10.0.0.0/8\n");
    let done = host.run(&[
        "prefix-list",
        "create",
        "six",
        "--family",
        "ipv6",
        "--entry",
        "2001:db8::1/32",
    ]);
    assert_eq!(done.stderr, "secgroup: 2001:db8::1/32 was stored as 2001:db8::/32\n");
    let done = host.run(&["prefix-list", "add", "six", "--entry", "2001:db9::1/32"]);
    assert_eq!(done.stderr, "secgroup: 2001:db9::1/32 was stored as 2001:db9::/32\n");
    // What is refused was not stored.
    let done = host.run(&["prefix-list", "add", "six", "--entry", "2001:db9::1/32"]);
    assert!(done.code == 1 && !done.stderr.contains("stored"), "{done:?}");
    let done = host.run(&["management", "set", "192.0.2.1/24"]);
    assert_eq!(done.stderr, "secgroup: 192.0.2.1/24 was stored as 192.0.2.0/24\n");
}
