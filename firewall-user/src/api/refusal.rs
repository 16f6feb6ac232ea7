//! Errors of this host as EC2's errors.

use firewall_ec2::Error;

use crate::control::confirm::Unconfirmed;
use crate::control::enforcement::NotEnforced;
use crate::control::{LockedOut, OtherStore};
use crate::dataplane::DataplaneError;
use crate::explain::Explain;
use crate::model;

mod groups;
mod network;

/// The error of a change or a reading.
pub(super) fn refusal(error: &anyhow::Error) -> Error {
    for cause in error.chain() {
        if let Some(error) = cause.downcast_ref::<Error>() {
            return error.clone();
        }
        if let Some(error) = cause.downcast_ref::<model::Error>() {
            return of_model(error);
        }
        if let Some(crate::store::Error::Model(error)) = cause.downcast_ref() {
            return of_model(error);
        }
        if let Some(error) = cause.downcast_ref::<LockedOut>() {
            return explained("OperationNotPermitted", error);
        }
        if let Some(error) = cause.downcast_ref::<Unconfirmed>() {
            return explained("IncorrectState", error);
        }
        if let Some(error) = cause.downcast_ref::<NotEnforced>() {
            return explained("IncorrectState", error);
        }
        if let Some(error) = cause.downcast_ref::<OtherStore>() {
            return explained("IncorrectState", error);
        }
        if let Some(error) = cause.downcast_ref::<DataplaneError>() {
            return explained("InternalError", error);
        }
    }
    Error::new("InternalError", one_line(&format!("{error:#}")))
}

/// An error of the model, with EC2's code and, where it is known, its text; see [`message`].
pub(super) fn of_model(error: &model::Error) -> Error {
    Error::new(error.code(), message(error))
}

/// The text that EC2 has for an error, and where none is known, our own.
fn message(error: &model::Error) -> String {
    use model::Error as E;
    if let Some(text) = groups::message(error).or_else(|| network::message(error)) {
        return text;
    }
    match error {
        E::PrefixListInUse { id, .. } => {
            format!("resource {id} has a dependent object: {}", with_hint(&error.to_string(), None))
        }
        E::SubnetNotFound(id) => format!("The subnet ID '{id}' does not exist"),
        E::VpcRange(cidr) | E::SubnetRange(cidr) => format!("The CIDR '{cidr}' is invalid."),
        E::SubnetConflict { network, id } => {
            format!("The CIDR '{network}' conflicts with another subnet: {id}")
        }
        E::VpcInUse { id, .. } => {
            format!("The vpc '{id}' has dependencies and cannot be deleted: {error}")
        }
        E::SubnetInUse { id, .. } => {
            format!("The subnet '{id}' has dependencies and cannot be deleted: {error}")
        }
        E::VpcsLimit { .. } => {
            with_hint("The maximum number of VPCs has been reached.", error.hint().as_deref())
        }
        E::SubnetsLimit { .. } => {
            with_hint("The maximum number of subnets has been reached.", error.hint().as_deref())
        }
        _ => with_hint(&error.to_string(), error.hint().as_deref()),
    }
}

fn explained(code: &str, error: &dyn Explain) -> Error {
    Error::new(code, with_hint(&error.to_string(), error.hint().as_deref()))
}

fn with_hint(text: &str, hint: Option<&str>) -> String {
    let text = hint.map_or_else(|| text.to_owned(), |hint| format!("{text}; {hint}"));
    one_line(&text)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
