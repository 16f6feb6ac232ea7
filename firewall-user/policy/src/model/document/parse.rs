//! From text to a document, with every value that has another type than it must have.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use serde_json::{Map, Value};

use super::errors::{BOM, Errors, MOST_WORK};
use super::{Document, Error};

impl Document {
    /// Reads a document. Values of another type than they must have are left out;
    /// [`crate::model::apply::Plan::new`] refuses the document for them, together with its other errors. A
    /// byte-order mark before it is ignored.
    ///
    /// # Errors
    /// The text is not JSON in UTF-8 (with line and column), or has neither groups nor prefix lists nor
    /// network ACLs.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        let document = Self::parse_part(text)?;
        document.check_whole()?;
        Ok(document)
    }

    /// Refuses a document that says nothing by itself.
    pub(super) fn check_whole(&self) -> Result<(), Error> {
        let Self { security_groups, prefix_lists, network_acls, vpcs, subnets, .. } = self;
        let is_empty = security_groups.is_none()
            && prefix_lists.is_none()
            && network_acls.is_none()
            && vpcs.is_none()
            && subnets.is_none();
        match &self.entries {
            Some(_) if is_empty => Err(Error::EntriesOfWhat),
            _ if is_empty && self.mistyped.is_empty() => Err(Error::Empty),
            _ => Ok(()),
        }
    }

    /// As [`Self::parse`], of one part of a document: that it says nothing by itself is no error.
    pub(super) fn parse_part(text: &[u8]) -> Result<Self, Error> {
        if is_utf16(text) {
            return Err(Error::Utf16);
        }
        let text = text.strip_prefix(BOM.to_string().as_bytes()).unwrap_or(text);
        if text.trim_ascii().is_empty() {
            return Err(Error::Blank);
        }
        let document: Self = match serde_json::from_slice(text) {
            Ok(document) => document,
            Err(error) if error.classify() == Category::Data => mistyped(text, &error)?,
            Err(error) => return Err(syntax(&error)),
        };
        if document.next_token.as_deref().is_some_and(|token| !token.is_empty()) {
            return Err(Error::Partial);
        }
        Ok(document)
    }
}

/// UTF-16, which Windows PowerShell writes: with a byte-order mark, or by the zero bytes of its braces.
const fn is_utf16(text: &[u8]) -> bool {
    matches!(
        text,
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [b'{' | b'[', 0, ..] | [0, b'{' | b'[', ..]
    )
}

fn syntax(error: &serde_json::Error) -> Error {
    Error::Syntax { line: error.line(), column: error.column(), message: message(error) }
}

fn message(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let message = message.strip_suffix(&place).unwrap_or(&message);
    // Rust's names of types are not those of JSON.
    match message.rsplit_once(", expected ") {
        Some((found, "i64" | "u64")) => format!("{found}, expected an integer"),
        _ => message.to_owned(),
    }
}

/// A document without the values of a wrong type, and an error for each of them. `first` is the first
/// error: that of a text that is no document at all.
fn mistyped(text: &[u8], first: &serde_json::Error) -> Result<Document, Error> {
    let mut value: Value = serde_json::from_slice(text).map_err(|error| syntax(&error))?;
    let mut errors = Errors::default();
    repeated(text, &mut errors);
    let mut work = 0;
    let document = loop {
        let error = match serde_path_to_error::deserialize::<_, Document>(&value) {
            Ok(document) => break document,
            Err(error) => error,
        };
        let path = error.path().to_string();
        let wrong = at(&mut value, &path).filter(|_| !errors.left_out(&path));
        let Some(wrong) = wrong else { return Err(syntax(first)) };
        // As if it were absent, or an item without keys.
        *wrong = if path.ends_with(']') { Value::Object(Map::new()) } else { Value::Null };
        errors.push(Error::Type { path, message: message(error.inner()) });
        work += text.len();
        if errors.is_full() || work > MOST_WORK {
            errors.stop();
            break Document::default();
        }
    };
    if errors.is_empty() {
        return Err(syntax(first));
    }
    Ok(Document { mistyped: errors, ..document })
}

/// The value at a path, if it is within an object.
fn at<'a>(value: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    let mut here = value;
    for step in path.split(['.', '[']) {
        here = match step.strip_suffix(']') {
            Some(index) => here.get_mut(index.parse::<usize>().ok()?)?,
            None => here.get_mut(step)?,
        };
    }
    Some(here)
}

/// Finds keys that an object has twice, of which a [`Value`] keeps one.
fn repeated(text: &[u8], errors: &mut Errors) {
    let mut reader = serde_json::Deserializer::from_slice(text);
    // The text was read once already: it is JSON.
    let _ = Keys { path: String::new(), errors }.deserialize(&mut reader);
}

struct Keys<'a> {
    path: String,
    errors: &'a mut Errors,
}

impl<'de> DeserializeSeed<'de> for Keys<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_any(self)
    }
}

macro_rules! ignore {
    ($($visit:ident: $kind:ty,)*) => {
        $(fn $visit<E>(self, _: $kind) -> Result<(), E> { Ok(()) })*
    };
}

impl<'de> Visitor<'de> for Keys<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("JSON")
    }

    ignore! {
        visit_bool: bool,
        visit_i64: i64,
        visit_u64: u64,
        visit_f64: f64,
        visit_str: &str,
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Self { path, errors } = self;
        let mut index = 0;
        while items
            .next_element_seed(Keys { path: format!("{path}[{index}]"), errors: &mut *errors })?
            .is_some()
        {
            index += 1;
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Self { path, errors } = self;
        let mut seen = HashSet::new();
        while let Some(key) = items.next_key::<String>()? {
            let inner = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            if !seen.insert(key) {
                errors.push(Error::Repeated { path: inner.clone() });
            }
            items.next_value_seed(Keys { path: inner, errors: &mut *errors })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::apply::Plan;
    use crate::model::{Limits, Model};

    /// All errors of a text, as they are printed.
    fn errors(text: &str) -> Vec<String> {
        match Document::parse(text.as_bytes()) {
            Err(error) => vec![error.to_string()],
            Ok(document) => match Plan::new(&Model::default(), &document, &Limits::default()) {
                Ok(_) => Vec::new(),
                Err(errors) => {
                    let errors = errors.located(text.as_bytes());
                    errors.iter().map(|error| error.to_string()).collect()
                }
            },
        }
    }

    #[test]
    fn every_value_of_a_wrong_type_is_reported_once_with_its_place() {
        let text = r#"{"SecurityGroups": [
  {"GroupName": 1, "Description": "d", "IpPermissions": {}, "IpPermissionsEgress": []},
  "x",
  {"GroupName": "b", "Description": "d", "IpPermissionsEgress": [], "IpPermissions": [
    {"IpProtocol": "tcp", "FromPort": "80", "ToPort": 80, "IpRanges": [{"CidrIp": "0.0.0.0/0"}, 7]}]}]}"#;
        assert_eq!(
            errors(text),
            [
                "SecurityGroups[0].GroupName: invalid type: integer `1`, expected a string (line 2, column 17)",
                "SecurityGroups[0].IpPermissions: invalid type: map, expected a sequence (line 2, column 57)",
                "SecurityGroups[1]: invalid type: string \"x\", expected an object (line 3, column 3)",
                "SecurityGroups[2].IpPermissions[0].FromPort: invalid type: string \"80\", expected an integer (line 5, column 39)",
                "SecurityGroups[2].IpPermissions[0].IpRanges[1]: invalid type: integer `7`, expected an object (line 5, column 97)",
            ]
        );
    }

    #[test]
    fn a_key_that_is_there_twice_is_reported_with_the_others() {
        let text = r#"{"SecurityGroups": [{"GroupName": "a", "GroupName": "b", "Description": 3,
 "IpPermissions": [], "IpPermissionsEgress": []}]}"#;
        assert_eq!(
            errors(text),
            [
                "SecurityGroups[0].GroupName: the key is there twice (line 1, column 53)",
                "SecurityGroups[0].Description: invalid type: integer `3`, expected a string (line 1, column 73)",
            ]
        );
    }

    #[test]
    fn a_byte_order_mark_is_accepted_and_utf_16_is_not() {
        let text = r#"{"SecurityGroups": []}"#;
        let document = Document::parse(text.as_bytes()).unwrap();
        assert_eq!(Document::parse(format!("\u{feff}{text}").as_bytes()).unwrap(), document);
        let wide = |mark: &[u16], bytes: fn(u16) -> [u8; 2]| {
            mark.iter().copied().chain(text.encode_utf16()).flat_map(bytes).collect::<Vec<u8>>()
        };
        for mark in [&[0xfeff][..], &[]] {
            for bytes in [u16::to_le_bytes, u16::to_be_bytes] {
                assert_eq!(Document::parse(&wide(mark, bytes)), Err(Error::Utf16));
            }
        }
        assert_eq!(Document::parse("\u{feff} ".as_bytes()), Err(Error::Blank));
    }

    #[test]
    fn errors_are_bounded_and_counted() {
        let group = |number: u32| {
            format!(r#"{{"GroupName": "g{number}", "Description": "d", "IpPermissions": []}}"#)
        };
        let groups: Vec<_> = (0..150).map(group).collect();
        let text = format!(r#"{{"SecurityGroups": [{}]}}"#, groups.join(","));
        let document = Document::parse(text.as_bytes()).unwrap();
        let errors = Plan::new(&Model::default(), &document, &Limits::default()).unwrap_err();
        assert_eq!((errors.iter().len(), errors.more(), errors.is_partial()), (100, 50, false));
        assert!(errors.to_string().ends_with("(and 149 more errors)"), "{errors}");
        // Each value of a wrong type costs one reading: after the most that are kept, none is looked for.
        let text = format!(r#"{{"SecurityGroups": [{}]}}"#, vec!["1"; 5000].join(","));
        let document = Document::parse(text.as_bytes()).unwrap();
        let errors = Plan::new(&Model::default(), &document, &Limits::default()).unwrap_err();
        assert_eq!((errors.iter().len(), errors.is_partial()), (100, true));
    }
}
