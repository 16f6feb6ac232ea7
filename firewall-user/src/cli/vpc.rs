//! `secgroup vpc`

use anyhow::Result;
use clap::Subcommand;

use super::output::{self, Format, Output};
use super::table::{Column, table};
use super::{Context, Exit};
use crate::model::{Identity, Model, Subnet, Vpc, document};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the VPCs and their subnets: names that group interfaces, groups and network ACLs
    List(Output),
}

impl Command {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        let Self::List(Output { output }) = self;
        let model = context.control_reading()?.model()?;
        match output {
            Format::Json => output::json(&document::vpcs(
                &context.config.ec2,
                model.vpcs.values(),
                model.subnets.values(),
            ))?,
            Format::Table => list(&model, &context.config.ec2)?,
        }
        Ok(Exit::Done)
    }
}

fn list(model: &Model, identity: &Identity) -> Result<()> {
    let rows = model.vpcs.values().flat_map(|vpc| {
        let own = model.subnets.values().filter(|subnet| subnet.vpc == vpc.id);
        std::iter::once(vpc_row(model, vpc))
            .chain(own.map(|subnet| subnet_row(model, subnet, identity)))
            .collect::<Vec<_>>()
    });
    table(
        [
            Column::text("VPC OR SUBNET"),
            Column::text("NETWORKS"),
            Column::text("DEFAULT").dropped(2),
            Column::text("ZONE").dropped(1),
            Column::number("GROUPS"),
            Column::number("INTERFACES"),
        ],
        rows,
    )
}

fn vpc_row(model: &Model, vpc: &Vpc) -> [String; 6] {
    let settings = &vpc.settings;
    let v4 = settings.cidrs.iter().map(ToString::to_string);
    let networks: Vec<_> = v4.chain(settings.ipv6_cidrs.iter().map(ToString::to_string)).collect();
    let groups = model.groups_by_id().filter(|group| group.vpc == vpc.id).count();
    let interfaces = model.interfaces.values().filter(|one| model.vpc_of(one) == vpc.id).count();
    [
        vpc.id.to_string(),
        output::or_dash(&networks.join(",")),
        yes(vpc.is_default),
        "-".to_owned(),
        groups.to_string(),
        interfaces.to_string(),
    ]
}

fn subnet_row(model: &Model, subnet: &Subnet, identity: &Identity) -> [String; 6] {
    let settings = &subnet.settings;
    let v4 = settings.cidr.iter().map(ToString::to_string);
    let networks: Vec<_> = v4.chain(settings.ipv6_cidr.iter().map(ToString::to_string)).collect();
    let interfaces = model.interfaces.values().filter(|one| one.subnet == subnet.id).count();
    [
        subnet.id.to_string(),
        output::or_dash(&networks.join(",")),
        yes(subnet.is_default),
        settings.zone.clone().unwrap_or_else(|| identity.zone()),
        "-".to_owned(),
        interfaces.to_string(),
    ]
}

fn yes(is: bool) -> String {
    if is { "yes" } else { "-" }.to_owned()
}
