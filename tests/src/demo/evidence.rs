//! The counters and flows of the kernel at the end of a part.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::attempt::{Expected, Outcome, Service, ssh};
use super::part::{Blocked, Part};
use super::screen::Screen;
use super::services::SSH;
use super::shell::{self, Show};
use crate::wait::MAX_WAIT;

/// Bytes of a download, without headers.
const DOWNLOAD: u64 = 16 << 20;

/// Shows counters, flows and rules, checks them against the attempts, and detaches.
pub(super) fn show(
    part: &Part<'_>,
    screen: &mut Screen,
    blocked: &Blocked,
    removed: &[String],
) -> Result<()> {
    screen.step("Packet counters, flows, and the rules that admitted them")?;
    let Part { lab, inside, secgroup, .. } = part;
    let sessions = inside
        .addresses
        .map(|address| ssh(&lab.office.namespace, SocketAddr::new(address, SSH), MAX_WAIT));
    let opened = sessions.each_ref().map(|session| match session {
        Ok(_) => Outcome::Worked("open".to_owned()),
        Err(error) => Outcome::from(error),
    });
    let route = format!("{} -> {}", lab.office.name, inside.name);
    screen.check(&format!("{route:<23}ssh, kept open"), Expected::Works, &opened)?;

    for command in [&["stats"][..], &["flows", "list"], &["rule", "list"]] {
        shell::run(screen, secgroup, command, Show::Plain)?;
    }
    count(part, screen, blocked)?;
    admissions(part, screen, removed)?;
    drop(sessions);

    screen.step("Detach: all traffic passes")?;
    part.run(screen, &["detach", part.device])?;
    let any = &lab.outside;
    part.attempt(
        screen,
        &mut Blocked::default(),
        &[
            (any, inside, Service::Page, Expected::Works),
            (any, inside, Service::Ping, Expected::Works),
        ],
    )
}

/// Every dropped attempt has to be counted.
fn count(part: &Part<'_>, screen: &mut Screen, blocked: &Blocked) -> Result<()> {
    let counters = part.secgroup.counters();
    for (direction, least) in [("ingress", blocked.ingress), ("egress", blocked.egress)] {
        let found = counters.packets(part.device, direction, "no-rule");
        let what = format!("{direction} packets dropped as no-rule");
        screen.fact(&what, &format!("{least} or more"), &found.to_string(), found >= least)?;
    }
    Ok(())
}

/// Every flow has to name the rule that admitted it, also after that rule was removed.
fn admissions(part: &Part<'_>, screen: &mut Screen, removed: &[String]) -> Result<()> {
    let document = part.secgroup.json("flows list");
    let flows = document["Flows"].as_array().context("flows list: no Flows")?;
    let mut expect = |what: &str, expected: usize, found: usize| {
        screen.fact(what, &expected.to_string(), &found.to_string(), expected == found)
    };
    let count = |is: &dyn Fn(&Value) -> bool| flows.iter().filter(|flow| is(flow)).count();

    let without_rule = count(&|flow| flow["SecurityGroupRuleId"].is_null());
    expect("flows without a rule", 0, without_rule)?;
    let sessions = count(&|flow| {
        flow["InsidePort"] == SSH && flow["State"] == "established" && flow["GroupName"] == "ops"
    });
    expect("open ssh sessions admitted by rules of ops", 2, sessions)?;
    let downloads = count(&|flow| {
        let rule = flow["SecurityGroupRuleId"].as_str();
        flow["EgressBytes"].as_u64() > Some(DOWNLOAD)
            && flow["RuleRemoved"] == true
            && rule.is_some_and(|rule| removed.iter().any(|one| one == rule))
    });
    expect("downloads admitted by rules that were removed", 2, downloads)
}
