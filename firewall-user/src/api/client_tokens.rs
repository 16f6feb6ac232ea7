//! `ClientToken`: what a client gives a request that it may send again.

use firewall_ec2::{Error, Params};

/// The longest token in characters, as in EC2.
const LONGEST: usize = 64;

/// The parameters that are not part of what is asked for.
const BESIDE: [&str; 4] = ["Action", "ClientToken", "DryRun", "Version"];

/// The token of a request, if it has one.
///
/// # Errors
/// It is too long, or has other characters than those of ASCII.
pub(super) fn of(params: &Params) -> Result<Option<&str>, Error> {
    let Some(token) = params.text("ClientToken") else { return Ok(None) };
    if token.len() > LONGEST || !token.is_ascii() {
        return Err(Error::invalid(format!(
            "Invalid value for ClientToken. It has 1 to {LONGEST} ASCII characters."
        )));
    }
    Ok(Some(token))
}

/// A digest of what a request asks for.
pub(super) fn digest(params: &Params) -> String {
    params.digest(&BESIDE)
}

/// The error of a token that was given with other parameters.
pub(super) fn mismatch() -> Error {
    let text = "Arguments on this idempotent request are inconsistent with arguments used in previous \
                request(s).";
    Error::new("IdempotentParameterMismatch", text)
}
