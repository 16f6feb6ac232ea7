//! The JSON of what rules are used for.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Hits, Period, RuleHits};
use crate::model::{Group, Rule};
use crate::observe::SCHEMA_VERSION;
use crate::observe::flows::document::FlowDocument;
use crate::observe::flows::totals::Total;

/// What rules are used for.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct RuleHitsList {
    /// Version of this document: 1.
    schema_version: u32,
    /// As of when the hits are, in milliseconds since 1970: some seconds ago where `secgroup serve` counts; null: nothing
    /// was counted yet.
    as_of: Option<i64>,
    /// When packets were counted.
    watched: Vec<WatchedPeriod>,
    /// The rules.
    rules: Vec<RuleHitsDocument>,
}

/// A time in which packets were counted without a gap.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct WatchedPeriod {
    /// The first reading, in milliseconds since 1970.
    from: i64,
    /// The last one.
    to: i64,
}

/// What a rule is used for.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct RuleHitsDocument {
    /// Id of the rule, `sgr-…`.
    pub security_group_rule_id: String,
    /// Id of its group, `sg-…`.
    pub group_id: String,
    /// Name of the group.
    pub group_name: String,
    /// Since when it is counted, in milliseconds since 1970; null for a rule that is not counted yet.
    pub counted_since: Option<i64>,
    /// Packets that it allowed, with those of its flows in both directions.
    pub packets: u64,
    /// Bytes of their whole frames.
    pub bytes: u64,
    /// Flows that it opened.
    pub new_flows: u64,
    /// When the first of these packets passed, in milliseconds since 1970; null without one.
    pub first_hit: Option<i64>,
    /// When the last one did.
    pub last_hit: Option<i64>,
}

/// The rules that nothing used for a time.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct UnusedRules {
    /// Version of this document: 1.
    schema_version: u32,
    /// Begin of the time, in milliseconds since 1970.
    since: i64,
    /// The rules, with what they were used for before.
    rules: Vec<RuleHitsDocument>,
    /// Rules without a hit that are counted for a shorter time, so that they are not listed.
    younger_rules: usize,
}

/// Who uses a rule.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct RuleUsers {
    /// Version of this document: 1.
    schema_version: u32,
    /// As of when the hits are, in milliseconds since 1970: the flows are as of now. Null: nothing was counted yet.
    as_of: Option<i64>,
    /// The rule, and what it was used for.
    #[serde(flatten)]
    rule: RuleHitsDocument,
    /// Whether it was deleted; its flows outlive it.
    removed: bool,
    /// Live flows that it admitted.
    flow_count: usize,
    /// The addresses of the other ends of these flows, with the most bytes first; at most `--limit`.
    peers: Vec<Total>,
    /// The flows with the most bytes, most first; at most `--limit`.
    flows: Vec<FlowDocument>,
}

/// What removing rules would affect.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct RemovalPreview {
    /// Version of this document: 1.
    pub schema_version: u32,
    /// As of when the hits are, in milliseconds since 1970: the flows are as of now. Null: nothing was counted yet.
    pub as_of: Option<i64>,
    /// Why the removal would be refused; null: it would not.
    pub refused: Option<String>,
    /// The rules.
    pub rules: Vec<RemovalDocument>,
}

/// What removing a rule together with the others would affect.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct RemovalDocument {
    /// The rule, and what it was used for.
    #[serde(flatten)]
    pub hits: RuleHitsDocument,
    /// The rule, as text.
    pub rule: String,
    /// Live flows that it has admitted.
    pub flows: usize,
    /// Those of them that no other rule allows.
    pub not_allowed_flows: usize,
    /// Those of these that end at their next packet, because their interface re-evaluates its flows (`--revalidate on`).
    pub ending_flows: usize,
    /// The addresses of the other ends of the flows that no other rule allows, most flows first.
    pub peers: Vec<String>,
    /// The interfaces that its packets pass without a flow (untracked), so that open connections, which are not among
    /// the flows, end at once.
    pub untracked_interfaces: Vec<String>,
}

impl RuleHitsDocument {
    /// The document of a rule.
    #[must_use]
    pub fn new(group: &Group, rule: &Rule, hits: Option<&RuleHits>) -> Self {
        Self::of_names([rule.id.as_str(), group.id.as_str(), &group.name], hits)
    }

    /// The document of a rule that may be deleted: its id, its group's id, and the group's name.
    #[must_use]
    pub fn of_names([rule, group, name]: [&str; 3], hits: Option<&RuleHits>) -> Self {
        let known = hits.copied().unwrap_or_default();
        Self {
            security_group_rule_id: rule.to_owned(),
            group_id: group.to_owned(),
            group_name: name.to_owned(),
            counted_since: hits.map(|hits| hits.since),
            packets: known.packets,
            bytes: known.bytes,
            new_flows: known.new_flows,
            first_hit: known.first,
            last_hit: known.last,
        }
    }
}

impl RuleHitsList {
    /// The document of rules.
    #[must_use]
    pub fn new<'a>(hits: &Hits, rules: impl IntoIterator<Item = (&'a Group, &'a Rule)>) -> Self {
        let watched = hits.watched.periods().iter();
        Self {
            schema_version: SCHEMA_VERSION,
            as_of: hits.as_of(),
            watched: watched
                .map(|Period { from, to }| WatchedPeriod { from: *from, to: *to })
                .collect(),
            rules: rules
                .into_iter()
                .map(|(group, rule)| RuleHitsDocument::new(group, rule, hits.of(rule.number)))
                .collect(),
        }
    }
}

impl UnusedRules {
    /// The rules among these without a hit since a time, in milliseconds since 1970, that were counted before it.
    #[must_use]
    pub fn new<'a>(
        hits: &Hits,
        rules: impl IntoIterator<Item = (&'a Group, &'a Rule)>,
        since: i64,
    ) -> Self {
        let (mut unused, mut younger) = (Vec::new(), 0);
        for (group, rule) in rules {
            let known = hits.of(rule.number);
            if known.is_some_and(|hits| hits.last.is_some_and(|last| last >= since)) {
                continue;
            }
            if known.is_some_and(|hits| hits.since <= since) {
                unused.push(RuleHitsDocument::new(group, rule, known));
            } else {
                younger += 1;
            }
        }
        Self { schema_version: SCHEMA_VERSION, since, rules: unused, younger_rules: younger }
    }

    /// The rules.
    #[must_use]
    pub fn rules(&self) -> &[RuleHitsDocument] {
        &self.rules
    }

    /// Rules that are counted for a shorter time.
    #[must_use]
    pub const fn younger(&self) -> usize {
        self.younger_rules
    }
}

impl RuleUsers {
    /// The document of a rule with flows and peers, in their order, out of `flow_count` flows.
    #[must_use]
    pub fn new(
        (as_of, rule): (Option<i64>, RuleHitsDocument),
        removed: bool,
        flow_count: usize,
        peers: Vec<Total>,
        flows: Vec<FlowDocument>,
    ) -> Self {
        Self { schema_version: SCHEMA_VERSION, as_of, rule, removed, flow_count, peers, flows }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::InterfaceId;
    use crate::observe::simulate::tests::model;

    #[test]
    fn a_rule_is_unused_if_it_was_counted_all_the_time_and_not_hit() {
        const SINCE: i64 = 1000;
        for (what, hits, is_listed, younger) in [
            ("never hit", Some((SINCE, None)), true, 0),
            ("hit before", Some((0, Some(SINCE - 1))), true, 0),
            ("hit then", Some((0, Some(SINCE))), false, 0),
            ("counted for a shorter time", Some((SINCE + 1, None)), false, 1),
            ("hit, and counted for a shorter time", Some((SINCE + 1, Some(SINCE + 2))), false, 0),
            ("not counted", None, false, 1),
        ] {
            let model = model(&InterfaceId::random().unwrap(), &[(7, 22, "192.0.2.0/24")]);
            let mut all = Hits::default();
            if let Some((since, last)) = hits {
                let of_rule =
                    RuleHits { since, packets: 3, first: last, last, ..Default::default() };
                all.rules.insert(7, of_rule);
            }
            let group = model.groups.values().find(|group| group.name == "web").unwrap();
            let is_recent = hits.is_some_and(|(_, last)| last >= Some(SINCE));
            assert_eq!(all.since(SINCE).count(), usize::from(is_recent), "{what}");
            let found = UnusedRules::new(&all, [(&**group, &group.rules[0])], SINCE);
            assert_eq!((found.rules().len() == 1, found.younger()), (is_listed, younger), "{what}");
        }
    }

    #[test]
    fn a_document_has_what_was_counted_and_of_an_uncounted_rule_since_when_not() {
        let hits = RuleHits {
            since: 1,
            packets: 2,
            bytes: 3,
            new_flows: 4,
            first: Some(5),
            last: Some(6),
        };
        let names = ["sgr-1", "sg-1", "web"];
        let document =
            |hits| serde_json::to_value(RuleHitsDocument::of_names(names, hits)).unwrap();
        let known = serde_json::json!({
            "SecurityGroupRuleId": "sgr-1", "GroupId": "sg-1", "GroupName": "web",
            "CountedSince": 1, "Packets": 2, "Bytes": 3, "NewFlows": 4, "FirstHit": 5, "LastHit": 6,
        });
        assert_eq!(document(Some(&hits)), known);
        let unknown = document(None);
        assert!(unknown["CountedSince"].is_null() && unknown["LastHit"].is_null(), "{unknown}");
        assert_eq!(unknown["Packets"], 0);
    }
}
