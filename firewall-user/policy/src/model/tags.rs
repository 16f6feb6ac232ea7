//! Tags: keys and values of a group, prefix list or network ACL.

use std::collections::BTreeMap;

use super::Error;

/// The prefix of keys that AWS reserves; in a document of AWS they name the AWS service that created a
/// resource.
pub const RESERVED: &str = "aws:";

/// The key of the tag that is an object's name in EC2. Here a network ACL has its value as its name.
pub const NAME: &str = "Name";

const KEY_MAX: usize = 127;
const VALUE_MAX: usize = 256;

/// `KEY=VALUE` as on the command line; the value may be empty or contain `=`.
///
/// # Errors
/// There is no `=`.
pub fn parse(text: &str) -> Result<(String, String), Error> {
    text.split_once('=')
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .ok_or_else(|| Error::Tag { text: text.to_owned(), reason: "is not KEY=VALUE".to_owned() })
}

/// Tags collected from pairs.
///
/// # Errors
/// EC2 would refuse one, or a key repeats.
pub fn collect(
    pairs: impl IntoIterator<Item = (String, String)>,
) -> Result<BTreeMap<String, String>, Error> {
    let mut tags = BTreeMap::new();
    for (key, value) in pairs {
        checked(&key, &value)
            .map_err(|reason| Error::Tag { text: format!("{key}={value}"), reason })?;
        if tags.contains_key(&key) {
            let reason = format!("repeats the key {key:?}");
            return Err(Error::Tag { text: format!("{key}={value}"), reason });
        }
        tags.insert(key, value);
    }
    Ok(tags)
}

/// Tags of a network ACL, as [`collect`] returned them.
///
/// # Errors
/// One of them is [`NAME`].
pub fn of_acl(tags: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Error> {
    match tags.get(NAME) {
        Some(name) => Err(Error::AclNameTag(name.clone())),
        None => Ok(tags),
    }
}

fn checked(key: &str, value: &str) -> Result<(), String> {
    if key.is_empty() || key.chars().count() > KEY_MAX {
        return Err(format!("needs a key of 1 to {KEY_MAX} characters"));
    }
    if value.chars().count() > VALUE_MAX {
        return Err(format!("has a value of more than {VALUE_MAX} characters"));
    }
    if key.get(..RESERVED.len()).is_some_and(|start| start.eq_ignore_ascii_case(RESERVED)) {
        return Err(format!("has a key that starts with {RESERVED}, which is AWS' own"));
    }
    if key.chars().chain(value.chars()).any(char::is_control) {
        return Err("contains a control character".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(key: &str, value: &str) -> Result<BTreeMap<String, String>, Error> {
        collect([(key.to_owned(), value.to_owned())])
    }

    #[test]
    fn a_tag_is_split_at_its_first_equals_sign() {
        assert_eq!(parse("a=b=c").unwrap(), ("a".to_owned(), "b=c".to_owned()));
        assert_eq!(parse("a=").unwrap(), ("a".to_owned(), String::new()));
        assert_eq!(parse("a").unwrap_err().to_string(), r#"tag "a" is not KEY=VALUE"#);
    }

    #[test]
    fn keys_and_values_are_limited_as_in_ec2() {
        assert!(one(&"k".repeat(127), &"é".repeat(256)).is_ok());
        for (key, value) in [
            ("", "v"),
            (&*"k".repeat(128), "v"),
            ("k", &*"v".repeat(257)),
            ("aws:x", "v"),
            ("AWS:x", "v"),
            ("k\n", "v"),
            ("k", "\u{7f}"),
        ] {
            assert!(one(key, value).is_err(), "{key:?} {value:?}");
        }
        let twice = [("k".to_owned(), "1".to_owned()), ("k".to_owned(), "2".to_owned())];
        assert_eq!(collect(twice).unwrap_err().to_string(), r#"tag "k=2" repeats the key "k""#);
    }
}
