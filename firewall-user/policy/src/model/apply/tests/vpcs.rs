//! Documents of several VPCs, and with what is not on this host.

use crate::model::apply::{Options, Others, Plan};
use crate::model::document::{self, Document};
use crate::model::{Change, Identity, Limits, Model, Peer, VpcId};

fn group(id: &str, vpc: &str, name: &str, pairs: &str) -> String {
    format!(
        r#"{{"GroupId": "{id}", "VpcId": "{vpc}", "OwnerId": "111111111111", "GroupName": "{name}",
            "Description": "d", "IpPermissionsEgress": [], "IpPermissions": [
            {{"IpProtocol": "-1", "UserIdGroupPairs": [{pairs}], "IpRanges": [{{"CidrIp": "10.0.0.0/8"}}]}}]}}"#
    )
}

fn read(parts: &[&str]) -> Document {
    Document::parse(format!("{{{}}}", parts.join(", ")).as_bytes()).unwrap()
}

fn of_groups(groups: &[String]) -> Document {
    read(&[&format!(r#""SecurityGroups": [{}]"#, groups.join(", "))])
}

fn two_vpcs() -> Document {
    of_groups(&[
        group("sg-0000000a", "vpc-0000000a", "web", r#"{"GroupId": "sg-0000000b"}"#),
        group("sg-0000000b", "vpc-0000000b", "web", ""),
    ])
}

fn vpc(digits: &str) -> VpcId {
    VpcId::of_digits(digits)
}

fn plan(model: &Model, document: &Document, options: &Options) -> Result<Plan, String> {
    Plan::with(model, document, &Limits::default(), options).map_err(|errors| errors.to_string())
}

fn made(model: &Model, document: &Document, options: &Options) -> Model {
    let mut after = model.clone();
    for step in plan(model, document, options).unwrap().steps {
        after.make(step.change);
    }
    after
}

fn warnings(plan: &Plan) -> Vec<String> {
    plan.warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn two_vpcs_never_become_one() {
    let (model, document) = (Model::default(), two_vpcs());
    assert_eq!(
        plan(&model, &document, &Options::default()).unwrap_err(),
        "the document has VPCs that this host does not have: vpc-0000000a, vpc-0000000b"
    );
    let one_and_default = of_groups(&[
        group("sg-0000000a", "vpc-0000000a", "web", ""),
        group("sg-0000000b", "vpc-00000000000000000", "db", ""),
    ]);
    assert_eq!(
        plan(&model, &one_and_default, &Options::default()).unwrap_err(),
        "the document has VPCs that this host does not have: vpc-0000000a; and its default VPC"
    );
    let options = Options { vpcs: vec![vpc("0000000c")], ..Options::default() };
    assert_eq!(
        plan(&model, &document, &options).unwrap_err(),
        "the document has nothing of vpc-0000000c; its VPCs: vpc-0000000a, vpc-0000000b"
    );
}

#[test]
fn the_default_vpc_takes_the_place_of_one() {
    let (model, document) = (Model::default(), two_vpcs());
    let options = Options { vpcs: vec![vpc("0000000a")], ..Options::default() };
    let made_plan = plan(&model, &document, &options).unwrap();
    assert_eq!(made_plan.foreign, 1);
    assert_eq!(
        warnings(&made_plan),
        ["SecurityGroups[0].IpPermissions[0].UserIdGroupPairs[0]: group sg-0000000b (not on this \
             host): the rule matches nothing"]
    );
    let after = made(&model, &document, &options);
    assert_eq!(after.groups.len(), 1);
    let web = after.group("web").unwrap();
    assert_eq!((web.id.as_str(), &web.vpc), ("sg-0000000a", &VpcId::default_vpc()));
    assert!(plan(&after, &document, &options).unwrap().is_empty());
    // The group of the other VPC has the same name.
    let options = Options { vpcs: vec![vpc("0000000b")], ..Options::default() };
    assert_eq!(
        warnings(&plan(&after, &document, &options).unwrap()),
        [
            "SecurityGroups[1]: group web is sg-0000000a on this host, not sg-0000000b: it is found by its \
             name"
        ]
    );
}

#[test]
fn vpcs_are_created_on_request_or_where_the_document_describes_them() {
    let (model, document) = (Model::default(), two_vpcs());
    let options = Options { create_vpcs: true, ..Options::default() };
    let after = made(&model, &document, &options);
    assert_eq!(after.vpcs.len(), 3);
    for id in [vpc("0000000a"), vpc("0000000b")] {
        assert!(after.group_named(&id, "web").is_some());
        let default = after.group_named(&id, "default").unwrap();
        assert_eq!(default.rules.len(), 2, "as in EC2, without IPv6");
        assert!(after.default_acl(&id).is_some());
        assert_eq!(after.subnets.values().filter(|subnet| subnet.vpc == id).count(), 1);
    }
    let web = after.group_by_id(&"sg-0000000a".parse().unwrap()).unwrap();
    let peers = web.rules.iter().map(|rule| &rule.spec.peer);
    let peer = Peer::Group("sg-0000000b".parse().unwrap());
    assert!(peers.into_iter().any(|one| *one == peer));
    assert_eq!(after.peer_text(&peer), "group web (vpc-0000000b)");
    for options in [&options, &Options::default(), &Others::Go.into()] {
        let again = plan(&after, &document, options).unwrap();
        assert!(again.is_empty(), "{:?}", again.steps);
    }
    assert!(matches!(after.group("web"), Err(crate::model::Error::NameAmbiguous { .. })));

    let described = Document {
        vpcs: read(&[r#""Vpcs": [
            {"VpcId": "vpc-0000000a", "CidrBlock": "10.0.0.0/16", "IsDefault": true},
            {"VpcId": "vpc-0000000b", "CidrBlockAssociationSet": [
                {"CidrBlock": "10.1.0.0/16", "CidrBlockState": {"State": "associated"}},
                {"CidrBlock": "10.2.0.0/16", "CidrBlockState": {"State": "disassociated"}}]}]"#])
        .vpcs,
        ..two_vpcs()
    };
    let after = made(&model, &described, &Options::default());
    let networks = |id: &str| after.vpcs[&vpc(id)].settings.cidrs.clone();
    assert_eq!(networks("0000000a"), ["10.0.0.0/16".parse().unwrap()]);
    assert_eq!(networks("0000000b"), ["10.1.0.0/16".parse().unwrap()]);
    // What was put into the default VPC stays there.
    let single = of_groups(&[group("sg-0000000a", "vpc-0000000a", "web", "")]);
    let after = made(&model, &single, &Options::default());
    assert_eq!(
        plan(&after, &single, &options).unwrap_err(),
        "SecurityGroups[0]: group sg-0000000a is in vpc-00000000000000000 on this host, not in vpc-0000000a"
    );
}

#[test]
fn peers_that_are_not_here_are_kept_as_they_were() {
    let pairs = r#"
        {"GroupId": "sg-000000f1", "UserId": "222222222222", "VpcId": "vpc-000000f0",
         "VpcPeeringConnectionId": "pcx-000000f0", "PeeringStatus": "deleted"},
        {"GroupId": "sg-000000f2", "UserId": "111111111111", "Description": "gone"},
        {"GroupId": "sg-0000000a", "UserId": "333333333333"}"#;
    let document = of_groups(&[group("sg-0000000a", "vpc-0000000a", "web", pairs)]);
    let model = Model::default();
    let plan = plan(&model, &document, &Options::default()).unwrap();
    let at = "SecurityGroups[0].IpPermissions[0].UserIdGroupPairs";
    assert_eq!(
        warnings(&plan),
        [
            format!(
                "{at}[0]: group sg-000000f1 (not on this host; account 222222222222, vpc-000000f0, \
                 pcx-000000f0): the rule matches nothing"
            ),
            format!("{at}[1]: group sg-000000f2 (not on this host): the rule matches nothing"),
        ]
    );
    let after = made(&model, &document, &Options::default());
    for account in ["999999999999", "111111111111"] {
        let mut identity = Identity::default();
        identity.account.clear();
        identity.account.push_str(account);
        let exported = document::groups(&identity, after.groups_by_id());
        let exported = super::reread(&exported);
        let again = Plan::new(&after, &exported, &Limits::default()).unwrap();
        assert!(again.is_empty(), "{account}: {:?}", again.steps);
        let group = exported.security_groups.unwrap().remove(0);
        let pairs = group.ip_permissions.unwrap().remove(0).user_id_group_pairs.unwrap();
        let shown = |pair: &document::UserIdGroupPair| {
            let of = |text: &Option<String>| text.clone().unwrap_or_default();
            format!(
                "{} {} {} {}",
                of(&pair.user_id),
                of(&pair.group_id),
                of(&pair.vpc_id),
                of(&pair.vpc_peering_connection_id)
            )
        };
        assert_eq!(
            pairs.iter().map(shown).collect::<Vec<_>>(),
            [
                format!("{account} sg-0000000a  "),
                "222222222222 sg-000000f1 vpc-000000f0 pcx-000000f0".to_owned(),
                format!("{account} sg-000000f2  "),
            ]
        );
    }
    for (pair, error) in [
        (r#""UserId": "x""#, r#"UserId: "x" is malformed"#),
        (r#""VpcPeeringConnectionId": "pcx""#, r#"VpcPeeringConnectionId: "pcx" is malformed"#),
        (
            r#""VpcId": "x""#,
            r#"VpcId: "x" is not an id of the form vpc-… with 17 hexadecimal digits"#,
        ),
    ] {
        let pair = format!(r#"{{"GroupId": "sg-000000f1", {pair}}}"#);
        let document = of_groups(&[group("sg-0000000a", "vpc-0000000a", "web", &pair)]);
        assert_eq!(
            Plan::new(&model, &document, &Limits::default()).unwrap_err().to_string(),
            format!("{at}[0].{error}")
        );
    }
}

#[test]
fn prefix_lists_need_no_entries_and_those_of_aws_no_use() {
    let text = r#""PrefixLists": [
        {"PrefixListId": "pl-0000000a", "PrefixListName": "com.amazonaws.x.s3", "AddressFamily": "IPv4",
         "OwnerId": "AWS"},
        {"PrefixListId": "pl-0000000b", "PrefixListName": "com.amazonaws.x.dynamodb", "AddressFamily": "IPv4",
         "OwnerId": "AWS"},
        {"PrefixListId": "pl-0000000c", "PrefixListName": "office", "AddressFamily": "IPv4",
         "MaxEntries": 20, "Version": 7}]"#;
    let groups = r#""SecurityGroups": [{"GroupName": "web", "Description": "d", "IpPermissionsEgress": [],
        "IpPermissions": [{"IpProtocol": "-1", "PrefixListIds": [{"PrefixListId": "pl-0000000a"}]}]}]"#;
    let model = Model::default();
    let document = read(&[text, groups]);
    let made_plan = plan(&model, &document, &Options::default()).unwrap();
    let texts = warnings(&made_plan);
    assert_eq!(texts.len(), 2, "{texts:?}");
    assert!(texts[0].starts_with("PrefixLists[0]: prefix list com.amazonaws.x.s3 has no entries"));
    assert!(texts[1].starts_with("PrefixLists[2]: prefix list office has no entries"));
    let after = made(&model, &document, &Options::default());
    let names = after.prefix_lists.values().map(|list| (list.name.as_str(), list.version));
    assert_eq!(names.collect::<Vec<_>>(), [("com.amazonaws.x.s3", 1), ("office", 7)]);
    let office = after.prefix_list("office").unwrap();
    assert_eq!((office.weight(), office.is_aws), (20, false));
    assert_eq!(after.prefix_list("com.amazonaws.x.s3").unwrap().weight(), 1);
    assert!(plan(&after, &document, &Options::default()).unwrap().is_empty());
    // Without the owner it is a list of the customer with a reserved name.
    let other = read(&[&text.replace("\"OwnerId\": \"AWS\"", "\"OwnerId\": \"111111111111\"")]);
    assert!(
        plan(&model, &other, &Options::default())
            .unwrap_err()
            .contains("starts with com.amazonaws")
    );
    // An entry that denies a list must not deny nothing.
    let acl = r#""NetworkAcls": [{"NetworkAclId": "acl-0000000a", "Entries": [
        {"Egress": false, "RuleNumber": 1, "RuleAction": "deny", "Protocol": "-1",
         "PrefixListId": "pl-0000000c"}]}]"#;
    let document = read(&[text, acl]);
    assert!(
        plan(&model, &document, &Options::default())
            .unwrap_err()
            .contains("prefix list pl-0000000c has no entries in the document: nothing is denied")
    );
}

#[test]
fn ids_and_tags_of_rules_are_those_of_the_document() {
    let groups = format!(
        r#""SecurityGroups": [{}]"#,
        group("sg-0000000a", "vpc-0000000a", "web", r#"{"GroupId": "sg-000000f1"}"#)
    );
    let item = |id: &str, what: &str| {
        format!(
            r#"{{"SecurityGroupRuleId": "{id}", "GroupId": "sg-0000000a", "IsEgress": false,
                "IpProtocol": "-1", "FromPort": -1, "ToPort": -1, "Tags": [{{"Key": "a", "Value": "b"}}], {what}}}"#
        )
    };
    let items = [
        item("sgr-00000001", r#""CidrIpv4": "10.0.0.0/8""#),
        item("sgr-00000002", r#""ReferencedGroupInfo": {"GroupId": "sg-000000f1"}"#),
        item("sgr-00000003", r#""CidrIpv4": "11.0.0.0/8""#),
    ];
    let rules = format!(r#""SecurityGroupRules": [{}]"#, items.join(", "));
    let document = read(&[&groups, &rules]);
    let model = Model::default();
    let made_plan = plan(&model, &document, &Options::default()).unwrap();
    assert_eq!(
        warnings(&made_plan)[0],
        "SecurityGroupRules[2]: rule sgr-00000003 is not among the permissions of its group: ignored"
    );
    let after = made(&model, &document, &Options::default());
    let web = after.group("web").unwrap();
    let ids: Vec<_> = web.rules.iter().map(|rule| rule.id.as_str()).collect();
    assert_eq!(ids, ["sgr-00000001", "sgr-00000002"]);
    assert!(web.rules.iter().all(|rule| rule.tags["a"] == "b"));
    // A rule that is here keeps its id; its tags become those of the document.
    let mut other = made(&model, &read(&[&groups]), &Options::default());
    let before = other.group("web").unwrap().clone();
    for step in plan(&other, &document, &Options::default()).unwrap().steps {
        assert!(matches!(step.change, Change::TagRule { .. }));
        other.make(step.change);
    }
    let after = other.group("web").unwrap();
    for (one, two) in before.rules.iter().zip(&after.rules) {
        assert_eq!(one.id, two.id);
        assert_eq!(two.tags["a"], "b");
    }
}

#[test]
fn what_is_there_twice_is_refused() {
    let vpc = r#"{"VpcId": "vpc-0000000a"}"#;
    let subnet = r#"{"SubnetId": "subnet-0000000a", "VpcId": "vpc-0000000a"}"#;
    let acl = |id: &str| {
        format!(
            r#"{{"NetworkAclId": "{id}", "VpcId": "vpc-0000000a", "Entries": [],
                "Associations": [{{"SubnetId": "subnet-0000000a"}}]}}"#
        )
    };
    let acls = [acl("acl-0000000a"), acl("acl-0000000b")].join(", ");
    let once = [format!(r#""Vpcs": [{vpc}]"#), format!(r#""Subnets": [{subnet}]"#)];
    for (parts, error) in [
        (
            [&format!(r#""Vpcs": [{vpc}, {vpc}]"#), &once[1], r#""SecurityGroups": []"#],
            "Vpcs[1]: VPC vpc-0000000a is in the document twice",
        ),
        (
            [&once[0], &format!(r#""Subnets": [{subnet}, {subnet}]"#), r#""SecurityGroups": []"#],
            "Subnets[1]: subnet subnet-0000000a is in the document twice",
        ),
        (
            [&once[0], &once[1], &format!(r#""NetworkAcls": [{acls}]"#)],
            "NetworkAcls[1].Associations[0].SubnetId: the network ACL of subnet subnet-0000000a is in the \
             document twice",
        ),
    ] {
        assert_eq!(plan(&Model::default(), &read(&parts), &Options::default()).unwrap_err(), error);
    }
}

#[test]
fn subnets_have_their_network_acls() {
    let document = read(&[
        r#""Vpcs": [{"VpcId": "vpc-0000000a"}]"#,
        r#""Subnets": [{"SubnetId": "subnet-0000000a", "VpcId": "vpc-0000000a",
                        "CidrBlock": "10.0.0.0/24"}]"#,
        r#""NetworkAcls": [{"NetworkAclId": "acl-0000000a", "VpcId": "vpc-0000000a", "Entries": [],
            "Associations": [{"SubnetId": "subnet-0000000a"}, {"SubnetId": "subnet-0000000b"}]}]"#,
    ]);
    let model = Model::default();
    let made_plan = plan(&model, &document, &Options::default()).unwrap();
    assert_eq!(
        warnings(&made_plan),
        [
            "NetworkAcls[0].Associations: subnets that this host does not have are ignored: `secgroup acl \
             associate` gives interfaces the network ACL"
        ]
    );
    let after = made(&model, &document, &Options::default());
    let subnet = &after.subnets[&"subnet-0000000a".parse().unwrap()];
    assert_eq!(subnet.acl, Some("acl-0000000a".parse().unwrap()));
    assert!(plan(&after, &document, &Options::default()).unwrap().is_empty());
    let identity = Identity::default();
    let acls = document::acls(&identity, &after, after.acls.values());
    let again = Document {
        network_acls: acls.network_acls,
        ..document::vpcs(&identity, after.vpcs.values(), after.subnets.values())
    };
    let copy = made(&model, &super::reread(&again), &Options::default());
    assert_eq!((super::subnets(&copy), &copy.vpcs), (super::subnets(&after), &after.vpcs));
    // Another network ACL is another association.
    let other = read(&[
        r#""Vpcs": [{"VpcId": "vpc-0000000a"}]"#,
        r#""NetworkAcls": [{"NetworkAclId": "acl-0000000b", "VpcId": "vpc-0000000a", "Entries": [],
            "Associations": [{"SubnetId": "subnet-0000000a"}]}]"#,
    ]);
    let moved = made(&after, &other, &Options::default());
    let association = |model: &Model| {
        let id = "subnet-0000000a".parse().unwrap();
        model.subnet_by_id(&id).unwrap().association.clone()
    };
    assert_ne!(association(&moved), association(&after));
}
