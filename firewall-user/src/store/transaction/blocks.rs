//! Making and removing blocks.

use super::Transaction;
use crate::model::{Block, Change, Error as ModelError, NewBlock};
use crate::store::Error;

/// What became of a block that was to be made; each with its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// It is new.
    New(u32),
    /// The target was blocked already: the block has another end or reason now, and its counter goes on.
    Changed(u32),
    /// The same block exists already.
    Same(u32),
}

impl Transaction<'_> {
    /// Blocks a target. If it is blocked already, there or everywhere, as the new block says, that block gets
    /// the new end, and the new reason if there is one.
    ///
    /// # Errors
    /// Its prefix list does not exist, its interface is not attached, or its target is a group.
    pub fn add_block(&mut self, new: NewBlock) -> Result<Blocked, Error> {
        self.model.check_block(&new)?;
        let NewBlock { target, interface, reason, end, created } = new;
        let Some(here) = self.model.block_of(&target, interface.as_ref()) else {
            let reason = reason.unwrap_or_default();
            let block = Block { number: 0, target, interface, reason, end, created };
            let number = self.write_and(Change::AddBlock(block), |made| match made {
                Change::AddBlock(block) => block.number,
                _ => 0,
            })?;
            return Ok(Blocked::New(number));
        };
        let number = here.number;
        let reason = reason.unwrap_or_else(|| here.reason.clone());
        let block = Block { reason, end, ..here.clone() };
        if block == *here {
            return Ok(Blocked::Same(number));
        }
        self.write(Change::ReplaceBlock(block))?;
        Ok(Blocked::Changed(number))
    }

    /// Removes a block by its number.
    ///
    /// # Errors
    /// There is none.
    pub fn remove_block(&mut self, number: u32) -> Result<(), Error> {
        if !self.model.blocks.contains_key(&number) {
            return Err(
                ModelError::BlockNotFound { target: number.to_string(), within: None }.into()
            );
        }
        self.write(Change::RemoveBlock(number))
    }
}
