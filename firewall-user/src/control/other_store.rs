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
        let first = if self.pinned.path == self.here.path {
            "restore that store from a backup".to_owned()
        } else {
            let dir = self.pinned.path.parent().unwrap_or(&self.pinned.path);
            format!("`--state-dir {}` names that store", dir.display())
        };
        Some(
            format!(
                "{first}; if it is lost, `secgroup reconcile --adopt` enforces this one instead, and \
                 `secgroup detach --all` ends enforcement"
            )
            .into(),
        )
    }
}

impl StoreIdentity {
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
        Ok(maps.set_owner(&Owner { id: id.clone(), path: self.path.clone() })?)
    }
}
