//! `CreateFlowLogs`.

use std::collections::BTreeMap;

use anyhow::Result;
use firewall_ec2::{Error, Xml};
use serde::{Deserialize, Serialize};

use super::settings;
use crate::api::call::Call;
use crate::api::refusal::of_model;
use crate::model::{self, FlowLogSettings, Logged, Model};
use crate::store::{self, Transaction};

/// The most resources of a request, as in EC2.
const MAX_RESOURCES: usize = 1000;

/// What became of a request: it can succeed for some resources and fail for others.
#[derive(Default, Serialize, Deserialize)]
struct Made {
    ids: Vec<String>,
    failed: Vec<Failed>,
}

/// A resource that has no flow log.
#[derive(Serialize, Deserialize)]
struct Failed {
    resource: String,
    code: String,
    message: String,
}

/// `CreateFlowLogs`.
pub(super) fn create(call: &Call<'_>) -> std::result::Result<Xml, Error> {
    let params = call.params;
    let kind = params.required("ResourceType")?;
    let ids = params.texts("ResourceId")?;
    if ids.is_empty() {
        return Err(Error::missing("ResourceId"));
    }
    if ids.len() > MAX_RESOURCES {
        return Err(Error::invalid(format!(
            "A request can have {MAX_RESOURCES} resources at most"
        )));
    }
    let resources =
        ids.iter().map(|id| resource(kind, id)).collect::<std::result::Result<Vec<_>, _>>()?;
    let settings = settings::parse(params)?;
    let tags = call.tags("vpc-flow-log")?.unwrap_or_default();
    let token = params.text("ClientToken").map(str::to_owned);
    call.change_once(
        |change| {
            let made = make(change, resources, &settings, &tags)?;
            Ok(serde_json::to_string(&made)?)
        },
        |_, answer| {
            let Made { ids, failed } = serde_json::from_str(answer)?;
            let mut xml = Xml::new();
            xml.option("clientToken", token);
            xml.texts("flowLogIdSet", ids);
            xml.list("unsuccessful", failed, |xml, Failed { resource, code, message }| {
                xml.node("error", |xml| {
                    xml.text("code", code);
                    xml.text("message", message);
                });
                xml.text("resourceId", resource);
            });
            Ok(xml)
        },
    )
}

fn resource(kind: &str, id: &str) -> std::result::Result<Logged, Error> {
    let parsed = match kind {
        "VPC" => id.parse().map(Logged::Vpc),
        "Subnet" => id.parse().map(Logged::Subnet),
        "NetworkInterface" => id.parse().map(Logged::Interface),
        _ => {
            return Err(Error::invalid(format!(
                "Value ({kind}) for parameter ResourceType is invalid. Must be VPC, Subnet or NetworkInterface."
            )));
        }
    };
    parsed.map_err(|error| of_model(&error))
}

fn make(
    change: &mut Transaction<'_>,
    resources: Vec<Logged>,
    settings: &FlowLogSettings,
    tags: &BTreeMap<String, String>,
) -> Result<Made> {
    let mut made = Made::default();
    for resource in resources {
        let mut failed = |error: Error| {
            let Error { code, message, .. } = error;
            made.failed.push(Failed { resource: resource.to_string(), code, message });
        };
        if let Err(error) = require(change.model(), &resource) {
            failed(of_model(&error));
            continue;
        }
        let mut logs = change.model().flow_logs.values();
        if logs.any(|log| log.resource == resource && log.settings == *settings) {
            let text = "Error. There is an existing Flow Log with the same configuration and log destination.";
            failed(Error::new("FlowLogAlreadyExists", text));
            continue;
        }
        match change.create_flow_log(resource.clone(), settings.clone(), tags.clone()) {
            Ok(id) => made.ids.push(id.to_string()),
            Err(store::Error::Model(error @ model::Error::FlowLogsLimit { .. })) => {
                failed(of_model(&error));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(made)
}

fn require(model: &Model, resource: &Logged) -> std::result::Result<(), model::Error> {
    match resource {
        Logged::Vpc(id) => model.vpc_by_id(id).map(drop),
        Logged::Subnet(id) => model.subnet_by_id(id).map(drop),
        Logged::Interface(id) => model.interface_by_id(id).map(drop),
    }
}
