//! Rules that are refused: exit code, error and hint, and no change.

use crate::fixture::{Fixture, SEE_GROUPS, SEE_LISTS};

#[test]
fn invalid_rules_are_refused_with_a_hint() {
    let fixture = Fixture::new();
    let add = |args: &str, message: &str, hint: &str| {
        let args: Vec<_> = args.split(' ').collect();
        let stderr = format!("error: add rule to group web: {message}\nhint: {hint}");
        fixture.refuses(&[&["rule", "add", "web", "ingress"], &*args].concat(), 2, &stderr);
    };
    let numbers = "use tcp, udp, icmp, icmpv6, -1 for all, or the protocol's number (0 to 255, \
                   see /etc/protocols)";
    let whole = "leave it out: a rule for this protocol has no ports and types";
    let cidr = "write for example 10.0.0.0/8 or 2001:db8::/32";
    for (args, message, hint) in [
        ("--protocol gre --cidr ::/0", "unknown protocol \"gre\"", "write 47 instead of gre"),
        (
            "--protocol gre --port 1 --cidr ::/0",
            "unknown protocol \"gre\"",
            "write 47 instead of gre",
        ),
        ("--protocol 256 --cidr ::/0", "unknown protocol \"256\"", numbers),
        ("--protocol -2 --cidr ::/0", "unknown protocol \"-2\"", numbers),
        (
            "--protocol tcp --cidr ::/0",
            "tcp needs a first and a last port",
            "name a port, or 0-65535 for every port",
        ),
        (
            "--protocol 17 --cidr ::/0",
            "udp needs a first and a last port",
            "name a port, or 0-65535 for every port",
        ),
        (
            "--protocol tcp --port 65536 --cidr ::/0",
            "port 65536 is not 0 to 65535",
            "write 0-65535 for every port",
        ),
        (
            "--protocol tcp --port 90-80 --cidr ::/0",
            "port range 90-80 ends before it begins",
            "write 80-90",
        ),
        (
            "--protocol tcp --port my-service --cidr ::/0",
            "\"my-service\" is not a port, a range of ports or the name of a service",
            "write for example 80, 1024-65535 or https",
        ),
        (
            "--protocol tcp --port -1 --cidr ::/0",
            "\"-1\" is not a port, a range of ports or the name of a service",
            "write for example 80, 1024-65535 or https",
        ),
        (
            "--protocol tcp --port 1-2-3 --cidr ::/0",
            "\"1-2-3\" is not a port, a range of ports or the name of a service",
            "write for example 80, 1024-65535 or https",
        ),
        (
            "--protocol icmp --port 8 --cidr 0.0.0.0/0",
            "--port cannot be used with protocol icmp",
            "use --icmp",
        ),
        (
            "--protocol tcp --icmp 8 --cidr ::/0",
            "--icmp cannot be used with protocol tcp",
            "use --port",
        ),
        ("--protocol all --port 1 --cidr ::/0", "--port cannot be used with protocol all", whole),
        ("--protocol 47 --icmp 1 --cidr ::/0", "--icmp cannot be used with protocol 47", whole),
        (
            "--protocol icmp --icmp 256 --cidr 0.0.0.0/0",
            "ICMP type 256 is not 0 to 255",
            "use 0 to 255, or -1 for all",
        ),
        (
            "--protocol icmp --icmp 3/256 --cidr 0.0.0.0/0",
            "ICMP code 256 is not 0 to 255",
            "use 0 to 255, or -1 for all",
        ),
        (
            "--protocol icmp --icmp -1/3 --cidr 0.0.0.0/0",
            "ICMP code 3 needs a type",
            "name the type, or write -1 for the code too",
        ),
        (
            "--protocol icmp --icmp echo --cidr 0.0.0.0/0",
            "\"echo\" is not an ICMP type, type/code or name of icmp",
            "write for example 8, 3/4 (fragmentation needed) or echo-request",
        ),
        (
            "--protocol icmp --cidr ::/0",
            "icmp does not exist in IPv6, and ::/0 is IPv6",
            "use icmpv6 for IPv6 peers",
        ),
        (
            "--protocol icmpv6 --cidr 0.0.0.0/0",
            "icmpv6 does not exist in IPv4, and 0.0.0.0/0 is IPv4",
            "use icmp for IPv4 peers",
        ),
        (
            "--protocol icmpv6 --prefix-list office",
            "icmpv6 does not exist in IPv4, and prefix list office is IPv4",
            "use icmp for IPv4 peers",
        ),
        (
            "--protocol all --cidr 10.0.0.1",
            "CIDR 10.0.0.1 has no prefix length",
            "write 10.0.0.1/32 for this one address",
        ),
        (
            "--protocol all --cidr 2001:db8::1",
            "CIDR 2001:db8::1 has no prefix length",
            "write 2001:db8::1/128 for this one address",
        ),
        ("--protocol all --cidr any", "CIDR \"any\" is not ADDRESS/LENGTH", cidr),
        (
            "--protocol all --cidr 10.0.0/8",
            "CIDR \"10.0.0/8\" has no IP address before the slash: \"10.0.0\"",
            cidr,
        ),
        (
            "--protocol all --cidr 10.0.0.0/33",
            "CIDR \"10.0.0.0/33\" has a prefix length that is not 0 to 32",
            cidr,
        ),
    ] {
        add(args, message, hint);
    }
    fixture.refuses(
        &[
            "rule",
            "add",
            "web",
            "ingress",
            "--protocol",
            "all",
            "--cidr",
            "::/0",
            "--description",
            "{long}",
        ],
        2,
        "error: add rule to group web: rule description has 256 characters\nhint: use at most 255",
    );
    // Two spellings of one network, and with them a third rule that would do.
    fixture.refuses(
        &[
            "rule",
            "add",
            "web",
            "ingress",
            "--protocol",
            "tcp",
            "--port",
            "1",
            "--cidr",
            "::/0",
            "--cidr",
            "10.1.0.0/16",
            "--cidr",
            "10.1.2.3/16",
        ],
        2,
        "error: add rule to group web: the rule is given twice: ingress tcp 1 from 10.1.0.0/16",
    );
}

#[test]
fn duplicate_rules_and_unknown_objects_are_refused() {
    let fixture = Fixture::new();
    fixture.refuses(
        &[
            "rule",
            "add",
            "web",
            "ingress",
            "--protocol",
            "6",
            "--port",
            "80",
            "--cidr",
            "10.9.9.9/8",
        ],
        1,
        "error: add rule to group web: group web has the rule already, as {http}: \
         ingress tcp 80 from 10.0.0.0/8",
    );
    fixture.refuses(
        &["rule", "add", "nope", "ingress", "--protocol", "all", "--cidr", "::/0"],
        3,
        &format!("error: add rule to group nope: there is no group \"nope\"{SEE_GROUPS}"),
    );
    fixture.refuses(
        &["rule", "add", "web", "ingress", "--protocol", "all", "--group", "nope"],
        3,
        &format!("error: add rule to group web: there is no group \"nope\"{SEE_GROUPS}"),
    );
    fixture.refuses(
        &["rule", "add", "web", "ingress", "--protocol", "all", "--prefix-list", "nope"],
        3,
        &format!("error: add rule to group web: there is no prefix list \"nope\"{SEE_LISTS}"),
    );
    let remove = |args: &[&str], code, stderr: &str| {
        fixture.refuses(&[&["rule", "remove"], args].concat(), code, stderr);
    };
    remove(
        &["nope", "{http}"],
        3,
        &format!("error: remove rule from group nope: there is no group \"nope\"{SEE_GROUPS}"),
    );
    // The first is there; it stays.
    remove(
        &["web", "{http}", "sgr-00000000"],
        3,
        "error: remove rule from group web: group web has no rule sgr-00000000\n\
         hint: `secgroup rule list web` shows its rules",
    );
    remove(
        &["data base", "{http}"],
        3,
        "error: remove rule from group data base: group data base has no rule {http}\n\
         hint: `secgroup rule list 'data base'` shows its rules",
    );
    remove(
        &["web", "http"],
        2,
        "error: remove rule from group web: \"http\" is not an id of the form sgr-… with \
         17 hexadecimal digits\nhint: `secgroup rule list` shows the ids",
    );
    remove(
        &["web", "egress", "--protocol", "tcp", "--port", "80", "--cidr", "10.0.0.0/8"],
        3,
        "error: remove rule from group web: group web has no rule: egress tcp 80 to 10.0.0.0/8\n\
         hint: `secgroup rule list web` shows its rules",
    );
    let either = "error: remove rule from group web: give either ids of rules, or a direction and \
                  options\nhint: `secgroup rule remove --help` has an example of each";
    remove(&["web", "ingress"], 2, either);
    remove(&["web", "{http}", "--protocol", "tcp"], 2, either);
    remove(&["web", "ingress", "{http}", "--protocol", "all", "--cidr", "::/0"], 2, either);
    remove(
        &["web", "ingress", "--cidr", "::/0"],
        2,
        "error: remove rule from group web: the protocol is missing\nhint: use --protocol",
    );
    remove(
        &["web", "ingress", "--protocol", "all"],
        2,
        "error: remove rule from group web: the peer is missing\n\
         hint: use --cidr, --group or --prefix-list",
    );
    fixture.refuses(
        &["rule", "list", "nope"],
        3,
        &format!("error: list rules of group nope: there is no group \"nope\"{SEE_GROUPS}"),
    );
    fixture.refuses(
        &["export", "web", "nope"],
        3,
        &format!("error: export group nope: there is no group \"nope\"{SEE_GROUPS}"),
    );
}
