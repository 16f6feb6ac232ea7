//! The filters of `secgroup flows`.

use anyhow::Result;
use clap::Args;
use firewall_ebpf::abi::flow::Tier;

use crate::cli::failure::UsageError;
use crate::control::Control;
use crate::model::Model;
use crate::observe::flows::LiveFlow;
use crate::observe::query::{Checked, Query, Stored};

/// A flow is chosen if it matches every filter that is given.
#[derive(Clone, Debug, Args)]
#[command(
    mut_arg("reason", |arg| arg.hide(true)),
    mut_arg("default_deny", |arg| arg.hide(true))
)]
pub(in crate::cli) struct Filter {
    /// Tier of the flow table
    #[arg(long, value_enum)]
    tier: Option<Tier>,
    #[command(flatten)]
    query: Query,
}

impl Filter {
    /// The filters, with names looked up.
    pub(super) fn check(&self, control: &Control, model: &Model) -> Result<Chosen> {
        if self.query.default_deny || !self.query.reason.is_empty() {
            return Err(UsageError {
                message: "flows have no reason: their packets passed".to_owned(),
                hint: "`secgroup drops` has the reasons of dropped packets, `secgroup stats` counts all",
            }
            .into());
        }
        Ok(Chosen { query: self.query.check(&Stored { control, model })?, tier: self.tier })
    }
}

/// Filters whose names were looked up.
pub(super) struct Chosen {
    pub(super) query: Checked,
    tier: Option<Tier>,
}

impl Chosen {
    /// Whether a flow matches.
    pub(super) fn has(&self, flow: &LiveFlow) -> bool {
        self.has_tier(flow.entry.tier()) && self.query.matches(&flow.subject())
    }

    /// Whether a flow of this tier may match.
    pub(super) fn has_tier(&self, tier: Tier) -> bool {
        self.tier.is_none_or(|chosen| chosen == tier)
    }
}
