//! The check that what is in the kernel belongs to the store that a command uses.

use std::borrow::Cow;
use std::path::PathBuf;

use anyhow::Result;

use crate::dataplane::tables::maps::Maps;
use crate::dataplane::tables::owner::Owner;
use crate::explain::Explain;

/// The store of a command.
#[derive(Clone, Debug)]
pub(super) struct StoreIdentity {
    /// Its id; `None` if there is no store.
    pub(super) id: Option<String>,
    /// Its file.
    pub(super) path: PathBuf,
}

/// What is attached is of another store: a mistake in `--state-dir`, or a store that was lost and created anew.
#[derive(Debug, thiserror::Error)]
#[error(
    "what is attached is of the store {} (id {}), and this is the store {}{}",
    pinned.path.display(), pinned.id, here.path.display(), id_text(here)
)]
pub struct OtherStore {
    pinned: Owner,
    here: StoreIdentity,
}

fn id_text(here: &StoreIdentity) -> String {
    here.id.as_ref().map_or_else(|| ", which does not exist".to_owned(), |id| format!(" (id {id})"))
}

impl Explain for OtherStore {
    fn hint(&self) -> Option<Cow<'static, str>> {
        let adopt = "`secgroup reconcile --adopt` lets this store take over, and detaches what it does not have";
        let hint = if self.here.is_lost(&self.pinned) {
            format!(
                "that store is gone: restore it from a backup; or {adopt}; or `secgroup detach --all` ends \
                 enforcement"
            )
        } else {
            let dir = self.pinned.path.parent().unwrap_or(&self.pinned.path);
            format!("`--state-dir {}` names that store; {adopt}", dir.display())
        };
        Some(hint.into())
    }
}

impl StoreIdentity {
    /// Whether a store that is not this one does not exist any more, as far as its path tells.
    pub(super) fn is_lost(&self, other: &Owner) -> bool {
        Some(&other.id) != self.id.as_ref() && (other.path == self.path || !other.path.exists())
    }

    /// Refuses maps of another store, and records this one in maps that have none yet.
    pub(super) fn require(&self, maps: &mut Maps) -> Result<()> {
        match (maps.owner()?, &self.id) {
            (None, None) => Ok(()),
            (None, Some(_)) => self.adopt(maps),
            (Some(pinned), id) if Some(&pinned.id) == id.as_ref() => Ok(()),
            (Some(pinned), _) => Err(OtherStore { pinned, here: self.clone() }.into()),
        }
    }

    /// Records this store as that of the maps.
    pub(super) fn adopt(&self, maps: &mut Maps) -> Result<()> {
        let Some(id) = &self.id else { return Ok(()) };
        // What is in force there is of no generation of this store.
        maps.set_applied(None)?;
        Ok(maps.set_owner(&Owner { id: id.clone(), path: self.path.clone() })?)
    }
}
