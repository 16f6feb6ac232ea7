//! Ids as EC2 writes them: a prefix for the kind of object, and 17 hexadecimal digits. The 8 digits of
//! ids from before 2018 are accepted, because old groups still have them.

use std::fmt;
use std::str::FromStr;

use arrayvec::ArrayString;

use super::Error;

/// How many digits an id has; the second form is only accepted.
const LENGTHS: [usize; 2] = [17, 8];

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        // The text is in place: a model has a hundred thousand of them.
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(ArrayString<{ $prefix.len() + LENGTHS[0] }>);

        impl $name {
            /// The prefix of every id of this kind.
            pub const PREFIX: &str = $prefix;

            /// A new random id.
            ///
            /// # Errors
            /// The kernel gives no random bytes.
            pub fn random() -> Result<Self, Error> {
                format!("{}{}", Self::PREFIX, digits()?).parse()
            }

            /// The id with these digits: 17 or 8 small hexadecimal ones.
            #[must_use]
            pub fn of_digits(digits: &str) -> Self {
                debug_assert!(well_formed(&format!("{}{digits}", Self::PREFIX), Self::PREFIX));
                let mut text = ArrayString::new();
                text.push_str(Self::PREFIX);
                text.push_str(digits);
                Self(text)
            }

            /// The digits of the id, without its prefix.
            #[must_use]
            pub fn digits(&self) -> &str {
                &self.0[Self::PREFIX.len()..]
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                let id = Some(text).filter(|text| well_formed(text, Self::PREFIX));
                let malformed = || Error::IdMalformed { prefix: Self::PREFIX, text: text.to_owned() };
                // A well-formed id fits.
                id.and_then(|id| ArrayString::from(id).ok()).map(Self).ok_or_else(malformed)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }
    };
}

id!(
    /// `sg-…`
    GroupId,
    "sg-"
);
id!(
    /// `sgr-…`
    RuleId,
    "sgr-"
);
id!(
    /// `pl-…`
    PrefixListId,
    "pl-"
);
id!(
    /// `acl-…`
    AclId,
    "acl-"
);
id!(
    /// `eni-…`
    InterfaceId,
    "eni-"
);
id!(
    /// `eni-attach-…`
    AttachmentId,
    "eni-attach-"
);
id!(
    /// `aclassoc-…`
    AssociationId,
    "aclassoc-"
);
id!(
    /// `vpc-…`
    VpcId,
    "vpc-"
);
id!(
    /// `subnet-…`
    SubnetId,
    "subnet-"
);
id!(
    /// `fl-…`
    FlowLogId,
    "fl-"
);

/// Ids in JSON.
pub(in crate::model) mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize as _, Deserializer, Serializer};

    /// Writes an id as its text.
    pub(in crate::model) fn serialize<S: Serializer>(
        id: &impl Display,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    /// Reads an id.
    pub(in crate::model) fn deserialize<'a, D, T>(deserializer: D) -> Result<T, D::Error>
    where
        D: Deserializer<'a>,
        T: FromStr<Err: Display>,
    {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

fn well_formed(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(|digits| {
        LENGTHS.contains(&digits.len())
            && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

fn digits() -> Result<String, Error> {
    let mut bytes = [0; 9];
    getrandom::fill(&mut bytes).map_err(|error| Error::NoRandomness(error.to_string()))?;
    let mut digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    // EC2's newer ids start with 0, which leaves 64 random bits: a clash needs billions of ids.
    digits.replace_range(..2, "0");
    Ok(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_ids_parse_and_differ() {
        let (one, two) = (GroupId::random().unwrap(), GroupId::random().unwrap());
        assert_ne!(one, two);
        assert_eq!(one.as_str().len(), "sg-".len() + 17);
        assert_eq!(one.as_str().parse::<GroupId>().unwrap(), one);
    }

    #[test]
    fn both_lengths_parse() {
        for text in ["sg-0123456789abcdef0", "sg-00000000"] {
            assert_eq!(text.parse::<GroupId>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in [
            "",
            "sg-",
            "web",
            "sg-0123456789ABCDEF0",
            "sg-0123456789abcdef",
            "sg-0123456789abcdef01",
            "sg-0123456789abcdefg",
            "sgr-0123456789abcdef0",
            " sg-00000000",
            "sg-00000000\n",
        ] {
            let error = text.parse::<GroupId>().unwrap_err();
            assert_eq!(error.code(), "InvalidGroupId.Malformed", "{text:?}");
        }
        assert!("sg-0123456789abcdef0".parse::<RuleId>().is_err());
    }
}
