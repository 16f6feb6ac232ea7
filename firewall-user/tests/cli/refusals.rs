//! Everything that is refused: exit code, error and hint, and no change.

use crate::fixture::{CHARACTERS, Fixture, SEE_GROUPS, SEE_LISTS};
use crate::host::{Done, Host};

#[test]
fn invalid_and_used_groups_are_refused() {
    let fixture = Fixture::new();
    let create = |name: &str, more: &[&str], code, stderr: &str| {
        let description = ["group", "create", name, "--description", "d"];
        fixture.refuses(&[&description, more].concat(), code, stderr);
    };
    create(
        "WEB",
        &[],
        1,
        "error: create group WEB: group web exists already: {web}\n\
         hint: choose another name; upper and lower case make no difference",
    );
    create(
        "web  ",
        &[],
        1,
        "error: create group web  : group web exists already: {web}\n\
         hint: choose another name; upper and lower case make no difference",
    );
    create("", &[], 2, "error: create group : group name has 0 characters\nhint: use 1 to 255");
    create(
        "{long}",
        &[],
        2,
        "error: create group {long}: group name has 256 characters\nhint: use 1 to 255",
    );
    create(
        "caf\u{e9}",
        &[],
        2,
        &format!("error: create group café: group name \"café\" contains 'é'{CHARACTERS}"),
    );
    create(
        "two\nlines",
        &[],
        2,
        &format!(
            "error: create group two\\nlines: group name \"two\\nlines\" contains '\\n'{CHARACTERS}"
        ),
    );
    create(
        "sg-web",
        &[],
        2,
        "error: create group sg-web: group name \"sg-web\" starts with sg-\n\
         hint: choose another group name",
    );
    create(
        "new",
        &["--tag", "team"],
        2,
        "error: create group new: tag \"team\" is not KEY=VALUE\n\
         hint: write KEY=VALUE, each KEY once",
    );
    create(
        "new",
        &["--tag", "a=1", "--tag", "a=2"],
        2,
        "error: create group new: tag \"a=2\" repeats the key \"a\"\n\
         hint: write KEY=VALUE, each KEY once",
    );
    create(
        "new",
        &["--tag", "aws:x=1"],
        2,
        "error: create group new: tag \"aws:x=1\" has a key that starts with aws:, which is AWS' own\n\
         hint: write KEY=VALUE, each KEY once",
    );
    fixture.refuses(
        &["group", "create", "new", "--description", ""],
        2,
        "error: create group new: group description has 0 characters\nhint: use 1 to 255",
    );
    fixture.refuses(
        &["group", "create", "new", "--description", "a\"b"],
        2,
        &format!("error: create group new: group description \"a\\\"b\" contains '\"'{CHARACTERS}"),
    );
    for verb in ["show", "delete"] {
        fixture.refuses(
            &["group", verb, "nope"],
            3,
            &format!("error: {verb} group nope: there is no group \"nope\"{SEE_GROUPS}"),
        );
        fixture.refuses(
            &["group", verb, "sg-0123"],
            2,
            &format!(
                "error: {verb} group sg-0123: \"sg-0123\" is not an id of the form sg-… with \
                 17 hexadecimal digits\nhint: `secgroup group list` shows the ids"
            ),
        );
        fixture.refuses(
            &["group", verb, "sg-00000000"],
            3,
            &format!(
                "error: {verb} group sg-00000000: there is no group \"sg-00000000\"{SEE_GROUPS}"
            ),
        );
    }
    fixture.refuses(
        &["group", "delete", "web"],
        1,
        "error: delete group web: group web is used by interface eth0, interface tap0 in \
         namespace vm1, group data base ({sql}, {back})\n\
         hint: first: attach other groups to the interfaces; secgroup rule remove 'data base' \
         {sql} {back}",
    );
    // Only its own rules name it, and those go with it.
    fixture.host.detach_all();
    fixture.host.ok(&["group", "delete", "own"]);
}

#[test]
fn invalid_and_used_prefix_lists_are_refused() {
    let fixture = Fixture::new();
    let list = |args: &[&str], code, stderr: &str| {
        fixture.refuses(&[&["prefix-list"], args].concat(), code, stderr);
    };
    list(
        &["create", "OFFICE", "--family", "ipv4"],
        1,
        "error: create prefix list OFFICE: prefix list office exists already: {office}\n\
         hint: choose another name; upper and lower case make no difference",
    );
    list(
        &["create", "pl-x", "--family", "ipv4"],
        2,
        "error: create prefix list pl-x: prefix list name \"pl-x\" starts with pl-\n\
         hint: choose another prefix list name",
    );
    list(
        &["create", "com.amazonaws.s3", "--family", "ipv4"],
        2,
        "error: create prefix list com.amazonaws.s3: prefix list name \"com.amazonaws.s3\" starts \
         with com.amazonaws\nhint: choose another prefix list name",
    );
    list(
        &["create", "new", "--family", "ipv4", "--entry", "10.0.0.0/8", "::/0"],
        2,
        "error: create prefix list new: ::/0 is not an IPv4 network\n\
         hint: a prefix list holds one family: make a second",
    );
    list(
        &["create", "new", "--family", "ipv4", "--entry", "10.0.0.0/8", "--entry", "10.1.1.1/8"],
        2,
        "error: create prefix list new: the entry 10.0.0.0/8 is given twice",
    );
    list(
        &["add", "office", "--entry", "198.51.100.0/24", "--entry", "192.0.2.7/24"],
        1,
        "error: add to prefix list office: prefix list office has the entry 192.0.2.0/24 already",
    );
    list(
        &["add", "office", "--entry", "::/0"],
        2,
        "error: add to prefix list office: ::/0 is not an IPv4 network\n\
         hint: a prefix list holds one family: make a second",
    );
    list(
        &["remove", "office", "--entry", "192.0.2.0/24", "--entry", "10.0.0.0/8"],
        3,
        "error: remove from prefix list office: prefix list office has no entry 10.0.0.0/8\n\
         hint: `secgroup prefix-list show office` shows its entries",
    );
    list(
        &["delete", "office"],
        1,
        "error: delete prefix list office: prefix list office is used by group web ({vpn})\n\
         hint: first: secgroup rule remove web {vpn}",
    );
    for (args, operation) in [
        (&["add", "nope", "--entry", "::/0"][..], "add to"),
        (&["remove", "nope", "--entry", "::/0"], "remove from"),
        (&["show", "nope"], "show"),
        (&["delete", "nope"], "delete"),
    ] {
        let stderr = format!(
            "error: {operation} prefix list nope: there is no prefix list \"nope\"{SEE_LISTS}"
        );
        list(args, 3, &stderr);
    }
    list(
        &["show", "pl-1"],
        2,
        "error: show prefix list pl-1: \"pl-1\" is not an id of the form pl-… with 17 hexadecimal \
         digits\nhint: `secgroup prefix-list list` shows the ids",
    );
}

#[test]
fn the_limits_of_the_configuration_are_enforced() {
    let fixture = Fixture::new();
    fixture.host.configure(
        "[limits]\nrules_per_group = 3\ngroups = 4\nprefix_lists = 2\n\
         entries_per_prefix_list = 2\ntags = 1\n",
    );
    fixture.refuses(
        &["group", "create", "new", "--description", "d"],
        1,
        "error: create group new: there would be 5 groups, and the limit is 4\n\
         hint: groups in the configuration's [limits] sets the limit",
    );
    fixture.host.detach_all();
    fixture.host.ok(&["group", "delete", "own"]);
    fixture.refuses(
        &["group", "create", "new", "--description", "d", "--tag", "a=1", "--tag", "b=2"],
        1,
        "error: create group new: group new would have 2 tags, and the limit is 1\n\
         hint: tags in the configuration's [limits] sets the limit",
    );
    fixture.refuses(
        &["prefix-list", "create", "new", "--family", "ipv4"],
        1,
        "error: create prefix list new: there would be 3 prefix lists, and the limit is 2\n\
         hint: prefix_lists in the configuration's [limits] sets the limit",
    );
    fixture.refuses(
        &["prefix-list", "add", "six", "--entry", "1::/16", "2::/16", "3::/16"],
        1,
        "error: add to prefix list six: prefix list six would have 3 entries, and the limit is 2\n\
         hint: entries_per_prefix_list in the configuration's [limits] sets the limit",
    );
    let hint = "hint: a prefix list counts as its entries (in EC2 as its MaxEntries), a group peer in \
                both families; rules_per_group in the configuration's [limits] sets the limit";
    // web: one rule, and a list of one entry. A group peer is the third in IPv4 and the first in
    // IPv6; then IPv4 is full, also for the list, and IPv6 is not.
    fixture.host.ok(&["rule", "add", "web", "ingress", "--protocol", "1", "--group", "web"]);
    fixture.refuses(
        &["rule", "add", "web", "ingress", "--protocol", "all", "--cidr", "0.0.0.0/0"],
        1,
        &format!(
            "error: add rule to group web: group web would have 4 ingress rules for IPv4 (1 of \
             them an entry of a prefix list), and the limit is 3\n{hint}"
        ),
    );
    fixture.refuses(
        &["prefix-list", "add", "office", "--entry", "203.0.113.0/24"],
        1,
        &format!(
            "error: add to prefix list office: group web would have 4 ingress rules for IPv4 (2 \
             of them entries of prefix lists), and the limit is 3\n{hint}"
        ),
    );
    let six = ["rule", "add", "web", "ingress", "--protocol", "all", "--cidr", "1::/16"];
    fixture.host.ok(&[&six[..], &["--cidr", "2::/16"]].concat());
    fixture.refuses(
        &["rule", "add", "web", "ingress", "--protocol", "all", "--cidr", "3::/16"],
        1,
        &format!(
            "error: add rule to group web: group web would have 4 ingress rules for IPv6, and the \
             limit is 3\n{hint}"
        ),
    );
    // Egress is counted by itself: two rules, one of each family, come with the group.
    let out = ["rule", "add", "web", "egress", "--protocol", "47", "--cidr", "1.0.0.0/8"];
    fixture.host.ok(&[&out[..], &["--cidr", "2.0.0.0/8"]].concat());
    fixture.refuses(
        &["rule", "add", "web", "egress", "--protocol", "47", "--group", "web"],
        1,
        &format!(
            "error: add rule to group web: group web would have 4 egress rules for IPv4, and the \
             limit is 3\n{hint}"
        ),
    );
}

#[test]
fn an_unusable_directory_or_configuration_is_refused() {
    let host = Host::new();
    let refused = |done: Done, stderr: &str| {
        assert_eq!(done, Done { code: 1, stdout: String::new(), stderr: format!("{stderr}\n") });
    };
    let file = host.file("plain", "");
    refused(
        host.run(&["--state-dir", &file, "group", "list"]),
        &format!(
            "error: store {file}/secgroup.db cannot be opened: Not a directory (os error 20)\n\
             hint: choose another directory with --state-dir"
        ),
    );
    refused(
        host.run(&["--config", "/no/such", "group", "create", "web", "--description", "d"]),
        "error: read configuration /no/such: No such file or directory (os error 2)\n\
         hint: without --config and SECGROUP_CONFIG no file is needed",
    );
    let config = host.file("bad.toml", "[maps]\ninterfaces = 1000\n");
    refused(
        host.run(&["--config", &config, "group", "create", "web", "--description", "d"]),
        &format!("error: configuration {config}: line 2, column 14: 1000 is not 1 to 256"),
    );
    let config = host.file("bad.toml", "[limits]\nrules_per_group = 201\n");
    refused(
        host.run(&["--config", &config, "group", "create", "web", "--description", "d"]),
        &format!(
            "error: configuration {config}: [limits]: rules_per_group = 201 times \
             groups_per_interface = 5 exceeds rules_per_interface = 1000\n\
             hint: lower one of the two, or raise the third"
        ),
    );
    assert!(!host.state_dir().exists(), "a refused command makes nothing");
}

#[test]
fn missing_arguments_are_invalid_usage() {
    let host = Host::new();
    for args in [
        &[][..],
        &["group"],
        &["group", "create", "web"],
        &["rule", "add", "web", "sideways", "--protocol", "all", "--cidr", "::/0"],
        &["rule", "add", "web", "ingress", "--cidr", "::/0"],
        &["rule", "add", "web", "ingress", "--protocol", "all"],
        &["rule", "add", "w", "ingress", "--protocol", "1", "--cidr", "::/0", "--group", "w"],
        &["rule", "remove", "web"],
        &["prefix-list", "create", "x"],
        &["prefix-list", "create", "x", "--family", "ipv5"],
        &["prefix-list", "add", "x"],
        &["group", "list", "--output", "xml"],
        &["apply"],
    ] {
        let done = host.run(args);
        assert_eq!((done.code, done.stdout.as_str()), (2, ""), "{args:?}");
        assert!(!done.stderr.is_empty(), "{args:?}");
    }
    assert!(!host.state_dir().exists(), "a refused command makes nothing");
}
