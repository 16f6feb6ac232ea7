//! The overview: the interfaces, whether each is enforced, and what was dropped.

use std::sync::Arc;

use askama::Template;
use axum::http::StatusCode;
use axum::response::Response;

use crate::console::answer::{Form, Problem, html, json};
use crate::console::routes::{Asked, Shared};
use crate::console::view::{Frame, MAX_ROWS};
use crate::control::NothingAttached;
use crate::model::label;
use crate::observe::stats::{self, StatsDocument};
use crate::observe::status::{self, NetworkInterface, StatusDocument};

/// The page.
#[derive(Template)]
#[template(path = "overview.html")]
struct Page {
    frame: Frame,
    /// What is wrong, or needs somebody.
    warnings: Vec<String>,
    interfaces: Vec<InterfaceRow>,
    drops: Vec<DropRow>,
    /// Drops that the table has no row for.
    more_drops: usize,
}

/// An interface.
struct InterfaceRow {
    label: String,
    id: String,
    state: &'static str,
    /// What the state means, or what is missing.
    note: String,
    groups: String,
    rules: usize,
    flows: u64,
    passed: u64,
    dropped: u64,
    /// Counted as dropped and passed, in audit mode.
    would_drop: u64,
}

/// Packets that were dropped for a reason.
#[derive(Debug, PartialEq, Eq)]
struct DropRow {
    label: String,
    direction: &'static str,
    reason: &'static str,
    packets: u64,
    bytes: u64,
    /// Whether the interface is in audit mode now.
    is_audit: bool,
}

/// The page, or the document of `secgroup status`.
pub(in crate::console) async fn answer(
    shared: &Arc<Shared>,
    asked: Asked,
) -> Result<Response, Problem> {
    let (status, stats, problem) = shared
        .read(|shared| {
            let control = shared.control()?;
            let stats = read_counters(&control)?;
            // Without records by configuration nothing needs attention.
            let problem = shared.recording_problem().filter(|_| shared.config().records.collect);
            Ok((status::read(&control)?, stats, problem))
        })
        .await?;
    Ok(match asked.form {
        Form::Json => json(&status),
        Form::Html => html(StatusCode::OK, &Page::new(&status, &stats, problem)),
    })
}

/// The document of `secgroup stats`.
pub(in crate::console) async fn counters(shared: &Arc<Shared>) -> Result<Response, Problem> {
    let stats = shared.read(|shared| Ok(read_counters(&shared.control()?)?)).await?;
    Ok(json(&stats))
}

/// The counters of every interface; none where nothing is attached.
fn read_counters(control: &crate::control::Control) -> anyhow::Result<StatsDocument> {
    let model = control.model()?;
    let interfaces: Vec<_> = model.interfaces.values().collect();
    match stats::read(control, &interfaces) {
        Ok(counters) => Ok(StatsDocument::new(&interfaces, &counters)),
        Err(error) if error.is::<NothingAttached>() => {
            Ok(StatsDocument::new(&[], &Default::default()))
        }
        Err(error) => Err(error),
    }
}

impl Page {
    fn new(status: &StatusDocument, stats: &StatsDocument, problem: Option<String>) -> Self {
        let mut drops = drops(status, stats);
        let more_drops = drops.len().saturating_sub(MAX_ROWS);
        drops.truncate(MAX_ROWS);
        let row = |one| InterfaceRow::new(one, status, stats);
        Self {
            frame: Frame::new("Overview", "status.json"),
            warnings: warnings(status).into_iter().chain(problem).collect(),
            interfaces: status.network_interfaces.iter().take(MAX_ROWS).map(row).collect(),
            drops,
            more_drops,
        }
    }
}

impl InterfaceRow {
    fn new(one: &NetworkInterface, status: &StatusDocument, stats: &StatsDocument) -> Self {
        let of = |verdict: &str| {
            let interfaces = stats.interfaces.iter();
            let own = interfaces.filter(|of| of.network_interface_id == one.network_interface_id);
            let counters = own.flat_map(|of| &of.counters);
            counters
                .filter(|counter| counter.verdict == verdict)
                .map(|one| one.packets)
                .sum::<u64>()
        };
        let tables = status.flow_tables.iter().filter(|table| table.slot == one.slot);
        let groups: Vec<&str> = one.groups.iter().map(|group| group.group_name.as_str()).collect();
        Self {
            label: label(&one.device, one.netns.as_deref()),
            id: one.network_interface_id.clone(),
            state: one.state,
            note: note(one),
            groups: groups.join(", "),
            rules: one.rules,
            flows: tables.map(|table| table.entries).sum(),
            passed: of("pass"),
            dropped: of("drop").saturating_sub(one.audited_packets),
            would_drop: one.audited_packets,
        }
    }
}

/// What a state means, in the words of `secgroup status`.
fn note(one: &NetworkInterface) -> String {
    let state = match one.state {
        "auditing" => "packets to drop are counted and passed".to_owned(),
        "not-enforcing" => {
            let missing = one.missing.as_deref().unwrap_or("it is not in the kernel");
            format!("{missing}: `secgroup reconcile` attaches it")
        }
        "device-missing" => "its device does not exist now".to_owned(),
        _ => String::new(),
    };
    let all = [state].into_iter().chain(one.remarks.iter().cloned());
    all.filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; ")
}

fn warnings(status: &StatusDocument) -> Vec<String> {
    let mut warnings = Vec::new();
    if status.panic {
        let text = "Emergency mode is on: only the management networks pass. `secgroup panic --off` ends it.";
        warnings.push(text.to_owned());
    }
    if let Some(change) = &status.pending {
        warnings.push(format!(
            "A change is not confirmed: {}; it is rolled back in {} s unless `secgroup confirm` keeps it.",
            change.command, change.left_seconds
        ));
    }
    for slot in &status.stray_slots {
        warnings.push(format!(
            "Slot {slot} is enforced, but not in the store: `secgroup reconcile` detaches it."
        ));
    }
    warnings
}

/// What was dropped, most packets first.
fn drops(status: &StatusDocument, stats: &StatsDocument) -> Vec<DropRow> {
    let mut rows = Vec::new();
    for interface in &stats.interfaces {
        let id = &interface.network_interface_id;
        let mut found = status.network_interfaces.iter();
        let is_audit = found.any(|one| one.network_interface_id == *id && one.mode == "audit");
        let counters = interface.counters.iter();
        for counter in counters.filter(|one| one.verdict == "drop" && one.packets > 0) {
            rows.push(DropRow {
                label: label(&interface.device, interface.netns.as_deref()),
                direction: counter.direction,
                reason: counter.reason,
                packets: counter.packets,
                bytes: counter.bytes,
                is_audit,
            });
        }
    }
    rows.sort_by(|a, b| b.packets.cmp(&a.packets).then_with(|| a.label.cmp(&b.label)));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::tests::hostile::{NAME, assert_escaped};

    #[test]
    fn names_of_interfaces_and_groups_are_text() {
        let name = || NAME.to_owned();
        let interface = InterfaceRow {
            label: name(),
            id: "eni-0123456789abcdef0".to_owned(),
            state: "enforcing",
            note: name(),
            groups: name(),
            rules: 1,
            flows: 2,
            passed: 3,
            dropped: 4,
            would_drop: 5,
        };
        let drop = DropRow {
            label: name(),
            direction: "ingress",
            reason: "no-rule",
            packets: 4,
            bytes: 240,
            is_audit: false,
        };
        let page = Page {
            frame: Frame::new("Overview", "status.json"),
            warnings: vec![name()],
            interfaces: vec![interface],
            drops: vec![drop],
            more_drops: 0,
        };
        let page = page.render().unwrap();
        assert_escaped(&page, "overview");
        // Warning, label, note and groups of the interface, and the label of the drop.
        assert_eq!(page.matches("&#60;script&#62;").count(), 5, "{page}");
    }
}
