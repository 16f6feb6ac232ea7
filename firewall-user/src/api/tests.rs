//! Requests without a network: forms and answers.

use firewall_ec2::Params;
use tempfile::TempDir;

use super::{Access, Answer, Api, Caller};
use crate::config::{Config, Paths};

/// An endpoint of a host on which nothing is attached.
pub(super) struct Host {
    api: Api,
    _dir: TempDir,
}

impl Host {
    pub(super) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let paths = Paths {
            state_dir: dir.path().join("state"),
            pin_dir: dir.path().join("pins"),
            config: None,
        };
        Self { api: Api::new(paths, Config::default()), _dir: dir }
    }

    /// The answer to a form: `Action=…&…`, values percent-encoded.
    pub(super) fn call(&self, form: &str) -> Answer {
        let caller = Caller { access: Access::Write, connection: None };
        self.api.answer(&caller, &Params::parse(form.as_bytes()).unwrap())
    }

    /// The body of an answer that must be a success.
    pub(super) fn ok(&self, form: &str) -> String {
        let Answer { status, body, .. } = self.call(form);
        assert_eq!(status, 200, "{form}: {body}");
        body
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
