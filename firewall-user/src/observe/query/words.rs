//! The query in other forms than options of a command: pairs of a URL, and a line that was typed.

use clap::error::ErrorKind;
use clap::{Args as _, Command, FromArgMatches as _};

use super::{Query, QueryError, protocol_name};

impl Query {
    /// The query of pairs such as `port=443` or `not=true`, as in a URL: the same words and values as the options.
    /// Pairs without a value are left out, as forms send fields that are not filled in.
    ///
    /// # Errors
    /// [`QueryError::Malformed`].
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, QueryError> {
        let command = command();
        let mut arguments = Vec::new();
        for (name, value) in pairs {
            let (name, value) = (name.as_ref(), value.as_ref());
            let known = command.get_arguments().find(|known| known.get_long() == Some(name));
            let known = known.ok_or_else(|| unknown_word(&command, name))?;
            let takes_value = known.get_action().takes_values();
            match (takes_value, value) {
                (true, "") | (false, "" | "false" | "0") => {}
                (true, value) => arguments.push(format!("--{name}={value}")),
                (false, "true" | "1" | "on") => arguments.push(format!("--{name}")),
                (false, other) => {
                    return Err(QueryError::Malformed {
                        message: format!("invalid value {other:?} for {name}"),
                        hint: Some("write true or false".to_owned()),
                    });
                }
            }
        }
        parse(command, arguments)
    }

    /// The query of a line such as `--port 443 --not`, or `port=443 not`. A value with a space is in double quotes.
    ///
    /// # Errors
    /// [`QueryError::Malformed`].
    pub fn from_line(line: &str) -> Result<Self, QueryError> {
        let command = command();
        let mut arguments: Vec<String> = Vec::new();
        let mut wants_value = false;
        for word in &words(line) {
            if wants_value {
                wants_value = false;
                arguments.push(word.clone());
                continue;
            }
            let (name, value) = match word.trim_start_matches("--").split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (word.trim_start_matches("--"), None),
            };
            let known = command.get_arguments().find(|known| known.get_long() == Some(name));
            let known = known.ok_or_else(|| unknown_word(&command, name))?;
            wants_value = value.is_none() && known.get_action().takes_values();
            arguments.push(match value {
                Some(value) => format!("--{name}={value}"),
                None => format!("--{name}"),
            });
        }
        parse(command, arguments)
    }

    /// The line of which [`Self::from_line`] makes this query.
    #[must_use]
    pub fn to_line(&self) -> String {
        let Self {
            from,
            to,
            address,
            port,
            protocol,
            interface,
            netns,
            group,
            rule,
            reason,
            direction,
            state,
            default_deny,
            not,
        } = self;
        let mut words = Vec::new();
        let mut add = |name: &str, values: Vec<String>| {
            for value in values {
                let quote = if value.contains(char::is_whitespace) { "\"" } else { "" };
                words.push(format!("--{name} {quote}{value}{quote}"));
            }
        };
        add("from", texts(from));
        add("to", texts(to));
        add("address", texts(address));
        add("port", texts(port));
        add("protocol", protocol.iter().map(|number| protocol_name(*number)).collect());
        add("interface", texts(interface));
        add("netns", texts(netns));
        add("group", texts(group));
        add("rule", texts(rule));
        add("reason", reason.iter().map(|reason| reason.name().to_owned()).collect());
        add("direction", direction.iter().map(|one| one.name().to_owned()).collect());
        add("state", state.iter().map(|state| state.name().to_owned()).collect());
        let flags = [("--default-deny", *default_deny), ("--not", *not)];
        let given = flags.into_iter().filter_map(|(flag, is_given)| is_given.then_some(flag));
        words.extend(given.map(ToOwned::to_owned));
        words.join(" ")
    }
}

fn texts(values: &[impl ToString]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

/// The words of a line. What is in double quotes is one, or a part of one.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut is_quoted) = (vec![String::new()], false);
    for character in line.chars() {
        if character == '"' {
            is_quoted = !is_quoted;
        } else if character.is_whitespace() && !is_quoted {
            words.push(String::new());
        } else if let Some(word) = words.last_mut() {
            word.push(character);
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn command() -> Command {
    let command = Command::new("query").no_binary_name(true).disable_help_flag(true);
    Query::augment_args(command).term_width(0)
}

fn unknown_word(command: &Command, name: &str) -> QueryError {
    let known: Vec<&str> =
        command.get_arguments().filter_map(|argument| argument.get_long()).collect();
    QueryError::Malformed {
        message: format!("unknown filter {name:?}"),
        hint: Some(format!("known: {}", known.join(", "))),
    }
}

fn parse(command: Command, arguments: Vec<String>) -> Result<Query, QueryError> {
    let parsed = command.try_get_matches_from(arguments);
    parsed.and_then(|matches| Query::from_arg_matches(&matches)).map_err(|error| malformed(&error))
}

/// clap's message in one line; what follows in brackets or lines of their own is the hint.
fn malformed(error: &clap::Error) -> QueryError {
    let text = error.to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    let message = first.strip_prefix("error: ").unwrap_or(first).to_owned();
    let is_of_value = matches!(error.kind(), ErrorKind::InvalidValue | ErrorKind::ValueValidation);
    let hint = lines.find(|line| line.starts_with("[possible values"));
    let hint = hint
        .filter(|_| is_of_value)
        .map(|hint| hint.trim_matches(['[', ']']).replacen("possible values", "known", 1));
    QueryError::Malformed { message, hint }
}
