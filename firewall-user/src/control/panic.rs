//! Panic: everything is dropped but the traffic of the networks that the host is managed from, until
//! someone says that it is over. Groups may change meanwhile; it shows when it is over.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::Result;
use ipnet::IpNet;

use super::enforcer::{Enforcer, is_managed};
use super::{Control, lockout, ssh, watch};
use crate::dataplane::host::device;
use crate::dataplane::host::preflight::{self, Work};
use crate::dataplane::tables::maps::Maps;
use crate::explain::Explain;
use crate::model::{Interface, Model};
use crate::store::Transaction;

/// How often the flow tables are read for what is to go: a flow that moves between them while they
/// are read is met the next time.
const PASSES: u32 = 8;

/// A panic that would keep its caller out.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum Unmanaged {
    /// Nobody has said where the host is managed from.
    #[error("no management network is set, so nothing at all would pass")]
    Nowhere,
    /// The caller is elsewhere.
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
            format!("`secgroup management set {example}` sets one; --force does without it").into(),
        )
    }
}

/// What a panic came to.
#[derive(Debug)]
pub struct Panicked {
    /// The interfaces on which it is in force, or no longer.
    pub interfaces: Vec<Interface>,
    /// Flows of other networks that were ended.
    pub ended: u64,
}

impl Control {
    /// Begins panic, or ends it. Either may be said twice.
    ///
    /// # Errors
    /// [`Unmanaged`], or at its end [`super::LockedOut`], unless forced; and when the kernel
    /// refuses: `reconcile` completes it then.
    pub fn panic(&mut self, is_panicking: bool, force: bool) -> Result<Panicked> {
        self.emergency(force, |change| Ok(change.set_panic(is_panicking)?))
    }

    /// Says which networks the host is managed from; in a panic it is in force at once.
    ///
    /// # Errors
    /// As [`Self::panic`].
    pub fn manage(&mut self, networks: BTreeSet<IpNet>, force: bool) -> Result<Panicked> {
        self.emergency(force, |change| Ok(change.set_management(networks)?))
    }

    /// Also while a change waits for its confirmation: what it would bring back is another matter.
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
            lockout::check(transaction.before(), &after, false)?;
        }
        self.enforcer.require_bpffs_visible(&after)?;
        let mut panicked =
            Panicked { interfaces: after.interfaces.values().cloned().collect(), ended: 0 };
        let Some(mut maps) = self.enforcer.maps()? else {
            transaction.commit()?;
            return Ok(panicked);
        };
        preflight::capabilities(Work::Maps)?;
        if after.is_panicking {
            // What needed no flow needs one now.
            for interface in after.interfaces.values() {
                if let Err(error) = learn_managed(&self.enforcer, &mut maps, &after, interface) {
                    watch::tell(&format!("{}: {error:#}", interface.label()));
                }
            }
        }
        let staged = self.enforcer.stage_change(maps, &mut transaction)?;
        transaction.commit()?;
        let mut maps = staged.flip()?;
        if after.is_panicking {
            panicked.ended = end_others(&mut maps, &after)?;
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
    let found = device::lookup(interface.netns.as_deref(), &interface.device)?;
    let learn = |device| enforcer.learn(maps, model, interface, &device).map(drop);
    found.map_or(Ok(()), learn)
}

/// Whether the caller can still come in.
fn check(model: &Model) -> Result<(), Unmanaged> {
    if model.management.is_empty() {
        return Err(Unmanaged::Nowhere);
    }
    match ssh::own() {
        Some((connection, _)) if !is_managed(model, connection.client.ip()) => {
            Err(Unmanaged::Elsewhere(connection.client.ip()))
        }
        _ => Ok(()),
    }
}

/// Ends the flows of other networks; returns how many there were.
pub(super) fn end_others(maps: &mut Maps, model: &Model) -> Result<u64> {
    let mut ended = 0;
    for _ in 0..PASSES {
        let mut flows = maps.flows()?;
        flows.retain(|flow| !is_managed(model, flow.outside));
        if flows.is_empty() {
            break;
        }
        ended += maps.remove_flows(&flows)?;
    }
    for slot in model.interfaces.keys() {
        maps.remove_fragments(*slot)?;
    }
    Ok(ended)
}
