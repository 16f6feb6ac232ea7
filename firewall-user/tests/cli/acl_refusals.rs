//! Commands about network ACLs that are refused: exit code, error and hint, and no change.

use firewall_ebpf::abi::interface::Direction;
use firewall_user::model::{AclEntry, Action, Peer, PortRange, Traffic, VpcId};
use firewall_user::store::NewAcl;

use crate::fixture::{CHARACTERS, Fixture, SEE_LISTS};

const SEE_ACLS: &str = "\nhint: `secgroup acl list` shows the network ACLs";
const NUMBERS: &str = "\nhint: use 1 to 32766: of the entries that match a packet, that with the lowest number decides";
const ACCEPTS: &str = "\nhint: --if-not-exists accepts what exists only if it is the same";

/// The usual host, with a network ACL `outer` of tap0 that has two entries.
fn fixture() -> (Fixture, String) {
    let fixture = Fixture::new();
    let mut store = fixture.host.store();
    let mut change = store.begin().unwrap();
    let acl = change
        .create_acl(NewAcl { vpc: VpcId::default_vpc(), name: "outer".to_owned(), tags: [].into() })
        .unwrap();
    let office = change.model().prefix_list("office").unwrap().id.clone();
    let entry = |action, port, peer| AclEntry {
        number: 0,
        action,
        traffic: Traffic::Tcp(PortRange { from: port, to: port }),
        peer,
        end: None,
    };
    let anywhere = Peer::Ipv4("0.0.0.0/0".parse().unwrap());
    for (number, entry) in [
        (100, entry(Action::Allow, 80, anywhere)),
        (90, entry(Action::Deny, 80, Peer::PrefixList(office))),
    ] {
        change.add_acl_entry(&acl, (Direction::Ingress, number), entry).unwrap();
    }
    let tap = change.model().interface("tap0", Some("vm1")).unwrap().clone();
    change
        .put_interface(&firewall_user::model::Interface { acl: Some(acl.clone()), ..tap })
        .unwrap();
    change.commit().unwrap();
    (fixture, acl.to_string())
}

#[test]
fn creating_and_deleting_network_acls_is_refused_with_a_hint() {
    let (fixture, id) = fixture();
    fixture.refuses(
        &["acl", "create", "OUTER"],
        1,
        &format!(
            "error: create network ACL OUTER: network ACL outer exists already: {id}\n\
             hint: choose another name; upper and lower case make no difference"
        ),
    );
    fixture.refuses(
        &["acl", "create", "Default"],
        1,
        &format!(
            "error: create network ACL Default: network ACL default exists already: {}\n\
             hint: choose another name; upper and lower case make no difference",
            fixture.host.state().0.default_acl(&VpcId::default_vpc()).unwrap().id
        ),
    );
    fixture.refuses(
        &["acl", "create", "outer", "--tag", "a=b", "--if-not-exists"],
        1,
        &format!(
            "error: create network ACL outer: network ACL outer exists already, and its list of tags is \
             \"\", not \"a=b\"{ACCEPTS}"
        ),
    );
    fixture.refuses(
        &["acl", "create", "acl-00000001"],
        2,
        "error: create network ACL acl-00000001: network ACL name \"acl-00000001\" starts with acl-\n\
         hint: choose another network ACL name",
    );
    fixture.refuses(
        &["acl", "create", "ACL-00000001"],
        2,
        "error: create network ACL ACL-00000001: network ACL name \"ACL-00000001\" starts with acl-\n\
         hint: choose another network ACL name",
    );
    fixture.refuses(
        &["acl", "create", "a'b"],
        2,
        &format!(
            "error: create network ACL a'b: network ACL name \"a'b\" contains '\\''{CHARACTERS}"
        ),
    );
    fixture.refuses(
        &["acl", "create", "x", "--tag", "Name=y"],
        2,
        "error: create network ACL x: tag Name=\"y\": the name of a network ACL is its tag Name\n\
         hint: leave the tag out, and name the network ACL so",
    );
    fixture.refuses(
        &["acl", "delete", "outer"],
        1,
        "error: delete network ACL outer: network ACL outer is used by interface tap0 in namespace vm1\n\
         hint: first: secgroup acl disassociate outer vm1/tap0",
    );
    fixture.refuses(
        &["acl", "delete", "default"],
        1,
        "error: delete network ACL default: network ACL default is the default one, and cannot be \
         deleted\nhint: its entries can be changed: `secgroup acl show default` shows them",
    );
    for args in [["acl", "delete", "nope"], ["acl", "show", "nope"], ["export", "--acl", "nope"]] {
        let what = if args[0] == "export" { "export" } else { args[1] };
        fixture.refuses(
            &args,
            3,
            &format!("error: {what} network ACL nope: there is no network ACL \"nope\"{SEE_ACLS}"),
        );
    }
    fixture.refuses(
        &["acl", "show", "acl-1"],
        2,
        "error: show network ACL acl-1: \"acl-1\" is not an id of the form acl-… with 17 hexadecimal \
         digits\nhint: `secgroup acl list` shows the ids",
    );
    fixture.refuses(
        &["prefix-list", "delete", "office"],
        1,
        "error: delete prefix list office: prefix list office is used by group web ({vpn}), network ACL \
         outer (ingress 90)\n\
         hint: first: secgroup rule remove web {vpn}; secgroup acl entry remove outer ingress 90",
    );
}

#[test]
fn entries_are_refused_with_a_hint() {
    let (fixture, _) = fixture();
    let add = |line: &str, code, stderr: &str| {
        let words: Vec<_> = line.split(' ').collect();
        let stderr = format!(
            "error: add {} entry {} to network ACL {}: {stderr}",
            words[1], words[2], words[0]
        );
        fixture.refuses(&[&["acl", "entry", "add"], &*words].concat(), code, &stderr);
    };
    add(
        "nope ingress 1 allow --protocol all --cidr ::/0",
        3,
        &format!("there is no network ACL \"nope\"{SEE_ACLS}"),
    );
    for number in ["0", "-1", "32769", "65637"] {
        add(
            &format!("outer egress {number} allow --protocol all --cidr ::/0"),
            2,
            &format!("entry number {number} is not 1 to 32766{NUMBERS}"),
        );
    }
    for number in ["first", "99999999999999999999"] {
        let args = ["acl", "entry", "remove", "outer", "egress", number];
        let done = fixture.host.run(&args);
        let error = format!("error: invalid value '{number}' for '<NUMBER>': 1 to 32766\n");
        assert_eq!((done.code, done.stderr.starts_with(&error)), (2, true), "{}", done.stderr);
    }
    for (number, family) in [("32767", "IPv4"), ("32768", "IPv6")] {
        let last = format!(
            "entry {number} is the last one for {family}, which denies what no other entry matches and \
             cannot be changed{NUMBERS}"
        );
        add(&format!("outer egress {number} allow --protocol all --cidr ::/0"), 2, &last);
        fixture.refuses(
            &["acl", "entry", "remove", "outer", "egress", number],
            2,
            &format!("error: remove egress entry {number} from network ACL outer: {last}"),
        );
        fixture.refuses(
            &[
                "acl",
                "entry",
                "replace",
                "outer",
                "egress",
                number,
                "allow",
                "--protocol",
                "all",
                "--cidr",
                "::/0",
            ],
            2,
            &format!("error: replace egress entry {number} of network ACL outer: {last}"),
        );
    }
    add(
        "outer ingress 100 deny --protocol all --cidr ::/0",
        1,
        "network ACL outer has an ingress entry 100 already: allow tcp 80 from 0.0.0.0/0\n\
         hint: choose another number, or change the entry with `secgroup acl entry replace`",
    );
    add(
        "outer ingress 90 deny --protocol tcp --port 81 --prefix-list office --if-not-exists",
        1,
        &format!(
            "ingress entry 90 of network ACL outer exists already, and its rule is deny tcp 80 from \
             prefix list office, not deny tcp 81 from prefix list office{ACCEPTS}"
        ),
    );
    add(
        "outer ingress 1 deny --protocol icmp --cidr ::/0",
        2,
        "icmp does not exist in IPv6, and ::/0 is IPv6\nhint: use icmpv6 for IPv6 peers",
    );
    add(
        "outer ingress 1 deny --protocol icmpv6 --prefix-list office",
        2,
        "icmpv6 does not exist in IPv4, and prefix list office is IPv4\nhint: use icmp for IPv4 peers",
    );
    add(
        "outer ingress 1 deny --protocol tcp --cidr ::/0",
        2,
        "tcp needs a first and a last port\nhint: name a port, or 0-65535 for every port",
    );
    add(
        "outer ingress 1 deny --protocol all --prefix-list nope",
        3,
        &format!("there is no prefix list \"nope\"{SEE_LISTS}"),
    );
    add(
        "outer ingress 1 deny --protocol all --cidr 10.0.0.1",
        2,
        "CIDR 10.0.0.1 has no prefix length\nhint: write 10.0.0.1/32 for this one address",
    );
    let absent = "network ACL outer has no egress entry 100\n\
                  hint: `secgroup acl show outer` shows its entries";
    fixture.refuses(
        &["acl", "entry", "remove", "outer", "egress", "100"],
        3,
        &format!("error: remove egress entry 100 from network ACL outer: {absent}"),
    );
    fixture.refuses(
        &[
            "acl",
            "entry",
            "replace",
            "outer",
            "egress",
            "100",
            "allow",
            "--protocol",
            "all",
            "--cidr",
            "::/0",
        ],
        3,
        &format!("error: replace egress entry 100 of network ACL outer: {absent}"),
    );
}

#[test]
fn associations_are_refused_with_a_hint() {
    let (fixture, _) = fixture();
    let absent = |label: &str| {
        format!(
            "there is no attached interface \"{label}\"\nhint: `secgroup status` shows the interfaces"
        )
    };
    for (args, code, stderr) in [
        (
            &["associate", "nope", "eth0"][..],
            3,
            format!("associate network ACL nope: there is no network ACL \"nope\"{SEE_ACLS}"),
        ),
        // None of the two has it then.
        (
            &["associate", "outer", "eth0", "eth9"],
            3,
            format!("associate network ACL outer: {}", absent("eth9")),
        ),
        (
            &["associate", "outer", "eth0", "--netns", "vm1"],
            3,
            format!("associate network ACL outer: {}", absent("vm1/eth0")),
        ),
        (
            &["associate", "outer", "vm1/tap0", "--netns", "vm2"],
            2,
            "associate network ACL outer: vm1/tap0 is in namespace vm1, and --netns names vm2\n\
             hint: name the namespace once"
                .to_owned(),
        ),
        (
            &["disassociate", "outer", "vm1/tap0", "eth0"],
            3,
            "disassociate network ACL outer: eth0 does not have network ACL outer\n\
             hint: `secgroup acl list` shows which interfaces have which network ACL"
                .to_owned(),
        ),
        (
            &["disassociate", "default", "eth0"],
            1,
            "disassociate network ACL default: network ACL default is the default one, and cannot be \
             disassociated\nhint: `secgroup acl associate` gives an interface another one in its place"
                .to_owned(),
        ),
    ] {
        fixture.refuses(&[&["acl"], args].concat(), code, &format!("error: {stderr}"));
    }
    fixture.refuses(
        &["attach", "eth0", "--acl", "nope"],
        3,
        &format!("error: attach eth0: there is no network ACL \"nope\"{SEE_ACLS}"),
    );
}

#[test]
fn the_quotas_are_refused_with_their_settings() {
    let (fixture, _) = fixture();
    fixture.host.configure("[limits]\nacls = 2\nentries_per_acl = 2\n");
    fixture.refuses(
        &["acl", "create", "inner"],
        1,
        "error: create network ACL inner: there would be 3 network ACLs, and the limit is 2\n\
         hint: acls in the configuration's [limits] sets the limit",
    );
    fixture.refuses(
        &[
            "acl", "entry", "add", "outer", "ingress", "1", "deny", "--protocol", "all", "--cidr",
            "::/0",
        ],
        1,
        "error: add ingress entry 1 to network ACL outer: network ACL outer would have 3 ingress \
         entries, and the limit is 2\n\
         hint: an entry with a prefix list counts once; entries_per_acl in the configuration's [limits] \
         sets the limit",
    );
}

#[test]
fn what_the_command_line_lacks_is_named() {
    let (fixture, _) = fixture();
    for (line, message) in [
        ("acl entry add outer ingress 1 deny --cidr ::/0", "--protocol <PROTOCOL>"),
        ("acl entry add outer ingress 1 deny --protocol all", "<--cidr <CIDR>|--prefix-list"),
        ("acl entry add outer ingress one deny --protocol all --cidr ::/0", "'one' for '<NUMBER>'"),
        (
            "acl entry add outer ingress 1 block --protocol all --cidr ::/0",
            "'block' for '<ACTION>'",
        ),
        ("acl entry add outer both 1 deny --protocol all --cidr ::/0", "'both' for '<DIRECTION>'"),
        (
            "acl entry add outer ingress 1 deny --protocol all --cidr ::/0 --prefix-list six",
            "cannot be used with",
        ),
        ("acl associate outer", "<IFACE>..."),
    ] {
        let before = fixture.host.state();
        let words: Vec<_> = line.split(' ').collect();
        let done = fixture.host.run(&words);
        assert_eq!((done.code, done.stdout.as_str()), (2, ""), "{line}");
        assert!(done.stderr.contains(message), "{line}: {}", done.stderr);
        assert_eq!(fixture.host.state(), before);
    }
}
