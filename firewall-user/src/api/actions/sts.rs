//! Who the caller is: clients ask the Security Token Service on the same port.

use firewall_ec2::{Error, Service, Xml};

use super::Action;
use crate::api::call::Call;

pub(super) const ACTIONS: &[Action] = &[Action {
    name: "GetCallerIdentity",
    service: Service::Sts,
    is_change: false,
    run: get_caller_identity,
}];

fn get_caller_identity(call: &Call<'_>) -> Result<Xml, Error> {
    call.params.finish()?;
    let account = &call.identity().account;
    let mut xml = Xml::new();
    xml.text("Arn", format!("arn:aws:iam::{account}:root"));
    xml.text("UserId", account);
    xml.text("Account", account);
    Ok(xml)
}
