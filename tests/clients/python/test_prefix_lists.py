"""Managed prefix lists."""

import re

from conftest import filters, name, of, refused, tcp


def described(ec2, listed):
    (found,) = ec2.describe_managed_prefix_lists(PrefixListIds=[listed])["PrefixLists"]
    return found


def entries(ec2, listed, **arguments):
    answer = ec2.get_managed_prefix_list_entries(PrefixListId=listed, **arguments)
    return [entry["Cidr"] for entry in answer["Entries"]]


def test_a_new_list_has_an_id_an_arn_tags_and_version_one(ec2, account, region):
    its_name, tags = name("list"), [{"Key": "team", "Value": "net"}]
    created = ec2.create_managed_prefix_list(
        PrefixListName=its_name,
        AddressFamily="IPv4",
        MaxEntries=3,
        Entries=[{"Cidr": "192.0.2.0/24", "Description": "docs"}, {"Cidr": "198.51.100.0/24"}],
        TagSpecifications=[{"ResourceType": "prefix-list", "Tags": tags}],
    )["PrefixList"]
    listed = created["PrefixListId"]
    assert re.fullmatch("pl-[0-9a-f]{17}", listed)
    found = described(ec2, listed)
    for answer in [created, found]:
        assert answer["PrefixListName"] == its_name
        assert answer["AddressFamily"] == "IPv4"
        assert answer["MaxEntries"] == 3
        assert answer["Version"] == 1
        assert answer["OwnerId"] == account
        assert answer["Tags"] == tags
        assert answer["PrefixListArn"] == f"arn:aws:ec2:{region}:{account}:prefix-list/{listed}"
    assert found["State"] == "create-complete"
    answer = ec2.get_managed_prefix_list_entries(PrefixListId=listed)["Entries"]
    assert answer == [{"Cidr": "192.0.2.0/24", "Description": "docs"}, {"Cidr": "198.51.100.0/24"}]
    ec2.delete_managed_prefix_list(PrefixListId=listed)
    refused("InvalidPrefixListID.NotFound", ec2.describe_managed_prefix_lists, PrefixListIds=[listed])
    refused("InvalidPrefixListID.NotFound", ec2.get_managed_prefix_list_entries, PrefixListId=listed)


def test_lists_that_ec2_refuses(ec2):
    def create(code, **arguments):
        whole = {"PrefixListName": name("list"), "AddressFamily": "IPv4", "MaxEntries": 3, **arguments}
        return refused(code, ec2.create_managed_prefix_list, **{key: value for key, value in whole.items() if value is not None})

    create("MissingParameter", PrefixListName=None)
    create("MissingParameter", AddressFamily=None)
    create("MissingParameter", MaxEntries=None)
    create("InvalidParameterValue", AddressFamily="IPv5")
    create("InvalidParameterValue", MaxEntries=0)
    create("InvalidParameterValue", PrefixListName="com.amazonaws.local.s3")
    create("InvalidParameterValue", PrefixListName="x" * 256)
    create("InvalidParameterValue", Entries=[{"Cidr": "2001:db8::/32"}])
    create("InvalidParameterValue", Entries=[{"Cidr": "10.0.0.0/33"}])


def test_entries_make_versions_that_can_be_restored(ec2, make_list):
    listed = make_list(["10.1.0.0/16"])
    change = ec2.modify_managed_prefix_list
    answer = change(PrefixListId=listed, CurrentVersion=1, AddEntries=[{"Cidr": "10.2.0.0/16", "Description": "two"}])
    assert answer["PrefixList"]["PrefixListId"] == listed
    assert described(ec2, listed)["State"] == "modify-complete"
    assert described(ec2, listed)["Version"] == 2
    answer = change(PrefixListId=listed, CurrentVersion=2, RemoveEntries=[{"Cidr": "10.1.0.0/16"}])
    assert entries(ec2, listed) == ["10.2.0.0/16"]
    assert entries(ec2, listed, TargetVersion=1) == ["10.1.0.0/16"]
    assert sorted(entries(ec2, listed, TargetVersion=2)) == ["10.1.0.0/16", "10.2.0.0/16"]
    refused(
        "PrefixListVersionMismatch",
        change,
        PrefixListId=listed,
        CurrentVersion=2,
        AddEntries=[{"Cidr": "10.3.0.0/16"}],
        text="The prefix list has the incorrect version number.",
    )
    ec2.restore_managed_prefix_list_version(PrefixListId=listed, CurrentVersion=3, PreviousVersion=1)
    found = described(ec2, listed)
    assert (found["Version"], found["State"]) == (4, "restore-complete")
    assert entries(ec2, listed) == ["10.1.0.0/16"]
    # A name makes no version.
    renamed = name("list")
    change(PrefixListId=listed, PrefixListName=renamed)
    found = described(ec2, listed)
    assert (found["Version"], found["PrefixListName"]) == (4, renamed)


def test_only_the_size_or_the_entries_are_changed_at_once(ec2, make_list):
    listed = make_list(["10.1.0.0/16", "10.2.0.0/16"], size=2)
    refused(
        "InvalidParameterCombination",
        ec2.modify_managed_prefix_list,
        PrefixListId=listed,
        CurrentVersion=1,
        MaxEntries=5,
        AddEntries=[{"Cidr": "10.3.0.0/16"}],
        text="You cannot modify the entries and the maximum entries for the prefix list in the same request.",
    )
    full = {"PrefixListId": listed, "CurrentVersion": 1, "AddEntries": [{"Cidr": "10.3.0.0/16"}]}
    refused("PrefixListMaxEntriesExceeded", ec2.modify_managed_prefix_list, **full)
    ec2.modify_managed_prefix_list(PrefixListId=listed, MaxEntries=3)
    found = described(ec2, listed)
    assert (found["MaxEntries"], found["Version"]) == (3, 1)
    ec2.modify_managed_prefix_list(**full)
    assert len(entries(ec2, listed)) == 3


def test_a_list_in_use_is_found_and_is_not_deleted(ec2, make_list, group):
    listed = make_list(["10.1.0.0/16"])
    peer = {"PrefixListIds": [{"PrefixListId": listed}]}
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[tcp(22, **peer)])
    answer = ec2.get_managed_prefix_list_associations(PrefixListId=listed)["PrefixListAssociations"]
    assert [one["ResourceId"] for one in answer] == [group]
    refused("DependencyViolation", ec2.delete_managed_prefix_list, PrefixListId=listed)
    # The size counts as so many rules.
    text = refused("RulesPerSecurityGroupLimitExceeded", ec2.modify_managed_prefix_list, PrefixListId=listed, MaxEntries=61)
    assert described(ec2, listed)["MaxEntries"] == 5, text
    ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=[tcp(22, **peer)])


def test_a_client_token_makes_one_list(ec2, make_list):
    token = name("token")
    arguments = {"PrefixListName": name("list"), "AddressFamily": "IPv4", "MaxEntries": 2, "ClientToken": token}
    first = ec2.create_managed_prefix_list(**arguments)["PrefixList"]["PrefixListId"]
    again = ec2.create_managed_prefix_list(**arguments)["PrefixList"]["PrefixListId"]
    assert first == again
    refused("IdempotentParameterMismatch", ec2.create_managed_prefix_list, **{**arguments, "MaxEntries": 4})
    ec2.delete_managed_prefix_list(PrefixListId=first)


def test_filters_and_pages(ec2, make_list, account):
    made = [make_list(), make_list(family="IPv6"), make_list()]
    names = [described(ec2, one)["PrefixListName"] for one in made]

    def found(**chosen):
        answer = ec2.describe_managed_prefix_lists(Filters=filters(**chosen))
        return {one["PrefixListId"] for one in answer["PrefixLists"]} & set(made)

    assert found(prefix_list_name=names[0]) == {made[0]}
    assert found(prefix_list_id=made[:2]) == set(made[:2])
    assert found(owner_id=account) == set(made)
    assert found(prefix_list_name="list-*") == set(made)
    refused("InvalidParameterValue", ec2.describe_managed_prefix_lists, Filters=filters(no_such="x"))
    token, seen = {}, []
    while True:
        page = ec2.describe_managed_prefix_lists(MaxResults=1, **token)
        assert len(page["PrefixLists"]) == 1
        seen += [one["PrefixListId"] for one in page["PrefixLists"]]
        if "NextToken" not in page:
            break
        token = {"NextToken": page["NextToken"]}
    assert set(made) <= set(seen) and len(set(seen)) == len(seen)


def test_ids_that_do_not_exist(ec2):
    unknown = "pl-0123456789abcdef0"
    refused("InvalidPrefixListID.NotFound", ec2.delete_managed_prefix_list, PrefixListId=unknown)
    refused("InvalidPrefixListID.NotFound", ec2.modify_managed_prefix_list, PrefixListId=unknown, MaxEntries=2)
    refused("InvalidPrefixListID.NotFound", ec2.get_managed_prefix_list_associations, PrefixListId=unknown)
    answer = ec2.describe_prefix_lists()["PrefixLists"]
    assert isinstance(answer, list)


def test_a_dry_run_creates_no_list(ec2):
    its_name = name("list")
    refused(
        "DryRunOperation",
        ec2.create_managed_prefix_list,
        PrefixListName=its_name,
        AddressFamily="IPv4",
        MaxEntries=1,
        DryRun=True,
    )
    answer = ec2.describe_managed_prefix_lists(Filters=filters(prefix_list_name=its_name))
    assert answer["PrefixLists"] == []
