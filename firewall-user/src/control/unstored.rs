//! What the kernel has and the store has not: commands for an emergency act on the kernel first, and a store
//! that cannot be written follows as soon as it can.

use std::borrow::Cow;
use std::error::Error;
use std::sync::Arc;

use anyhow::Result;

use super::confirm::left;
use super::{Control, watch};
use crate::dataplane::tables::unstored::Unstored;
use crate::explain::{Exit, Explain};
use crate::model::{Interface, Model};

/// Something is done in the kernel, and the store could not be written.
#[derive(Debug, thiserror::Error)]
#[error("{done}, but this is not stored")]
pub struct NotStored {
    done: String,
    hint: &'static str,
    source: Box<dyn Error + Send + Sync>,
}

/// The store does not follow the kernel, so nothing else may be changed in it.
#[derive(Debug, thiserror::Error)]
#[error("nothing was changed")]
pub struct Unsettled {
    source: Box<dyn Error + Send + Sync>,
}

impl Unsettled {
    pub(super) fn new(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { source: source.into() }
    }
}

impl Explain for Unsettled {
    fn hint(&self) -> Option<Cow<'static, str>> {
        Some(
            "make the store writable, and retry; `panic`, `detach` and what only reads work".into(),
        )
    }
}

/// The kernel has a record of it.
const RECORDED: &str = "it stays so until a reboot; every changing command tries to store it, also `secgroup \
                        reconcile`: make the store writable before the machine is rebooted";

impl NotStored {
    /// `done` says what holds in the kernel.
    pub(super) fn recorded(done: String, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { done, hint: RECORDED, source: source.into() }
    }
}

impl Explain for NotStored {
    fn hint(&self) -> Option<Cow<'static, str>> {
        Some(self.hint.into())
    }

    fn exit(&self) -> Exit {
        Exit::NotStored
    }
}

impl Control {
    /// Everything that is to be enforced, at one moment: what is stored, without a change that is rolled
    /// back or whose deadline is over, and with what could not be stored yet.
    ///
    /// # Errors
    /// The store or the clock cannot be read.
    pub fn model(&self) -> Result<Model> {
        self.shared_model().map(Arc::unwrap_or_clone)
    }

    /// As [`Self::model`], not copied.
    ///
    /// # Errors
    /// The store or the clock cannot be read.
    pub fn shared_model(&self) -> Result<Arc<Model>> {
        // Without permission to see the pins: what is stored.
        let unstored = self.unstored().unwrap_or_default();
        let mut model = self.store.model_without(|pending| {
            let is_rolled_back = unstored.rolled_back == Some(pending.deadline);
            Ok::<_, anyhow::Error>(is_rolled_back || left(pending)?.is_none())
        })?;
        add_unstored(&mut model, &unstored);
        Ok(model)
    }

    /// The model before the unconfirmed change.
    pub(super) fn earlier_model(&self) -> Result<Model> {
        let mut model = self.store.model_without(|_| Ok::<_, anyhow::Error>(true))?;
        add_unstored(&mut model, &self.unstored()?);
        Ok(Arc::unwrap_or_clone(model))
    }

    /// What the kernel has and this store has not.
    ///
    /// # Errors
    /// Its record cannot be read.
    pub fn unstored(&self) -> Result<Unstored> {
        let id = self.enforcer.store.id.as_ref();
        Ok(id.map_or(Ok(Unstored::default()), |id| Unstored::read(&self.enforcer.pins, id))?)
    }

    /// Changes the record of it, if the kernel has anything of this store.
    pub(super) fn record_unstored(&self, change: impl FnOnce(&mut Unstored)) -> Result<()> {
        // Without a store nothing is behind the kernel, and what is attached is another one's.
        let Some(id) = &self.enforcer.store.id else { return Ok(()) };
        if self.enforcer.maps()?.is_none() {
            return Ok(());
        }
        let before = self.unstored()?;
        let mut after = before.clone();
        change(&mut after);
        if after != before {
            after.write(&self.enforcer.pins, id)?;
        }
        Ok(())
    }

    /// Stores what the kernel has and the store has not. The lock is held.
    pub(super) fn store_unstored(&mut self) -> Result<()> {
        let Unstored { panic, rolled_back, detached, kept } = self.unstored()?;
        let mut done = Vec::new();
        let is_detached = !detached.is_empty() || !kept.is_empty();
        if panic.is_some() || is_detached {
            let mut transaction = self.store.begin()?;
            if let Some(is_on) = panic {
                transaction.set_panic(is_on)?;
                done.push(if is_on { "panic" } else { "panic --off" });
            }
            for slot in &detached {
                if transaction.model().interfaces.contains_key(slot) {
                    transaction.delete_interface(*slot)?;
                }
            }
            for slot in &kept {
                if transaction.model().interfaces.contains_key(slot) {
                    transaction.detach_interface(*slot)?;
                }
            }
            if is_detached {
                done.push("detach");
            }
            transaction.commit()?;
        }
        if rolled_back.is_some() || !done.is_empty() {
            self.record_unstored(|unstored| *unstored = Unstored::default())?;
        }
        if !done.is_empty() {
            let done = done.join("` and `");
            watch::report(&format!("`{done}`, which could not be stored before, is stored now"));
        }
        Ok(())
    }
}

fn add_unstored(model: &mut Arc<Model>, unstored: &Unstored) {
    if unstored.is_empty() {
        return;
    }
    let model = Arc::make_mut(model);
    if let Some(is_panicking) = unstored.panic {
        model.is_panicking = is_panicking;
    }
    model.interfaces.retain(|slot, _| !unstored.detached.contains(slot));
    for slot in &unstored.kept {
        let Some(interface) = model.interfaces.remove(slot) else { continue };
        let mut free = Interface::FIRST_UNATTACHED..=u16::MAX;
        if let Some(free) = free.find(|slot| !model.unattached.contains_key(slot)) {
            model.unattached.insert(free, interface.without_device(free));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detached_interface_is_gone_or_has_no_device() {
        let interface = |slot: u16| {
            let id = format!("eni-{slot:017x}").parse().unwrap();
            (slot, Interface::new(id, slot, &format!("eth{slot}"), None))
        };
        let interfaces = [0, 1, 2].map(interface).into();
        let mut model = Arc::new(Model { interfaces, ..Model::default() });
        let id = model.interfaces[&1].id.clone();
        let unstored = Unstored { detached: [0].into(), kept: [1].into(), ..Unstored::default() };
        add_unstored(&mut model, &unstored);
        assert_eq!(model.interfaces.keys().collect::<Vec<_>>(), [&2]);
        let kept: Vec<_> = model.unattached.values().collect();
        assert_eq!(kept.len(), 1);
        assert_eq!((kept[0].id == id, kept[0].is_attached()), (true, false));
    }
}
