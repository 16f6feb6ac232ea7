//! Emergency mode: everything is dropped except the traffic of the management networks, until the mode
//! is ended. Groups may change meanwhile; the changes become active at its end.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::Result;
use ipnet::IpNet;

use super::enforcement::present_device;
use super::enforcer::{Enforcer, is_managed};
use super::staged::Before;
use super::{Control, NotStored, Outcome, Reconciled, ends, lockout, ssh, watch};
use crate::dataplane::host::preflight::{self, Work};
use crate::dataplane::tables::maps::Maps;
use crate::explain::Explain;
use crate::model::{Interface, Model};
use crate::policy::Addresses;

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
    /// Interfaces whose programs were missing and could not be attached: their packets pass.
    pub open: Vec<(Interface, anyhow::Error)>,
}

impl Control {
    /// Begins emergency mode, or ends it, in the kernel first. Either may be repeated. Works also while
    /// another change is not confirmed: a rollback does not restore emergency mode.
    ///
    /// # Errors
    /// [`Unmanaged`], or at its end [`super::LockedOut`], unless forced; or the kernel refuses, and
    /// `reconcile` completes it then; [`NotStored`] if the store cannot be written.
    pub fn panic(&mut self, is_panicking: bool, force: bool) -> Result<Panicked> {
        // A store that does not follow the kernel is no reason to wait.
        let (_lock, _) = self.exclusive_unsettled()?;
        let before = self.model()?;
        let after = Model { is_panicking, ..before.clone() };
        require_safe(&self.enforcer, &before, &after, force)?;
        self.enforcer.require_bpffs_visible(&after)?;
        let interfaces = after.interfaces.values().cloned().collect();
        let mut panicked = Panicked { interfaces, removed: 0, open: Vec::new() };
        let Some(mut maps) = self.enforcer.maps()? else {
            self.enforcer.require_no_hidden(after.interfaces.values())?;
            self.store_panic(is_panicking, None)?;
            if is_panicking && !after.interfaces.is_empty() {
                // The pins are gone: nothing enforces what is stored.
                let done = self.restore_all(after)?.interfaces;
                panicked.open = done.into_iter().filter_map(failed).collect();
            }
            return Ok(panicked);
        };
        preflight::capabilities(Work::Maps)?;
        learn_managed(&self.enforcer, &mut maps, &after);
        let addresses = self.store.active_addresses()?;
        let known = Before::Known { model: &before, addresses: &addresses, generation: None };
        let staged = self.enforcer.stage(maps, known, &after)?;
        let addresses = staged.addresses().clone();
        // Before the policies: nothing that follows may end what was begun here.
        self.record_unstored(|unstored| unstored.panic = Some(is_panicking))?;
        let mut maps = staged.flip(None)?;
        if after.is_panicking {
            panicked.removed = remove_unmanaged(&mut maps, &after)?;
            let done = self.enforcer.restore_lost(&after)?;
            panicked.open = done.into_iter().filter_map(failed).collect();
        }
        if let Err(error) = self.store_panic(is_panicking, Some(&addresses)) {
            return Err(NotStored::recorded(in_kernel(&after), error).into());
        }
        self.record_unstored(|unstored| unstored.panic = None)?;
        Ok(panicked)
    }

    fn store_panic(&mut self, is_panicking: bool, addresses: Option<&Addresses>) -> Result<()> {
        let mut transaction = self.store.begin()?;
        transaction.set_panic(is_panicking)?;
        if let Some(addresses) = addresses {
            transaction.set_active_addresses(addresses)?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// Sets the management networks; in emergency mode they are active at once.
    ///
    /// # Errors
    /// As [`Self::panic`].
    pub fn manage(&mut self, networks: BTreeSet<IpNet>, force: bool) -> Result<()> {
        let _lock = self.exclusive()?;
        let mut transaction = self.store.begin()?;
        ends::remove_ended(&mut transaction)?;
        let messages = ends::messages(&transaction);
        transaction.set_management(networks)?;
        let after = transaction.model().clone();
        require_safe(&self.enforcer, transaction.in_force(), &after, force)?;
        self.enforcer.require_bpffs_visible(&after)?;
        let Some(mut maps) = self.enforcer.maps()? else {
            transaction.commit()?;
            ends::report(&messages);
            return Ok(());
        };
        preflight::capabilities(Work::Maps)?;
        learn_managed(&self.enforcer, &mut maps, &after);
        let staged = self.enforcer.stage_change(maps, &mut transaction)?;
        let generation = transaction.commit()?;
        let mut maps = staged.flip(Some(generation))?;
        if after.is_panicking {
            remove_unmanaged(&mut maps, &after)?;
        }
        ends::report(&messages);
        Ok(())
    }
}

/// An interface that could not be attached.
fn failed(done: Reconciled) -> Option<(Interface, anyhow::Error)> {
    match done.outcome {
        Outcome::Failed(error) => Some((done.interface, error)),
        Outcome::Attached(_) | Outcome::DeviceMissing | Outcome::DeviceElsewhere => None,
    }
}

/// Refuses a change after which its caller could not connect again.
fn require_safe(enforcer: &Enforcer, before: &Model, after: &Model, force: bool) -> Result<()> {
    if force {
        return Ok(());
    }
    if after.is_panicking {
        Ok(check(after)?)
    } else {
        Ok(lockout::check(enforcer, super::Caller::Process, (before, after), false)?)
    }
}

/// What holds in the kernel, for the message that it is not stored.
fn in_kernel(model: &Model) -> String {
    let labels: Vec<_> = model.interfaces.values().map(Interface::label).collect();
    let place = labels.join(", ");
    if model.is_panicking {
        let networks: Vec<_> = model.management.iter().map(ToString::to_string).collect();
        let what = match &networks[..] {
            [] => "nothing passes".to_owned(),
            networks => format!("only traffic of {} passes", networks.join(", ")),
        };
        format!("in the kernel emergency mode is on: {what} ({place})")
    } else {
        format!("in the kernel emergency mode is off ({place})")
    }
}

/// In emergency mode untracked connections of the management networks need a flow.
fn learn_managed(enforcer: &Enforcer, maps: &mut Maps, after: &Model) {
    if !after.is_panicking {
        return;
    }
    for interface in after.interfaces.values() {
        if let Err(error) = learn_on(enforcer, maps, after, interface) {
            watch::report(&format!("{}: {error:#}", interface.label()));
        }
    }
}

fn learn_on(
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
