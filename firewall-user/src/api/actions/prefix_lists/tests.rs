//! Prefix lists as clients use them.

use crate::api::tests::{Host, element};

const CREATE: &str = "Action=CreateManagedPrefixList&PrefixListName=office&AddressFamily=IPv4";

fn create(host: &Host, more: &str) -> String {
    element(&host.ok(&format!("{CREATE}{more}")), "prefixListId")
}

fn entries(host: &Host, more: &str) -> Vec<String> {
    let body = host.ok(&format!("Action=GetManagedPrefixListEntries&PrefixListId={more}"));
    let parts = body.split("<cidr>").skip(1);
    parts.map(|part| part.split("</cidr>").next().unwrap().to_owned()).collect()
}

#[test]
fn a_list_is_created_modified_restored_and_deleted() {
    let host = Host::new();
    let body = host.ok(&format!(
        "{CREATE}&MaxEntries=3&Entry.1.Cidr=10.1.2.3/8&Entry.1.Description=a&\
         TagSpecification.1.ResourceType=prefix-list&TagSpecification.1.Tag.1.Key=k"
    ));
    let id = element(&body, "prefixListId");
    let arn = format!("arn:aws:ec2:local:000000000000:prefix-list/{id}");
    let expected = format!(
        "<prefixList><prefixListId>{id}</prefixListId><addressFamily>IPv4</addressFamily>\
         <state>create-complete</state><prefixListArn>{arn}</prefixListArn>\
         <prefixListName>office</prefixListName><maxEntries>3</maxEntries><version>1</version>\
         <tagSet><item><key>k</key><value></value></item></tagSet><ownerId>000000000000</ownerId>\
         </prefixList>"
    );
    assert!(body.contains(&expected), "{body}");
    assert_eq!(entries(&host, &id), ["10.0.0.0/8"]);

    let modify = format!("Action=ModifyManagedPrefixList&PrefixListId={id}");
    let body = host.ok(&format!(
        "{modify}&CurrentVersion=1&AddEntry.1.Cidr=192.0.2.0/24&RemoveEntry.1.Cidr=10.0.0.0/8"
    ));
    assert_eq!(
        (element(&body, "state"), element(&body, "version")),
        ("modify-complete".into(), "2".into())
    );
    assert_eq!(entries(&host, &id), ["192.0.2.0/24"]);
    assert_eq!(entries(&host, &format!("{id}&TargetVersion=1")), ["10.0.0.0/8"]);
    assert_eq!(entries(&host, &format!("{id}&TargetVersion=2")), ["192.0.2.0/24"]);
    // A new name or size makes no version.
    let body = host.ok(&format!("{modify}&PrefixListName=offices&MaxEntries=2&CurrentVersion=2"));
    assert_eq!(element(&body, "version"), "2");
    assert_eq!(element(&body, "prefixListName"), "offices");

    let restore =
        format!("Action=RestoreManagedPrefixListVersion&PrefixListId={id}&PreviousVersion=1");
    assert_eq!(host.error(&format!("{restore}&CurrentVersion=1")).1, "PrefixListVersionMismatch");
    let body = host.ok(&format!("{restore}&CurrentVersion=2"));
    assert_eq!(
        (element(&body, "state"), element(&body, "version")),
        ("restore-complete".into(), "3".into())
    );
    assert_eq!(entries(&host, &id), ["10.0.0.0/8"]);

    let delete = format!("Action=DeleteManagedPrefixList&PrefixListId={id}");
    assert_eq!(host.error(&format!("{delete}&DryRun=true")).1, "DryRunOperation");
    assert_eq!(element(&host.ok(&delete), "state"), "delete-complete");
    let (_, code, message) =
        host.error(&format!("Action=DescribeManagedPrefixLists&PrefixListId.1={id}"));
    assert_eq!(code, "InvalidPrefixListID.NotFound");
    assert_eq!(message, format!("The prefix list ID '{id}' does not exist"));
}

#[test]
fn the_same_token_gives_the_same_list() {
    let host = Host::new();
    let token = "&MaxEntries=3&ClientToken=t";
    let id = create(&host, token);
    assert_eq!(create(&host, token), id);
    let (_, code, _) = host.error(&format!("{CREATE}&MaxEntries=4&ClientToken=t"));
    assert_eq!(code, "IdempotentParameterMismatch");
    // Without a token it is another request.
    assert_eq!(host.error(&format!("{CREATE}&MaxEntries=3")).1, "InvalidParameterValue");
    let long = format!("{CREATE}&MaxEntries=3&ClientToken={}", "x".repeat(65));
    assert_eq!(host.error(&long).1, "InvalidParameterValue");
    host.ok(&format!("Action=DeleteManagedPrefixList&PrefixListId={id}"));
    assert_eq!(host.error(&format!("{CREATE}{token}")).1, "InvalidPrefixListID.NotFound");
}

#[test]
fn modifications_that_ec2_refuses_are_refused() {
    let host = Host::new();
    let id = create(&host, "&MaxEntries=2&Entry.1.Cidr=10.0.0.0/8&Entry.2.Cidr=11.0.0.0/8");
    let modify = format!("Action=ModifyManagedPrefixList&PrefixListId={id}");
    let many: String =
        (0..101).map(|n| format!("&AddEntry.{}.Cidr=12.0.0.{n}/32", n + 1)).collect();
    for (more, code) in [
        ("&CurrentVersion=2&RemoveEntry.1.Cidr=10.0.0.0/8", "PrefixListVersionMismatch"),
        ("&CurrentVersion=0&RemoveEntry.1.Cidr=10.0.0.0/8", "InvalidParameterValue"),
        ("&AddEntry.1.Cidr=12.0.0.0/8", "PrefixListMaxEntriesExceeded"),
        ("&AddEntry.1.Cidr=10.0.0.0/8", "InvalidParameterValue"),
        ("&RemoveEntry.1.Cidr=12.0.0.0/8", "InvalidParameterValue"),
        (
            "&RemoveEntry.1.Cidr=10.0.0.0/8&AddEntry.1.Cidr=10.0.0.0/8",
            "InvalidParameterCombination",
        ),
        ("&RemoveEntry.1.Cidr=10.0.0.0/8&MaxEntries=3", "InvalidParameterCombination"),
        ("&AddEntry.1.Cidr=::/0&RemoveEntry.1.Cidr=10.0.0.0/8", "InvalidParameterValue"),
        ("&MaxEntries=1", "PrefixListMaxEntriesExceeded"),
        ("&MaxEntries=0", "InvalidParameterValue"),
        ("&MaxEntries=1001", "InvalidParameterValue"),
        ("&PrefixListName=com.amazonaws.x", "InvalidParameterValue"),
        (&many, "InvalidParameterValue"),
        ("", "MissingParameter"),
        ("&X=1", "MissingParameter"),
        ("&MaxEntries=3&X=1", "UnknownParameter"),
    ] {
        assert_eq!(host.error(&format!("{modify}{more}")).1, code, "{more}");
    }
    // Nothing of them was made.
    assert_eq!(entries(&host, &id), ["10.0.0.0/8", "11.0.0.0/8"]);
    let restore = "Action=RestoreManagedPrefixListVersion&PreviousVersion=7&CurrentVersion=1";
    assert_eq!(host.error(&format!("{restore}&PrefixListId={id}")).1, "InvalidParameterValue");
    for (form, code) in [
        (format!("{CREATE}2&MaxEntries=1"), "InvalidParameterValue"),
        (CREATE.to_owned(), "MissingParameter"),
        (CREATE.replace("IPv4", "IPv5") + "&MaxEntries=1", "InvalidParameterValue"),
        (
            "Action=DescribeManagedPrefixLists&PrefixListId.1=x".into(),
            "InvalidPrefixListId.Malformed",
        ),
        ("Action=DescribeManagedPrefixLists&MaxResults=101".into(), "InvalidParameterValue"),
        (
            format!("Action=GetManagedPrefixListEntries&PrefixListId={id}&TargetVersion=2"),
            "InvalidParameterValue",
        ),
    ] {
        assert_eq!(host.error(&form).1, code, "{form}");
    }
}

#[test]
fn lists_are_found_by_filters_and_in_pages() {
    let host = Host::new();
    let describe = |more: &str| {
        let body = host.ok(&format!("Action=DescribeManagedPrefixLists{more}"));
        (body.matches("<item>").count(), body)
    };
    for name in ["a1", "a2", "b1"] {
        host.ok(&format!("{}&MaxEntries=1", CREATE.replace("office", name)));
    }
    let filter =
        |name: &str, value: &str| format!("&Filter.1.Name={name}&Filter.1.Value.1={value}");
    assert_eq!(describe("").0, 3);
    assert_eq!(describe(&filter("prefix-list-name", "a*")).0, 2);
    assert_eq!(describe(&filter("owner-id", "000000000000")).0, 3);
    assert_eq!(describe(&filter("owner-id", "AWS")).0, 0);
    assert_eq!(describe(&filter("tag:k", "v")).0, 0);
    let (count, body) = describe("&MaxResults=2");
    assert_eq!(count, 2);
    assert_eq!(describe(&format!("&MaxResults=2&NextToken={}", element(&body, "nextToken"))).0, 1);
    assert!(host.ok("Action=DescribePrefixLists").contains("<prefixListSet></prefixListSet>"));
}

#[test]
fn entries_come_in_pages_in_their_order() {
    let host = Host::new();
    let id = create(
        &host,
        "&MaxEntries=9&Entry.1.Cidr=9.0.0.0/8&Entry.2.Cidr=10.0.0.0/8&Entry.3.Cidr=10.0.0.0/9",
    );
    let get = format!("Action=GetManagedPrefixListEntries&PrefixListId={id}&MaxResults=2");
    let body = host.ok(&get);
    assert!(
        body.contains("<cidr>9.0.0.0/8</cidr>") && body.contains("<cidr>10.0.0.0/8</cidr>"),
        "{body}"
    );
    let next = element(&body, "nextToken");
    assert_eq!(entries(&host, &format!("{id}&MaxResults=2&NextToken={next}")), ["10.0.0.0/9"]);
}

#[test]
fn a_list_in_use_is_not_deleted_and_its_users_are_named() {
    let host = Host::new();
    let id = create(&host, "&MaxEntries=1&Entry.1.Cidr=10.0.0.0/8");
    let of_group = "Action=GetManagedPrefixListAssociations";
    assert!(
        host.ok(&format!("{of_group}&PrefixListId={id}")).contains("<prefixListAssociationSet></")
    );
    let group = host.with_rule_of_list(&id);
    let body = host.ok(&format!("{of_group}&PrefixListId={id}"));
    assert_eq!(element(&body, "resourceId"), group);
    assert_eq!(element(&body, "resourceOwner"), "000000000000");
    let (_, code, message) =
        host.error(&format!("Action=DeleteManagedPrefixList&PrefixListId={id}"));
    assert_eq!(code, "DependencyViolation");
    assert!(
        message.contains("has a dependent object") && message.contains("group web"),
        "{message}"
    );
    // Its size counts as rules of the group, so that it cannot be raised beyond the quota of 60.
    let modify = format!("Action=ModifyManagedPrefixList&PrefixListId={id}");
    host.ok(&format!("{modify}&MaxEntries=60"));
    let (_, code, _) = host.error(&format!("{modify}&MaxEntries=61"));
    assert_eq!(code, "RulesPerSecurityGroupLimitExceeded");
    // Within its size entries need no room in the group.
    host.ok(&format!("{modify}&AddEntry.1.Cidr=11.0.0.0/8"));
}

#[test]
fn a_list_of_aws_is_shown_and_not_changed() {
    let host = Host::new();
    let id = host.with_list_of_aws();
    let body = host.ok(&format!("Action=DescribeManagedPrefixLists&PrefixListId.1={id}"));
    assert_eq!(element(&body, "ownerId"), "AWS");
    assert_eq!(element(&body, "prefixListArn"), format!("arn:aws:ec2:local:aws:prefix-list/{id}"));
    assert!(!body.contains("<version>") && !body.contains("<maxEntries>"), "{body}");
    let body = host.ok("Action=DescribePrefixLists");
    assert!(body.contains("<cidrSet><item>10.0.0.0/8</item></cidrSet>"), "{body}");
    for form in [
        format!("Action=ModifyManagedPrefixList&PrefixListId={id}&AddEntry.1.Cidr=1.0.0.0/8"),
        format!("Action=ModifyManagedPrefixList&PrefixListId={id}&PrefixListName=x"),
        format!(
            "Action=RestoreManagedPrefixListVersion&PrefixListId={id}&PreviousVersion=1&CurrentVersion=1"
        ),
        format!("Action=DeleteManagedPrefixList&PrefixListId={id}"),
    ] {
        assert_eq!(host.error(&form).1, "OperationNotPermitted", "{form}");
    }
}
