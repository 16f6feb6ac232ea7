//! What staged changes would do: dropped packets that a staged rule would let pass, and flows whose rule is to be
//! removed.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use super::flows::live_flows;
use super::journal::{self, Entry, Reader};
use super::query::Subject;
use super::record::{PacketRecord, RuleName, Verdict};
use super::simulate::{Ruleset, is_default_deny, probe};
use crate::clock::Clocks;
use crate::control::{Control, NothingAttached};
use crate::model::{Model, RuleId, Staged, StagedChange};
use crate::policy::{Addresses, evaluate};

/// Says what the staged changes would do to packets and flows, one by one.
#[derive(Debug)]
pub struct WouldBe<'a> {
    staged: &'a BTreeMap<RuleId, Staged>,
    /// The rules as if all of them were enforced.
    enforced: Ruleset,
}

/// What a staged change would have done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// Of a rule to be added: packets that were dropped since it was staged, and that it would have let pass.
    pub would_pass_packets: u64,
    /// Their bytes.
    pub would_pass_bytes: u64,
    /// Of a rule to be removed: live flows that it has admitted, and that no other rule would.
    pub would_drop_flows: u64,
    /// Their packets of both directions.
    pub would_drop_packets: u64,
    /// Of a rule to be removed: live flows that it has admitted, and that another rule would.
    pub otherwise_allowed_flows: u64,
}

/// The effects of staged changes, with what they were computed from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// By the id of the rule; those without an effect are not there.
    pub by_rule: BTreeMap<RuleId, Effect>,
    /// Time of the journal's oldest record, in milliseconds since 1970; `None`: it is empty.
    pub oldest: Option<i64>,
    /// Dropped packets since the first change was staged that are in no record.
    pub lost: u64,
}

impl<'a> WouldBe<'a> {
    /// Of the staged changes of a model. `now` is the clock of the boot in nanoseconds.
    #[must_use]
    pub fn new(model: &'a Model, addresses: &Addresses, now: u64) -> Self {
        let enforced = Ruleset::new(&model.with_staged(None), addresses, now);
        Self { staged: &model.staged, enforced }
    }

    /// The staged rules that would have let the packets of a record pass; none if something else than the lack of a
    /// rule has dropped them.
    #[must_use]
    pub fn of_drop(&self, record: &PacketRecord) -> Vec<&'a RuleId> {
        let is_dropped = matches!(record.verdict, Verdict::Drop | Verdict::WouldDrop);
        let rules = self.enforced.rules(&record.network_interface_id);
        let (Some(probe), Some(rules), true) =
            (probe(&record.into()), rules, is_dropped && is_default_deny(record.reason))
        else {
            return Vec::new();
        };
        let names = evaluate(rules, probe).filter_map(|number| self.enforced.name(number));
        let staged = names.filter_map(|name| self.staged_named(name));
        let added = staged.filter(|(_, staged)| matches!(staged.change, StagedChange::Add { .. }));
        added.map(|(id, _)| id).collect()
    }

    /// The staged removal of the rule that has admitted a flow, and whether another rule would allow the flow; `None`
    /// where the rule stays. The subject is that of the flow's first packet.
    #[must_use]
    pub fn of_flow(&self, subject: &Subject<'_>) -> Option<(&'a RuleId, bool)> {
        let (id, staged) = self.staged_named(subject.rule?)?;
        let is_removed = staged.change == StagedChange::Remove;
        let rules = self.enforced.rules(subject.network_interface_id)?;
        let is_allowed = evaluate(rules, probe(subject)?).next().is_some();
        is_removed.then_some((id, is_allowed))
    }

    fn staged_named(&self, name: &RuleName) -> Option<(&'a RuleId, &'a Staged)> {
        let id: RuleId = name.security_group_rule_id.parse().ok()?;
        self.staged.get_key_value(&id)
    }
}

impl Effects {
    /// Of all staged changes: from the journal since each was staged, and from the live flows.
    ///
    /// # Errors
    /// The journal, the flow tables or the store cannot be read.
    pub fn read(control: &Control, model: &Model) -> Result<Self> {
        let Some(first) = model.staged.values().map(|staged| staged.created).min() else {
            return Ok(Self::default());
        };
        let addresses = control.addresses(model)?;
        let would_be = WouldBe::new(model, &addresses, Clocks::now().moment.boottime);
        let mut effects = Self::default();
        effects.add_journal(&would_be, &control.paths().state_dir, first)?;
        let flows = match live_flows(control, model, |_| true) {
            Err(error) if error.is::<NothingAttached>() => Vec::new(),
            flows => flows?,
        };
        for flow in flows {
            let Some((id, is_allowed)) = would_be.of_flow(&flow.subject()) else { continue };
            let effect = effects.by_rule.entry(id.clone()).or_default();
            if is_allowed {
                effect.otherwise_allowed_flows += 1;
            } else {
                effect.would_drop_flows += 1;
                let packets = effect.would_drop_packets.saturating_add(flow.packets());
                effect.would_drop_packets = packets;
            }
        }
        Ok(effects)
    }

    fn add_journal(&mut self, would_be: &WouldBe<'_>, state_dir: &Path, since: i64) -> Result<()> {
        let reader = Reader::open(&journal::directory(state_dir))?;
        for entry in reader.since(since)? {
            let Entry::Record(record) = entry? else { continue };
            for id in would_be.of_drop(&record) {
                let is_later =
                    would_be.staged.get(id).is_some_and(|one| one.created <= record.last);
                if is_later {
                    let effect = self.by_rule.entry(id.clone()).or_default();
                    effect.would_pass_packets =
                        effect.would_pass_packets.saturating_add(record.packets);
                    effect.would_pass_bytes = effect.would_pass_bytes.saturating_add(record.bytes);
                }
            }
        }
        let coverage = reader.coverage()?;
        self.oldest = coverage.oldest;
        self.lost = coverage.since(since).map_or(0, |account| account.lost);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use firewall_ebpf::abi::interface::Direction;
    use firewall_ebpf::abi::reason::Reason;

    use super::*;
    use crate::model::{
        Change, GroupId, InterfaceId, Peer, PortRange, RuleSpec, Traffic, parse_cidr,
    };
    use crate::observe::simulate::tests::{model, subject};

    /// The rules 1 and 2, for ports 22 and 80; a staged rule 7 for port 443; the removals of both are staged, and 8
    /// would allow port 80, too.
    fn staged() -> (InterfaceId, Model) {
        let eni = InterfaceId::random().unwrap();
        let mut model = model(&eni, &[(1, 22, "192.0.2.0/24"), (2, 80, "0.0.0.0/0")]);
        let group: GroupId = "sg-00000001".parse().unwrap();
        let add = |port| StagedChange::Add {
            spec: RuleSpec {
                direction: Direction::Ingress,
                traffic: Traffic::Tcp(PortRange { from: port, to: port }),
                peer: Peer::from(parse_cidr("192.0.2.0/24").unwrap()),
            },
            description: String::new(),
        };
        let changes = [
            ("sgr-00000007", add(443)),
            ("sgr-00000008", add(80)),
            ("sgr-00000001", StagedChange::Remove),
            ("sgr-00000002", StagedChange::Remove),
        ];
        for (rule, change) in changes {
            let staged = Staged { group: group.clone(), created: 0, change };
            model.make(Change::Stage { rule: rule.parse().unwrap(), staged });
        }
        (eni, model)
    }

    #[test]
    fn only_packets_that_no_rule_allowed_would_pass_by_a_staged_one() {
        let (eni, model) = staged();
        let would_be = WouldBe::new(&model, &Addresses::new(), 0);
        let id = eni.to_string();
        let record = |port: u16, reason, verdict| PacketRecord {
            network_interface_id: id.clone(),
            verdict,
            reason,
            destination_port: Some(port),
            ..PacketRecord::sample(1, 1)
        };
        for (port, reason, verdict, expected) in [
            (443, Reason::NoRule, Verdict::Drop, &["sgr-00000007"][..]),
            (443, Reason::NoRule, Verdict::WouldDrop, &["sgr-00000007"]),
            (443, Reason::Acl, Verdict::Drop, &[]),
            (443, Reason::NoRule, Verdict::Pass, &[]),
            (444, Reason::NoRule, Verdict::Drop, &[]),
        ] {
            let found = would_be.of_drop(&record(port, reason, verdict));
            let found: Vec<_> = found.iter().map(|id| id.as_str()).collect();
            assert_eq!(found, expected, "{port} {}", reason.name());
        }
    }

    #[test]
    fn a_flow_would_be_dropped_unless_another_rule_allows_it() {
        let (eni, model) = staged();
        let would_be = WouldBe::new(&model, &Addresses::new(), 0);
        let id = eni.to_string();
        let name = |rule: &str| RuleName {
            security_group_rule_id: rule.to_owned(),
            group_id: "sg-00000001".to_owned(),
            group_name: "web".to_owned(),
        };
        let mut found = BTreeMap::new();
        for (source, port, rule) in [
            ("192.0.2.7", 22, "sgr-00000001"),
            ("192.0.2.7", 80, "sgr-00000002"),
            ("203.0.113.5", 80, "sgr-00000002"),
            ("203.0.113.5", 80, "sgr-00000009"),
        ] {
            let name = name(rule);
            let subject = Subject { rule: Some(&name), ..subject(&id, source, port) };
            let effect = would_be.of_flow(&subject);
            found.insert(
                (source, port, rule),
                effect.map(|(id, is_allowed)| (id.as_str(), is_allowed)),
            );
        }
        let found: Vec<_> = found.into_values().collect();
        assert_eq!(
            found,
            [
                Some(("sgr-00000001", false)),
                Some(("sgr-00000002", true)),
                Some(("sgr-00000002", false)),
                None
            ]
        );
    }
}
