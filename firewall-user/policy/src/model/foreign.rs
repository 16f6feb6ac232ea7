//! Groups that are not on this host, as the peers of rules. EC2 keeps a rule whose peer is in another account
//! or VPC, or was deleted (a "stale" rule); it matches nothing here, because the addresses in such a group are
//! not known.

use std::fmt;
use std::str::FromStr;

use super::{Error, GroupId, VpcId};

/// A group of another account, of a VPC that is not on this host, or a deleted one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ForeignGroup {
    /// Its id.
    pub group: GroupId,
    /// Its account, as in [`is_owner`], if it is known and another one.
    pub account: Option<String>,
    /// Its VPC, if it is known.
    pub vpc: Option<VpcId>,
    /// The VPC peering that it is reached through, `pcx-…`, if there is one.
    pub peering: Option<String>,
}

impl ForeignGroup {
    /// The group as a reader understands it: `group sg-… (not on this host; account 123456789012)`.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { group, account, vpc, peering } = self;
        let account = account.as_ref().map(|account| format!("account {account}"));
        let vpc = vpc.as_ref().map(ToString::to_string);
        let known: Vec<_> = [account, vpc, peering.clone()].into_iter().flatten().collect();
        let known =
            if known.is_empty() { String::new() } else { format!("; {}", known.join(", ")) };
        format!("group {group} (not on this host{known})")
    }
}

/// In place of a part that is not known.
const ABSENT: &str = "-";

/// `ACCOUNT/VPC/PEERING/GROUP`, as the store has it.
impl fmt::Display for ForeignGroup {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, account, vpc, peering } = self;
        let account = account.as_deref().unwrap_or(ABSENT);
        let vpc = vpc.as_ref().map_or(ABSENT, VpcId::as_str);
        let peering = peering.as_deref().unwrap_or(ABSENT);
        write!(out, "{account}/{vpc}/{peering}/{group}")
    }
}

impl FromStr for ForeignGroup {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let malformed = || Error::ForeignGroup(text.to_owned());
        let parts: Vec<_> = text.split('/').collect();
        let [account, vpc, peering, group] = parts[..] else { return Err(malformed()) };
        let part = |text: &str| (text != ABSENT).then(|| text.to_owned());
        let account = part(account);
        let peering = part(peering);
        if account.as_deref().is_some_and(|account| !is_owner(account))
            || peering.as_deref().is_some_and(|peering| !is_peering(peering))
        {
            return Err(malformed());
        }
        let vpc = part(vpc).map(|vpc| vpc.parse()).transpose()?;
        Ok(Self { group: group.parse()?, account, vpc, peering })
    }
}

/// Whether a text is the owner of a group: an account, or one of AWS's names, such as `amazon-elb`.
#[must_use]
pub fn is_owner(text: &str) -> bool {
    let is_name = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
    is_account(text) || (text.starts_with("amazon-") && text.bytes().all(is_name))
}

/// Whether a text is the id of a VPC peering: `pcx-` and 17 or 8 hexadecimal digits.
#[must_use]
pub fn is_peering(text: &str) -> bool {
    text.strip_prefix("pcx-").is_some_and(|digits| {
        matches!(digits.len(), 8 | 17)
            && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Whether a text is the number of an AWS account: 12 digits.
#[must_use]
pub fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_sees_that_a_group_is_not_here() {
        let text = |text: &str| text.parse::<ForeignGroup>().unwrap().text();
        assert_eq!(text("-/-/-/sg-00000001"), "group sg-00000001 (not on this host)");
        assert_eq!(
            text("123456789012/vpc-00000001/pcx-00000001/sg-00000001"),
            "group sg-00000001 (not on this host; account 123456789012, vpc-00000001, pcx-00000001)"
        );
    }

    #[test]
    fn the_text_of_a_foreign_group_parses() {
        for text in [
            "123456789012/vpc-00000001/pcx-00000001/sg-00000001",
            "-/-/-/sg-0123456789abcdef0",
            "-/vpc-0123456789abcdef0/-/sg-0123456789abcdef0",
            "amazon-elb/-/-/sg-843f59ed",
        ] {
            assert_eq!(text.parse::<ForeignGroup>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "sg-00000001",
            "-/-/sg-00000001",
            "12/-/-/sg-00000001",
            "-/x/-/sg-00000001",
            "-/-/pcx-1/sg-00000001",
        ] {
            assert!(text.parse::<ForeignGroup>().is_err(), "{text}");
        }
    }
}
