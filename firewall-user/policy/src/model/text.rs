//! Names and descriptions: EC2's character set and lengths.

use super::{AclId, Error, GroupId, PrefixListId};

/// The characters that EC2 allows besides ASCII letters and digits.
const PUNCTUATION: &str = " ._-:/()#,@[]+=&;{}!$*";

/// The longest name or description.
const LENGTH_MAX: usize = 255;

/// A group's name, trailing spaces removed.
///
/// # Errors
/// EC2 would refuse it.
pub fn group_name(text: &str) -> Result<String, Error> {
    named("group name", text, GroupId::PREFIX)
}

/// A prefix list's name, trailing spaces removed.
///
/// # Errors
/// It is empty or too long, has other characters, looks like an id, or has a prefix of AWS.
pub fn prefix_list_name(text: &str) -> Result<String, Error> {
    const RESERVED: &str = "com.amazonaws";
    if text.starts_with(RESERVED) {
        return Err(Error::NameReserved {
            what: "prefix list name",
            text: text.to_owned(),
            prefix: RESERVED,
        });
    }
    named("prefix list name", text, PrefixListId::PREFIX)
}

/// The name of a prefix list that AWS manages.
///
/// # Errors
/// It is empty or too long, has other characters, or looks like an id.
pub fn aws_list_name(text: &str) -> Result<String, Error> {
    named("prefix list name", text, PrefixListId::PREFIX)
}

/// A network ACL's name, trailing spaces removed. In EC2 it is the value of the tag `Name`.
///
/// # Errors
/// It is empty or too long, has other characters, or has the form of an id, in upper case too: names ignore
/// case. In AWS the name is a tag, so that it may start as an id does.
pub fn acl_name(text: &str) -> Result<String, Error> {
    const WHAT: &str = "network ACL name";
    let name = text.trim_end_matches(' ').to_owned();
    checked(WHAT, &name, 1)?;
    if name.to_ascii_lowercase().parse::<AclId>().is_ok() {
        return Err(Error::NameReserved { what: WHAT, text: name, prefix: AclId::PREFIX });
    }
    Ok(name)
}

/// A group's description: required.
///
/// # Errors
/// EC2 would refuse it.
pub fn group_description(text: &str) -> Result<String, Error> {
    checked("group description", text, 1)?;
    Ok(text.to_owned())
}

/// The description of a rule or of a prefix list's entry: may be empty.
///
/// # Errors
/// EC2 would refuse it.
pub fn rule_description(text: &str) -> Result<String, Error> {
    checked("rule description", text, 0)?;
    Ok(text.to_owned())
}

/// A text with the characters and the length of a description: `_` in place of other characters.
pub(super) fn fitted(text: &str) -> String {
    let allowed = |c: char| {
        if c.is_ascii_alphanumeric() || PUNCTUATION.contains(c) { c } else { '_' }
    };
    text.chars().take(LENGTH_MAX).map(allowed).collect()
}

fn named(what: &'static str, text: &str, id: &'static str) -> Result<String, Error> {
    let name = text.trim_end_matches(' ');
    checked(what, name, 1)?;
    // Otherwise a word on the command line could be a name or an id.
    if name.starts_with(id) {
        return Err(Error::NameReserved { what, text: name.to_owned(), prefix: id });
    }
    Ok(name.to_owned())
}

/// Checks the characters and the length of a text.
pub(super) fn checked(what: &'static str, text: &str, shortest: usize) -> Result<(), Error> {
    let odd = text.chars().find(|c| !c.is_ascii_alphanumeric() && !PUNCTUATION.contains(*c));
    if let Some(odd) = odd {
        return Err(Error::TextCharacter { what, text: text.to_owned(), odd });
    }
    // All characters are ASCII here, so bytes are characters.
    if text.len() < shortest || text.len() > LENGTH_MAX {
        return Err(Error::TextLength { what, length: text.len() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_character_set_is_ec2s() {
        let every = "azAZ09 ._-:/()#,@[]+=&;{}!$*";
        assert_eq!(group_name(every).unwrap(), every);
        for odd in ["a\"b", "a'b", "a\\b", "a%b", "a<b", "é", "a\nb", "a\tb", "a\0b", "a~b", "a|b"]
        {
            assert!(matches!(group_name(odd), Err(Error::TextCharacter { .. })), "{odd:?}");
            assert!(matches!(group_description(odd), Err(Error::TextCharacter { .. })));
            assert!(matches!(rule_description(odd), Err(Error::TextCharacter { .. })));
        }
    }

    #[test]
    fn any_text_fits() {
        assert_eq!(fitted("it's \"ours\"\t"), "it_s _ours__");
        for text in ["", "a-b", &"é".repeat(300)] {
            assert!(rule_description(&fitted(text)).is_ok());
        }
    }

    #[test]
    fn lengths_are_limited_to_255() {
        let longest = "x".repeat(255);
        let longer = "x".repeat(256);
        assert!(group_name(&longest).is_ok() && group_description(&longest).is_ok());
        assert!(rule_description(&longest).is_ok() && rule_description("").is_ok());
        for error in [
            group_name(&longer),
            group_name(""),
            group_name("   "),
            group_description(""),
            group_description(&longer),
            rule_description(&longer),
            prefix_list_name(""),
        ] {
            assert!(matches!(error, Err(Error::TextLength { .. })), "{error:?}");
        }
    }

    #[test]
    fn trailing_spaces_are_removed_and_leading_ones_kept() {
        assert_eq!(group_name(" web  ").unwrap(), " web");
        let padded = format!("{}   ", "x".repeat(255));
        assert_eq!(group_name(&padded).unwrap().len(), 255);
    }

    #[test]
    fn names_that_look_like_ids_or_names_of_aws_are_refused() {
        assert!(matches!(group_name("sg-web"), Err(Error::NameReserved { .. })));
        assert!(group_name("sgweb").is_ok());
        for name in ["acl-0123456789abcdef0", "ACL-0123456789ABCDEF0", "Acl-00000000"] {
            assert!(matches!(acl_name(name), Err(Error::NameReserved { .. })), "{name}");
        }
        assert!(acl_name("acl-web").is_ok() && acl_name("ACL-1").is_ok());
        // Groups of AWS have such names.
        assert!(group_name("SG-web").is_ok());
        assert!(matches!(prefix_list_name("pl-x"), Err(Error::NameReserved { .. })));
        assert!(matches!(prefix_list_name("com.amazonaws.s3"), Err(Error::NameReserved { .. })));
    }
}
