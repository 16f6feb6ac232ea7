//! Random sequences of calls of the EC2 API, of every kind: what is described, what is stored, what is compiled and what
//! the reference evaluator decides are the same after each of them.

#![expect(clippy::unwrap_used, reason = "a panic in a test is the report")]

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;

use firewall_ebpf::abi::policy::{MAX_RULE, traffic};
use firewall_ebpf::backend::host::HostTables;
use firewall_ebpf::verdict::lookup::lookup_rule;
use firewall_ebpf::verdict::tables::Interface as _;
use firewall_ec2::Params;
use firewall_user::api::{Access, Answer, Api, Caller};
use firewall_user::config::{Config, Paths};
use firewall_user::model::{GroupId, Interface, InterfaceId, Model, Tracking};
use firewall_user::policy::probes::probes;
use firewall_user::policy::{Addresses, Probe, active_rules, compile, evaluate};
use firewall_user::store::{FILE, Store};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestRunner;
use tempfile::TempDir;

/// Calls with places for what exists: `{group}`, `{rule}`, `{list}`, `{version}`, `{vpc}`, `{subnet}`, `{acl}`,
/// `{interface}`; `{n}` is a number from 0 to 3, and `{net}` a network.
const FORMS: &[&str] = &[
    "CreateSecurityGroup&GroupName=g{n}&GroupDescription=d&VpcId={vpc}",
    "CreateSecurityGroup&GroupName=t{n}&GroupDescription=d&TagSpecification.1.ResourceType=security-group\
     &TagSpecification.1.Tag.1.Key=k{n}&TagSpecification.1.Tag.1.Value=v",
    "DeleteSecurityGroup&GroupId={group}",
    "AuthorizeSecurityGroupIngress&GroupId={group}&IpPermissions.1.IpProtocol=tcp&IpPermissions.1.FromPort=2{n}\
     &IpPermissions.1.ToPort=443&IpPermissions.1.IpRanges.1.CidrIp={net}",
    "AuthorizeSecurityGroupIngress&GroupId={group}&IpPermissions.1.IpProtocol=udp&IpPermissions.1.FromPort=5{n}\
     &IpPermissions.1.ToPort=53&IpPermissions.1.Groups.1.GroupId={group}",
    "AuthorizeSecurityGroupEgress&GroupId={group}&IpPermissions.1.IpProtocol=-1\
     &IpPermissions.1.PrefixListIds.1.PrefixListId={list}",
    "AuthorizeSecurityGroupIngress&GroupId={group}&IpProtocol=icmp&FromPort=8&ToPort=-1&CidrIp={net}",
    "RevokeSecurityGroupIngress&GroupId={group}&SecurityGroupRuleId.1={rule}",
    "RevokeSecurityGroupEgress&GroupId={group}&SecurityGroupRuleId.1={rule}",
    "ModifySecurityGroupRules&GroupId={group}&SecurityGroupRule.1.SecurityGroupRuleId={rule}\
     &SecurityGroupRule.1.SecurityGroupRule.IpProtocol=tcp&SecurityGroupRule.1.SecurityGroupRule.FromPort=8{n}\
     &SecurityGroupRule.1.SecurityGroupRule.ToPort=90&SecurityGroupRule.1.SecurityGroupRule.CidrIpv4={net}",
    "CreateManagedPrefixList&PrefixListName=l{n}&AddressFamily=IPv4&MaxEntries={n}&Entry.1.Cidr={net}",
    "ModifyManagedPrefixList&PrefixListId={list}&CurrentVersion={version}&AddEntry.1.Cidr={net}",
    "ModifyManagedPrefixList&PrefixListId={list}&CurrentVersion={version}&RemoveEntry.1.Cidr={net}",
    "RestoreManagedPrefixListVersion&PrefixListId={list}&CurrentVersion={version}&PreviousVersion=1",
    "DeleteManagedPrefixList&PrefixListId={list}",
    "CreateTags&ResourceId.1={group}&ResourceId.2={list}&Tag.1.Key=k{n}&Tag.1.Value=w",
    "DeleteTags&ResourceId.1={group}&Tag.1.Key=k{n}",
    "CreateVpc&CidrBlock=10.{n}.0.0/16",
    "CreateSubnet&VpcId={vpc}&CidrBlock=10.{n}.{n}.0/24",
    "DeleteSubnet&SubnetId={subnet}",
    "DeleteVpc&VpcId={vpc}",
    "CreateNetworkAcl&VpcId={vpc}",
    "CreateNetworkAclEntry&NetworkAclId={acl}&RuleNumber=1{n}&Protocol=-1&RuleAction=deny&Egress=false\
     &CidrBlock={net}",
    "DeleteNetworkAcl&NetworkAclId={acl}",
];

const NETWORKS: [&str; 4] = ["0.0.0.0/0", "10.0.0.0/8", "192.0.2.0/24", "192.0.2.7/32"];

/// A call: which, what its places are, and whether it is a dry run.
type Call = (usize, [Index; 4], u8, bool);

struct Host {
    api: Api,
    paths: Paths,
    directory: TempDir,
}

impl Host {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let paths = Paths {
            state_dir: directory.path().join("state"),
            pin_dir: directory.path().join("pins"),
            config: None,
        };
        Self { api: Api::new(paths.clone(), Config::default()), paths, directory }
    }

    fn answer(&self, form: &str) -> Answer {
        let caller = Caller { access: Access::Write, connection: None };
        self.api.answer(&caller, &Params::parse(form.as_bytes()).unwrap())
    }

    /// What this process has of the store, and what another one would read.
    fn models(&self) -> [Model; 2] {
        let copy = self.directory.path().join("copy");
        let _ = fs::remove_dir_all(&copy);
        fs::create_dir(&copy).unwrap();
        fs::copy(self.paths.state_dir.join(FILE), copy.join(FILE)).unwrap();
        [&self.paths.state_dir, &copy].map(|dir| Store::open(dir).unwrap().model().unwrap())
    }
}

/// The form of a call; places of which nothing exists have an id that nothing has.
fn form(model: &Model, (at, ids, n, is_dry): &Call) -> String {
    let pick = |all: Vec<String>, missing: &str, index: &Index| {
        if all.is_empty() { missing.to_owned() } else { index.get(&all).clone() }
    };
    let of = |texts: Vec<&str>| texts.into_iter().map(str::to_owned).collect::<Vec<_>>();
    let group = ids[0].get(&model.groups_by_id().collect::<Vec<_>>()).id.clone();
    let rules = model.groups[&group].rules.iter().map(|rule| rule.id.as_str()).collect();
    let list =
        pick(of(model.prefix_lists.keys().map(|id| id.as_str()).collect()), "pl-00000000", &ids[1]);
    let version = model.prefix_lists.values().find(|one| one.id.as_str() == list);
    let mut form = format!("Action={}&Version=2016-11-15", FORMS[*at]);
    for (place, text) in [
        ("{group}", group.to_string()),
        ("{rule}", pick(of(rules), "sgr-00000000", &ids[2])),
        ("{version}", version.map_or(1, |list| list.version).to_string()),
        ("{list}", list),
        (
            "{vpc}",
            pick(of(model.vpcs.keys().map(|id| id.as_str()).collect()), "vpc-00000000", &ids[3]),
        ),
        (
            "{subnet}",
            pick(
                of(model.subnets.keys().map(|id| id.as_str()).collect()),
                "subnet-00000000",
                &ids[3],
            ),
        ),
        (
            "{acl}",
            pick(of(model.acls.keys().map(|id| id.as_str()).collect()), "acl-00000000", &ids[3]),
        ),
        ("{net}", NETWORKS[usize::from(*n) % NETWORKS.len()].to_owned()),
        ("{n}", (n % 4).to_string()),
    ] {
        form = form.replace(place, &text);
    }
    if *is_dry { form + "&DryRun=true" } else { form }
}

/// The rule that the kernel program's own lookup finds in compiled tables.
fn lookup(tables: &HostTables, probe: Probe) -> Option<u32> {
    let IpAddr::V4(outside) = probe.outside else { return None };
    let traffic = traffic(probe.protocol, probe.port);
    let outside = u32::from_ne_bytes(outside.octets());
    lookup_rule(tables, tables.active(), probe.direction, outside, traffic)
        .map(|rule| rule & MAX_RULE)
}

/// Compares the tables of an interface that has all groups of a VPC, five at a time, with the evaluator.
fn check_tables(model: &Model) {
    let groups: Vec<GroupId> = model.groups.keys().cloned().collect();
    for groups in groups.chunks(5) {
        let mut interface = Interface::new(InterfaceId::random().unwrap(), 0, "eth0", None);
        interface.groups = groups.to_vec();
        let rules = active_rules(model, &Addresses::new(), &interface);
        let tables = HostTables::new(0, compile(&rules, Tracking::Always).unwrap());
        for probe in probes(&[], &rules).into_iter().filter(|probe| probe.outside.is_ipv4()) {
            let allowed: Vec<u32> = evaluate(&rules, probe).collect();
            let found = lookup(&tables, probe);
            assert_eq!(found.is_some(), !allowed.is_empty(), "{probe:?}: {allowed:?}");
            assert!(found.is_none_or(|rule| allowed.contains(&rule)), "{probe:?}: {found:?}");
        }
    }
}

fn check(calls: &[Call], accepted: &RefCell<BTreeSet<usize>>) {
    let host = Host::new();
    host.answer("Action=DescribeSecurityGroups");
    let [mut before, _] = host.models();
    for call in calls {
        let form = form(&before, call);
        let Answer { status, body, .. } = host.answer(&form);
        assert!(status < 500 && !body.contains("InternalError"), "{form}: {body}");
        let [model, stored] = host.models();
        assert_eq!(model, stored, "{form}: {body}");
        if status == 200 {
            accepted.borrow_mut().insert(call.0);
        } else {
            assert_eq!(model, before, "{form}: {body}");
        }
        let described = host.answer("Action=DescribeSecurityGroupRules&MaxResults=1000").body;
        let all: Vec<_> = model.groups_by_id().flat_map(|group| &group.rules).collect();
        assert_eq!(described.matches("<securityGroupRuleId>").count(), all.len(), "{form}");
        for rule in all {
            assert!(described.contains(&format!(">{}<", rule.id)), "{form}: no {rule:?}");
        }
        check_tables(&model);
        before = model;
    }
}

#[test]
fn any_sequence_of_calls_leaves_all_consistent() {
    let accepted = RefCell::new(BTreeSet::new());
    let call = (0..FORMS.len(), any::<[Index; 4]>(), any::<u8>(), prop::bool::weighted(0.1));
    let calls = prop::collection::vec(call, 1..40);
    let config = ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() };
    let ran = TestRunner::new(config).run(&calls, |calls| {
        check(&calls, &accepted);
        Ok(())
    });
    ran.unwrap_or_else(|error| panic!("{error}"));
    // Not only refusals.
    let accepted = accepted.into_inner();
    assert!(accepted.len() * 3 >= FORMS.len() * 2, "accepted: {accepted:?}");
}
