//! The canonical request: the one text of all requests that mean the same.

use sha2::{Digest as _, Sha256};

use super::presigned::SIGNATURE;
use super::query::{encode, parameters};
use super::{Refusal, Request, hex};

/// The hash of the canonical request, as hexadecimal digits.
pub(super) fn hash(request: &Request<'_>, signed_headers: &[String]) -> Result<String, Refusal> {
    let mut hash = Sha256::new();
    hash.update(request.method);
    // Only this path is served, so that it needs no canonical form.
    hash.update("\n/\n");
    hash.update(query(request.query)?);
    hash.update("\n");
    for name in signed_headers {
        hash.update(name);
        hash.update(":");
        hash.update(header(request, name)?);
        hash.update("\n");
    }
    hash.update("\n");
    hash.update(signed_headers.join(";"));
    hash.update("\n");
    hash.update(payload(request)?);
    Ok(hex(&hash.finalize()))
}

/// The parameters without the signature, encoded in one way, in the order of their bytes.
fn query(query: &str) -> Result<String, Refusal> {
    let mut encoded: Vec<(String, String)> = parameters(query)?
        .iter()
        .filter(|(name, _)| name != SIGNATURE)
        .map(|(name, value)| (encode(name), encode(value)))
        .collect();
    encoded.sort();
    let encoded: Vec<String> =
        encoded.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    Ok(encoded.join("&"))
}

/// The values of a header, without spaces at their ends and with single ones between words.
fn header(request: &Request<'_>, name: &str) -> Result<Vec<u8>, Refusal> {
    let mut text = Vec::new();
    for (at, value) in request.values(name).enumerate() {
        if at > 0 {
            text.push(b',');
        }
        let words =
            value.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
        for (at, word) in words.enumerate() {
            if at > 0 {
                text.push(b' ');
            }
            text.extend_from_slice(word);
        }
    }
    if request.values(name).next().is_none() {
        return Err(Refusal::HeaderAbsent);
    }
    Ok(text)
}

/// The hash of the body. A client that says what it is has to be right: what is not hashed, as
/// `UNSIGNED-PAYLOAD` of S3, could be replaced.
fn payload(request: &Request<'_>) -> Result<String, Refusal> {
    let hash = hex(&Sha256::digest(request.body));
    match request.only("x-amz-content-sha256")? {
        Some(said) if said != hash => Err(Refusal::Body),
        _ => Ok(hash),
    }
}
