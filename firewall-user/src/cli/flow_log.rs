//! `secgroup flow-log`

use std::borrow::Cow;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};

use super::output::{self, Format, Output};
use super::table::{Column, table};
use super::{Context, Exit};
use crate::control::named::Named;
use crate::control::{Control, Terms};
use crate::explain::Explain;
use crate::model::{
    self, FlowLogId, FlowLogSettings, InterfaceId, Logged, Model, RecordFiles, SubnetId, VpcId,
};
use crate::observe::flow_logs::destination::{self, Plan};
use crate::observe::flow_logs::field;
use crate::observe::flow_logs::status::{DeliveryLock, Statuses};

pub(super) mod document;
mod show;
mod tail;

use document::FlowLogList;

#[derive(Debug, Subcommand)]
#[command(after_help = "\
`secgroup serve` delivers them: docs/flow-logs.md.

Examples:
  secgroup flow-log create eth0 --interval 60
  secgroup flow-log list
  secgroup flow-log show --port https --direction ingress
  secgroup flow-log tail --interval 10")]
pub(super) enum Command {
    /// Create a flow log of an interface, a subnet or a VPC, and print its id
    Create(Create),
    /// List the flow logs, and whether their records are delivered
    List(Output),
    /// Delete a flow log; its files stay
    Delete {
        /// Flow log by id
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Print the records in files of flow logs
    Show(show::Show),
    /// Print records as they come, without files and without a flow log
    Tail(tail::Tail),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  secgroup flow-log create eth0 --interval 60
  secgroup flow-log create vpc-00000000000000000 --traffic reject --bucket rejects/eu --per-hour
  secgroup flow-log create eth0 --log-group flows --format '${start} ${srcaddr} ${dstaddr} ${reason}'")]
pub(super) struct Create {
    /// Network device, of another network namespace as NAMESPACE/DEVICE; or the id of an interface, a
    /// subnet or a VPC
    #[arg(value_name = "IFACE|ID")]
    resource: String,
    /// Packets: those that passed, those that were dropped, or all
    #[arg(long, default_value = "all", value_parser = ["accept", "reject", "all"])]
    traffic: String,
    /// Directory of the files in that of the configuration: a name as of a bucket of S3, and a prefix
    #[arg(
        long,
        value_name = "NAME[/PREFIX]",
        default_value = "flow-logs",
        value_parser = bucket
    )]
    bucket: String,
    /// Write to the journal with this log group, and no files
    #[arg(long, value_name = "NAME", conflicts_with_all = ["bucket", "hive", "per_hour"])]
    log_group: Option<String>,
    /// Fields of a record, as '${start} ${srcaddr}' [default: those of version 2]
    #[arg(long, value_name = "FIELDS", value_parser = fields)]
    format: Option<field::Format>,
    /// Seconds of a record, at most
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = ["60", "600"])]
    interval: String,
    /// Names of directories are KEY=VALUE, as Hive has them
    #[arg(long)]
    hive: bool,
    /// A directory for each hour
    #[arg(long)]
    per_hour: bool,
    /// Accept a flow log of the resource with the same settings, and print its id
    #[arg(long)]
    if_not_exists: bool,
}

/// A resource has a flow log with the same settings.
#[derive(Debug, thiserror::Error)]
#[error("{resource} has flow log {id} with these settings already")]
pub(super) struct Exists {
    id: FlowLogId,
    resource: Logged,
}

impl Explain for Exists {
    fn hint(&self) -> Option<Cow<'static, str>> {
        Some("--if-not-exists accepts it; `secgroup flow-log list` shows the flow logs".into())
    }
}

impl Command {
    /// See [`super::Command::needs_configuration`].
    pub(super) const fn needs_configuration(&self) -> bool {
        matches!(self, Self::Create(_) | Self::Show(_))
    }

    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        match self {
            Self::Create(create) => create.run(context).context("flow-log create"),
            Self::List(output) => list(context, output.output).context("flow-log list"),
            Self::Delete { id } => delete(context, &id).context("flow-log delete"),
            Self::Show(show) => show.run(context).context("flow-log show"),
            Self::Tail(tail) => tail.run(context).context("flow-log tail"),
        }
    }
}

impl Create {
    fn run(self, context: &Context) -> Result<Exit> {
        let mut control = context.control()?;
        let resource = resource(&control, &control.model()?, &self.resource)?;
        let settings = self.settings()?;
        Plan::new(&settings)?;
        let id = control.change(&Terms::default(), |change| {
            let known = change.model().flow_logs.values();
            let same =
                known.filter(|log| log.resource == resource).find(|log| log.settings == settings);
            match same {
                Some(same) if self.if_not_exists => return Ok(same.id.clone()),
                // As in EC2 (FlowLogAlreadyExists).
                Some(same) => return Err(Exists { id: same.id.clone(), resource }.into()),
                None => {}
            }
            Ok(change.create_flow_log(resource.clone(), settings.clone(), Default::default())?)
        })?;
        output::lines([id])?;
        if !DeliveryLock::is_taken(&context.paths.state_dir) {
            output::note("nothing delivers flow logs: `secgroup serve` does");
        }
        Ok(Exit::Done)
    }

    fn settings(&self) -> Result<FlowLogSettings> {
        let Self { traffic, bucket, log_group, format, interval, hive, per_hour, .. } = self;
        let format = format.clone().unwrap_or_default();
        let is_of_files = log_group.is_none();
        let destination_type = if is_of_files { "s3" } else { "cloud-watch-logs" };
        let plain =
            RecordFiles { format: "plain-text".to_owned(), is_hive: *hive, is_per_hour: *per_hour };
        Ok(FlowLogSettings {
            traffic: traffic.to_ascii_uppercase(),
            destination_type: destination_type.to_owned(),
            destination: is_of_files.then(|| format!("arn:aws:s3:::{bucket}")),
            log_group: log_group.clone(),
            permission: None,
            cross_account_role: None,
            format: format.to_string(),
            interval: interval.parse()?,
            files: (is_of_files && (*hive || *per_hour)).then_some(plain),
            tag_fields: Vec::new(),
        })
    }
}

fn bucket(word: &str) -> Result<String, String> {
    let parts = destination::parts(&format!("arn:aws:s3:::{word}"));
    parts.map(|_| word.to_owned()).map_err(|error| error.to_string())
}

fn fields(text: &str) -> Result<field::Format, String> {
    text.parse().map_err(|error: field::FormatError| error.to_string())
}

/// The interface, subnet or VPC that a word names.
fn resource(control: &Control, model: &Model, word: &str) -> Result<Logged> {
    let is_id = [VpcId::PREFIX, SubnetId::PREFIX, InterfaceId::PREFIX]
        .iter()
        .any(|prefix| word.starts_with(prefix));
    if !is_id {
        return Ok(Logged::Interface(
            Named::new(word, None)?.of(control.pins(), model)?.id.clone(),
        ));
    }
    let resource: Logged = word.parse()?;
    match &resource {
        Logged::Vpc(id) => model.vpc_by_id(id).map(drop),
        Logged::Subnet(id) => model.subnet_by_id(id).map(drop),
        Logged::Interface(id) => model.interface_by_id(id).map(drop),
    }?;
    Ok(resource)
}

fn delete(context: &Context, id: &str) -> Result<Exit> {
    let id: FlowLogId = id.parse()?;
    let mut control = context.control_existing()?;
    control.change(&Terms::default(), |change| Ok(change.delete_flow_log(&id)?))?;
    Ok(Exit::Done)
}

fn list(context: &Context, format: Format) -> Result<Exit> {
    let model = context.control_reading()?.model()?;
    let state_dir = &context.paths.state_dir;
    let statuses = Statuses::read(state_dir);
    let is_running = DeliveryLock::is_taken(state_dir);
    let list = FlowLogList::new(&model, &statuses, is_running);
    match format {
        Format::Json => output::value(&list)?,
        Format::Table => {
            table(
                [
                    Column::text("FLOW LOG"),
                    Column::text("RESOURCE"),
                    Column::text("TRAFFIC").dropped(3),
                    Column::number("INTERVAL").dropped(2),
                    Column::text("DESTINATION"),
                    Column::text("DELIVERY"),
                    Column::number("RECORDS").dropped(1),
                ],
                list.rows(),
            )?;
            let errors = list.errors();
            if !errors.is_empty() {
                output::lines(errors)?;
            }
            if !is_running && !model.flow_logs.is_empty() {
                output::note("nothing delivers flow logs: `secgroup serve` does");
            }
        }
    }
    Ok(Exit::Done)
}

/// The directory of a configuration's flow logs.
fn directory(context: &Context) -> PathBuf {
    context.config.flow_logs.directory.as_str().into()
}

/// When a flow log was created, for a document.
fn time(milliseconds: i64) -> String {
    model::rfc3339(milliseconds)
}
