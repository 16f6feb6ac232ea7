//! The blocks of the whole host.

use anyhow::Result;

use super::numbers::Indexes;
use super::{Context, refused};
use crate::control::boot;
use crate::control::enforcer::require_memory_for;
use crate::control::progress::Progress;
use crate::dataplane::DataplaneError;
use crate::dataplane::tables::blocks::BlockShadow;
use crate::dataplane::tables::maps::Maps;
use crate::dataplane::tables::memory::trie_memory;
use crate::model::Model;
use crate::policy::blocks::{
    CompiledBlocks, ResolvedBlock, block_probes, check_blocks, compile_blocks, resolve_blocks,
};
use crate::policy::probes::Asked;

/// The blocks of the whole host with the indexes of their counters.
pub(super) fn resolve(model: &Model, indexes: &Indexes) -> Vec<ResolvedBlock> {
    resolve_blocks(model, &|number| indexes.of(number))
}

/// Compiles the blocks.
///
/// # Errors
/// They do not fit.
pub(in crate::control) fn compile(blocks: &[ResolvedBlock]) -> Result<CompiledBlocks> {
    compile_blocks(blocks).map_err(|error| {
        let hint = "fewer blocks, or shorter prefix lists, make the tables smaller";
        DataplaneError::new(format!("blocks: {error}"), hint).into()
    })
}

/// Blocks that are written but not in force.
#[derive(Debug)]
pub(super) struct StagedBlocks {
    /// `None`: those that are in force stay.
    pub(super) shadow: Option<BlockShadow>,
    /// Whether anything is blocked afterwards.
    pub(super) are_any: bool,
}

/// Writes the blocks beside those that are in force, if they differ, and looks them up there.
///
/// # Errors
/// They do not fit, the kernel refuses them, or finds something else there.
pub(super) fn stage(
    maps: &mut Maps,
    context: Context<'_>,
    (before, wanted): (Option<&Model>, &[ResolvedBlock]),
    progress: &mut Progress,
) -> Result<StagedBlocks> {
    let Context { prior, indexes, .. } = context;
    if prior.is_some_and(|prior| resolve(prior.model, indexes) == wanted) {
        return Ok(StagedBlocks { shadow: None, are_any: maps.blocks_any()? });
    }
    let blocks = compile(wanted)?;
    let are_any = !blocks.is_empty();
    if maps.blocks_are_current(&blocks)? && (before.is_some() || maps.blocks_are_complete()?) {
        return Ok(StagedBlocks { shadow: None, are_any });
    }
    let old = before.map(|before| resolve(before, indexes)).unwrap_or_default();
    // Compiled only where it may spare writes.
    let known = if are_any && !old.is_empty() { Some(compile(&old)?) } else { None };
    let plan = maps.plan_blocks(known.as_ref(), &blocks)?;
    if plan.is_whole() {
        let needed = trie_memory([blocks.v4.len(), blocks.v6.len()]);
        require_memory_for("the tables of blocked networks", needed)?;
    }
    progress.expect_more(plan.entries());
    let shadow = maps.shadow_blocks(plan, &blocks, &mut |done| progress.advance(done))?;
    maps.publish_blocks(&shadow)?;
    if are_any && !wanted.iter().any(|block| context.is_moved(block.counter)) {
        let from = boot::nanoseconds()?;
        let results = maps.probe_blocks(&shadow, &block_probes(&old, wanted))?;
        let asked = Asked { from, to: boot::nanoseconds()? };
        check_blocks(wanted, asked, &results).map_err(|error| refused("blocks", &error))?;
    }
    Ok(StagedBlocks { shadow: Some(shadow), are_any })
}
