//! `apply` and `export`.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};

use firewall_user::model::VpcId;

use crate::host::Host;

pub(crate) fn group(name: &str, ingress: Value) -> Value {
    json!({
        "GroupName": name, "Description": "d", "IpPermissions": ingress, "IpPermissionsEgress": [],
    })
}

pub(crate) fn tcp(port: u16, cidr: &str) -> Value {
    json!({"IpProtocol": "tcp", "FromPort": port, "ToPort": port, "IpRanges": [{"CidrIp": cidr}]})
}

pub(crate) fn document(groups: &[Value]) -> String {
    json!({"SecurityGroups": groups}).to_string()
}

/// Lines with what follows a random id, the id left out.
fn without_ids(lines: &str) -> Vec<String> {
    let kept = |word: &&str| !["sg-", "sgr-", "pl-"].iter().any(|id| word.starts_with(id));
    lines.lines().map(|line| line.split(' ').filter(kept).collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn a_document_of_the_aws_cli_can_be_applied() {
    let host = Host::new();
    let file = host.file(
        "aws.json",
        r#"{
    "SecurityGroups": [
        {
            "GroupId": "sg-0aaaaaaaaaaaaaaaa",
            "IpPermissionsEgress": [
                {"IpProtocol": "-1", "UserIdGroupPairs": [], "IpRanges": [{"CidrIp": "0.0.0.0/0"}],
                 "Ipv6Ranges": [], "PrefixListIds": []}
            ],
            "Tags": [{"Key": "aws:cloudformation:stack-name", "Value": "x"},
                     {"Key": "team", "Value": "shop"}],
            "VpcId": "vpc-00000001", "OwnerId": "123456789012", "GroupName": "default",
            "SecurityGroupArn": "arn:aws:ec2:eu-west-1:123456789012:security-group/sg-0aaaaaaaaaaaaaaaa",
            "Description": "default VPC security group",
            "SomethingNewIn2027": {"Enabled": true},
            "IpPermissions": [
                {"IpProtocol": "-1", "IpRanges": [], "Ipv6Ranges": [], "PrefixListIds": [],
                 "UserIdGroupPairs": [
                    {"UserId": "123456789012", "GroupId": "sg-0aaaaaaaaaaaaaaaa"},
                    {"UserId": "123456789012", "GroupId": "sg-0bbbbbbbbbbbbbbbb", "Description": "w"}]}
            ]
        },
        {
            "GroupId": "sg-0bbbbbbbbbbbbbbbb", "VpcId": "vpc-00000001", "OwnerId": "123456789012",
            "GroupName": "web", "Description": "web servers", "IpPermissionsEgress": [],
            "IpPermissions": [
                {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "IpRanges": [],
                 "Ipv6Ranges": [{"CidrIpv6": "::/0", "Description": "https"}],
                 "PrefixListIds": [{"PrefixListId": "pl-0123456789abcdef0"}],
                 "UserIdGroupPairs": []},
                {"IpProtocol": "icmp", "FromPort": 8, "ToPort": -1,
                 "IpRanges": [{"CidrIp": "10.0.0.0/8"}], "Ipv6Ranges": [], "PrefixListIds": [],
                 "UserIdGroupPairs": []}
            ]
        }
    ],
    "PrefixLists": [
        {"PrefixListId": "pl-0123456789abcdef0", "AddressFamily": "IPv4", "State": "create-complete",
         "PrefixListName": "office", "MaxEntries": 10, "Version": 4, "OwnerId": "123456789012",
         "Entries": [{"Cidr": "192.0.2.0/24", "Description": "lan"}]}
    ]
}"#,
    );
    assert_eq!(
        without_ids(&host.ok(&["apply", &file])),
        [
            "+ prefix-list office ipv4",
            "+ prefix-list office 192.0.2.0/24 (lan)",
            "~ group default tags",
            "+ group web",
            "+ default ingress all from group web (w)",
            "+ web ingress tcp 443 from ::/0 (https)",
            "+ web ingress tcp 443 from prefix list office",
            "+ web ingress icmp 8 from 10.0.0.0/8",
        ]
    );
    let (model, generation) = host.state();
    assert_eq!(generation, 1, "one transaction");
    let specs = |name: &str| -> Vec<_> {
        let group = model.group(name).unwrap();
        group
            .rules
            .iter()
            .map(|rule| (model.spec_text(&rule.spec), rule.description.clone()))
            .collect()
    };
    let rule = |spec: &str, description: &str| (spec.to_owned(), description.to_owned());
    assert_eq!(
        specs("default"),
        [
            rule("ingress all from group default", ""),
            rule("egress all to 0.0.0.0/0", ""),
            rule("ingress all from group web", "w"),
        ]
    );
    assert_eq!(
        specs("web"),
        [
            rule("ingress tcp 443 from ::/0", "https"),
            rule("ingress tcp 443 from prefix list office", ""),
            rule("ingress icmp 8 from 10.0.0.0/8", ""),
        ]
    );
    let tags: Vec<_> = model.group("default").unwrap().tags.keys().collect();
    assert_eq!(tags, ["team"], "tags of AWS are ignored");
    assert_eq!(model.prefix_list("office").unwrap().version, 4);

    assert_eq!(host.ok(&["apply", &file]), "", "the same document twice changes nothing");
    assert_eq!(host.state(), (model, generation));
}

#[test]
fn what_is_exported_can_be_applied_elsewhere() {
    let one = Host::new();
    one.ok(&["group", "create", "web", "--description", "d", "--tag", "a=b"]);
    one.ok(&["group", "create", "db", "--description", "d"]);
    one.ok(&["group", "create", "alone", "--description", "d"]);
    one.ok(&["prefix-list", "create", "six", "--family", "ipv6", "--entry", "1::/16"]);
    one.ok(&["rule", "add", "db", "ingress", "--protocol", "all", "--group", "web"]);
    one.ok(&["rule", "add", "web", "ingress", "--protocol", "all", "--prefix-list", "six"]);

    let all = one.ok(&["export"]);
    let two = Host::new();
    two.ok(&["apply", &two.file("all.json", &all)]);
    // Every host has a default group and a default network ACL of its own.
    let default = |host: &Host| {
        let model = host.state().0;
        let acl = model.default_acl(&VpcId::default_vpc()).unwrap().id.to_string();
        (acl, model.group("default").unwrap().id.to_string())
    };
    let ((acl, group), (other_acl, other_group)) = (default(&one), default(&two));
    let sorted = |text: String| -> Value {
        let mut document: Value = serde_json::from_str(&text).unwrap();
        let groups = document["SecurityGroups"].as_array_mut().unwrap();
        groups.sort_by_key(|group| group["GroupName"].to_string());
        document
    };
    assert_eq!(
        sorted(two.ok(&["export"])),
        sorted(all.replace(&acl, &other_acl).replace(&group, &other_group))
    );

    // A group is exported with the peers of its rules, and with theirs.
    let some = one.ok(&["export", "db"]);
    let three = Host::new();
    three.ok(&["apply", &three.file("some.json", &some)]);
    let (model, _) = three.state();
    let names: Vec<_> = model.groups.values().map(|group| group.name.as_str()).collect();
    assert!(names.contains(&"web") && names.contains(&"db") && names.len() == 3, "{names:?}");
    assert_eq!(three.ok(&["export", "db"]), some);
}

#[test]
fn rules_that_stay_keep_their_ids_and_numbers() {
    let host = Host::new();
    let before = document(&[
        group("web", json!([tcp(80, "10.0.0.0/8"), tcp(81, "10.0.0.0/8"), tcp(82, "10.0.0.0/8")])),
        group("other", json!([])),
    ]);
    host.ok(&["apply", &host.file("before.json", &before)]);
    host.ok(&["group", "create", "mine", "--description", "d"]);
    let (old, _) = host.state();
    let mut described = tcp(81, "10.0.0.0/8");
    described["IpRanges"][0]["Description"] = json!("why");
    let after =
        document(&[group("WEB", json!([tcp(83, "10.0.0.0/8"), described, tcp(80, "10.0.0.0/8")]))]);
    let file = host.file("after.json", &after);

    let lines = [
        "~ web ingress tcp 81 from 10.0.0.0/8 (why)",
        "- web ingress tcp 82 from 10.0.0.0/8",
        "+ web ingress tcp 83 from 10.0.0.0/8",
    ];
    let foreseen = host.run(&["apply", &file, "--dry-run"]);
    let others = "secgroup: not in the document, and unchanged: mine, other\n";
    assert_eq!((foreseen.code, foreseen.stderr.as_str()), (4, others));
    assert_eq!(without_ids(&foreseen.stdout.replace(" (new)", "")), lines);
    assert_eq!(host.state().0, old, "a dry run changes nothing");

    let done = host.run(&["apply", &file]);
    assert_eq!((done.code, done.stderr.as_str()), (0, others));
    assert_eq!(without_ids(&done.stdout), lines);
    let (new, _) = host.state();
    let (old, new_rules) = (&old.group("web").unwrap().rules, &new.group("web").unwrap().rules);
    assert_eq!(new_rules[0], old[0]);
    assert_eq!((&new_rules[1].id, new_rules[1].number), (&old[1].id, old[1].number));
    assert_eq!(new_rules[1].description, "why");
    assert!(new_rules[2].number > old[2].number, "a number is never used twice");
    assert!(new.group("mine").is_ok() && new.group("other").is_ok(), "not mentioned, not touched");
    assert_eq!(host.run(&["apply", &file, "--dry-run"]).code, 0);
}

#[test]
fn a_document_comes_from_standard_input_too() {
    let host = Host::new();
    let mut child =
        host.command(&["apply", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let text = document(&[group("web", json!([]))]);
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(host.state().0.group("web").is_ok());
}

#[test]
fn groups_with_other_ids_are_matched_by_name() {
    let host = Host::new();
    let web = host.id(&["group", "create", "web", "--description", "d"]);
    let mut theirs = group("web", json!([]));
    theirs["GroupId"] = json!("sg-0cccccccccccccccc");
    theirs["IpPermissions"] = json!([{
        "IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": "sg-0cccccccccccccccc"}],
    }]);
    host.ok(&["apply", &host.file("theirs.json", &document(&[theirs]))]);
    let (model, _) = host.state();
    let group = model.group("web").unwrap();
    assert_eq!(group.id.as_str(), web);
    assert_eq!(group.rules.len(), 1);
    assert_eq!(model.spec_text(&group.rules[0].spec), "ingress all from group web");
}

#[test]
fn apply_makes_prefix_lists_equal_to_the_document() {
    let host = Host::new();
    let entries = |list: &[(&str, &str)]| -> String {
        let entries: Vec<_> =
            list.iter().map(|(cidr, text)| json!({"Cidr": cidr, "Description": text})).collect();
        json!({"PrefixLists": [
            {"PrefixListName": "office", "AddressFamily": "IPv4", "Entries": entries},
        ]})
        .to_string()
    };
    let before = entries(&[("10.0.0.0/8", "a"), ("11.0.0.0/8", "b")]);
    host.ok(&["apply", &host.file("x.json", &before)]);
    let after = host.file("x.json", &entries(&[("11.0.0.0/8", "c"), ("12.0.0.0/8", "")]));
    assert_eq!(
        host.ok(&["apply", &after]),
        "- prefix-list office 10.0.0.0/8\n~ prefix-list office 11.0.0.0/8 (c)\n\
         + prefix-list office 12.0.0.0/8\n"
    );
    assert_eq!(host.state().0.prefix_list("office").unwrap().version, 2);
    assert_eq!(host.ok(&["apply", &after]), "");
}

#[test]
fn a_growing_prefix_list_counts_in_the_groups_that_use_it() {
    let host = Host::new();
    host.ok(&["group", "create", "web", "--description", "d"]);
    host.ok(&["prefix-list", "create", "office", "--family", "ipv4", "--entry", "10.0.0.0/8"]);
    host.ok(&["rule", "add", "web", "ingress", "--protocol", "all", "--prefix-list", "office"]);
    host.configure("[limits]\nrules_per_group = 2\n");
    let with = |entries: &[&str]| {
        let entries: Vec<_> = entries.iter().map(|cidr| json!({"Cidr": cidr})).collect();
        let list = json!({"PrefixListName": "office", "AddressFamily": "IPv4", "Entries": entries});
        host.file("lists.json", &json!({"PrefixLists": [list]}).to_string())
    };
    let before = host.state();
    let file = with(&["10.0.0.0/8", "11.0.0.0/8", "12.0.0.0/8"]);
    let done = host.run(&["apply", &file]);
    assert_eq!(done.code, 1);
    assert_eq!(
        done.stderr.lines().next().unwrap(),
        format!(
            "error: apply {file}: PrefixLists[0]: group web would have 3 ingress rules for IPv4 (3 \
             of them entries of prefix lists), and the limit is 2 (line 1, column 17)"
        )
    );
    assert_eq!(host.state(), before);
    host.ok(&["apply", &with(&["10.0.0.0/8", "11.0.0.0/8"])]);
}

#[test]
fn everything_that_is_wrong_is_reported_in_one_run() {
    let host = Host::new();
    let text = r#"{"SecurityGroups": [
    {"GroupName": "web", "Description": "d", "IpPermissionsEgress": [], "IpPermissions": [
        {"IpProtocol": "tcp", "FromPort": "80", "ToPort": 80, "IpRanges": [{"CidrIp": "10.0.0.1"}]},
        {"IpProtocol": "gre", "IpRanges": [{"CidrIp": "10.0.0.2"}]}]},
    {"GroupName": "db"}]}"#;
    let file = host.file("bad.json", text);
    let done = host.run(&["apply", &file]);
    let error = format!("error: apply {file}: SecurityGroups");
    assert_eq!(
        (done.code, done.stdout.as_str(), done.stderr),
        (
            1,
            "",
            format!(
                "{error}[0].IpPermissions[0].FromPort: invalid type: string \"80\", expected an integer (line 3, column 43)\n\
                 hint: apply reads what aws ec2 describe-security-groups, aws ec2 describe-network-acls or \
                 secgroup export prints\n\
                 {error}[0].IpPermissions[0].IpRanges[0].CidrIp: CIDR 10.0.0.1 has no prefix length (line 3, column 87)\n\
                 hint: write 10.0.0.1/32 for this one address\n\
                 {error}[0].IpPermissions[1].IpProtocol: unknown protocol \"gre\" (line 4, column 24)\n\
                 hint: write 47 instead of gre\n\
                 {error}[0].IpPermissions[1].IpRanges[0].CidrIp: CIDR 10.0.0.2 has no prefix length (line 4, column 55)\n\
                 hint: write 10.0.0.2/32 for this one address\n\
                 {error}[1].Description is missing (line 5, column 5)\n\
                 hint: describe the group\n\
                 {error}[1].IpPermissions is missing (line 5, column 5)\n\
                 hint: write \"IpPermissions\": [] to let nothing in\n\
                 {error}[1].IpPermissionsEgress is missing (line 5, column 5)\n\
                 hint: write \"IpPermissionsEgress\": [] to let nothing out\n"
            )
        )
    );
    assert_eq!(host.state().0.groups.len(), 1, "the default group");
}

#[test]
fn a_name_cannot_forge_a_line_of_a_report() {
    let host = Host::new();
    let text = r#"{"SecurityGroups": [{"GroupName": "a\nerror: b", "Description": "d",
        "IpPermissions": [], "IpPermissionsEgress": []}, 1]}"#;
    let done = host.run(&["apply", &host.file("bad.json", text)]);
    assert_eq!(done.stderr.lines().filter(|line| line.starts_with("error: ")).count(), 2);
    assert!(done.stderr.lines().all(|line| !line.starts_with("error: b")), "{}", done.stderr);
}

#[test]
fn prune_removes_what_the_document_does_not_have() {
    let host = Host::new();
    for name in ["web", "old", "older"] {
        host.ok(&["group", "create", name, "--description", "d"]);
    }
    host.ok(&["rule", "add", "old", "ingress", "--protocol", "all", "--group", "older"]);
    host.ok(&["rule", "add", "older", "ingress", "--protocol", "all", "--group", "old"]);
    let file = host.file("web.json", &document(&[group("web", json!([]))]));
    let before = host.state();

    let kept = host.run(&["apply", &file, "--dry-run"]);
    assert_eq!(kept.stderr, "secgroup: not in the document, and unchanged: old, older\n");
    let foreseen = host.run(&["apply", &file, "--prune", "--dry-run"]);
    assert_eq!(foreseen.code, 4);
    assert_eq!(foreseen.stderr, "", "the default group stays");
    let lines = [
        "- web egress all to 0.0.0.0/0",
        "- web egress all to ::/0",
        "- old ingress all from group older",
        "- older ingress all from group old",
        "- group old",
        "- group older",
    ];
    assert_eq!(without_ids(&foreseen.stdout), lines);
    assert_eq!(host.state(), before);

    host.attach("eth0", Some("blue"), "old");
    let before = host.state();
    let refused = host.run(&["apply", &file, "--prune"]);
    assert_eq!(refused.code, 1);
    assert_eq!(
        refused.stderr,
        format!(
            "error: apply {file}: --prune: group old is used by interface eth0 in namespace blue\n\
             hint: first: attach other groups to the interfaces\n"
        )
    );
    assert_eq!(host.state(), before);
    host.detach_all();

    let done = host.run(&["apply", &file, "--prune"]);
    assert_eq!(without_ids(&done.stdout), lines);
    let (model, _) = host.state();
    let mut names: Vec<_> = model.groups.values().map(|group| group.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["default", "web"]);
    assert_eq!(host.run(&["apply", &file, "--prune"]).stdout, "");

    let none = host.file("none.json", &document(&[]));
    let refused = host.run(&["apply", &none, "--prune"]);
    assert_eq!(
        refused.stderr.lines().next().unwrap(),
        format!(
            "error: apply {none}: the document has no group, and --prune would remove every group \
             of this host"
        )
    );
}

#[test]
fn rules_that_match_nothing_and_host_bits_are_accepted_with_a_warning() {
    let host = Host::new();
    let rules = json!([
        {"IpProtocol": "icmp", "FromPort": -1, "ToPort": -1, "IpRanges": [{"CidrIp": "10.1.2.3/8"}],
         "Ipv6Ranges": [{"CidrIpv6": "::/0"}]},
    ]);
    let file = host.file("ping.json", &document(&[group("ping", rules)]));
    let done = host.run(&["apply", &file]);
    assert_eq!(done.code, 0);
    let at = "secgroup: warning: SecurityGroups[0].IpPermissions[0]";
    assert_eq!(
        done.stderr,
        format!(
            "{at}.IpRanges[0].CidrIp: 10.1.2.3/8 is stored as 10.0.0.0/8\n\
             {at}.Ipv6Ranges[0]: icmp does not exist in IPv6, and ::/0 is IPv6: the rule matches nothing\n"
        )
    );
    let exported = host.ok(&["export", "ping"]);
    assert!(exported.contains(r#""CidrIpv6": "::/0""#), "{exported}");
    // It can be named, to remove it.
    host.ok(&["rule", "remove", "ping", "ingress", "--protocol", "icmp", "--cidr", "::/0"]);
    assert_eq!(host.state().0.group("ping").unwrap().rules.len(), 1);
}

#[test]
fn a_byte_order_mark_is_accepted() {
    let host = Host::new();
    let text = format!("\u{feff}{}", document(&[group("web", json!([]))]));
    host.ok(&["apply", &host.file("mark.json", &text)]);
    assert!(host.state().0.group("web").is_ok());
}

#[test]
fn the_number_of_printed_errors_is_bounded() {
    let host = Host::new();
    let groups: Vec<_> = (0..250)
        .map(|number| json!({"GroupName": format!("g{number}"), "IpPermissions": [], "IpPermissionsEgress": []}))
        .collect();
    let file = host.file("bad.json", &document(&groups));
    let done = host.run(&["apply", &file]);
    let errors: Vec<_> = done.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!((done.code, errors.len()), (1, 101));
    assert_eq!(errors[100], format!("error: apply {file}: and 150 more errors"));
    // A hint that errors in a row share is printed once.
    assert_eq!(done.stderr.matches("hint: describe the group").count(), 1);

    let file = host.file("worse.json", &json!({"SecurityGroups": vec![1; 250]}).to_string());
    let done = host.run(&["apply", &file]);
    assert_eq!(
        done.stderr.lines().last().unwrap(),
        format!(
            "error: apply {file}: there may be more errors: the rest of the document was not read"
        )
    );
}
