//! An explanation in words, for people.

use super::document::{EntryName, Explanation, Reply, RuleText};
use crate::model::label;

impl Explanation {
    /// What it says to people: lines of a word and a text; the word of a line that continues the one before is empty.
    #[must_use]
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let found = self;
        let mut lines = Vec::new();
        let mut line = |label: &'static str, text: &str| lines.push((label, text.to_owned()));
        let place = label(&found.device, found.netns.as_deref());
        line(found.verdict, &format!("{} {} on {place}", found.direction, found.packet.text));
        line("reason", &format!("{}: {}", found.reason, found.help));
        if let Some(flow) = &found.flow {
            let age = if flow.expired {
                "expired".to_owned()
            } else {
                format!("idle {} s", flow.idle_seconds)
            };
            line(
                "flow",
                &format!(
                    "{} ({}), opened {}, {age}, packets in/out {}/{}{}",
                    flow.state,
                    flow.tier,
                    flow.opened_by,
                    flow.ingress_packets,
                    flow.egress_packets,
                    match flow.let_in_by {
                        "learned" => ", open before the interface was attached",
                        "exempt" => ", of an exempt DHCP client",
                        "management" => ", of a management network",
                        _ => "",
                    }
                ),
            );
        }
        if let Some(entry) = &found.entry {
            line(entry.kind, &entry_text(entry));
        }
        if let Some(rule) = &found.rule {
            line("rule", &rule_text(rule));
        }
        for rule in &found.other_rules {
            // Of a packet that is dropped, for another reason than its rules.
            let would = if found.tracked.is_none() { " would allow it" } else { "" };
            line("also", &format!("{}{would}", rule_text(rule)));
        }
        if let Some((tracked, because)) = found.tracked.zip(found.tracked_because.as_ref()) {
            line("tracked", &format!("{}: {because}", if tracked { "yes" } else { "no" }));
        }
        if let Some(reply) = &found.reply {
            line("reply", &reply_text(reply));
        }
        if let Some(nearest) = &found.nearest_miss {
            line(
                "nearest",
                &format!(
                    "{}: its {} is {}, and the packet's {}",
                    rule_text(&nearest.rule),
                    nearest.field,
                    nearest.rule_value,
                    nearest.packet_value
                ),
            );
        }
        for note in &found.notes {
            line("note", note);
        }
        for remedy in &found.remedies {
            line("remedy", &remedy.text);
            if let Some(command) = &remedy.command {
                line("", command);
            }
        }
        for printed in &found.log {
            line("program", printed);
        }
        lines
    }
}

pub(super) fn rule_text(rule: &RuleText) -> String {
    let what = rule.text.as_deref().unwrap_or("removed since");
    format!("{} of group {} ({what})", rule.security_group_rule_id, rule.group_name)
}

fn entry_text(entry: &EntryName) -> String {
    match &entry.acl {
        Some(acl) => format!("{} of {acl}: {} {}", entry.name, entry.action, entry.text),
        None => entry.text.clone(),
    }
}

fn reply_text(reply: &Reply) -> String {
    let mut text = format!("{}: {}", reply.verdict, reply.text);
    let why = match (&reply.rule, reply.in_flow, &reply.entry) {
        (_, true, _) => "belongs to the flow".to_owned(),
        (Some(rule), ..) => rule_text(rule),
        // The entry says it.
        (None, _, Some(entry)) if entry.action == "deny" => String::new(),
        _ => reply.reason.to_owned(),
    };
    if !why.is_empty() {
        text.push_str(&format!("; {why}"));
    }
    if let Some(entry) = &reply.entry {
        text.push_str(&format!("; {} {}", entry.kind, entry_text(entry)));
    }
    text
}
