//! Requests without a network: forms and answers.

use firewall_ebpf::abi::interface::Direction;
use firewall_ec2::Params;
use tempfile::TempDir;

use super::{Access, Answer, Api, Caller};
use crate::config::{Config, Paths};
use crate::control::{Control, Terms};
use crate::model::{Family, NewRule, Peer, PrefixList, RuleSpec, Traffic, parse_cidr};
use crate::model::{Model, VpcId, VpcSettings};
use crate::store::{self, Store, Transaction};

mod groups;
mod readers;
mod rules;
mod sequences;
mod tree;

/// An endpoint of a host on which nothing is attached.
pub(super) struct Host {
    api: Api,
    paths: Paths,
    _dir: TempDir,
}

impl Host {
    pub(super) fn new() -> Self {
        Self::with(Config::default())
    }

    pub(super) fn with(config: Config) -> Self {
        let dir = TempDir::new().unwrap();
        let paths = Paths {
            state_dir: dir.path().join("state"),
            pin_dir: dir.path().join("pins"),
            config: None,
        };
        Self { api: Api::new(paths.clone(), config), paths, _dir: dir }
    }

    /// The answer to a form: `Action=…&…`, values percent-encoded.
    pub(super) fn call(&self, form: &str) -> Answer {
        let caller = Caller { access: Access::Write, connection: None };
        self.api.answer(&caller, &Params::parse(form.as_bytes()).unwrap())
    }

    /// What another request reads while one changes something.
    pub(super) fn during_a_change<T: Send>(&self, read: impl FnOnce(&Api) -> T + Send) -> T {
        let (answer, answers) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let writer = self.api.writer.0.lock().unwrap();
            scope.spawn(move || answer.send(read(&self.api)));
            let read = answers.recv_timeout(std::time::Duration::from_secs(10));
            drop(writer);
            read.expect("a reading waits for no change")
        })
    }

    /// The model behind the endpoint.
    pub(super) fn model(&self) -> std::sync::Arc<Model> {
        self.api.model().unwrap()
    }

    /// The file of the store.
    pub(super) fn file(&self) -> std::path::PathBuf {
        self.paths.state_dir.join(store::FILE)
    }

    /// The model on the disk, as another process reads it.
    pub(super) fn stored(&self) -> Model {
        Control::open(&self.paths, Config::default()).unwrap().model().unwrap()
    }

    /// Creates another VPC, with an IPv6 network or without.
    pub(super) fn create_vpc(&self, has_ipv6: bool) -> VpcId {
        let settings = VpcSettings {
            cidrs: vec!["10.9.0.0/16".parse().unwrap()],
            ipv6_cidrs: if has_ipv6 { vec!["2001:db8::/56".parse().unwrap()] } else { Vec::new() },
            tenancy: "default".to_owned(),
            dns_support: true,
            dns_hostnames: false,
            usage_metrics: false,
        };
        let terms = Terms::default();
        let create = |control: &mut Control| {
            control.change(&terms, |change| Ok(change.create_vpc(settings, Default::default())?))
        };
        self.api.with_control(create).unwrap()
    }

    /// The body of an answer that must be a success.
    pub(super) fn ok(&self, form: &str) -> String {
        let Answer { status, body, .. } = self.call(form);
        assert_eq!(status, 200, "{form}: {body}");
        body
    }

    /// The directory of the store.
    pub(super) fn state_dir(&self) -> &std::path::Path {
        &self.api.paths.state_dir
    }

    /// Stores what no action can without the kernel.
    pub(super) fn store<T>(
        &self,
        edit: impl FnOnce(&mut Transaction<'_>) -> Result<T, store::Error>,
    ) -> T {
        let mut store = Store::open(&self.api.paths.state_dir).unwrap();
        let mut transaction = store.begin().unwrap();
        let value = edit(&mut transaction).unwrap();
        transaction.commit().unwrap();
        value
    }

    /// Makes a change as the command line does.
    pub(super) fn change<T>(&self, edit: impl FnOnce(&mut Transaction<'_>) -> T) -> T {
        let terms = Terms::default();
        let made = self.api.with_control(|control| control.change(&terms, |it| Ok(edit(it))));
        made.unwrap()
    }

    /// Creates the group `web` with a rule for all traffic of a prefix list; returns the group's id.
    pub(super) fn with_rule_of_list(&self, list: &str) -> String {
        let peer = Peer::PrefixList(list.parse().unwrap());
        let spec = RuleSpec { direction: Direction::Ingress, traffic: Traffic::All, peer };
        let rule = NewRule { spec, description: String::new(), end: None };
        let group = self.ok("Action=CreateSecurityGroup&GroupName=web&GroupDescription=d");
        let id = element(&group, "groupId");
        self.change(|change| change.add_rules(&id.parse().unwrap(), vec![rule]).unwrap());
        id
    }

    /// Creates a prefix list of AWS with the entry 10.0.0.0/8, as a document does; returns its id.
    pub(super) fn with_list_of_aws(&self) -> String {
        let list = PrefixList {
            id: "pl-63a5400a".parse().unwrap(),
            name: "com.amazonaws.local.s3".to_owned(),
            family: Family::Ipv4,
            version: 1,
            entries: [(parse_cidr("10.0.0.0/8").unwrap(), String::new())].into_iter().collect(),
            max_entries: None,
            is_aws: true,
            state: Default::default(),
            tags: Default::default(),
        };
        let id = list.id.to_string();
        self.change(|change| change.create_list_of_aws(list).unwrap());
        id
    }

    /// Status, code and message of an answer that must be an error.
    pub(super) fn error(&self, form: &str) -> (u16, String, String) {
        let Answer { status, body, .. } = self.call(form);
        assert_ne!(status, 200, "{form}: {body}");
        (status, element(&body, "Code"), element(&body, "Message"))
    }
}

/// The text of the first element with this name.
pub(super) fn element(body: &str, name: &str) -> String {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let from = body.find(&open).unwrap_or_else(|| panic!("no {name} in {body}")) + open.len();
    let to = body[from..].find(&close).expect("the end") + from;
    body[from..to].to_owned()
}

#[test]
fn an_unknown_action_is_invalid() {
    let host = Host::new();
    let (status, code, message) = host.error("Action=RunInstances&Version=2016-11-15");
    assert_eq!((status, code.as_str()), (400, "InvalidAction"));
    assert_eq!(message, "The action RunInstances is not valid for this web service.");
    assert_eq!(host.error("").1, "MissingAction");
}

#[test]
fn a_dry_run_checks_and_creates_nothing() {
    let host = Host::new();
    let form = "Action=CreateSecurityGroup&GroupName=web&GroupDescription=d";
    let (status, code, _) = host.error(&format!("{form}&DryRun=true"));
    assert_eq!((status, code.as_str()), (412, "DryRunOperation"));
    let body = host.ok(form);
    assert!(element(&body, "groupId").starts_with("sg-"), "{body}");
    assert_eq!(host.error(form).1, "InvalidGroup.Duplicate");
    assert_eq!(host.error(&format!("{form}&DryRun=true")).1, "InvalidGroup.Duplicate");
    assert_eq!(host.error(&format!("{form}2&X=1")).1, "UnknownParameter");
}

#[test]
fn a_dry_run_is_refused_while_a_change_is_not_confirmed() {
    let host = Host::new();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let (what, boot) = ("rule remove".to_owned(), boot.trim().to_owned());
    let pending = store::Pending { what, boot, deadline: u64::MAX >> 2 };
    host.store(|change| {
        change.copy_tables()?;
        change.create_tagged_acl(VpcId::default_vpc(), Default::default())?;
        change.pend(&pending)
    });
    let form = "Action=CreateSecurityGroup&GroupName=web&GroupDescription=d";
    let refused = host.error(form);
    assert_eq!(refused.1, "IncorrectState");
    assert_eq!(host.error(&format!("{form}&DryRun=true")), refused);
}
