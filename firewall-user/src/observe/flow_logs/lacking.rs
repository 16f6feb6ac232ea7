//! Filters on fields that files of flow logs do not have.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::field::Field;
use crate::observe::query::Query;

/// The filters that matched nothing in files because these have no field for them.
#[derive(Debug, Default)]
pub struct Lacking {
    /// By option: what the files lack, how many they are, and the first.
    options: BTreeMap<&'static str, (&'static str, usize, PathBuf)>,
}

/// A filter: its option, whether it is given, and the fields of which it needs one.
type Needed = (&'static str, bool, &'static [Field]);

fn needed(query: &Query) -> [Needed; 13] {
    const ADDRESSES: &[Field] =
        &[Field::SrcAddr, Field::PktSrcAddr, Field::DstAddr, Field::PktDstAddr];
    let Query {
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
        not: _,
    } = query;
    [
        ("--from", !from.is_empty(), &[Field::SrcAddr, Field::PktSrcAddr]),
        ("--to", !to.is_empty(), &[Field::DstAddr, Field::PktDstAddr]),
        ("--address", !address.is_empty(), ADDRESSES),
        ("--port", !port.is_empty(), &[Field::SrcPort, Field::DstPort]),
        // Without a protocol it is not known whether the numbers are ports.
        ("--port or --protocol", !port.is_empty() || !protocol.is_empty(), &[Field::Protocol]),
        ("--interface", !interface.is_empty(), &[Field::InterfaceId]),
        ("--netns", !netns.is_empty(), &[]),
        ("--group", !group.is_empty(), &[Field::GroupId]),
        ("--rule", !rule.is_empty(), &[Field::RuleId]),
        ("--reason", !reason.is_empty(), &[Field::Reason]),
        ("--direction", !direction.is_empty(), &[Field::FlowDirection]),
        ("--state", !state.is_empty(), &[]),
        ("--default-deny", *default_deny, &[Field::Reason]),
    ]
}

impl Lacking {
    /// Compares the filters with the fields of a file.
    pub fn add(&mut self, query: &Query, path: &Path, columns: &[Option<Field>]) {
        for (option, is_given, fields) in needed(query) {
            if is_given && !fields.iter().any(|field| columns.contains(&Some(*field))) {
                let name = fields.first().map_or("", |field| field.name());
                let found =
                    self.options.entry(option).or_insert_with(|| (name, 0, path.to_owned()));
                found.1 += 1;
            }
        }
    }

    /// A sentence for each filter.
    pub fn texts(&self) -> impl Iterator<Item = String> {
        self.options.iter().map(|(option, (field, count, first))| {
            let files = match count {
                1 => format!("{}: no record matches {option}", first.display()),
                more => format!(
                    "{} and {} more files: no record matches {option}",
                    first.display(),
                    more - 1
                ),
            };
            match *field {
                "" => format!("{files}: records of flow logs have no such field"),
                field => format!("{files}: the first line does not name the field {field}"),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::field::Format;
    use super::*;

    #[test]
    fn a_filter_on_a_field_that_a_file_has_not_is_told() {
        let default = Format::columns(&Format::default().header());
        let all = Format::columns(&Format::all().header());
        let texts = |line: &str, columns: &[Option<Field>]| {
            let query = Query::from_line(line).unwrap();
            let mut lacking = Lacking::default();
            for path in ["a.log", "b.log"] {
                lacking.add(&query, Path::new(path), columns);
            }
            lacking.texts().collect::<Vec<_>>()
        };
        let line = "--from 10.0.0.0/8 --port 22 --protocol tcp --interface eth0";
        assert_eq!(texts(line, &default), [""; 0]);
        for (line, field) in [
            ("--reason no-rule", "reason"),
            ("--default-deny", "reason"),
            ("--group web", "group-id"),
            ("--rule sgr-0123456789abcdef0 --not", "rule-id"),
            ("--direction ingress", "flow-direction"),
        ] {
            let option = line.split(' ').next().unwrap();
            let expected = format!(
                "a.log and 1 more files: no record matches {option}: the first line does not name the field {field}"
            );
            assert_eq!(texts(line, &default), [expected], "{line}");
            assert_eq!(texts(line, &all), [""; 0], "{line}");
        }
        let state = texts("--state established", &all);
        assert!(
            state[0].ends_with("--state: records of flow logs have no such field"),
            "{state:?}"
        );
    }
}
