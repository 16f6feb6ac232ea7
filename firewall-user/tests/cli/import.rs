//! `import --from-aws`: the documents as the commands of AWS print them, in any files.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::host::Host;

const VPC: &str = "vpc-0aaaaaaaaaaaaaaaa";

fn groups(vpc: &str, ids: [&str; 2]) -> Value {
    let permission = |id: &str, peers: Value| {
        json!({"GroupId": id, "VpcId": vpc, "OwnerId": "111111111111", "Description": "d", "Tags": [],
               "GroupName": "web", "IpPermissionsEgress": [], "IpPermissions": [peers]})
    };
    let mut default = permission(
        ids[0],
        json!({"IpProtocol": "-1", "IpRanges": [], "Ipv6Ranges": [], "PrefixListIds": [],
               "UserIdGroupPairs": [{"GroupId": ids[0], "UserId": "111111111111"}]}),
    );
    default["GroupName"] = json!("default");
    default["Description"] = json!("default VPC security group");
    let web = permission(
        ids[1],
        json!({"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443,
               "IpRanges": [{"CidrIp": "192.0.2.0/24"}], "Ipv6Ranges": [],
               "PrefixListIds": [{"PrefixListId": "pl-0cccccccccccccccc"}, {"PrefixListId": "pl-63a5400a"}],
               "UserIdGroupPairs": [
                   {"GroupId": "sg-0fffffffffffffff0", "UserId": "222222222222",
                    "VpcPeeringConnectionId": "pcx-0fffffffffffffff0", "PeeringStatus": "active"},
                   {"GroupId": ids[0], "UserId": "111111111111"}]}),
    );
    json!([default, web])
}

/// The files of a region, in a directory.
fn region(host: &Host) -> String {
    let directory = host.file("aws", "");
    fs::remove_file(&directory).unwrap();
    fs::create_dir(&directory).unwrap();
    let write = |name: &str, value: Value| {
        fs::write(Path::new(&directory).join(name), value.to_string()).unwrap();
    };
    write(
        "groups.json",
        json!({"SecurityGroups": groups(VPC, ["sg-0aaaaaaaaaaaaaaaa", "sg-0bbbbbbbbbbbbbbbb"])}),
    );
    write(
        "lists.json",
        json!({"PrefixLists": [
            {"PrefixListId": "pl-0cccccccccccccccc", "PrefixListName": "office", "OwnerId": "111111111111",
             "AddressFamily": "IPv4", "State": "modify-complete", "MaxEntries": 10, "Version": 3, "Tags": []},
            {"PrefixListId": "pl-63a5400a", "PrefixListName": "com.amazonaws.us-east-1.s3",
             "AddressFamily": "IPv4", "State": "create-complete", "OwnerId": "AWS", "Tags": []},
            {"PrefixListId": "pl-02cd2c6b", "PrefixListName": "com.amazonaws.us-east-1.dynamodb",
             "AddressFamily": "IPv4", "State": "create-complete", "OwnerId": "AWS", "Tags": []}]}),
    );
    write("pl-0cccccccccccccccc.json", json!({"Entries": [{"Cidr": "198.51.100.0/24"}]}));
    write("s3-pl-63a5400a.json", json!({"Entries": [{"Cidr": "52.216.0.0/15"}]}));
    write(
        "rules.json",
        json!({"SecurityGroupRules": [
            {"SecurityGroupRuleId": "sgr-0dddddddddddddddd", "GroupId": "sg-0bbbbbbbbbbbbbbbb",
             "GroupOwnerId": "111111111111", "IsEgress": false, "IpProtocol": "tcp", "FromPort": 443,
             "ToPort": 443, "CidrIpv4": "192.0.2.0/24", "Tags": [{"Key": "why", "Value": "office"}]},
            {"SecurityGroupRuleId": "sgr-0eeeeeeeeeeeeeeee", "GroupId": "sg-0bbbbbbbbbbbbbbbb",
             "IsEgress": false, "IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "Tags": [],
             "ReferencedGroupInfo": {"GroupId": "sg-0fffffffffffffff0", "UserId": "222222222222"}}]}),
    );
    write("instances.json", json!({"Reservations": []}));
    directory
}

#[test]
fn the_files_of_a_region_are_one_document() {
    let host = Host::new();
    let directory = region(&host);
    let foreseen = host.run(&["import", "--from-aws", &directory, "--dry-run"]);
    let summary = "groups        1 created, 1 changed\n\
                   rules         5 created, 1 removed, 1 as they were\n\
                   prefix lists  2 created, 1 as they were\n\
                   stale         1 rules with a group that is not on this host: they match nothing\n";
    let notes = format!(
        "secgroup: {directory}/instances.json has nothing that is imported, and is left out\n\
         secgroup: warning: {directory}/groups.json: SecurityGroups[1].IpPermissions[0].UserIdGroupPairs[0]: \
         group sg-0fffffffffffffff0 (not on this host; account 222222222222, pcx-0fffffffffffffff0): the rule \
         matches nothing\n"
    );
    assert_eq!((foreseen.code, foreseen.stdout.as_str(), &foreseen.stderr), (4, summary, &notes));
    assert_eq!(host.state().0.groups.len(), 1);
    let done = host.run(&["import", "--from-aws", &directory]);
    assert_eq!((done.code, done.stdout.as_str(), &done.stderr), (0, summary, &notes));

    let (model, generation) = host.state();
    assert_eq!(generation, 1);
    let web = model.group("web").unwrap();
    assert_eq!(web.id.as_str(), "sg-0bbbbbbbbbbbbbbbb");
    let rule = |id: &str| web.rule(&id.parse().unwrap()).unwrap();
    assert_eq!(rule("sgr-0dddddddddddddddd").tags["why"], "office");
    rule("sgr-0eeeeeeeeeeeeeeee");
    let office = model.prefix_list("office").unwrap();
    assert_eq!((office.entries.len(), office.max_entries, office.version), (1, Some(10), 3));
    let s3 = model.prefix_list("com.amazonaws.us-east-1.s3").unwrap();
    assert!(s3.is_aws && s3.entries.len() == 1);
    let shown = host.ok(&["rule", "list", "web"]);
    assert!(shown.contains("group sg-0fffffffffffffff0 (not on this host"), "{shown}");

    // A second run changes nothing.
    let again = host.run(&["import", "--from-aws", &directory, "--dry-run", "--diff"]);
    assert_eq!(again.code, 0, "{}", again.stdout);
    assert_eq!(host.state(), (model, generation));

    // What is exported makes another host the same, also one with another account.
    let exported = host.ok(&["export"]);
    assert!(exported.contains(r#""UserId": "222222222222""#), "{exported}");
    assert!(exported.contains(r#""SecurityGroupRuleId": "sgr-0dddddddddddddddd""#));
    let other = Host::new();
    other.configure("[ec2]\naccount = \"123456789012\"\nregion = \"eu-central-1\"\n");
    let file = other.file("all.json", &exported);
    assert_eq!(other.run(&["apply", &file]).code, 0);
    assert_eq!(other.run(&["apply", &file, "--dry-run"]).code, 0);
    let theirs = other.ok(&["export", "web"]);
    assert!(
        theirs
            .contains("arn:aws:ec2:eu-central-1:123456789012:security-group/sg-0bbbbbbbbbbbbbbbb")
    );
    assert!(theirs.contains(r#""UserId": "123456789012""#));
    assert_eq!(host.run(&["apply", &host.file("theirs.json", &theirs), "--dry-run"]).code, 0);
}

#[test]
fn a_removed_rule_comes_back_with_its_id() {
    let host = Host::new();
    let directory = region(&host);
    assert_eq!(host.run(&["import", "--from-aws", &directory]).code, 0);
    host.ok(&["rule", "remove", "web", "sgr-0dddddddddddddddd"]);
    let done = host.run(&["import", "--from-aws", &directory]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let model = host.state().0;
    model.group("web").unwrap().rule(&"sgr-0dddddddddddddddd".parse().unwrap()).unwrap();
}

#[test]
fn errors_name_the_file_and_nothing_is_imported() {
    let host = Host::new();
    let directory = region(&host);
    let entries = host.file("entries.json", r#"{"Entries": [{"Cidr": "198.51.100.0"}]}"#);
    let unnamed = host.run(&["import", "--from-aws", &directory, &entries]);
    assert_eq!(
        (unnamed.code, unnamed.stderr.lines().filter(|line| !line.contains("left out")).collect()),
        (
            1,
            vec![
                format!(
                    "error: import from AWS: {entries}: the document has the Entries of a prefix list, and \
                     does not say of which"
                )
                .as_str(),
                "hint: --entries pl-0123456789abcdef0=FILE says it, in place of FILE alone",
            ]
        )
    );
    fs::remove_file(Path::new(&directory).join("pl-0cccccccccccccccc.json")).unwrap();
    fs::remove_file(Path::new(&directory).join("instances.json")).unwrap();
    let option = format!("pl-0cccccccccccccccc={entries}");
    let bad = host.run(&["import", "--from-aws", &directory, "--entries", &option]);
    assert_eq!(
        bad.stderr,
        format!(
            "error: import from AWS: {entries}: Entries[0].Cidr: CIDR 198.51.100.0 has no prefix length \
             (line 1, column 23)\n\
             hint: write 198.51.100.0/32 for this one address\n"
        )
    );
    let other = host.run(&["import", "--from-aws", "/dev/null"]);
    assert_eq!(
        other.stderr,
        "error: import from AWS: /dev/null: the document is empty\n\
         hint: see whether the command that wrote it failed\n"
    );
    // Without its entries a list matches nothing, which is said.
    let without = host.run(&["import", "--from-aws", &directory]);
    assert_eq!(without.code, 0);
    assert!(without.stderr.contains("prefix list office has no entries in the document"));
    assert!(host.state().0.prefix_list("office").unwrap().entries.is_empty());
    // They come later.
    let good = host.file("entries.json", r#"{"Entries": [{"Cidr": "198.51.100.0/24"}]}"#);
    let option = format!("pl-0cccccccccccccccc={good}");
    assert_eq!(host.run(&["import", "--from-aws", &directory, "--entries", &option]).code, 0);
    assert_eq!(host.state().0.prefix_list("office").unwrap().entries.len(), 1);
}

#[test]
fn two_vpcs_are_chosen_from_or_created() {
    let host = Host::new();
    let directory = region(&host);
    let other = "vpc-0bbbbbbbbbbbbbbbb";
    let second = groups(other, ["sg-00000000000000001", "sg-00000000000000002"]);
    let file = Path::new(&directory).join("more.json");
    fs::write(file, json!({"SecurityGroups": second}).to_string()).unwrap();
    let both = host.run(&["import", "--from-aws", &directory]);
    assert_eq!(both.code, 1);
    assert!(
        both.stderr.contains(&format!(
            "error: import from AWS: the document has VPCs that this host does not have: {VPC}, {other}\n\
             hint: --vpc applies one of them to this host's default VPC, --create-vpcs makes all of them here"
        )),
        "{}",
        both.stderr
    );
    assert_eq!(host.run(&["import", "--from-aws", &directory, "--create-vpcs"]).code, 0);
    let model = host.state().0;
    assert_eq!((model.vpcs.len(), model.groups.len()), (3, 5));
    let listed = host.ok(&["group", "list"]);
    assert!(listed.contains("VPC") && listed.contains(other), "{listed}");
    let vpcs = host.ok(&["vpc", "list"]);
    assert!(vpcs.contains(VPC) && vpcs.contains("subnet-0aaaaaaaaaaaaaaaa"), "{vpcs}");

    // A name of both is ambiguous, and the export makes another host the same.
    let ambiguous = host.run(&["group", "show", "web"]);
    assert_eq!(ambiguous.code, 2, "{}", ambiguous.stderr);
    assert!(ambiguous.stderr.contains("use one of the ids"), "{}", ambiguous.stderr);
    let all = host.ok(&["export", "--rule-ids"]);
    let copy = Host::new();
    let file = copy.file("all.json", &all);
    assert_eq!(copy.run(&["apply", &file]).code, 0);
    assert_eq!(copy.run(&["apply", &file, "--dry-run"]).code, 0);
    let theirs = copy.state().0;
    assert_eq!(theirs.vpcs, model.vpcs);
    for (id, group) in model.groups.iter().filter(|(_, group)| group.vpc != model_default()) {
        let sorted = |rules: &[firewall_user::model::Rule]| {
            let mut rules: Vec<_> =
                rules.iter().map(|rule| (rule.spec.clone(), rule.id.clone())).collect();
            rules.sort();
            rules
        };
        assert_eq!(sorted(&theirs.groups[id].rules), sorted(&group.rules));
    }

    let one = Host::new();
    let directory = directory.as_str();
    assert_eq!(one.run(&["import", "--from-aws", directory, "--vpc", other]).code, 0);
    let model = one.state().0;
    assert_eq!((model.vpcs.len(), model.groups.len()), (1, 2));
    assert_eq!(model.group("web").unwrap().id.as_str(), "sg-00000000000000002");
}

fn model_default() -> firewall_user::model::VpcId {
    firewall_user::model::VpcId::default_vpc()
}
