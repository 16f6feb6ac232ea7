//! JSON schemas as tables of fields.

use serde_json::{Map, Value};

use crate::markdown::{row, rule};

/// A table of the fields of an object, by name, with those of the objects in it. `only` are the fields
/// at the top to show; all, if it is empty.
pub(crate) fn fields(schema: &Value, only: &[&str]) -> String {
    // Every field of a document of AWS is optional in the declaration, which is for reading it, too.
    let mut table = Table { text: header(), objects: Vec::new(), shows_optional: only.is_empty() };
    for (name, field) in properties(schema) {
        if only.is_empty() || only.contains(&name.as_str()) {
            table.add(schema, name, name, field);
        }
    }
    table.text
}

fn header() -> String {
    row(["field", "type", "meaning"]) + &rule(3)
}

/// The fields of an object, by name.
pub(crate) fn properties(schema: &Value) -> &Map<String, Value> {
    schema["properties"].as_object().expect("an object with fields")
}

struct Table<'a> {
    text: String,
    /// The objects whose fields are in the table, with their paths.
    objects: Vec<(&'a Value, String)>,
    shows_optional: bool,
}

impl<'a> Table<'a> {
    fn add(&mut self, object: &Value, name: &str, path: &str, field: &'a Value) {
        let (inner, is_nullable) = without_null(field);
        let required = object["required"].as_array();
        let is_required = required.is_some_and(|names| names.iter().any(|one| one == name));
        let mut kind = kind(inner);
        if self.shows_optional && !is_required {
            kind += ", may be absent";
        } else if self.shows_optional && is_nullable {
            kind += " or null";
        }
        let meaning = field["description"].as_str();
        let mut meaning = meaning.unwrap_or_else(|| panic!("{path}: no meaning")).to_owned();
        let (object, path_of_fields) = match inner["items"].as_object() {
            Some(_) => (without_null(&inner["items"]).0, format!("{path}[]")),
            None => (inner, path.to_owned()),
        };
        let known =
            self.objects.iter().find(|(one, _)| *one == object).map(|(_, path)| path.clone());
        let has_fields = object["properties"].is_object();
        if let Some(known) = known.as_ref().filter(|_| has_fields) {
            meaning += &format!(" Fields as of `{known}`.");
        }
        self.text += &row([format!("`{path}`"), kind, meaning]);
        if known.is_none() && has_fields {
            self.objects.push((object, path_of_fields.clone()));
            for (name, field) in properties(object) {
                self.add(object, name, &format!("{path_of_fields}.{name}"), field);
            }
        }
    }
}

/// The schema of the values other than null, and whether null is one.
fn without_null(schema: &Value) -> (&Value, bool) {
    let Some(choices) = schema["anyOf"].as_array() else {
        let types = schema["type"].as_array();
        return (schema, types.is_some_and(|types| types.iter().any(|one| one == "null")));
    };
    let other = choices.iter().find(|choice| choice["type"] != "null");
    (other.expect("a value other than null"), true)
}

fn kind(schema: &Value) -> String {
    let types = match &schema["type"] {
        Value::Array(types) => types.iter().find(|one| *one != "null").expect("a type"),
        one => one,
    };
    match types.as_str().expect("a type") {
        "array" => format!("array of {}s", kind(&schema["items"])),
        "object" if schema.get("additionalProperties").is_some_and(Value::is_object) => {
            format!("object of {}s", kind(&schema["additionalProperties"]))
        }
        name => name.to_owned(),
    }
}
