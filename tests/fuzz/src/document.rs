//! Fuzzes AWS documents: reading and comparing one never fails otherwise than with errors, and what was applied is
//! what is exported.

use arbitrary::{Result, Unstructured};
use firewall_policy::model::apply::{Options, Others, Plan};
use firewall_policy::model::document::{self, Document};
use firewall_policy::model::{Acl, Change, Group, Identity, Limits, Model, Vpc};

/// Values for the keys of documents: ids of few objects, so that items refer to one another, and values that are
/// wrong at most places.
const VALUES: [&str; 38] = [
    r#""sg-00000001""#,
    r#""sg-00000002""#,
    r#""sg-0000000f""#,
    r#""sgr-00000001""#,
    r#""pl-00000001""#,
    r#""pl-0000000f""#,
    r#""vpc-00000000000000000""#,
    r#""vpc-00000001""#,
    r#""vpc-00000002""#,
    r#""subnet-00000001""#,
    r#""acl-00000001""#,
    r#""pcx-00000001""#,
    r#""111111111111""#,
    r#""AWS""#,
    r#""default""#,
    r#""web""#,
    r#""com.amazonaws.x.s3""#,
    r#""d""#,
    r#""tcp""#,
    r#""icmp""#,
    r#""-1""#,
    r#""6""#,
    r#""10.0.0.0/8""#,
    r#""10.1.2.3/8""#,
    r#""::/0""#,
    r#""IPv4""#,
    r#""IPv6""#,
    r#""allow""#,
    r#""deny""#,
    "-1",
    "0",
    "443",
    "70000",
    "true",
    "false",
    "null",
    "[]",
    "{}",
];

/// The keys of an item, and those of its values that are lists of items, with their number in this table.
const ITEMS: [(&[&str], &[(&str, usize)]); 14] = [
    // 0: the document
    (
        &["NextToken"],
        &[
            ("SecurityGroups", 1),
            ("SecurityGroups", 1),
            ("PrefixLists", 2),
            ("NetworkAcls", 3),
            ("SecurityGroupRules", 4),
            ("Vpcs", 5),
            ("Subnets", 6),
        ],
    ),
    (
        &["GroupId", "GroupName", "VpcId", "OwnerId"],
        &[("IpPermissions", 7), ("IpPermissionsEgress", 7), ("Tags", 12)],
    ),
    (
        &["PrefixListId", "PrefixListName", "AddressFamily", "OwnerId", "MaxEntries", "Version"],
        &[("Entries", 8), ("Tags", 12)],
    ),
    (&["NetworkAclId", "VpcId", "IsDefault"], &[("Entries", 9), ("Associations", 10)]),
    (
        &[
            "SecurityGroupRuleId",
            "GroupId",
            "IsEgress",
            "IpProtocol",
            "FromPort",
            "ToPort",
            "CidrIpv4",
            "CidrIpv6",
            "PrefixListId",
        ],
        &[("Tags", 12)],
    ),
    (&["VpcId", "CidrBlock", "IsDefault"], &[("Tags", 12)]),
    (&["SubnetId", "VpcId", "CidrBlock"], &[("Tags", 12)]),
    (
        &["IpProtocol", "FromPort", "ToPort"],
        &[("IpRanges", 11), ("Ipv6Ranges", 11), ("PrefixListIds", 11), ("UserIdGroupPairs", 13)],
    ),
    (&["Cidr", "Description"], &[]),
    (
        &[
            "Egress",
            "RuleNumber",
            "RuleAction",
            "Protocol",
            "CidrBlock",
            "Ipv6CidrBlock",
            "PrefixListId",
        ],
        &[],
    ),
    (&["SubnetId", "NetworkInterfaceId"], &[]),
    (&["CidrIp", "CidrIpv6", "PrefixListId", "Description"], &[]),
    (&["Key", "Value"], &[]),
    (&["GroupId", "GroupName", "UserId", "VpcId", "VpcPeeringConnectionId", "PeeringStatus"], &[]),
];

/// Values that fit a key; most choices are of these.
fn fitting(key: &str) -> &'static [usize] {
    match key {
        "GroupId" => &[0, 1, 2],
        "SecurityGroupRuleId" => &[3],
        "PrefixListId" => &[4, 5],
        "VpcId" => &[6, 7, 7, 8],
        "SubnetId" => &[9],
        "NetworkAclId" => &[10],
        "VpcPeeringConnectionId" => &[11],
        "UserId" | "OwnerId" => &[12, 13],
        "GroupName" | "PrefixListName" => &[14, 15, 16],
        "IpProtocol" | "Protocol" => &[18, 19, 20, 21],
        "CidrIp" | "CidrIpv4" | "CidrBlock" | "Cidr" => &[22, 23],
        "CidrIpv6" | "Ipv6CidrBlock" => &[24],
        "AddressFamily" => &[25, 26],
        "RuleAction" => &[27, 28],
        "FromPort" | "ToPort" | "RuleNumber" | "MaxEntries" | "Version" => &[29, 30, 31],
        "IsDefault" | "IsEgress" | "Egress" => &[33, 34],
        "NextToken" => &[35],
        _ => &[17],
    }
}

/// Reads the bytes as a document, and the document that they encode; applies what is accepted. Returns how many
/// documents there were.
///
/// # Panics
/// If a document that was applied would change something again, or its export would.
#[must_use]
pub fn run(input: &[u8]) -> u64 {
    let _ = Document::parse(input);
    let mut bytes = Unstructured::new(input);
    let mut model = host().expect("random bytes");
    let mut results = 1;
    while !bytes.is_empty() {
        let (Ok(text), Ok(choice)) = (item(&mut bytes, 0), bytes.arbitrary::<u8>()) else { break };
        results += 1;
        let others = if choice & 1 == 0 { Others::Stay } else { Others::Go };
        let options = Options { create_vpcs: choice & 2 != 0, ..others.into() };
        apply(&mut model, &text, &options);
    }
    results
}

/// A host with what every one has from the start.
fn host() -> std::result::Result<Model, firewall_policy::model::Error> {
    let mut model = Model::default();
    let vpc = Vpc::new_default();
    model.make(Change::CreateAcl(Acl::new_default(vpc.id.clone())?));
    Group::new_default(&vpc)?.into_iter().for_each(|change| model.make(change));
    Ok(model)
}

fn item(bytes: &mut Unstructured<'_>, index: usize) -> Result<String> {
    let (keys, lists) = ITEMS[index];
    let mut parts = Vec::new();
    // What AWS always prints.
    if index == 1 {
        parts.push(r#""Description": "d""#.to_owned());
    }
    for key in keys {
        let choice: u8 = bytes.arbitrary()?;
        let fitting = fitting(key);
        let value = match choice {
            0..=200 => fitting[usize::from(choice) % fitting.len()],
            201..=249 => continue,
            _ => usize::from(bytes.arbitrary::<u8>()?) % VALUES.len(),
        };
        parts.push(format!(r#""{key}": {}"#, VALUES[value]));
    }
    for (key, of) in lists {
        let count: u8 = bytes.arbitrary()?;
        // A key that is there twice is refused as a whole.
        if parts.iter().any(|part| part.starts_with(&format!(r#""{key}""#))) || count > 250 {
            continue;
        }
        let items = (0..count % 3).map(|_| item(bytes, *of)).collect::<Result<Vec<_>>>()?;
        parts.push(format!(r#""{key}": [{}]"#, items.join(", ")));
    }
    Ok(format!("{{{}}}", parts.join(", ")))
}

fn apply(model: &mut Model, text: &str, options: &Options) {
    let Ok(document) = Document::parse(text.as_bytes()) else { return };
    let limits = Limits::default();
    let plan = match Plan::with(model, &document, &limits, options) {
        Ok(plan) => plan,
        Err(errors) => {
            assert!(!errors.is_empty(), "{text}");
            let _ = errors.located(text.as_bytes()).to_string();
            return;
        }
    };
    for step in plan.steps {
        assert!(!step.lines.is_empty(), "{text}");
        if let Change::CreateAcl(acl) = &step.change {
            assert!(!model.acls.contains_key(&acl.id), "{text}");
        }
        if let Change::DeleteGroup(id) = &step.change {
            let group = model.group_by_id(id).expect("a group that is pruned");
            model.check_group_unused(group).expect("an unused group");
        }
        model.make(step.change);
    }
    let again = Plan::with(model, &document, &limits, options).expect("what was accepted");
    assert!(again.is_empty(), "{text}: {:?}", again.steps);
    let exported = export(model);
    let mut bytes = Vec::new();
    exported.write(&mut bytes).expect("memory");
    let read = Document::parse(&bytes).expect("what was exported");
    let same = Plan::new(model, &read, &limits).expect("what was exported");
    assert!(same.is_empty(), "{text}: {:?}", same.steps);
}

fn export(model: &Model) -> Document {
    let identity = Identity::default();
    let vpcs = document::vpcs(&identity, model.vpcs.values(), model.subnets.values());
    let groups = document::groups(&identity, model.groups_by_id());
    let rules =
        model.groups_by_id().flat_map(|group| group.rules.iter().map(move |rule| (group, rule)));
    Document {
        security_groups: groups.security_groups,
        security_group_rules: document::rules(&identity, rules).security_group_rules,
        prefix_lists: document::prefix_lists(&identity, model.prefix_lists.values()).prefix_lists,
        network_acls: document::acls(&identity, model, model.acls.values()).network_acls,
        ..vpcs
    }
}
