//! What `secgroup prefix-list load` has changed, and how it says so with `--output json`.

use schemars::JsonSchema;
use serde::Serialize;

use crate::cli::json::SCHEMA_VERSION;
use crate::model::{Entries, EntryChange, PrefixList};

/// What a file changes in a list.
pub(super) struct Loaded {
    /// As it is afterwards.
    pub(super) list: PrefixList,
    pub(super) before: Entries,
    pub(super) is_new: bool,
    pub(super) repeated: usize,
    pub(super) left_out: usize,
}

/// What a loaded file changes in a prefix list.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct LoadDocument {
    /// Version of this document: 1.
    schema_version: u32,
    /// Id of the prefix list, `pl-…`; null for one that --dry-run would create.
    prefix_list_id: Option<String>,
    /// Name of the prefix list.
    prefix_list_name: String,
    /// `IPv4` or `IPv6`.
    address_family: &'static str,
    /// Whether the prefix list is created.
    created: bool,
    /// Whether nothing is changed (--dry-run).
    dry_run: bool,
    /// Number of entries afterwards.
    entries: usize,
    /// Networks that become entries.
    added: Vec<String>,
    /// Networks that are no entries any more.
    removed: Vec<String>,
    /// Networks of the entries that get another description.
    described: Vec<String>,
    /// Lines that repeat another one.
    repeated_lines: usize,
    /// Lines of the other family that are left out (--only-family).
    left_out_lines: usize,
}

impl LoadDocument {
    pub(super) fn new(loaded: &Loaded, dry_run: bool) -> Self {
        let Loaded { list, before, is_new, repeated, left_out } = loaded;
        let [mut added, mut removed, mut described] = [const { Vec::new() }; 3];
        for change in before.diff(&list.entries) {
            match change {
                EntryChange::Added(network, _) => added.push(network.to_string()),
                EntryChange::Removed(network) => removed.push(network.to_string()),
                EntryChange::Described(network, _) => described.push(network.to_string()),
            }
        }
        Self {
            schema_version: SCHEMA_VERSION,
            prefix_list_id: (!(dry_run && *is_new)).then(|| list.id.to_string()),
            prefix_list_name: list.name.clone(),
            address_family: list.family.document_name(),
            created: *is_new,
            dry_run,
            entries: list.entries.len(),
            added,
            removed,
            described,
            repeated_lines: *repeated,
            left_out_lines: *left_out,
        }
    }
}
