//! The signature in the query of a URL.

use super::{
    ALGORITHM, Form, MAX_EXPIRES, Refusal, Scope, Signature, Time, service, signature_bytes,
    signed_headers,
};

/// The parameter that holds the signature, and is not signed itself.
pub(super) const SIGNATURE: &str = "X-Amz-Signature";

type Parameters = [(String, String)];

/// Whether the query has a part of a signature.
pub(super) fn is_presigned(parameters: &Parameters) -> bool {
    let of_signature = [SIGNATURE, "X-Amz-Algorithm", "X-Amz-Credential"];
    parameters.iter().any(|(name, _)| of_signature.contains(&name.as_str()))
}

pub(super) fn read(parameters: &Parameters) -> Result<Signature, Refusal> {
    let required = |name| only(parameters, name)?.ok_or(Refusal::Parameter(name));
    if required("X-Amz-Algorithm")? != ALGORITHM {
        return Err(Refusal::Algorithm);
    }
    if only(parameters, "X-Amz-Security-Token")?.is_some() {
        return Err(Refusal::SessionToken);
    }
    let (key_id, scope) = Scope::read(required("X-Amz-Credential")?)?;
    let expires = required("X-Amz-Expires")?;
    let is_number = expires.bytes().all(|byte| byte.is_ascii_digit());
    let expires =
        expires.parse().ok().filter(|seconds| is_number && (1..=MAX_EXPIRES).contains(seconds));
    Ok(Signature {
        key_id,
        service: service(&scope)?,
        scope,
        form: Form::Presigned(expires.ok_or(Refusal::Expires)?),
        time: Time::basic(required("X-Amz-Date")?).ok_or(Refusal::Date)?,
        signed_headers: signed_headers(required("X-Amz-SignedHeaders")?)?,
        bytes: signature_bytes(required(SIGNATURE)?)?,
    })
}

fn only<'a>(parameters: &'a Parameters, name: &'static str) -> Result<Option<&'a str>, Refusal> {
    let mut values = parameters.iter().filter(|(other, _)| other == name);
    match (values.next(), values.next()) {
        (value, None) => Ok(value.map(|(_, value)| value.as_str())),
        _ => Err(Refusal::Ambiguous(name)),
    }
}
