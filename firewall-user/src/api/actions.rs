//! What EC2's clients can ask for.

use firewall_ec2::{Error, Service, Xml};

use super::call::Call;

mod acls;
mod flow_logs;
mod groups;
mod hosts;
mod interfaces;
mod prefix_lists;
mod rules;
mod sts;
mod tags;
mod vpcs;

/// An action.
#[derive(Debug)]
pub(super) struct Action {
    /// Its name, the value of the parameter `Action`.
    pub(super) name: &'static str,
    /// The service that has it.
    pub(super) service: Service,
    /// Whether it changes something: a read-only key cannot, and a request must not be repeated by others.
    pub(super) is_change: bool,
    /// Reads the parameters, and answers with what is in the element of the answer beside the request's id.
    pub(super) run: fn(&Call<'_>) -> Result<Xml, Error>,
}

impl Action {
    /// An action of EC2 that changes nothing.
    const fn reading(name: &'static str, run: fn(&Call<'_>) -> Result<Xml, Error>) -> Self {
        Self { name, service: Service::Ec2, is_change: false, run }
    }

    /// An action of EC2 that changes something.
    const fn changing(name: &'static str, run: fn(&Call<'_>) -> Result<Xml, Error>) -> Self {
        Self { name, service: Service::Ec2, is_change: true, run }
    }
}

/// Every action.
const ALL: [&[Action]; 10] = [
    groups::ACTIONS,
    rules::ACTIONS,
    prefix_lists::ACTIONS,
    interfaces::ACTIONS,
    acls::ACTIONS,
    tags::ACTIONS,
    flow_logs::ACTIONS,
    vpcs::ACTIONS,
    hosts::ACTIONS,
    sts::ACTIONS,
];

/// The action with this name.
pub(super) fn find(name: &str) -> Option<&'static Action> {
    ALL.iter().copied().flatten().find(|action| action.name == name)
}

/// The answer of an action that returns nothing else.
fn done() -> Xml {
    let mut xml = Xml::new();
    xml.text("return", true);
    xml
}

/// The names of all actions, for documents and tests.
#[must_use]
pub fn names() -> Vec<&'static str> {
    ALL.iter().copied().flatten().map(|action| action.name).collect()
}
