//! The JSON documents of `--output json`, described for the reference page.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};

use super::block::BlockList;
use super::diff::DiffDocument;
use super::flow_log::document::{FlowLogList, FlowLogRecord};
use super::key::{CreatedKey, KeyList};
use super::prefix_list::LoadDocument;
use super::rule::redundant::RedundantRules;
use super::rule::staged::StagedRules;
use crate::model::document::Document;
pub(crate) use crate::observe::SCHEMA_VERSION;
use crate::observe::explain::Explanations;
use crate::observe::flows::document::{FlowCount, FlowEvent, FlowList, FlowTop};
use crate::observe::hits::document::{RemovalPreview, RuleHitsList, RuleUsers, UnusedRules};
use crate::observe::record::PacketRecord;
use crate::observe::simulate::document::SimulationDocument;
use crate::observe::stats::StatsDocument;
use crate::observe::status::StatusDocument;

/// A JSON document on standard output.
#[derive(Debug)]
pub struct JsonDocument {
    /// What it holds.
    pub title: &'static str,
    /// The commands that print it, without the program's name.
    pub commands: &'static [&'static str],
    /// Its schema, with no references in it.
    pub schema: Schema,
    /// The fields of the schema that it has, for a document in the form of AWS; empty for all.
    pub fields: &'static [&'static str],
}

/// Every JSON document.
#[must_use]
pub fn documents() -> Vec<JsonDocument> {
    vec![
        document::<Document>(
            "Groups",
            &["group list", "group show", "export"],
            &["SecurityGroups"],
        ),
        document::<Document>("Rules", &["rule list", "export"], &["SecurityGroupRules"]),
        document::<DiffDocument>("Difference", &["diff"], &[]),
        document::<SimulationDocument>("Simulation", &["simulate"], &[]),
        document::<RuleHitsList>("Hits of rules", &["rule list --hits"], &[]),
        document::<UnusedRules>("Unused rules", &["rule unused"], &[]),
        document::<RuleUsers>("Users of a rule", &["rule users"], &[]),
        document::<RemovalPreview>("What removing rules would affect", &["rule remove"], &[]),
        document::<RedundantRules>("Redundant rules", &["rule redundant"], &[]),
        document::<StagedRules>("Staged rules", &["rule list --staged"], &[]),
        document::<Document>(
            "Prefix lists",
            &["prefix-list list", "prefix-list show", "export"],
            &["PrefixLists"],
        ),
        document::<Document>("Network ACLs", &["acl list", "acl show", "export"], &["NetworkAcls"]),
        document::<Document>("VPCs", &["vpc list", "export"], &["Vpcs", "Subnets"]),
        document::<LoadDocument>("Loaded prefix list", &["prefix-list load"], &[]),
        document::<StatusDocument>("Status", &["status"], &[]),
        document::<StatsDocument>("Counters", &["stats"], &[]),
        document::<PacketRecord>("Record of packets", &["drops"], &[]),
        document::<Explanations>("Explanation", &["explain"], &[]),
        document::<BlockList>("Blocks", &["block list"], &[]),
        document::<FlowList>("Flows", &["flows list"], &[]),
        document::<FlowCount>("Number of flows", &["flows count"], &[]),
        document::<FlowTop>("Rates of flows", &["flows top"], &[]),
        document::<FlowEvent>("Flow that began or ended", &["flows watch"], &[]),
        document::<FlowLogList>("Flow logs", &["flow-log list"], &[]),
        document::<FlowLogRecord>("Record of a flow log", &["flow-log show"], &[]),
        document::<CreatedKey>("New access key", &["key create"], &[]),
        document::<KeyList>("Access keys", &["key list"], &[]),
    ]
}

fn document<T: JsonSchema>(
    title: &'static str,
    commands: &'static [&'static str],
    fields: &'static [&'static str],
) -> JsonDocument {
    let settings = SchemaSettings::draft2020_12().for_serialize().with(|settings| {
        settings.inline_subschemas = true;
    });
    let schema = settings.into_generator().into_root_schema_for::<T>();
    JsonDocument { title, commands, schema, fields }
}
