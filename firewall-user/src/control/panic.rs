//! Emergency mode: everything is dropped except the traffic of the management networks, until the mode
//! is ended. Groups may change meanwhile; the changes become active at its end.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::Result;
use ipnet::IpNet;

use super::enforcement::present_device;
use super::enforcer::{Enforcer, is_managed};
use super::{Control, lockout, ssh, watch};
use crate::dataplane::host::preflight::{self, Work};
use crate::dataplane::tables::maps::Maps;
use crate::explain::Explain;
use crate::model::{Interface, Model};
use crate::store::Transaction;

/// The most passes over the flow tables to remove flows: one that moves between them during a pass is
/// found in the next.
const PASSES: u32 = 8;

/// Emergency mode would lock its caller out.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum Unmanaged {
    /// No management network is set.
    #[error("no management network is set, so every packet would be dropped")]
    Nowhere,
    /// The caller's address is in no management network.
    #[error("your SSH connection comes from {0}, which is in no management network")]
    Elsewhere(IpAddr),
}

impl Explain for Unmanaged {
    fn hint(&self) -> Option<Cow<'static, str>> {
        let example = match self {
            Self::Nowhere => "192.0.2.0/24".to_owned(),
            Self::Elsewhere(address) => IpNet::from(*address).to_string(),
        };
        Some(
            format!(
                "`secgroup management set {example}` sets one; --force makes the change anyway"
            )
            .into(),
        )
    }
}

/// The result of switching emergency mode.
#[derive(Debug)]
pub struct Panicked {
    /// The attached interfaces.
    pub interfaces: Vec<Interface>,
    /// Flows of other networks that were removed.
    pub removed: u64,
}

impl Control {
    /// Begins emergency mode, or ends it. Either may be repeated.
    ///
    /// # Errors
    /// [`Unmanaged`], or at its end [`super::LockedOut`], unless forced; or the kernel refuses, and
    /// `reconcile` completes it then.
    pub fn panic(&mut self, is_panicking: bool, force: bool) -> Result<Panicked> {
        self.emergency(force, |change| Ok(change.set_panic(is_panicking)?))
    }

    /// Sets the management networks; in emergency mode they are active at once.
    ///
    /// # Errors
    /// As [`Self::panic`].
    pub fn manage(&mut self, networks: BTreeSet<IpNet>, force: bool) -> Result<Panicked> {
        self.emergency(force, |change| Ok(change.set_management(networks)?))
    }

    /// Works also while another change is not confirmed: a rollback does not restore emergency mode.
    fn emergency(
        &mut self,
        force: bool,
        edit: impl FnOnce(&mut Transaction<'_>) -> Result<()>,
    ) -> Result<Panicked> {
        let _lock = self.exclusive()?;
        let mut transaction = self.store.begin()?;
        edit(&mut transaction)?;
        let after = transaction.model().clone();
        if !force && after.is_panicking {
            check(&after)?;
        } else if !force {
            lockout::check(&self.enforcer.pins, transaction.before(), &after, false)?;
        }
        self.enforcer.require_bpffs_visible(&after)?;
        let mut panicked =
            Panicked { interfaces: after.interfaces.values().cloned().collect(), removed: 0 };
        let Some(mut maps) = self.enforcer.maps()? else {
            transaction.commit()?;
            return Ok(panicked);
        };
        preflight::capabilities(Work::Maps)?;
        if after.is_panicking {
            // Untracked connections need a flow now.
            for interface in after.interfaces.values() {
                if let Err(error) = learn_managed(&self.enforcer, &mut maps, &after, interface) {
                    watch::report(&format!("{}: {error:#}", interface.label()));
                }
            }
        }
        let staged = self.enforcer.stage_change(maps, &mut transaction)?;
        transaction.commit()?;
        let mut maps = staged.flip()?;
        if after.is_panicking {
            panicked.removed = remove_unmanaged(&mut maps, &after)?;
        }
        Ok(panicked)
    }
}

fn learn_managed(
    enforcer: &Enforcer,
    maps: &mut Maps,
    model: &Model,
    interface: &Interface,
) -> Result<()> {
    let found = present_device(&enforcer.pins, interface)?;
    let learn = |device| enforcer.learn(maps, model, interface, &device).map(drop);
    found.map_or(Ok(()), learn)
}

/// Refuses emergency mode if the caller could not connect again.
fn check(model: &Model) -> Result<(), Unmanaged> {
    if model.management.is_empty() {
        return Err(Unmanaged::Nowhere);
    }
    match ssh::own_connection() {
        Some((connection, _)) if !is_managed(model, connection.client.ip()) => {
            Err(Unmanaged::Elsewhere(connection.client.ip()))
        }
        _ => Ok(()),
    }
}

/// Removes the flows of other networks; returns how many there were.
pub(super) fn remove_unmanaged(maps: &mut Maps, model: &Model) -> Result<u64> {
    let mut removed = 0;
    for _ in 0..PASSES {
        let mut flows = maps.flows()?;
        flows.retain(|flow| !is_managed(model, flow.outside));
        if flows.is_empty() {
            break;
        }
        removed += maps.remove_flows(&flows)?;
    }
    for slot in model.interfaces.keys() {
        maps.remove_fragments(*slot)?;
    }
    Ok(removed)
}
