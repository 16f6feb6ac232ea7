//! The names that a query may have: unknown ones are errors that list the known ones, not an empty answer.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use firewall_ebpf::abi::reason::{Reason, Verdict};

use super::checked::{Checked, InterfaceFilter};
use super::{PacketRecord, Query, Subject};
use crate::control::Control;
use crate::control::named::Named;
use crate::explain::{Exit, Explain};
use crate::model::{GroupId, Model, RuleId, label};

/// So many known names are listed.
const LISTED: usize = 20;

/// Why a query is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// A name that nothing has or had.
    #[error("{}", unknown(what, word))]
    Unknown {
        /// `group`, `attached interface`, `rule` or `network namespace`.
        what: &'static str,
        /// The name.
        word: String,
        /// Those that are known, sorted.
        known: Vec<String>,
    },
    /// `--not` alone.
    #[error("--not without another filter chooses nothing")]
    NothingNegated,
    /// `--state`, of dropped packets.
    #[error("dropped packets have no state: they belong to no flow")]
    StateOfDrop,
    /// A reason to pass, of dropped packets.
    #[error("no packet is dropped for the reason {}: it is one to pass", .0.name())]
    ReasonToPass(Reason),
    /// A word or a value that the language does not have.
    #[error("{message}")]
    Malformed {
        /// Which one.
        message: String,
        /// What it can be.
        hint: Option<String>,
    },
}

fn unknown(what: &str, word: &str) -> String {
    match what {
        "rule" => format!("there never was a rule {word}"),
        _ => format!("there is no {what} {word:?}"),
    }
}

impl Explain for QueryError {
    fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Unknown { what: "rule", .. } => {
                Some("`secgroup rule list` shows the rules".into())
            }
            Self::Unknown { what, known, .. } if known.is_empty() => {
                Some(format!("there is no {what} at all").into())
            }
            Self::Unknown { known, .. } => {
                let more = match known.len().saturating_sub(LISTED) {
                    0 => String::new(),
                    more => format!(", and {more} more"),
                };
                let listed = &known[..known.len().min(LISTED)];
                Some(format!("known: {}{more}", listed.join(", ")).into())
            }
            Self::NothingNegated => {
                Some("name what is to be left out, as --not --reason no-rule".into())
            }
            Self::StateOfDrop => {
                Some("`secgroup flows list` shows flows and their states".into())
            }
            Self::ReasonToPass(_) => Some(
                "`secgroup stats` counts the packets that passed, by reason; docs/reasons.md has the reasons to drop"
                    .into(),
            ),
            Self::Malformed { hint, .. } => hint.clone().map(Cow::Owned),
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Unknown { .. } => Exit::NotFound,
            Self::NothingNegated
            | Self::StateOfDrop
            | Self::ReasonToPass(_)
            | Self::Malformed { .. } => Exit::Usage,
        }
    }
}

/// Where names are looked up.
pub trait Names {
    /// The ids of the interfaces that have this name; empty: none has or had it.
    ///
    /// # Errors
    /// The store or a device cannot be read, or several interfaces are meant.
    fn interface(&self, named: &Named) -> Result<Vec<String>>;

    /// The ids of the groups with this id or name, also of deleted ones.
    ///
    /// # Errors
    /// The store cannot be read, the id is malformed, or groups of several VPCs have the name.
    fn group(&self, word: &str) -> Result<Vec<String>>;

    /// Whether there is or was this rule.
    ///
    /// # Errors
    /// The store cannot be read.
    fn has_rule(&self, rule: &RuleId) -> Result<bool>;

    /// The known interfaces, as `NAMESPACE/DEVICE`.
    fn interfaces(&self) -> BTreeSet<String>;

    /// The names of the known groups.
    fn groups(&self) -> BTreeSet<String>;

    /// The named network namespaces of the known interfaces.
    fn namespaces(&self) -> BTreeSet<String>;
}

impl Query {
    /// Refuses filters that no record of dropped packets can match; with `passes`, records are of packets that passed
    /// too.
    ///
    /// # Errors
    /// [`QueryError::StateOfDrop`], [`QueryError::ReasonToPass`].
    pub fn check_of_drops(&self, passes: bool) -> Result<(), QueryError> {
        if !self.state.is_empty() {
            return Err(QueryError::StateOfDrop);
        }
        let is_pass = |reason: &&Reason| reason.verdict() == Verdict::Pass;
        match self.reason.iter().find(is_pass) {
            Some(reason) if !passes => Err(QueryError::ReasonToPass(*reason)),
            _ => Ok(()),
        }
    }

    /// The query with its names looked up.
    ///
    /// # Errors
    /// A [`QueryError`] where nothing has a name, or [`Query::not`] has nothing to negate; those of [`Names`].
    pub fn check(&self, names: &dyn Names) -> Result<Checked> {
        if self.not && self.is_empty() {
            return Err(QueryError::NothingNegated.into());
        }
        let namespaces = names.namespaces();
        for word in &self.netns {
            // It may be the same word twice, or one that is no name of a namespace.
            if !namespaces.contains(word) {
                return Err(missing("network namespace", word, namespaces));
            }
        }
        let mut interfaces = Vec::new();
        for word in &self.interface {
            self.check_interface(word, names, &mut interfaces)?;
        }
        let mut groups = Vec::new();
        for word in &self.group {
            let found = names.group(word)?;
            if found.is_empty() {
                return Err(missing("group", word, names.groups()));
            }
            groups.extend(found);
        }
        for rule in &self.rule {
            if !names.has_rule(rule)? {
                return Err(missing("rule", rule.as_str(), BTreeSet::new()));
            }
        }
        Ok(Checked {
            query: self.clone(),
            interfaces: (!self.interface.is_empty()).then_some(interfaces),
            groups: (!self.group.is_empty()).then_some(groups),
        })
    }

    /// A device without a namespace is one in a namespace of `--netns`, or else in that of secgroup.
    fn check_interface(
        &self,
        word: &str,
        names: &dyn Names,
        found: &mut Vec<InterfaceFilter>,
    ) -> Result<()> {
        let candidates = if self.netns.is_empty() || word.contains('/') {
            vec![Named::new(word, None)?]
        } else {
            let of = |netns: &String| Named::new(word, Some(netns));
            self.netns.iter().map(of).collect::<Result<_, _>>()?
        };
        let before = found.len();
        for named in candidates {
            let ids = names.interface(&named)?;
            if !ids.is_empty() {
                let Named { device, netns } = named;
                found.push(InterfaceFilter { ids, device, netns });
            }
        }
        if found.len() == before {
            return Err(missing("attached interface", word, names.interfaces()));
        }
        Ok(())
    }
}

fn missing(what: &'static str, word: &str, known: BTreeSet<String>) -> anyhow::Error {
    QueryError::Unknown { what, word: word.to_owned(), known: known.into_iter().collect() }.into()
}

/// The names of the store, with those of deleted rules and their groups.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// The store, and the pins by which a renamed device is found.
    pub control: &'a Control,
    /// Its groups and interfaces.
    pub model: &'a Model,
}

impl Names for Stored<'_> {
    fn interface(&self, named: &Named) -> Result<Vec<String>> {
        let found = named.find(self.control.pins(), self.model)?;
        Ok(found.map(|interface| interface.id.to_string()).into_iter().collect())
    }

    fn group(&self, word: &str) -> Result<Vec<String>> {
        let store = self.control.store();
        if word.starts_with(GroupId::PREFIX) {
            let id: GroupId = word.parse()?;
            let exists = self.model.groups.contains_key(&id) || store.had_group(&id)?;
            return Ok(exists.then(|| id.to_string()).into_iter().collect());
        }
        let mut ids = store.groups_had(word)?;
        ids.retain(|id| !self.model.groups.contains_key(id));
        match self.model.group(word) {
            Ok(group) => ids.push(group.id.clone()),
            Err(crate::model::Error::GroupNotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(ids.iter().map(GroupId::to_string).collect())
    }

    fn has_rule(&self, rule: &RuleId) -> Result<bool> {
        Ok(self.control.store().number_of_rule(rule)?.is_some())
    }

    fn interfaces(&self) -> BTreeSet<String> {
        self.model.interfaces.values().map(crate::model::Interface::label).collect()
    }

    fn groups(&self) -> BTreeSet<String> {
        self.model.groups.values().map(|group| group.name.clone()).collect()
    }

    fn namespaces(&self) -> BTreeSet<String> {
        self.model.interfaces.values().filter_map(|interface| interface.netns.clone()).collect()
    }
}

/// The names in records, of interfaces, groups and rules that may not exist any more.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// By id: device and namespace.
    interfaces: BTreeSet<(String, String, Option<String>)>,
    /// By id: the name.
    groups: BTreeMap<String, BTreeSet<String>>,
    rules: BTreeSet<String>,
}

impl Recorded {
    /// The names in these records.
    #[must_use]
    pub fn of<'a>(records: impl IntoIterator<Item = &'a PacketRecord>) -> Self {
        let mut names = Self::default();
        records.into_iter().for_each(|record| names.add(&record.into()));
        names
    }

    /// Adds the names of a store.
    pub fn add_model(&mut self, model: &Model) {
        for interface in model.interfaces.values() {
            self.interfaces.insert((
                interface.id.to_string(),
                interface.device.clone(),
                interface.netns.clone(),
            ));
        }
        for group in model.groups.values() {
            self.groups.entry(group.id.to_string()).or_default().insert(group.name.clone());
            self.rules.extend(group.rules.iter().map(|rule| rule.id.to_string()));
        }
    }

    /// Adds the names in a record or flow.
    pub fn add(&mut self, subject: &Subject<'_>) {
        let Subject { network_interface_id, device, netns, rule, .. } = subject;
        let interface =
            ((*network_interface_id).to_owned(), (*device).to_owned(), netns.map(str::to_owned));
        self.interfaces.insert(interface);
        if let Some(rule) = rule {
            let names = self.groups.entry(rule.group_id.clone()).or_default();
            names.insert(rule.group_name.clone());
            self.rules.insert(rule.security_group_rule_id.clone());
        }
    }
}

impl Names for Recorded {
    fn interface(&self, named: &Named) -> Result<Vec<String>> {
        let all = self.interfaces.iter();
        let of_name = all.filter(|(id, device, netns)| {
            *id == named.device || (*device == named.device && *netns == named.netns)
        });
        Ok(of_name.map(|(id, ..)| id.clone()).collect())
    }

    fn group(&self, word: &str) -> Result<Vec<String>> {
        let has =
            |names: &BTreeSet<String>| names.iter().any(|name| name.eq_ignore_ascii_case(word));
        let found = self.groups.iter().filter(|(id, names)| *id == word || has(names));
        Ok(found.map(|(id, _)| id.clone()).collect())
    }

    fn has_rule(&self, rule: &RuleId) -> Result<bool> {
        Ok(self.rules.contains(rule.as_str()))
    }

    fn interfaces(&self) -> BTreeSet<String> {
        let all = self.interfaces.iter();
        all.map(|(_, device, netns)| label(device, netns.as_deref())).collect()
    }

    fn groups(&self) -> BTreeSet<String> {
        self.groups.values().flatten().cloned().collect()
    }

    fn namespaces(&self) -> BTreeSet<String> {
        self.interfaces.iter().filter_map(|(_, _, netns)| netns.clone()).collect()
    }
}

/// The names of both; what the first knows is not looked up in the second.
#[derive(Clone, Copy)]
pub struct Or<'a>(pub &'a dyn Names, pub &'a dyn Names);

impl Names for Or<'_> {
    fn interface(&self, named: &Named) -> Result<Vec<String>> {
        let found = self.0.interface(named)?;
        if found.is_empty() { self.1.interface(named) } else { Ok(found) }
    }

    fn group(&self, word: &str) -> Result<Vec<String>> {
        let found = self.0.group(word)?;
        if found.is_empty() { self.1.group(word) } else { Ok(found) }
    }

    fn has_rule(&self, rule: &RuleId) -> Result<bool> {
        Ok(self.0.has_rule(rule)? || self.1.has_rule(rule)?)
    }

    fn interfaces(&self) -> BTreeSet<String> {
        &self.0.interfaces() | &self.1.interfaces()
    }

    fn groups(&self) -> BTreeSet<String> {
        &self.0.groups() | &self.1.groups()
    }

    fn namespaces(&self) -> BTreeSet<String> {
        &self.0.namespaces() | &self.1.namespaces()
    }
}
