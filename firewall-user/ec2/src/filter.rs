//! Filters of `Describe` actions: the values of one filter are alternatives, and every filter must match. `*` in a
//! value stands for any characters and `?` for one; a backslash takes their meaning away.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::{Error, Params};

/// The most filters of a request, and values of one, as in EC2.
const MAX_FILTERS: usize = 50;
const MAX_VALUES: usize = 200;

/// The longest value in characters: more than any object has.
const MAX_LENGTH: usize = 1000;

/// The filters of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters(Vec<Filter>);

/// One filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Its name, such as `group-id` or `tag:Name`.
    pub name: String,
    /// The alternatives.
    pub values: Vec<Pattern>,
}

impl Filters {
    /// The parameters `Filter.N.Name` and `Filter.N.Value.M`.
    ///
    /// # Errors
    /// One has no name or no value, a value is longer than those of objects, its name is not one of `names` (nor, where `names` has `tag`, `tag:KEY` or
    /// `tag-key`), or they are too many.
    pub fn parse(params: &Params, names: &[&str]) -> Result<Self, Error> {
        let mut filters = Vec::new();
        for filter in params.list("Filter")? {
            let name = filter.required("Name")?;
            let is_tag =
                name == "tag-key" || name.strip_prefix("tag:").is_some_and(|key| !key.is_empty());
            let is_known = names.contains(&name) || is_tag && names.contains(&"tag");
            if !is_known || name == "tag" {
                return Err(Error::invalid(format!("The filter '{name}' is invalid")));
            }
            // A value may be empty: of objects without a description.
            let values = filter.texts_or_empty("Value")?;
            if values.is_empty() {
                return Err(Error::invalid(format!("The filter '{name}' has no value")));
            }
            if values.len() > MAX_VALUES {
                let text = format!(
                    "The maximum number of filter values specified on a single call is {MAX_VALUES}"
                );
                return Err(Error::new("FilterLimitExceeded", text));
            }
            if values.iter().any(|value| value.chars().count() > MAX_LENGTH) {
                return Err(Error::invalid(format!(
                    "A value of the filter '{name}' has more than {MAX_LENGTH} characters"
                )));
            }
            let values = values.into_iter().map(Pattern::new).collect();
            filters.push(Filter { name: name.to_owned(), values });
        }
        if filters.len() > MAX_FILTERS {
            let text = format!("The maximum number of filters on a single call is {MAX_FILTERS}");
            return Err(Error::new("FilterLimitExceeded", text));
        }
        Ok(Self(filters))
    }

    /// The filters.
    pub fn iter(&self) -> impl Iterator<Item = &Filter> {
        self.0.iter()
    }

    /// Whether an object matches all filters. `values` gives the values that it has for the name of a filter
    /// that is not of tags.
    pub fn matches<'a>(
        &self,
        tags: &BTreeMap<String, String>,
        values: impl Fn(&str) -> Vec<Cow<'a, str>>,
    ) -> bool {
        self.0.iter().all(|filter| {
            let has = |text: &str| filter.values.iter().any(|pattern| pattern.is_like(text));
            if filter.name == "tag-key" {
                tags.keys().any(|key| has(key))
            } else if let Some(key) = filter.name.strip_prefix("tag:") {
                tags.get(key).is_some_and(|value| has(value))
            } else {
                values(&filter.name).iter().any(|value| has(value))
            }
        })
    }
}

/// A value of a filter, in which `*` and `?` may stand for others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    /// `None` if it stands for itself only.
    parts: Option<Vec<Part>>,
    /// The least number of characters of what it is like.
    least: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Any,
    One,
    Is(char),
}

impl Pattern {
    /// The pattern of a value.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            let part = match character {
                '*' => Part::Any,
                '?' => Part::One,
                '\\' => Part::Is(characters.next().unwrap_or('\\')),
                other => Part::Is(other),
            };
            // More of them are as one.
            if part != Part::Any || parts.last() != Some(&Part::Any) {
                parts.push(part);
            }
        }
        let least = parts.iter().filter(|part| **part != Part::Any).count();
        let parts = text.contains(['*', '?', '\\']).then_some(parts);
        Self { text: text.to_owned(), parts, least }
    }

    /// The value as it was given.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether a text is like this. Takes time in proportion to the square of the text's length at most.
    #[must_use]
    pub fn is_like(&self, text: &str) -> bool {
        let Some(parts) = &self.parts else { return self.text == text };
        // A character has one byte at least.
        if text.len() < self.least {
            return false;
        }
        let text: Vec<char> = text.chars().collect();
        // Where the last `*` was, and how much of the text it has taken.
        let (mut at, mut part, mut star) = (0, 0, None);
        while at < text.len() {
            match parts.get(part) {
                Some(Part::Any) => {
                    star = Some((part, at));
                    part += 1;
                    continue;
                }
                Some(Part::One) => {}
                Some(Part::Is(character)) if *character == text[at] => {}
                _ => {
                    let Some((of_star, taken)) = star else { return false };
                    star = Some((of_star, taken + 1));
                    (part, at) = (of_star + 1, taken + 1);
                    continue;
                }
            }
            part += 1;
            at += 1;
        }
        parts[part..].iter().all(|part| *part == Part::Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_ec2() {
        for (text, pattern, expected) in [
            ("", "", true),
            ("", "*", true),
            ("", "?", false),
            ("abc", "abc", true),
            ("abc", "ABC", false),
            ("abc", "a*", true),
            ("abc", "*c", true),
            ("abc", "a?c", true),
            ("abc", "a??c", false),
            ("abc", "a**c", true),
            ("ab", "a*?c", false),
            ("abcabc", "*bc", true),
            ("abcabd", "*bc", false),
            ("AWS Lambda VPC ENI-x", "AWS Lambda VPC ENI*", true),
            ("a*c", "a\\*c", true),
            ("abc", "a\\*c", false),
            ("a\\", "a\\", true),
            ("ééé", "é?é", true),
        ] {
            assert_eq!(Pattern::new(pattern).is_like(text), expected, "{text:?} {pattern:?}");
        }
        // In time that does not grow with the number of ways to match.
        assert!(!Pattern::new(&("a*".repeat(100) + "b")).is_like(&"a".repeat(255)));
    }

    fn filters(form: &str, names: &[&str]) -> Result<Filters, Error> {
        Filters::parse(&Params::parse(form.as_bytes()).unwrap(), names)
    }

    #[test]
    fn every_filter_must_match_by_one_of_its_values() {
        let form = "Filter.1.Name=x&Filter.1.Value.1=1&Filter.1.Value.2=2*&Filter.2.Name=tag:k&\
                    Filter.2.Value.1=v";
        let filters = filters(form, &["x", "tag"]).unwrap();
        let tags: BTreeMap<_, _> = [("k".to_owned(), "v".to_owned())].into();
        let of = |value: &'static str| move |_: &str| vec![Cow::Borrowed(value)];
        assert!(filters.matches(&tags, of("1")));
        assert!(filters.matches(&tags, of("23")));
        assert!(!filters.matches(&tags, of("3")));
        assert!(!filters.matches(&BTreeMap::new(), of("1")));
    }

    #[test]
    fn unknown_filters_and_those_without_values_are_refused() {
        for (form, names) in [
            ("Filter.1.Name=y&Filter.1.Value.1=1", &["x"][..]),
            ("Filter.1.Name=x", &["x"]),
            ("Filter.1.Value.1=1", &["x"]),
            ("Filter.1.Name=tag:a&Filter.1.Value.1=1", &["x"]),
            ("Filter.1.Name=tag&Filter.1.Value.1=1", &["x", "tag"]),
            ("Filter.1.Name=tag:&Filter.1.Value.1=1", &["x", "tag"]),
        ] {
            assert!(filters(form, names).is_err(), "{form}");
        }
        assert!(filters("Filter.1.Name=x&Filter.1.Value.1=", &["x"]).is_ok());
        let of_length = |length| format!("Filter.1.Name=x&Filter.1.Value.1={}", "*".repeat(length));
        assert!(filters(&of_length(MAX_LENGTH), &["x"]).is_ok());
        assert!(filters(&of_length(MAX_LENGTH + 1), &["x"]).is_err());
        assert!(filters("Filter=x", &["x"]).is_err());
        assert!(filters("Filter.1.Name=x&Filter.1.Value=1", &["x"]).is_err());
    }
}
