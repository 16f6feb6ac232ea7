//! `secgroup block list`

use std::collections::BTreeMap;

use anyhow::Result;
use firewall_ebpf::abi::counter::Counter;
use schemars::JsonSchema;
use serde::Serialize;

use crate::cli::json::SCHEMA_VERSION;
use crate::cli::output::{self, Format};
use crate::cli::table::{Column, table};
use crate::cli::{Context, Exit, ends};
use crate::clock::Clocks;
use crate::control::Control;
use crate::model::{Block, Interface, Model, Peer, rfc3339};

/// The blocks.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub(in crate::cli) struct BlockList {
    /// Version of this document: 1.
    schema_version: u32,
    /// The blocks, by target and interface.
    blocks: Vec<Item>,
}

/// A block.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
struct Item {
    /// Network, ADDRESS/LENGTH; null if a prefix list is blocked.
    cidr: Option<String>,
    /// Id of the prefix list, `pl-…`; null if a network is blocked.
    prefix_list_id: Option<String>,
    /// Name of the prefix list.
    prefix_list_name: Option<String>,
    /// Id of the only interface that it applies to, `eni-…`; null for every one.
    network_interface_id: Option<String>,
    /// Network device of that interface; of another network namespace NAMESPACE/DEVICE.
    device: Option<String>,
    /// Why, as it was given; may be empty.
    reason: String,
    /// When it was made (RFC 3339).
    created: String,
    /// When it ends by itself (RFC 3339); null if it does not.
    ends_at: Option<String>,
    /// Seconds until then; 0 once it has ended and is not removed yet.
    left_seconds: Option<u64>,
    /// Packets that it dropped, of both directions; null if nothing is attached.
    packets: Option<u64>,
    /// Bytes of whole frames that it dropped.
    bytes: Option<u64>,
}

pub(super) fn run(context: &Context, format: Format) -> Result<Exit> {
    let control = context.control_reading()?;
    let model = control.model()?;
    let counters = counters(&control)?;
    let mut blocks: Vec<&Block> = model.blocks.values().collect();
    blocks.sort_by_cached_key(|block| (block.target.clone(), label(&model, block)));
    match format {
        Format::Json => output::value(&document(&model, counters.as_ref(), &blocks))?,
        Format::Table => print(&model, counters.as_ref(), &blocks)?,
    }
    Ok(Exit::Done)
}

type Counters = BTreeMap<u32, Counter>;

/// The counters in the kernel; `None`: nothing is attached.
fn counters(control: &Control) -> Result<Option<Counters>> {
    let maps = control.maps()?;
    Ok(maps.map(|maps| maps.rule_counters()).transpose()?)
}

fn counter(counters: Option<&Counters>, block: &Block) -> Option<Counter> {
    counters.map(|counters| counters.get(&block.number).copied().unwrap_or_default())
}

fn interface<'a>(model: &'a Model, block: &Block) -> Option<&'a Interface> {
    let id = block.interface.as_ref()?;
    model.interface_by_id(id).ok()
}

fn label(model: &Model, block: &Block) -> Option<String> {
    interface(model, block).map(Interface::label)
}

fn document(model: &Model, counters: Option<&Counters>, blocks: &[&Block]) -> BlockList {
    let now = Clocks::now().moment.boottime;
    let item = |block: &&Block| {
        let counter = counter(counters, block);
        let (cidr, list) = match &block.target {
            Peer::PrefixList(id) => (None, Some(id)),
            target => (Some(target.to_string()), None),
        };
        let name = list.and_then(|id| model.prefix_lists.get(id)).map(|list| list.name.clone());
        Item {
            cidr,
            prefix_list_id: list.map(ToString::to_string),
            prefix_list_name: name,
            network_interface_id: block.interface.as_ref().map(ToString::to_string),
            device: label(model, block),
            reason: block.reason.clone(),
            created: rfc3339(block.created),
            ends_at: block.end.map(|end| end.text()),
            left_seconds: block.end.map(|end| end.left(now).unwrap_or(0).div_ceil(1_000_000_000)),
            packets: counter.map(|counter| counter.packets),
            bytes: counter.map(|counter| counter.bytes),
        }
    };
    BlockList { schema_version: SCHEMA_VERSION, blocks: blocks.iter().map(item).collect() }
}

fn print(model: &Model, counters: Option<&Counters>, blocks: &[&Block]) -> Result<()> {
    let has_interfaces = blocks.iter().any(|block| block.interface.is_some());
    let row = |block: &&Block| {
        let counter = counter(counters, block);
        let number = |field: fn(Counter) -> u64| {
            counter.map_or_else(|| "-".to_owned(), |counter| field(counter).to_string())
        };
        [
            model.peer_text(&block.target),
            label(model, block).unwrap_or_else(|| "all".to_owned()),
            rfc3339(block.created),
            ends::left(block.end),
            number(|counter| counter.packets),
            number(|counter| counter.bytes),
            output::or_dash(&block.reason),
        ]
    };
    table(
        [
            Column::text("TARGET"),
            Column::text("INTERFACE").dropped(4).only_if(has_interfaces),
            Column::text("SINCE").dropped(2),
            Column::text("LEFT").dropped(5),
            Column::number("PACKETS").dropped(6),
            Column::number("BYTES").dropped(1),
            Column::text("REASON").dropped(3),
        ],
        blocks.iter().map(row),
    )
}
