//! Flow logs: checked and stored. A thread of the process delivers their records, and each says what became of them.

use std::borrow::Cow;
use std::collections::BTreeSet;

use firewall_ec2::filter::Filters;
use firewall_ec2::page::Page;
use firewall_ec2::{Error, Xml};

use super::Action;
use crate::api::call::Call;
use crate::api::view::flow_logs as view;
use crate::model::{FlowLog, FlowLogId};
use crate::observe::flow_logs::status::{Status, Statuses};

mod create;
mod settings;
#[cfg(test)]
mod tests;

pub(super) const ACTIONS: &[Action] = &[
    Action::changing("CreateFlowLogs", create::create),
    Action::changing("DeleteFlowLogs", delete),
    Action::reading("DescribeFlowLogs", describe),
];

const FILTERS: [&str; 7] = [
    "deliver-log-status",
    "flow-log-id",
    "log-destination-type",
    "log-group-name",
    "resource-id",
    "tag",
    "traffic-type",
];

fn describe(call: &Call<'_>) -> Result<Xml, Error> {
    let ids: BTreeSet<FlowLogId> = call.ids("FlowLogId")?;
    let filters = Filters::parse(call.params, &FILTERS)?;
    let page = Page::parse(call.params, 1..=1000)?;
    let model = call.read()?;
    let statuses = Statuses::read(call.api().state_dir());
    // Ids that do not exist find nothing, as in EC2.
    let logs = model.flow_logs.values().filter(|log| ids.is_empty() || ids.contains(&log.id));
    let logs =
        logs.filter(|log| filters.matches(&log.tags, |name| values(log, &statuses.of(log), name)));
    let (logs, next) = page.cut(logs.collect(), |log| log.id.to_string());
    let mut xml = Xml::new();
    xml.list("flowLogSet", logs, |xml, log| view::flow_log(xml, log, &statuses.of(log)));
    xml.option("nextToken", next);
    Ok(xml)
}

fn values<'a>(log: &'a FlowLog, status: &Status, name: &str) -> Vec<Cow<'a, str>> {
    let one = |text: &'a str| vec![Cow::Borrowed(text)];
    match name {
        "deliver-log-status" => vec![status.name().into()],
        "flow-log-id" => one(log.id.as_str()),
        "log-destination-type" => one(&log.settings.destination_type),
        "log-group-name" => log.settings.log_group.iter().map(|it| it.as_str().into()).collect(),
        "resource-id" => vec![log.resource.to_string().into()],
        _ => one(&log.settings.traffic),
    }
}

fn delete(call: &Call<'_>) -> Result<Xml, Error> {
    let ids: BTreeSet<FlowLogId> = call.ids("FlowLogId")?;
    if ids.is_empty() {
        return Err(Error::missing("FlowLogId"));
    }
    call.change(|change| {
        let logs = &change.model().flow_logs;
        let missing: Vec<_> = ids.iter().filter(|id| !logs.contains_key(id)).collect();
        if !missing.is_empty() {
            let names: Vec<_> = missing.iter().map(|id| id.as_str()).collect();
            let text = format!(
                "These flow log ids in the input list are not found: [TotalCount: {}] {}",
                names.len(),
                names.join(", ")
            );
            return Err(Error::new("InvalidFlowLogId.NotFound", text).into());
        }
        Ok(ids.iter().try_for_each(|id| change.delete_flow_log(id))?)
    })?;
    let mut xml = Xml::new();
    xml.empty_list("unsuccessful");
    Ok(xml)
}
