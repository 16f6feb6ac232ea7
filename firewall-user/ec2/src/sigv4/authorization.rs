//! The signature in the `Authorization` header.

use super::{
    ALGORITHM, Form, Refusal, Request, Scope, Signature, Time, service, signature_bytes,
    signed_headers,
};

/// Reads `AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…`, the parts in any order.
pub(super) fn read(request: &Request<'_>, header: &str) -> Result<Signature, Refusal> {
    let (algorithm, rest) = header.split_once(' ').ok_or(Refusal::Algorithm)?;
    if algorithm != ALGORITHM {
        return Err(Refusal::Algorithm);
    }
    let (mut credential, mut headers, mut signature) = (None, None, None);
    for part in rest.split(',') {
        let (name, value) = part.trim().split_once('=').ok_or(Refusal::Parts)?;
        let place = match name {
            "Credential" => &mut credential,
            "SignedHeaders" => &mut headers,
            "Signature" => &mut signature,
            _ => return Err(Refusal::Parts),
        };
        if place.replace(value).is_some() {
            return Err(Refusal::Parts);
        }
    }
    let credential = credential.ok_or(Refusal::Part("Credential"))?;
    let headers = headers.ok_or(Refusal::Part("SignedHeaders"))?;
    let signature = signature.ok_or(Refusal::Part("Signature"))?;
    let (key_id, scope) = Scope::read(credential)?;
    Ok(Signature {
        key_id,
        service: service(&scope)?,
        scope,
        form: Form::Header,
        time: time(request)?,
        signed_headers: signed_headers(headers)?,
        bytes: signature_bytes(signature)?,
    })
}

/// The time by `X-Amz-Date`, or without it by `Date`.
fn time(request: &Request<'_>) -> Result<Time, Refusal> {
    if let Some(date) = request.only("x-amz-date")? {
        return Time::basic(date).ok_or(Refusal::Date);
    }
    let date = request.only("date")?.ok_or(Refusal::NoDate)?;
    Time::basic(date).or_else(|| Time::http(date)).ok_or(Refusal::Date)
}
