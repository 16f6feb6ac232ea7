//! What stands in ids and ARNs for the account and the region that EC2's clients expect.

use arrayvec::ArrayString;
use serde::{Deserialize, Serialize};

use super::is_account;

/// The account and the region of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Identity {
    /// Account, 12 digits.
    #[cfg_attr(feature = "schemars", schemars(with = "String"))]
    pub account: ArrayString<12>,
    /// Name of the region. Its one availability zone has this name with `a` after it.
    #[cfg_attr(feature = "schemars", schemars(with = "String"))]
    pub region: ArrayString<63>,
}

impl Default for Identity {
    fn default() -> Self {
        let (mut account, mut region) = (ArrayString::new(), ArrayString::new());
        account.push_str("000000000000");
        region.push_str("local");
        Self { account, region }
    }
}

impl Identity {
    /// Checks both.
    ///
    /// # Errors
    /// The account is not 12 digits, or the region has other characters than small letters, digits and hyphens.
    pub fn validate(&self) -> Result<(), String> {
        if !is_account(&self.account) {
            return Err(format!("account = {:?} is not 12 digits", self.account));
        }
        let is_of_name =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if self.region.is_empty() || !self.region.bytes().all(is_of_name) {
            return Err(format!(
                "region = {:?} is not 1 to 63 small letters, digits and hyphens",
                self.region
            ));
        }
        Ok(())
    }

    /// The ARN of an object of EC2, for example of kind `security-group`.
    #[must_use]
    pub fn arn(&self, kind: &str, id: &str) -> String {
        let Self { account, region } = self;
        format!("arn:aws:ec2:{region}:{account}:{kind}/{id}")
    }

    /// The name of the one availability zone.
    #[must_use]
    pub fn zone(&self) -> String {
        format!("{}a", self.region)
    }

    /// The id of a zone: `local-az1` of `locala`.
    #[must_use]
    pub fn zone_id(&self, zone: &str) -> String {
        let letter = zone.bytes().next_back().unwrap_or(b'a');
        format!("{}-az{}", self.region, letter.saturating_sub(b'a') + 1)
    }
}
