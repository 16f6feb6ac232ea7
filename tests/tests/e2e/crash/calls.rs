//! Calls of the EC2 API: what was answered is stored and in force after `reconcile`, and what was not is there as a
//! whole or not at all.

use std::cell::{Cell, RefCell};
use std::fs;
use std::path::Path;

use secgroup_tests::crash::{Traced, kill_points, run};
use secgroup_tests::secgroup::CommandOutput;
use secgroup_tests::{Pair, Secgroup};
use tempfile::TempDir;

use super::policies::{Probe, Reachable};
use super::{is_new_policy, moments, pins, state};

const PROGRAM: &str = env!("CARGO_BIN_EXE_answer");
/// The ports of the rule that changes: some of the probed ones.
const PORTS: &str = "IpPermissions.1.IpProtocol=udp&IpPermissions.1.FromPort=1001&IpPermissions.1.ToPort=1003\
                     &IpPermissions.1.IpRanges.1.CidrIp=0.0.0.0/0&IpPermissions.1.Ipv6Ranges.1.CidrIpv6=::/0";

/// A host whose API is called.
struct Host<'a> {
    secgroup: &'a Secgroup<'a>,
    directory: TempDir,
}

impl<'a> Host<'a> {
    fn new(secgroup: &'a Secgroup<'a>) -> Self {
        Self { secgroup, directory: TempDir::new().unwrap() }
    }

    fn file(&self) -> std::path::PathBuf {
        self.directory.path().join("answer")
    }

    fn command(&self, form: &str) -> std::process::Command {
        let file = self.file();
        fs::write(&file, "").unwrap();
        let file = file.display().to_string();
        self.secgroup.command_under(&[PROGRAM, &file], form)
    }

    /// The answer to a call, which must be a success.
    fn ok(&self, form: &str) -> String {
        let output = CommandOutput::of(&mut self.command(form));
        let answer = read(&self.file());
        assert!(answer.starts_with("200 "), "{form}: {answer}: {output}");
        answer
    }

    /// Kills a call at every moment, as [`super::kill_at_every_moment`] does it with commands. `check` learns
    /// besides whether the call was answered.
    fn kill_at_every_moment(
        &self,
        mut form: impl FnMut() -> String,
        mut check: impl FnMut(&str, bool),
    ) {
        let Traced { calls, killed, stderr } = run(self.command(&form()), None);
        assert!(!killed && stderr.is_empty(), "without a kill it printed {stderr}");
        check("not killed", true);
        let moments = kill_points(&calls, moments());
        eprintln!("{} calls, killed at {} of them", calls.len(), moments.len());
        let mut kills = 0;
        for moment in moments {
            let traced = run(self.command(&form()), Some(moment));
            kills += usize::from(traced.killed);
            let answer = read(&self.file());
            assert!(answer.is_empty() || answer.starts_with("200 "), "{answer}");
            let when = format!("killed before call {moment}, {:?}", calls[moment]);
            check(&when, !answer.is_empty());
        }
        assert!(kills > 10, "killed only {kills} times");
    }
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_default()
}

/// What is between the first of two texts and the second.
fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let rest = text.split_once(from).unwrap_or_else(|| panic!("no {from} in {text}")).1;
    rest.split_once(to).unwrap_or_else(|| panic!("no {to} in {text}")).0
}

#[test]
fn a_rule_that_is_authorized_and_revoked_by_a_call_can_be_killed_at_any_moment() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    let probe = Probe::new(&net, &secgroup);
    let host = Host::new(&secgroup);
    let created = host.ok("Action=CreateSecurityGroup&GroupName=web&GroupDescription=x");
    let id = between(&created, "<groupId>", "<").to_owned();
    secgroup.ok("rule add web egress --protocol all --cidr ::/0");
    secgroup.ok("attach eth0 --group web");
    let outside = [2001, 2002, 2003];
    let policies: [Reachable; 2] =
        [probe.expected(&[], &outside), probe.expected(&[1001, 1002, 1003], &outside)];
    let described =
        || host.ok(&format!("Action=DescribeSecurityGroups&GroupId.1={id}")).contains("1003");
    let stored = || usize::from(secgroup.ok("rule list web").contains("1001-1003"));
    let expected_pins = pins(secgroup.pin_dir());
    let current = Cell::new(stored());
    let form = || {
        let action = ["Authorize", "Revoke"][current.get()];
        format!("Action={action}SecurityGroupIngress&GroupId={id}&{PORTS}")
    };
    host.kill_at_every_moment(form, |when, is_answered| {
        let (old, new) = (current.get(), stored());
        assert!(!is_answered || new != old, "{when}: answered and not stored");
        let is_new = is_new_policy(&probe, [&policies[old], &policies[1 - old]], when);
        assert!(!is_new || new != old, "{when}: active and not stored");
        assert!(!is_answered || is_new, "{when}: answered and not active");
        secgroup.ok("reconcile");
        assert_eq!((stored(), described()), (new, new == 1), "{when}");
        assert_eq!(probe.reachable(), policies[new], "{when}, after reconcile");
        assert_eq!(state(&secgroup).as_deref(), Some("enforcing"), "{when}");
        assert_eq!(pins(secgroup.pin_dir()), expected_pins, "{when}");
        current.set(new);
    });
}

#[test]
fn a_group_that_is_created_and_deleted_by_a_call_can_be_killed_at_any_moment() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    let host = Host::new(&secgroup);
    secgroup.ok("group create open --description x");
    secgroup.ok("attach eth0 --group open");
    // The group's id, if it is stored.
    let stored = || {
        let filter = "Filter.1.Name=group-name&Filter.1.Value.1=web";
        let group = host.ok(&format!("Action=DescribeSecurityGroups&{filter}"));
        if !group.contains("<groupName>web<") {
            return None;
        }
        // As a whole: with its tag and the rule that it starts with.
        assert!(group.contains("<value>blue</value>") && group.contains("0.0.0.0/0"), "{group}");
        Some(between(&group, "<groupId>", "<").to_owned())
    };
    let current = RefCell::new(stored());
    let form = || match &*current.borrow() {
        Some(id) => format!("Action=DeleteSecurityGroup&GroupId={id}"),
        None => "Action=CreateSecurityGroup&GroupName=web&GroupDescription=x\
                 &TagSpecification.1.ResourceType=security-group&TagSpecification.1.Tag.1.Key=color\
                 &TagSpecification.1.Tag.1.Value=blue"
            .to_owned(),
    };
    host.kill_at_every_moment(form, |when, is_answered| {
        let new = stored();
        let is_changed = new.is_some() != current.borrow().is_some();
        assert!(!is_answered || is_changed, "{when}: answered and not stored");
        secgroup.ok("reconcile");
        assert_eq!(stored(), new, "{when}");
        assert_eq!(state(&secgroup).as_deref(), Some("enforcing"), "{when}");
        current.replace(new);
    });
}

#[test]
fn an_interface_that_is_detached_by_a_killed_call_is_never_lost() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    let host = Host::new(&secgroup);
    let created = host.ok("Action=CreateNetworkInterface&SubnetId=subnet-00000000000000000\
         &TagSpecification.1.ResourceType=network-interface\
         &TagSpecification.1.Tag.1.Key=secgroup:device&TagSpecification.1.Tag.1.Value=eth0");
    let id = between(&created, "<networkInterfaceId>", "<").to_owned();
    let none = "Action=AttachNetworkInterface&NetworkInterfaceId=eni-00000000000000000&InstanceId=i-00000000\
                &DeviceIndex=1";
    CommandOutput::of(&mut host.command(none));
    let instance = between(&read(&host.file()), "this host is ", "<").to_owned();
    let describe =
        || host.ok(&format!("Action=DescribeNetworkInterfaces&NetworkInterfaceId.1={id}"));
    let attachment = || {
        let shown = describe();
        let found = shown.split_once("<attachmentId>");
        found.map(|(_, rest)| rest.split_once('<').unwrap().0.to_owned())
    };
    let form = || {
        let attachment = attachment().unwrap_or_else(|| {
            let attached = host.ok(&format!(
                "Action=AttachNetworkInterface&NetworkInterfaceId={id}&InstanceId={instance}&DeviceIndex=1"
            ));
            between(&attached, "<attachmentId>", "<").to_owned()
        });
        format!("Action=DetachNetworkInterface&AttachmentId={attachment}")
    };
    host.kill_at_every_moment(form, |when, is_answered| {
        let was_attached = attachment().is_some();
        assert!(!is_answered || !was_attached, "{when}: answered and not stored");
        secgroup.ok("reconcile");
        // Detached in the kernel, it is detached in the store; otherwise it is as before.
        assert_eq!(state(&secgroup).is_some(), attachment().is_some(), "{when}");
        assert!(describe().contains(&id), "{when}");
    });
}
