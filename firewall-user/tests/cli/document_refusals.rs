//! Documents that are refused: the place, error and hint, and no change.

use serde_json::{Value, json};

use crate::documents::{document, group, tcp};
use crate::host::{Done, Host};

#[test]
fn a_refused_document_is_reported_with_the_place() {
    let host = Host::new();
    host.ok(&["group", "create", "here", "--description", "d"]);
    host.ok(&["prefix-list", "create", "four", "--family", "ipv4", "--entry", "10.0.0.0/8"]);
    host.configure("[limits]\nrules_per_group = 3\ngroups = 3\ntags = 1\n");
    let here = host.state().0.group("here").unwrap().id.clone();
    let four = host.state().0.prefix_list("four").unwrap().id.clone();
    let with = |key: &str, value: Value| {
        let mut changed = group("web", json!([]));
        changed[key] = value;
        document(&[group("here", json!([])), changed])
    };
    let permission = |value: Value| with("IpPermissions", json!([value]));
    let pair = |more: Value| {
        let mut changed = group("web", json!([{"IpProtocol": "-1", "UserIdGroupPairs": [more]}]));
        changed["OwnerId"] = json!("111111111111");
        changed["VpcId"] = json!("vpc-00000001");
        document(&[changed])
    };
    let list = |value: Value| json!({"PrefixLists": [value]}).to_string();
    let whole = "apply reads what aws ec2 describe-security-groups, aws ec2 describe-network-acls \
                 or secgroup export prints";
    let blank = "see whether the command that wrote it failed";
    let account = "an account has 12 digits";
    let peering = "a VPC peering has an id of the form pcx-… with 17 hexadecimal digits";
    let twice = "names are unique in a VPC, ignoring case: apply one of the two";
    let vpcs = "--vpc applies one of them to this host's default VPC, --create-vpcs makes all of them here";
    let peer = "name at least one in IpRanges, Ipv6Ranges, PrefixListIds or UserIdGroupPairs";
    let ranges =
        "IPv4 networks go into IpRanges as CidrIp, IPv6 networks into Ipv6Ranges as CidrIpv6";
    let at = "SecurityGroups[1].IpPermissions[0]";
    let in_vpc = |vpc: &str| {
        let mut changed = group("web", json!([]));
        changed["VpcId"] = json!(vpc);
        changed
    };
    let mut too_many = vec![];
    for port in 1..=4 {
        too_many.push(tcp(port, "10.0.0.0/8"));
    }
    let mut cases: Vec<(String, String, &str)> = vec![
        (" \n".into(), "the document is empty".into(), blank),
        (
            "{\n \"SecurityGroups\": {}}".into(),
            "SecurityGroups: invalid type: map, expected a sequence".into(),
            whole,
        ),
        ("[]".into(), "the document has none of SecurityGroups, PrefixLists and NetworkAcls".into(), whole),
        ("{}".into(), "the document has none of SecurityGroups, PrefixLists and NetworkAcls".into(), whole),
        (
            "{\"SecurityGroups\": [{\"GroupName\": \"a\", \"GroupName\": \"b\", \"Description\": \"d\", \
             \"IpPermissions\": [], \"IpPermissionsEgress\": []}]}"
                .into(),
            "SecurityGroups[0].GroupName: the key is there twice".into(),
            "keep one of the two",
        ),
        (
            "{\n \"SecurityGroups\": [}".into(),
            "line 2, column 21: expected value".into(),
            whole,
        ),
        (
            "{\0\"\0".into(),
            "the document is in UTF-16, and JSON is in UTF-8".into(),
            "convert it: iconv -f UTF-16 -t UTF-8",
        ),
        (
            permission(json!({"IpProtocol": 6, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]})),
            format!("{at}.IpProtocol: invalid type: integer `6`, expected a string"),
            whole,
        ),
    ];
    let place = |text: String, message: &str, hint: &'static str| (text, message.to_owned(), hint);
    cases.extend([
        place(
            with("GroupName", json!(null)),
            "SecurityGroups[1].GroupName is missing",
            "name the group",
        ),
        place(
            with("Description", json!(null)),
            "SecurityGroups[1].Description is missing",
            "describe the group",
        ),
        place(
            with("IpPermissions", json!(null)),
            "SecurityGroups[1].IpPermissions is missing",
            "write \"IpPermissions\": [] to let nothing in",
        ),
        place(
            with("IpPermissionsEgress", json!(null)),
            "SecurityGroups[1].IpPermissionsEgress is missing",
            "write \"IpPermissionsEgress\": [] to let nothing out",
        ),
        place(
            with("GroupName", json!("sg-x")),
            "SecurityGroups[1].GroupName: group name \"sg-x\" starts with sg-",
            "choose another group name",
        ),
        place(
            with("GroupId", json!("sg-1")),
            "SecurityGroups[1].GroupId: \"sg-1\" is not an id of the form sg-… with 17 hexadecimal digits",
            "`secgroup group list` shows the ids",
        ),
        place(
            with("Tags", json!([{"Key": "a"}, {"Key": "a"}])),
            "SecurityGroups[1].Tags: tag \"a=\" repeats the key \"a\"",
            "write KEY=VALUE, each KEY once",
        ),
        place(
            with("Tags", json!([{"Value": "a"}])),
            "SecurityGroups[1].Tags[0].Key is missing",
            "a tag has a Key and a Value",
        ),
        place(
            with("Tags", json!([{"Key": "a"}, {"Key": "b"}])),
            "SecurityGroups[1]: group web would have 2 tags, and the limit is 1",
            "tags in the configuration's [limits] sets the limit",
        ),
        place(
            permission(json!({"IpRanges": [{"CidrIp": "10.0.0.0/8"}]})),
            &format!("{at}.IpProtocol is missing"),
            "write \"IpProtocol\": \"-1\" for every protocol",
        ),
        place(
            permission(json!({"IpProtocol": "all", "IpRanges": [{"CidrIp": "10.0.0.0/8"}]})),
            &format!("{at}.IpProtocol: unknown protocol \"all\""),
            "write -1 for every protocol",
        ),
        place(
            permission(json!({"IpProtocol": "tcp", "FromPort": 1, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]})),
            &format!("{at}: tcp needs a first and a last port"),
            "name a port, or 0-65535 for every port",
        ),
        place(permission(json!({"IpProtocol": "-1"})), &format!("{at}: a peer is missing"), peer),
        place(
            permission(json!({"IpProtocol": "-1", "IpRange": [{"CidrIp": "10.0.0.0/8"}]})),
            &format!("{at}: a peer is missing"),
            peer,
        ),
        place(
            permission(json!({"IpProtocol": "-1", "IpRanges": [{"CidrIp": "10.0.0.0/8"}, {"CidrIp": "10.0.0.1"}]})),
            &format!("{at}.IpRanges[1].CidrIp: CIDR 10.0.0.1 has no prefix length"),
            "write 10.0.0.1/32 for this one address",
        ),
        place(
            permission(json!({"IpProtocol": "-1", "IpRanges": [{"CidrIp": "::/0"}]})),
            &format!("{at}.IpRanges[0].CidrIp: ::/0 is not an IPv4 network"),
            ranges,
        ),
        place(
            permission(json!({"IpProtocol": "-1", "Ipv6Ranges": [{"CidrIpv6": "10.0.0.0/8"}]})),
            &format!("{at}.Ipv6Ranges[0].CidrIpv6: 10.0.0.0/8 is not an IPv6 network"),
            ranges,
        ),
        place(
            permission(json!({"IpProtocol": "-1", "PrefixListIds": [{"PrefixListId": "pl-00000000"}]})),
            &format!("{at}.PrefixListIds[0]: prefix list pl-00000000 is neither on this host nor in the document"),
            "add the document of aws ec2 describe-managed-prefix-lists, or the list to the document's PrefixLists",
        ),
        place(
            pair(json!({"GroupName": "nope"})),
            "SecurityGroups[0].IpPermissions[0].UserIdGroupPairs[0]: group \"nope\" is neither on this host nor in the document",
            "add it to the document, or create it first",
        ),
        place(
            pair(json!({})),
            "SecurityGroups[0].IpPermissions[0].UserIdGroupPairs[0].GroupId is missing",
            "name a group",
        ),
        place(
            pair(json!({"GroupId": "sg-00000000", "UserId": "2"})),
            "SecurityGroups[0].IpPermissions[0].UserIdGroupPairs[0].UserId: \"2\" is malformed",
            account,
        ),
        place(
            pair(json!({"GroupId": "sg-00000000", "VpcId": "vpc-2"})),
            "SecurityGroups[0].IpPermissions[0].UserIdGroupPairs[0].VpcId: \"vpc-2\" is not an id of the form vpc-… with 17 hexadecimal digits",
            "`secgroup vpc list` shows the ids",
        ),
        place(
            pair(json!({"GroupId": "sg-00000000", "VpcPeeringConnectionId": "pcx-1"})),
            "SecurityGroups[0].IpPermissions[0].UserIdGroupPairs[0].VpcPeeringConnectionId: \"pcx-1\" is malformed",
            peering,
        ),
        place(
            with("IpPermissions", json!([tcp(80, "10.0.0.0/8"), tcp(80, "10.1.1.1/8")])),
            "SecurityGroups[1].IpPermissions[1].IpRanges[0]: the rule is given twice: ingress tcp 80 from 10.0.0.0/8",
            "",
        ),
        place(
            with("IpPermissions", json!(too_many)),
            "SecurityGroups[1]: group web would have 4 ingress rules for IPv4, and the limit is 3",
            "a prefix list counts as its entries (in EC2 as its MaxEntries), a group peer in both families; rules_per_group in the configuration's [limits] sets the limit",
        ),
        place(
            document(&[in_vpc("vpc-00000001"), in_vpc("vpc-00000002")]),
            "the document has VPCs that this host does not have: vpc-00000001, vpc-00000002",
            vpcs,
        ),
        place(
            document(&[group("web", json!([])), group("WEB", json!([]))]),
            "SecurityGroups[1]: group WEB is in the document twice",
            twice,
        ),
        place(
            document(&[group("a", json!([])), group("b", json!([]))]),
            "SecurityGroups[1]: there would be 4 groups, and the limit is 3",
            "groups in the configuration's [limits] sets the limit",
        ),
        place(
            with("GroupId", json!(here.as_str())),
            &format!("SecurityGroups[1]: on this host {here} is the group here"),
            "names are fixed: use the name it has on this host, or leave the id out",
        ),
        place(
            document(&[json!({"GroupName": "here", "Description": "e", "IpPermissions": [], "IpPermissionsEgress": []})]),
            "SecurityGroups[0]: the description of group here is \"d\", not \"e\"",
            "descriptions of groups are fixed: keep it, or make a group of another name",
        ),
        place(
            list(json!({"PrefixListName": "com.amazonaws.x.s3", "AddressFamily": "IPv4", "OwnerId": "1"})),
            "PrefixLists[0].PrefixListName: prefix list name \"com.amazonaws.x.s3\" starts with com.amazonaws",
            "choose another prefix list name",
        ),
        place(
            json!({"Entries": [{"Cidr": "10.0.0.0/8"}]}).to_string(),
            "the document has the Entries of a prefix list, and does not say of which",
            "--entries pl-0123456789abcdef0=FILE says it, in place of FILE alone",
        ),
        place(
            json!({"SecurityGroups": [], "NextToken": "x"}).to_string(),
            "the document has a NextToken: it is a part of what AWS has",
            "print it again without --max-items and --no-paginate",
        ),
        place(
            list(json!({"PrefixListName": "x", "AddressFamily": "ipv4", "Entries": []})),
            "PrefixLists[0].AddressFamily: unknown address family \"ipv4\"",
            "write \"AddressFamily\": \"IPv4\" or \"IPv6\"",
        ),
        place(
            list(json!({"PrefixListName": "four", "AddressFamily": "IPv6", "Entries": []})),
            "PrefixLists[0]: prefix list four is IPv4, not IPv6",
            "the family is fixed: make a prefix list of another name",
        ),
        place(
            list(json!({"PrefixListName": "x", "AddressFamily": "IPv4", "Entries": [{"Cidr": "::/0"}]})),
            "PrefixLists[0].Entries[0].Cidr: ::/0 is not an IPv4 network",
            "a prefix list holds one family: make a second",
        ),
        place(
            list(json!({"PrefixListName": "x", "AddressFamily": "IPv4", "Entries": [{"Cidr": "10.0.0.0/8"}, {"Cidr": "10.1.0.0/8"}]})),
            "PrefixLists[0].Entries[1]: the entry 10.0.0.0/8 is given twice",
            "",
        ),
        place(
            list(json!({"PrefixListName": "x", "AddressFamily": "IPv4", "Entries": [], "PrefixListId": four.as_str()})),
            &format!("PrefixLists[0]: on this host {four} is the prefix list four"),
            "names are fixed: use the name it has on this host, or leave the id out",
        ),
    ]);
    let before = host.state();
    for (text, message, hint) in cases {
        for dry_run in [&["--dry-run"][..], &[]] {
            let file = host.file("bad.json", &text);
            let Done { code, stdout, stderr } = host.run(&[&["apply", &file], dry_run].concat());
            assert_eq!((code, stdout.as_str()), (1, ""), "{message}");
            let mut lines = stderr.lines();
            let line = lines.next().unwrap();
            let start = format!("error: apply {file}: {message}");
            // The unit tests of documents compare the places.
            let place = line.strip_prefix(&start).unwrap_or_else(|| panic!("{line}\n{start}"));
            assert!(place.is_empty() || place.starts_with(" (line "), "{line}");
            let hint_line = lines.next().unwrap_or_default();
            assert_eq!(hint_line.strip_prefix("hint: ").unwrap_or_default(), hint, "{message}");
            assert_eq!(lines.next(), None);
            assert_eq!(host.state(), before, "{message}");
        }
    }
}
