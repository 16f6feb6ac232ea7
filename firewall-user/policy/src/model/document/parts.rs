//! A document in several files, as the commands of AWS print them: each file has one kind of items, or several,
//! and the entries of each prefix list are in a file of their own.

use std::collections::BTreeMap;
use std::mem;
use std::path::Path;

use super::errors::Source;
use super::{Document, Entry, Error, Errors, Warning};
use crate::model::PrefixListId;

/// Files that are one document together.
#[derive(Debug, Default)]
pub struct Parts {
    document: Document,
    files: Vec<File>,
    runs: Vec<Run>,
    entries: Vec<(PrefixListId, EntriesOf)>,
    /// The indexes of the lists with entries from a file of their own, with the number of that file.
    lists: BTreeMap<usize, usize>,
}

#[derive(Debug)]
struct File {
    /// `None`: errors do not name it.
    name: Option<String>,
    text: Vec<u8>,
}

/// Items of one kind that are from one file.
#[derive(Debug)]
struct Run {
    key: &'static str,
    first: usize,
    count: usize,
    file: usize,
}

#[derive(Debug)]
struct EntriesOf {
    file: usize,
    entries: Vec<Entry>,
    mistyped: Errors,
}

impl Parts {
    /// Adds a file. With `list` its `Entries` are those of this prefix list. Errors about its items name the
    /// file, if it has a name.
    ///
    /// # Errors
    /// As of [`Document::parse`], or it has `Entries` without `list`.
    pub fn add(
        &mut self,
        name: Option<String>,
        text: Vec<u8>,
        list: Option<PrefixListId>,
    ) -> Result<(), Error> {
        let mut part = Document::parse_part(&text)?;
        let file = self.files.len();
        self.files.push(File { name, text });
        if let Some(entries) = part.entries.take() {
            let list = list.ok_or(Error::EntriesOfWhat)?;
            let mistyped = mem::take(&mut part.mistyped);
            self.entries.push((list, EntriesOf { file, entries, mistyped }));
            return Ok(());
        }
        let has_rules_only = part.security_group_rules.is_some();
        match part.check_whole() {
            Err(Error::Empty) if has_rules_only => {}
            checked => checked?,
        }
        let Document {
            security_groups,
            prefix_lists,
            network_acls,
            security_group_rules,
            vpcs,
            subnets,
            mistyped,
            ..
        } = part;
        let mut offsets = BTreeMap::new();
        let Self { document: whole, runs, .. } = self;
        macro_rules! append {
            ($($key:literal: $items:ident,)*) => {$(
                let first = whole.$items.as_ref().map_or(0, Vec::len);
                let count = $items.as_ref().map_or(0, Vec::len);
                offsets.insert($key, first);
                // A key with a value of another type has no items.
                if $items.is_some() || !mistyped.is_empty() {
                    runs.push(Run { key: $key, first, count, file });
                }
                if let Some(items) = $items {
                    whole.$items.get_or_insert_default().extend(items);
                }
            )*};
        }
        append! {
            "SecurityGroups": security_groups,
            "PrefixLists": prefix_lists,
            "NetworkAcls": network_acls,
            "SecurityGroupRules": security_group_rules,
            "Vpcs": vpcs,
            "Subnets": subnets,
        }
        whole.mistyped.extend(mistyped, |path| match split(path) {
            Some((key, index, rest)) if offsets.contains_key(key) => {
                format!("{key}[{}]{rest}", index + offsets[key])
            }
            _ => path.to_owned(),
        });
        Ok(())
    }

    /// The document, with the entries in the lists that they are of. The items stay known to [`Self::located`].
    ///
    /// # Errors
    /// Entries are of a list that is in none of the files, or of one that has some already; or there are none
    /// of `SecurityGroups`, `PrefixLists` and `NetworkAcls`.
    pub fn join(&mut self) -> Result<Document, Errors> {
        let mut document = mem::take(&mut self.document);
        let mut errors = Errors::default();
        for (id, EntriesOf { file, entries, mistyped }) in mem::take(&mut self.entries) {
            let lists = document.prefix_lists.get_or_insert_default();
            let of_list = |list: &super::ManagedPrefixList| {
                list.prefix_list_id.as_deref() == Some(id.as_str())
            };
            let foreign = |reason, hint| Error::Foreign {
                path: self.files[file].name.clone().unwrap_or_else(|| "Entries".to_owned()),
                reason,
                hint,
            };
            let Some(index) = lists.iter().position(of_list) else {
                errors.push(foreign(
                    format!("prefix list {id} is in none of the documents"),
                    "add the document of aws ec2 describe-managed-prefix-lists",
                ));
                continue;
            };
            if lists[index].entries.is_some() {
                let reason = format!("prefix list {id} has Entries twice");
                errors.push(foreign(reason, "name one document with its entries"));
                continue;
            }
            lists[index].entries = Some(entries);
            lists[index].has_separate_entries = Some(true);
            self.lists.insert(index, file);
            document.mistyped.extend(mistyped, |path| format!("PrefixLists[{index}].{path}"));
        }
        if errors.is_empty() {
            document.check_whole()?;
            Ok(document)
        } else {
            Err(errors)
        }
    }

    /// The errors with the names of the files, and with their places in them.
    #[must_use]
    pub fn located(&self, errors: Errors) -> Errors {
        errors.located_by(|path| self.source(path))
    }

    /// A warning with the name of the file.
    #[must_use]
    pub fn named(&self, warning: &Warning) -> Warning {
        let source = self.source(&warning.path);
        let path = source.map_or_else(|| warning.path.clone(), |one| one.named(&warning.path));
        Warning { path, text: warning.text.clone() }
    }

    fn source(&self, path: &str) -> Option<Source<'_>> {
        let source = |file: usize, path: String| {
            let File { name, text } = &self.files[file];
            Source { file, name: name.as_deref(), text, path }
        };
        let Some((key, index, rest)) = split(path) else {
            let run = self.runs.iter().find(|run| run.key == path)?;
            return Some(source(run.file, path.to_owned()));
        };
        if key == "PrefixLists"
            && let Some(of_entries) = rest.strip_prefix('.').filter(|it| it.starts_with("Entries"))
            && let Some(file) = self.lists.get(&index)
        {
            return Some(source(*file, of_entries.to_owned()));
        }
        let is_of =
            |run: &&Run| run.key == key && (run.first..run.first + run.count).contains(&index);
        let run = self.runs.iter().find(is_of)?;
        Some(source(run.file, format!("{key}[{}]{rest}", index - run.first)))
    }
}

/// `KEY[INDEX]REST`
fn split(path: &str) -> Option<(&str, usize, &str)> {
    let (key, rest) = path.split_once('[')?;
    let (index, rest) = rest.split_once(']')?;
    Some((key, index.parse().ok()?, rest))
}

/// The prefix list that a file is named after, as in `entries-pl-0123456789abcdef0.json`.
#[must_use]
pub fn list_of_file(file: &Path) -> Option<PrefixListId> {
    let name = file.file_name()?.to_str()?;
    name.match_indices(PrefixListId::PREFIX).find_map(|(start, prefix)| {
        let digits = name[start + prefix.len()..].split(|c: char| !c.is_ascii_alphanumeric());
        format!("{prefix}{}", digits.into_iter().next()?).parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_can_be_named_after_a_prefix_list() {
        let of = |name: &str| list_of_file(Path::new(name)).map(|id| id.to_string());
        assert_eq!(of("/x/pl-0123456789abcdef0.json").unwrap(), "pl-0123456789abcdef0");
        assert_eq!(of("entries_pl-63a5400a-1.json").unwrap(), "pl-63a5400a");
        assert_eq!(of("pl-lists pl-63a5400a").unwrap(), "pl-63a5400a");
        for name in ["pl-1.json", "lists.json", "pl-0123456789abcdef01", "/pl-63a5400a/x.json", ""]
        {
            assert_eq!(of(name), None, "{name}");
        }
    }

    #[test]
    fn the_places_of_errors_are_those_in_the_files() {
        let mut parts = Parts::default();
        let group = |name: &str| format!(r#"{{"SecurityGroups": [{{"GroupName": "{name}"}}]}}"#);
        parts.add(Some("a".to_owned()), group("x").into_bytes(), None).unwrap();
        let second = "{\"SecurityGroups\": [\n{\"GroupName\": 1}]}";
        parts.add(Some("b".to_owned()), second.into(), None).unwrap();
        let list = r#"{"PrefixLists": [{"PrefixListId": "pl-00000001"}]}"#;
        parts.add(Some("c".to_owned()), list.into(), None).unwrap();
        let entries = "{\"Entries\": [\n {\"Cidr\": 1}]}";
        let unnamed = parts.add(Some("d".to_owned()), entries.into(), None);
        assert_eq!(unnamed, Err(Error::EntriesOfWhat));
        let id: PrefixListId = "pl-00000001".parse().unwrap();
        parts.add(Some("e".to_owned()), entries.into(), Some(id)).unwrap();
        let document = parts.join().unwrap();
        let errors = parts.located(document.mistyped);
        let texts: Vec<_> = errors.iter().map(|one| one.to_string()).collect();
        assert_eq!(
            texts,
            [
                "b: SecurityGroups[0].GroupName: invalid type: integer `1`, expected a string \
                 (line 2, column 15)",
                "e: Entries[0].Cidr: invalid type: integer `1`, expected a string (line 2, column 11)",
            ]
        );
        let warning = Warning { path: "SecurityGroups[1].Tags".to_owned(), text: "x".to_owned() };
        assert_eq!(parts.named(&warning).to_string(), "b: SecurityGroups[0].Tags: x");
    }

    #[test]
    fn entries_are_of_one_list_of_the_documents() {
        let id: PrefixListId = "pl-00000001".parse().unwrap();
        let entries = r#"{"Entries": []}"#;
        let mut parts = Parts::default();
        parts.add(Some("a".to_owned()), entries.into(), Some(id.clone())).unwrap();
        let errors = parts.join().unwrap_err();
        assert_eq!(errors.to_string(), "a: prefix list pl-00000001 is in none of the documents");
        let mut parts = Parts::default();
        let list = r#"{"PrefixLists": [{"PrefixListId": "pl-00000001", "Entries": []}]}"#;
        parts.add(None, list.into(), None).unwrap();
        parts.add(Some("b".to_owned()), entries.into(), Some(id)).unwrap();
        let errors = parts.join().unwrap_err();
        assert_eq!(errors.to_string(), "b: prefix list pl-00000001 has Entries twice");
        let more = Document::parse(br#"{"SecurityGroups": [], "NextToken": "x"}"#);
        assert_eq!(more, Err(Error::Partial));
    }
}
