//! Making and removing blocks.

use std::collections::HashMap;

use super::Transaction;
use crate::model::{Block, Change, Error as ModelError, InterfaceId, NewBlock, Peer};
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
    /// Blocks targets, all or none; the results are in the order given. One that is blocked already, there or
    /// everywhere, as the new block says, gets the new end, and the new reason if there is one.
    ///
    /// # Errors
    /// A prefix list does not exist, an interface is not attached, or a target is a group.
    pub fn add_blocks(
        &mut self,
        new: impl IntoIterator<Item = NewBlock>,
    ) -> Result<Vec<Blocked>, Error> {
        let known = self.model.blocks.values();
        let mut known: HashMap<(Peer, Option<InterfaceId>), u32> = known
            .map(|block| ((block.target.clone(), block.interface.clone()), block.number))
            .collect();
        let mut done = Vec::new();
        for one in new {
            self.model.check_block(&one)?;
            let key = (one.target.clone(), one.interface.clone());
            let here = known.get(&key).and_then(|number| self.model.blocks.get(number)).cloned();
            let blocked = self.put_block(one, here)?;
            if let Blocked::New(number) = blocked {
                known.insert(key, number);
            }
            done.push(blocked);
        }
        Ok(done)
    }

    /// As [`Self::add_blocks`], for one.
    ///
    /// # Errors
    /// As there.
    pub fn add_block(&mut self, new: NewBlock) -> Result<Blocked, Error> {
        self.model.check_block(&new)?;
        let here = self.model.block_of(&new.target, new.interface.as_ref()).cloned();
        self.put_block(new, here)
    }

    /// `here`: the block of this target that there is.
    fn put_block(&mut self, new: NewBlock, here: Option<Block>) -> Result<Blocked, Error> {
        let NewBlock { target, interface, reason, end, created } = new;
        let Some(here) = here else {
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
        if block == here {
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
