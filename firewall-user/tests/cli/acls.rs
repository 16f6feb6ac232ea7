//! Network ACLs: commands, and documents in the form of `aws ec2 describe-network-acls`.

use firewall_ebpf::abi::interface::Direction;
use firewall_user::model::VpcId;
use serde_json::{Value, json};

use crate::documents::group;
use crate::host::Host;

/// Runs a command whose words have no spaces.
#[track_caller]
fn run(host: &Host, line: &str) -> String {
    host.ok(&line.split(' ').collect::<Vec<_>>())
}

/// The entries of a network ACL as text.
fn entries(host: &Host, name: &str) -> Vec<String> {
    let (model, _) = host.state();
    let acl = model.acl(name).unwrap();
    let all = Direction::ALL.into_iter().flat_map(|direction| {
        acl.entries_of(direction).map(move |(number, entry)| (direction, number, entry))
    });
    all.map(|(direction, number, entry)| {
        format!("{} {number} {}", direction.name(), model.entry_text(direction, entry))
    })
    .collect()
}

/// Stores that an interface has a network ACL: in a host with interfaces a command needs the kernel.
fn associate(host: &Host, device: &str, acl: &str) {
    let mut store = host.store();
    let mut change = store.begin().unwrap();
    let mut interface = change.model().interface(device, None).unwrap().clone();
    interface.acl = change.model().acl(acl).unwrap().association();
    change.put_interface(&interface).unwrap();
    change.commit().unwrap();
}

const LAST: [&str; 4] = [
    "ingress 32767 deny all from 0.0.0.0/0",
    "ingress 32768 deny all from ::/0",
    "egress 32767 deny all to 0.0.0.0/0",
    "egress 32768 deny all to ::/0",
];

/// The web server with ephemeral ports of the AWS documents.
#[test]
fn the_example_of_the_aws_documents_is_typed_and_shown() {
    let host = Host::new();
    let id = host.id(&["acl", "create", "web", "--tag", "team=shop"]);
    assert_eq!(entries(&host, "web"), LAST);
    for entry in [
        "ingress 100 allow --protocol tcp --port 80 --cidr 0.0.0.0/0",
        "ingress 110 allow --protocol tcp --port 443 --cidr 0.0.0.0/0",
        "ingress 120 allow --protocol tcp --port 22 --cidr 192.0.2.0/24",
        "ingress 140 allow --protocol tcp --port 32768-65535 --cidr 0.0.0.0/0",
        "egress 100 allow --protocol 6 --port 80 --cidr 0.0.0.0/0",
        "egress 110 allow --protocol tcp --port 443 --cidr 0.0.0.0/0",
        "egress 140 allow --protocol tcp --port 32768-65535 --cidr 0.0.0.0/0",
    ] {
        assert_eq!(run(&host, &format!("acl entry add web {entry}")), "");
    }
    run(&host, "acl entry add web ingress 90 deny --protocol icmp --icmp 8 --cidr 198.51.100.0/24");
    run(
        &host,
        "acl entry replace WEB egress 100 allow --protocol tcp --port 8080 --cidr 0.0.0.0/0",
    );
    run(&host, "acl entry remove web egress 110");
    assert_eq!(
        host.ok(&["acl", "show", "web"]),
        format!(
            "\
id         {id}
name       web
tag        team=shop

DIRECTION  NUMBER  ACTION  PROTOCOL  PORTS        PEER             PACKETS  BYTES
ingress        90  deny    icmp      8            198.51.100.0/24        -      -
ingress       100  allow   tcp       80           0.0.0.0/0              -      -
ingress       110  allow   tcp       443          0.0.0.0/0              -      -
ingress       120  allow   tcp       22           192.0.2.0/24           -      -
ingress       140  allow   tcp       32768-65535  0.0.0.0/0              -      -
ingress     32767  deny    all       all          0.0.0.0/0              -      -
ingress     32768  deny    all       all          ::/0                   -      -
egress        100  allow   tcp       8080         0.0.0.0/0              -      -
egress        140  allow   tcp       32768-65535  0.0.0.0/0              -      -
egress      32767  deny    all       all          0.0.0.0/0              -      -
egress      32768  deny    all       all          ::/0                   -      -
"
        )
    );
    let list = host.ok(&["acl", "list"]);
    let rows: Vec<Vec<_>> = list.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[1][1..], ["default", "2", "2", "yes", "-"]);
    assert_eq!(rows[2], [id.as_str(), "web", "5", "2", "no", "-"]);
    run(&host, "acl delete web");
    run(&host, "acl delete web --if-exists");
    assert!(host.state().0.acl("web").is_err());
}

#[test]
fn what_exists_already_is_accepted_if_it_is_the_same() {
    let host = Host::new();
    let create = "acl create web --tag a=b --if-not-exists";
    let id = run(&host, create);
    let add = "acl entry add web ingress 7 deny --protocol all --cidr ::/0 --if-not-exists";
    run(&host, add);
    let before = host.state();
    assert_eq!(run(&host, create), id);
    run(&host, add);
    run(&host, "acl entry replace web ingress 7 deny --protocol -1 --cidr ::/0");
    run(&host, "acl entry remove web egress 7 --if-exists");
    assert_eq!(host.state(), before);
}

#[test]
fn interfaces_without_another_one_have_the_default_acl() {
    let host = Host::new();
    run(&host, "group create web --description d");
    run(&host, "acl create outer");
    host.attach("eth0", None, "web");
    host.attach("eth1", None, "web");
    associate(&host, "eth1", "outer");
    let list = host.ok(&["acl", "list"]);
    let last = |line: &str| line.split_whitespace().last().unwrap().to_owned();
    assert_eq!(list.lines().skip(1).map(last).collect::<Vec<_>>(), ["eth0", "eth1"]);
    assert!(host.ok(&["acl", "show", "default"]).contains("default    yes\ninterface  eth0\n"));
    let (model, _) = host.state();
    let eth1 = model.interface("eth1", None).unwrap();
    let shown: Value =
        serde_json::from_str(&host.ok(&["acl", "show", "outer", "--output", "json"])).unwrap();
    assert_eq!(
        shown["NetworkAcls"][0]["Associations"],
        json!([{
            "NetworkAclAssociationId": eth1.id.as_str().replace("eni-", "aclassoc-"),
            "NetworkAclId": model.acl("outer").unwrap().id.as_str(),
            "NetworkInterfaceId": eth1.id.as_str(),
        }])
    );
}

/// As `aws ec2 describe-network-acls` prints it.
const AWS: &str = r#"{
    "NetworkAcls": [
        {
            "Associations": [],
            "Entries": [
                {"CidrBlock": "0.0.0.0/0", "Egress": true, "Protocol": "-1", "RuleAction": "allow", "RuleNumber": 100},
                {"CidrBlock": "0.0.0.0/0", "Egress": true, "Protocol": "-1", "RuleAction": "deny", "RuleNumber": 32767},
                {"CidrBlock": "0.0.0.0/0", "Egress": false, "Protocol": "-1", "RuleAction": "allow", "RuleNumber": 100},
                {"CidrBlock": "0.0.0.0/0", "Egress": false, "Protocol": "-1", "RuleAction": "deny", "RuleNumber": 32767}
            ],
            "IsDefault": true, "NetworkAclId": "acl-0aaaaaaaaaaaaaaaa",
            "Tags": [{"Key": "Name", "Value": "main"}],
            "VpcId": "vpc-00000001", "OwnerId": "123456789012"
        },
        {
            "Associations": [
                {"NetworkAclAssociationId": "aclassoc-05e7bf5b", "NetworkAclId": "acl-0bbbbbbbbbbbbbbbb", "SubnetId": "subnet-00000001"},
                {"NetworkAclAssociationId": "aclassoc-05e7bf5c", "NetworkAclId": "acl-0bbbbbbbbbbbbbbbb", "SubnetId": "subnet-00000002"}
            ],
            "Entries": [
                {"CidrBlock": "0.0.0.0/0", "Egress": true, "PortRange": {"From": 32768, "To": 65535}, "Protocol": "6", "RuleAction": "allow", "RuleNumber": 140},
                {"Egress": true, "IcmpTypeCode": {"Code": -1, "Type": -1}, "Ipv6CidrBlock": "::/0", "Protocol": "58", "RuleAction": "allow", "RuleNumber": 150},
                {"CidrBlock": "0.0.0.0/0", "Egress": true, "Protocol": "-1", "RuleAction": "deny", "RuleNumber": 32767},
                {"Egress": true, "Ipv6CidrBlock": "::/0", "Protocol": "-1", "RuleAction": "deny", "RuleNumber": 32768},
                {"CidrBlock": "192.0.2.0/24", "Egress": false, "IcmpTypeCode": {"Code": 0, "Type": 8}, "Protocol": "1", "RuleAction": "deny", "RuleNumber": 90},
                {"CidrBlock": "0.0.0.0/0", "Egress": false, "PortRange": {"From": 80, "To": 80}, "Protocol": "6", "RuleAction": "allow", "RuleNumber": 100},
                {"CidrBlock": "0.0.0.0/0", "Egress": false, "Protocol": "47", "RuleAction": "allow", "RuleNumber": 32766},
                {"CidrBlock": "0.0.0.0/0", "Egress": false, "Protocol": "-1", "RuleAction": "deny", "RuleNumber": 32767},
                {"Egress": false, "Ipv6CidrBlock": "::/0", "Protocol": "-1", "RuleAction": "deny", "RuleNumber": 32768}
            ],
            "IsDefault": false, "NetworkAclId": "acl-0bbbbbbbbbbbbbbbb",
            "Tags": [{"Key": "Name", "Value": "public"}, {"Key": "team", "Value": "shop"},
                     {"Key": "aws:cloudformation:stack-name", "Value": "x"}],
            "VpcId": "vpc-00000001", "OwnerId": "123456789012", "SomethingNewIn2027": 1
        },
        {
            "Associations": [], "Entries": [], "IsDefault": false,
            "NetworkAclId": "acl-0cccccccccccccccc", "Tags": [], "VpcId": "vpc-00000001"
        }
    ]
}"#;

#[test]
fn a_document_of_the_aws_cli_can_be_applied() {
    let host = Host::new();
    run(&host, "acl create mine");
    let default = host.state().0.default_acl(&VpcId::default_vpc()).unwrap().id.clone();
    let file = host.file("aws.json", AWS);
    let done = host.run(&["apply", &file]);
    let notes = "\
secgroup: warning: NetworkAcls[0].Tags: the default network ACL has the name default on this host, not \"main\"
secgroup: warning: NetworkAcls[1].Associations: subnets that this host does not have are ignored: `secgroup acl associate` gives interfaces the network ACL
secgroup: not in the document, and unchanged: network ACL mine
";
    assert_eq!((done.code, done.stderr.as_str()), (0, notes));
    assert_eq!(
        done.stdout,
        "\
- network-acl default ingress 101 allow all from ::/0
- network-acl default egress 101 allow all to ::/0
+ network-acl public acl-0bbbbbbbbbbbbbbbb
+ network-acl public ingress 90 deny icmp 8/0 from 192.0.2.0/24
+ network-acl public ingress 100 allow tcp 80 from 0.0.0.0/0
+ network-acl public ingress 32766 allow protocol 47 from 0.0.0.0/0
+ network-acl public egress 140 allow tcp 32768-65535 to 0.0.0.0/0
+ network-acl public egress 150 allow icmpv6 all to ::/0
+ network-acl acl-0cccccccccccccccc
"
    );
    let (model, generation) = host.state();
    let public = model.acl("public").unwrap();
    assert_eq!(public.id.as_str(), "acl-0bbbbbbbbbbbbbbbb");
    assert_eq!(public.tags, [("team".to_owned(), "shop".to_owned())].into());
    assert_eq!(entries(&host, "acl-0cccccccccccccccc"), LAST);
    assert_eq!(
        model.default_acl(&VpcId::default_vpc()).unwrap().id,
        default,
        "whatever its id is in AWS"
    );

    let again = host.run(&["apply", &file]);
    assert_eq!((again.code, again.stdout.as_str(), again.stderr.as_str()), (0, "", notes));
    assert_eq!(host.state(), (model, generation));
}

#[test]
fn what_changes_is_printed_and_what_stays_keeps_its_counter() {
    let host = Host::new();
    host.run(&["apply", &host.file("aws.json", AWS)]);
    let before = host.state().0;
    let mut document: Value = serde_json::from_str(AWS).unwrap();
    let acl = &mut document["NetworkAcls"][1];
    acl["Entries"][4]["RuleAction"] = json!("allow");
    acl["Entries"][5]["RuleNumber"] = json!(105);
    acl["Tags"] = json!([{"Key": "Name", "Value": "front"}]);
    document["NetworkAcls"][2]["Tags"] = json!([{"Key": "Name", "Value": "back"}]);
    let file = host.file("changed.json", &document.to_string());
    let lines = "\
~ network-acl public acl-0bbbbbbbbbbbbbbbb name front
~ network-acl front acl-0bbbbbbbbbbbbbbbb tags
~ network-acl front ingress 90 allow icmp 8/0 from 192.0.2.0/24 (was deny icmp 8/0 from 192.0.2.0/24)
- network-acl front ingress 100 allow tcp 80 from 0.0.0.0/0
+ network-acl front ingress 105 allow tcp 80 from 0.0.0.0/0
~ network-acl acl-0cccccccccccccccc acl-0cccccccccccccccc name back
";
    let foreseen = host.run(&["apply", &file, "--dry-run"]);
    assert_eq!((foreseen.code, foreseen.stdout.as_str()), (4, lines));
    assert_eq!(host.state().0, before, "a dry run changes nothing");
    assert_eq!(host.run(&["apply", &file]).stdout, lines);
    let after = host.state().0;
    let (old, new) = (before.acl("public").unwrap(), after.acl("front").unwrap());
    let same = (Direction::Ingress, 32_766);
    assert_eq!(old.entries[&same], new.entries[&same]);
    let changed = (Direction::Ingress, 90);
    assert!(new.entries[&changed].number > old.entries[&changed].number);
}

#[test]
fn an_entry_ends_by_itself_and_keeps_its_counter_with_another_end() {
    let host = Host::new();
    run(&host, "acl create web");
    let entry = "web ingress 7 deny --protocol all --cidr ::/0";
    run(&host, &format!("acl entry add {entry} --for 2h"));
    let number = |host: &Host| {
        host.state().0.acl("web").unwrap().entry(Direction::Ingress, 7).unwrap().number
    };
    let before = number(&host);
    let shown = host.ok(&["acl", "show", "web"]);
    let left = ["  2h 0m\n", "  1h 59m\n"].into_iter().any(|left| shown.contains(left));
    assert!(shown.contains("  LEFT\n") && left, "{shown}");
    run(&host, &format!("acl entry add {entry} --for 3h --if-not-exists"));
    let done =
        host.run(&format!("acl entry add {entry} --if-not-exists").split(' ').collect::<Vec<_>>());
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("its end is 2") && done.stderr.contains("not never"), "{done:?}");

    // Documents have it, and change it.
    let exported = host.ok(&["export", "--acl", "web"]);
    assert!(exported.contains("\"EndsAt\": \"2"), "{exported}");
    assert_eq!(host.ok(&["apply", &host.file("same.json", &exported)]), "");
    let mut document: Value = serde_json::from_str(&exported).unwrap();
    let entries = document["NetworkAcls"][0]["Entries"].as_array_mut().unwrap();
    let timed = entries.iter_mut().find(|entry| entry["RuleNumber"] == 7).unwrap();
    timed["EndsAt"] = json!("2000-01-01T00:00:00Z");
    let over = host.run(&["apply", &host.file("over.json", &document.to_string()), "--dry-run"]);
    assert_eq!(
        over.stderr,
        "secgroup: warning: NetworkAcls[0].Entries[2]: it ended at 2000-01-01T00:00:00Z and is left out\n"
    );
    assert_eq!(over.stdout, "- network-acl web ingress 7 deny all from ::/0\n");
    let entries = document["NetworkAcls"][0]["Entries"].as_array_mut().unwrap();
    entries[2].as_object_mut().unwrap().remove("EndsAt");
    assert_eq!(
        host.ok(&["apply", &host.file("endless.json", &document.to_string())]),
        "~ network-acl web ingress 7 deny all from ::/0 without an end\n"
    );
    assert_eq!(number(&host), before);
    run(&host, &format!("acl entry replace {entry} --until 2035-01-01T00:00:00Z"));
    assert_eq!(number(&host), before);
    let model = host.state().0;
    let end = model.acl("web").unwrap().entry(Direction::Ingress, 7).unwrap().end.unwrap();
    assert_eq!(end.text(), "2035-01-01T00:00:00Z");
}

/// A host with groups, prefix lists, network ACLs and interfaces.
fn furnished() -> Host {
    let host = Host::new();
    for line in [
        "group create web --description d",
        "prefix-list create bad --family ipv4 --entry 192.0.2.0/24",
        "prefix-list create unused --family ipv6",
        "acl create outer --tag a=b",
        "acl create inner",
        "acl entry add outer ingress 10 deny --protocol all --prefix-list bad",
        "acl entry add outer ingress 20 allow --protocol udp --port 53 --cidr 2001:db8::/32",
        "acl entry add outer ingress 30 allow --protocol icmp --cidr 0.0.0.0/0",
        "acl entry add outer ingress 31 deny --protocol icmpv6 --icmp 128 --cidr ::/0",
        "acl entry add outer egress 32766 allow --protocol icmp --icmp 3/4 --cidr 0.0.0.0/0",
        "acl entry add outer egress 1 allow --protocol 50 --cidr 10.0.0.0/8",
        "acl entry remove default egress 101",
    ] {
        run(&host, line);
    }
    host
}

#[test]
fn an_exported_document_changes_nothing_where_it_comes_from() {
    let host = furnished();
    host.attach("eth0", None, "web");
    host.attach("eth1", None, "web");
    associate(&host, "eth1", "outer");
    let exported = host.ok(&["export"]);
    let before = host.state();
    let file = host.file("all.json", &exported);
    let done = host.run(&["apply", &file]);
    assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (0, "", ""));
    assert_eq!(host.state(), before);
    assert_eq!(host.ok(&["export"]), exported);
}

#[test]
fn an_exported_document_makes_another_host_the_same() {
    let one = furnished();
    let exported = one.ok(&["export"]);
    let two = Host::new();
    two.ok(&["apply", &two.file("all.json", &exported)]);
    let default = |host: &Host| {
        let model = host.state().0;
        let acl = model.default_acl(&VpcId::default_vpc()).unwrap();
        (acl.id.to_string(), model.group("default").unwrap().id.to_string())
    };
    let sorted = |text: &str| {
        let mut value: Value = serde_json::from_str(text).unwrap();
        let groups = value["SecurityGroups"].as_array_mut().unwrap();
        groups.sort_by_key(|group| group["GroupName"].to_string());
        let acls = value["NetworkAcls"].as_array_mut().unwrap();
        acls.sort_by_key(|acl| acl["Tags"][0]["Value"].to_string());
        value
    };
    let ((acl, group), (other_acl, other_group)) = (default(&one), default(&two));
    let expected = exported.replace(&acl, &other_acl).replace(&group, &other_group);
    assert_eq!(sorted(&two.ok(&["export"])), sorted(&expected));

    // One network ACL is exported with the prefix lists of its entries, and without groups.
    let some = one.ok(&["export", "--acl", "outer"]);
    let three = Host::new();
    three.ok(&["apply", &three.file("some.json", &some)]);
    assert_eq!(three.ok(&["export", "--acl", "outer"]), some);
    let names: Vec<_> = three.state().0.prefix_lists.into_values().map(|list| list.name).collect();
    assert_eq!(names, ["bad"]);
    assert!(!some.contains("SecurityGroups"), "{some}");
}

#[test]
fn groups_and_network_acls_change_together_or_not_at_all() {
    let host = Host::new();
    let acl = |number: i64| {
        json!({"Tags": [{"Key": "Name", "Value": "outer"}], "Entries": [
            {"CidrBlock": "0.0.0.0/0", "Egress": false, "Protocol": "-1", "RuleAction": "allow",
             "RuleNumber": number},
        ]})
    };
    let document = |number| {
        json!({"SecurityGroups": [group("web", json!([]))], "NetworkAcls": [acl(number)]})
            .to_string()
    };
    let before = host.run(&["apply", &host.file("bad.json", &document(0))]);
    assert_eq!(before.code, 1);
    assert_eq!(host.state().0.groups.len(), 1, "the default group");
    let generation = host.state().1;
    host.ok(&["apply", &host.file("good.json", &document(1))]);
    let (model, now) = host.state();
    assert!(model.group("web").is_ok() && model.acl("outer").is_ok());
    assert_eq!(now, generation + 1);
}

#[test]
fn pruning_removes_the_acls_that_a_document_with_acls_lacks() {
    let host = furnished();
    host.attach("eth1", None, "web");
    associate(&host, "eth1", "outer");
    let prune = |document: &Value| {
        host.run(&["apply", &host.file("x.json", &document.to_string()), "--prune", "--dry-run"])
    };
    let groups = json!({"SecurityGroups": [group("web", json!([]))]});
    let with = |name: &str| json!({"NetworkAcls": [{"Tags": [{"Key": "Name", "Value": name}], "Entries": []}]});
    assert!(!prune(&groups).stdout.contains("network-acl"), "it says nothing about network ACLs");
    // It says nothing about groups.
    let inner = host.state().0.acl("inner").unwrap().id.clone();
    let lines = prune(&with("outer")).stdout;
    assert!(lines.ends_with(&format!("- network-acl inner {inner}\n")), "{lines}");
    assert!(!lines.contains("group"), "{lines}");
    assert!(!lines.contains("default"), "{lines}");
    let refused = prune(&with("inner"));
    assert_eq!(refused.code, 1);
    assert!(
        refused.stderr.contains("--prune: network ACL outer is used by interface eth1"),
        "{}",
        refused.stderr
    );
    let empty = prune(&json!({"NetworkAcls": []}));
    assert!(empty.stderr.contains("--prune would remove every group"), "{}", empty.stderr);
}

#[test]
fn everything_that_is_wrong_with_network_acls_is_reported_in_one_run() {
    let host = Host::new();
    host.configure("[limits]\nentries_per_acl = 2\n");
    let text = r#"{"NetworkAcls": [
  {"NetworkAclId": "acl-00000001", "Tags": [{"Key": "Name", "Value": "acl-00000009"}]},
  {"Tags": [{"Key": "Name", "Value": "a"}], "Entries": [
    {"RuleNumber": 0, "Egress": false, "RuleAction": "allow", "Protocol": "-1", "CidrBlock": "0.0.0.0/0"},
    {"RuleNumber": 1, "Egress": false, "RuleAction": "pass", "Protocol": "-1", "CidrBlock": "0.0.0.0/0"},
    {"RuleNumber": 2, "RuleAction": "deny", "Protocol": "gre", "CidrBlock": "::/0"},
    {"RuleNumber": 3, "Egress": true, "RuleAction": "deny", "Protocol": "6", "CidrBlock": "10.0.0.1"},
    {"RuleNumber": 4, "Egress": true, "RuleAction": "deny", "Protocol": "1", "CidrBlock": "0.0.0.0/0"},
    {"RuleNumber": 5, "Egress": true, "RuleAction": "deny", "Protocol": "-1"},
    {"RuleNumber": 6, "Egress": true, "RuleAction": "deny", "Protocol": "-1", "CidrBlock": "0.0.0.0/0", "Ipv6CidrBlock": "::/0"},
    {"RuleNumber": 7, "Egress": true, "RuleAction": "deny", "Protocol": "17", "PortRange": {"From": 9, "To": "9"}, "Ipv6CidrBlock": "10.0.0.0/8"},
    {"RuleNumber": 32767, "Egress": true, "RuleAction": "allow", "Protocol": "-1", "CidrBlock": "0.0.0.0/0"},
    {"RuleNumber": 8, "Egress": true, "RuleAction": "deny", "Protocol": "-1", "PrefixListId": "pl-00000001"}]},
  {"Tags": [{"Key": "Name", "Value": "A"}], "Entries": []},
  {"IsDefault": true, "Entries": []}, {"IsDefault": true, "Entries": []},
  {"Entries": []},
  {"Tags": [{"Key": "Name", "Value": "Default"}], "Entries": []},
  {"Tags": [{"Key": "Name", "Value": "c"}], "Entries": [
    {"RuleNumber": 1, "Egress": true, "RuleAction": "deny", "Protocol": "-1", "CidrBlock": "0.0.0.0/0"},
    {"RuleNumber": 1, "Egress": true, "RuleAction": "allow", "Protocol": "-1", "CidrBlock": "0.0.0.0/0"},
    {"RuleNumber": 2, "Egress": true, "RuleAction": "allow", "Protocol": "-1", "CidrBlock": "10.0.0.1/8"},
    {"RuleNumber": 3, "Egress": true, "RuleAction": "allow", "Protocol": "-1", "Ipv6CidrBlock": "::/0"}]}
]}"#;
    let file = host.file("bad.json", text);
    let done = host.run(&["apply", &file]);
    assert_eq!((done.code, done.stdout.as_str()), (1, ""));
    let stderr = done.stderr.replace(&format!("apply {file}: "), "").replace("NetworkAcls", "A");
    assert_eq!(
        stderr,
        "\
error: A[0].Entries is missing (line 2, column 3)
hint: write \"Entries\": [] for the last entries alone, which deny everything
error: A[0].Tags: network ACL name \"acl-00000009\" starts with acl- (line 2, column 44)
hint: choose another network ACL name
error: A[1].Entries[0].RuleNumber: entry number 0 is not 1 to 32766 (line 4, column 20)
hint: use 1 to 32766: of the entries that match a packet, that with the lowest number decides
error: A[1].Entries[1].RuleAction: unknown action \"pass\" (line 5, column 54)
hint: write \"RuleAction\": \"allow\" or \"deny\"
error: A[1].Entries[2].Egress is missing (line 6, column 5)
hint: write \"Egress\": true or false
error: A[1].Entries[2].Protocol: unknown protocol \"gre\" (line 6, column 57)
hint: write 47 instead of gre
error: A[1].Entries[2].CidrBlock: ::/0 is not an IPv4 network (line 6, column 77)
hint: IPv4 networks are a CidrBlock, IPv6 networks an Ipv6CidrBlock
error: A[1].Entries[3]: tcp needs a first and a last port (line 7, column 5)
hint: name a port, or 0-65535 for every port
error: A[1].Entries[3].CidrBlock: CIDR 10.0.0.1 has no prefix length (line 7, column 91)
hint: write 10.0.0.1/32 for this one address
error: A[1].Entries[4]: icmp needs a type and a code (line 8, column 5)
hint: -1 and -1 mean every type and code
error: A[1].Entries[5]: a peer is missing (line 9, column 5)
hint: name one in CidrBlock, Ipv6CidrBlock or PrefixListId
error: A[1].Entries[6]: the entry has more than one peer (line 10, column 5)
hint: write an entry with a number of its own for each
error: A[1].Entries[7].PortRange.To: invalid type: string \"9\", expected an integer (line 11, column 110)
hint: apply reads what aws ec2 describe-security-groups, aws ec2 describe-network-acls or secgroup export prints
error: A[1].Entries[7].Ipv6CidrBlock: 10.0.0.0/8 is not an IPv6 network (line 11, column 133)
hint: IPv4 networks are a CidrBlock, IPv6 networks an Ipv6CidrBlock
error: A[1].Entries[8]: entry 32767 is the last one for IPv4, which denies what no other entry matches and cannot be changed (line 12, column 5)
hint: use 1 to 32766: of the entries that match a packet, that with the lowest number decides
error: A[1].Entries[9]: prefix list pl-00000001 is neither on this host nor in the document (line 13, column 5)
hint: add the document of aws ec2 describe-managed-prefix-lists, or the list to the document's PrefixLists
error: A[2]: network ACL a is in the document twice (line 14, column 3)
hint: names are unique in a VPC, ignoring case: apply one of the two
error: A[4]: the document has two default network ACLs of vpc-00000000000000000 (line 15, column 39)
hint: a VPC has one: leave one out
error: A[5].NetworkAclId is missing (line 16, column 3)
hint: name the network ACL by its id, or by the tag Name
error: A[6]: default is the name of this host's default network ACL (line 17, column 3)
hint: give the network ACL another name, or write \"IsDefault\": true
error: A[7]: network ACL c would have 3 egress entries, and the limit is 2 (line 18, column 3)
hint: an entry with a prefix list counts once; entries_per_acl in the configuration's [limits] sets the limit
error: A[7].Entries[1]: egress entry 1 is given twice (line 20, column 5)
"
    );
    assert!(host.state().0.acl("c").is_err());
}
