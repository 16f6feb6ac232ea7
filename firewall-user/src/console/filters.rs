//! The form of filters: the same words as the options of commands.

use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::reason::Reason;
use firewall_ebpf::abi::state::State;

use super::answer::Problem;
use crate::observe::query::{Checked, Names, Query, QueryError};

/// How a field is filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// A word, with an example.
    Word(&'static str),
    /// One of these.
    Choice(Vec<&'static str>),
    /// Yes or no.
    Switch,
}

/// A filter in the form.
#[derive(Clone, Debug)]
pub(super) struct Field {
    /// The word of the filter.
    pub(super) name: &'static str,
    pub(super) label: &'static str,
    pub(super) input: Input,
    /// The values that it has; one empty value if it is not used.
    pub(super) values: Vec<String>,
}

/// The pages that have the form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Drops,
    Flows,
}

/// The form.
pub(super) struct Filters {
    pub(super) fields: Vec<Field>,
    /// Why they are not applied.
    pub(super) problem: Option<Problem>,
    /// Whether one is used.
    pub(super) is_used: bool,
}

impl Filters {
    /// The form with the words of a request; `own`: words of the page that are no filters, with label and example.
    pub(super) fn new(
        of: Of,
        own: &[(&'static str, &'static str, &'static str)],
        words: &[(String, String)],
    ) -> Self {
        let field = |(name, label, input)| {
            let values = words.iter().filter(|(word, _)| word == name);
            let mut values: Vec<String> = values.map(|(_, value)| value.clone()).collect();
            if values.is_empty() {
                values.push(String::new());
            }
            Field { name, label, input, values }
        };
        let own = own.iter().map(|(name, label, example)| (*name, *label, Input::Word(example)));
        let fields: Vec<Field> = own.chain(inputs(of)).map(field).collect();
        let is_used = fields.iter().any(|field| field.values.iter().any(|one| !one.is_empty()));
        Self { fields, problem: None, is_used }
    }

    /// Whether a switch is on.
    pub(super) fn is_on(field: &Field) -> bool {
        field.values.iter().any(|value| matches!(value.as_str(), "true" | "1" | "on"))
    }
}

fn inputs(of: Of) -> Vec<(&'static str, &'static str, Input)> {
    let directions = Direction::ALL.map(Direction::name).to_vec();
    let mut inputs = vec![
        ("from", "From", Input::Word("192.0.2.0/24")),
        ("to", "To", Input::Word("198.51.100.1")),
        ("address", "Either address", Input::Word("2001:db8::/32")),
        ("port", "Port or ICMP message", Input::Word("https, 8000-8999, echo-request")),
        ("protocol", "Protocol", Input::Word("tcp")),
        ("interface", "Interface", Input::Word("eth0")),
        ("netns", "Network namespace", Input::Word("blue")),
        ("group", "Group", Input::Word("web")),
        ("rule", "Rule", Input::Word("sgr-0123456789abcdef0")),
        ("direction", "Direction", Input::Choice(directions)),
    ];
    match of {
        Of::Drops => {
            let reasons = Reason::ALL.iter().map(|reason| reason.name()).collect();
            inputs.push(("reason", "Reason", Input::Choice(reasons)));
            inputs.push(("default-deny", "No rule allows it", Input::Switch));
        }
        Of::Flows => {
            let states = State::ALL.iter().map(|state| state.name()).collect();
            inputs.push(("state", "State", Input::Choice(states)));
        }
    }
    inputs.push(("not", "Choose all others", Input::Switch));
    inputs
}

/// The query of the words that are filters. `own`: the words that are not.
///
/// # Errors
/// A word or a value is unknown.
pub(super) fn query(words: &[(String, String)], own: &[&str]) -> Result<Query, Problem> {
    let filters = words.iter().filter(|(name, _)| !own.contains(&name.as_str()));
    let query = Query::from_pairs(filters.map(|(name, value)| (name, value)));
    query.map_err(|error| Problem::of_words(&error))
}

/// The same with names looked up.
///
/// # Errors
/// A word or a name is unknown.
pub(super) fn check(
    words: &[(String, String)],
    own: &[&str],
    names: &dyn Names,
) -> Result<Checked, Problem> {
    query(words, own)?.check(names).map_err(|error| refused(&error))
}

/// Why a query was refused.
pub(super) fn refused(error: &anyhow::Error) -> Problem {
    match error.downcast_ref::<QueryError>() {
        Some(error) => Problem::of_words(error),
        // A name that cannot be one, or that several interfaces or groups have.
        None => Problem::usage(format!("{error:#}"), None),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::{Args as _, Command};

    use super::*;

    #[test]
    fn the_forms_have_every_filter_of_the_command_line() {
        let command = Query::augment_args(Command::new("query"));
        let known: BTreeSet<&str> =
            command.get_arguments().filter_map(|argument| argument.get_long()).collect();
        let of = |of| inputs(of).into_iter().map(|(name, ..)| name);
        let shown: BTreeSet<&str> = of(Of::Drops).chain(of(Of::Flows)).collect();
        assert_eq!(shown, known);
        for (name, label, input) in inputs(Of::Drops).into_iter().chain(inputs(Of::Flows)) {
            assert!(!label.is_empty(), "{name}");
            let argument = command.get_arguments().find(|one| one.get_long() == Some(name));
            let takes_value = argument.unwrap().get_action().takes_values();
            assert_eq!(takes_value, input != Input::Switch, "{name}");
        }
    }

    #[test]
    fn every_value_of_a_repeated_filter_is_in_the_form() {
        let words = [("port", "80"), ("port", "<443>"), ("not", "true")];
        let words = words.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let filters = Filters::new(Of::Flows, &[], &words);
        let values =
            |name| filters.fields.iter().find(|field| field.name == name).unwrap().values.clone();
        assert_eq!(values("port"), ["80", "<443>"]);
        assert_eq!(values("from"), [""]);
        assert!(filters.is_used);
        assert!(Filters::is_on(filters.fields.last().unwrap()));
    }
}
