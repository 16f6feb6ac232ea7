//! Verifies AWS Signature Version 4, in the `Authorization` header and in the query of a presigned URL, for requests
//! of the path `/`.
//!
//! The signature is computed again from what has arrived, with the secret of the named key. What the client says
//! about the computation is the list of signed headers, the scope and the time; all three are part of what is
//! signed.
//!
//! The crate `aws-sigv4`, which signs for AWS's SDK, cannot compute it: it always signs `X-Amz-Date` and never a
//! lone `Date`, leaves headers out of presigned URLs that other clients sign, and depends on forty crates. It signs
//! what the tests verify.

mod authorization;
mod canonical;
mod presigned;
mod query;
mod refusal;
mod time;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::Service;

pub use self::query::{Malformed, parameters};
pub use self::refusal::Refusal;
pub use self::time::{MAX_SKEW, Time};

/// The only algorithm.
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// What a scope ends with.
const TERMINATOR: &str = "aws4_request";

/// The longest validity of a presigned URL, in seconds: a week.
pub const MAX_EXPIRES: u32 = 604_800;

/// What of an HTTP request is signed, and the signature. The path is `/`.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// In capital letters.
    pub method: &'a str,
    /// As it was sent, without the question mark.
    pub query: &'a str,
    /// Names in small letters, in the order in which they were sent.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// The whole body.
    pub body: &'a [u8],
}

impl Request<'_> {
    /// The values of a header.
    fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.headers.iter().filter(move |(other, _)| *other == name).map(|(_, value)| *value)
    }

    /// The value of a header that may be there once.
    fn only(&self, name: &'static str) -> Result<Option<&str>, Refusal> {
        let mut values = self.values(name);
        let Some(value) = values.next() else { return Ok(None) };
        match (std::str::from_utf8(value), values.next()) {
            (Ok(value), None) => Ok(Some(value.trim())),
            _ => Err(Refusal::Ambiguous(name)),
        }
    }
}

/// What a signing key is derived for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Scope {
    /// YYYYMMDD.
    date: String,
    region: String,
    service: String,
}

impl Scope {
    /// Reads `KEY/DATE/REGION/SERVICE/aws4_request`.
    fn read(credential: &str) -> Result<(String, Self), Refusal> {
        let mut parts = credential.split('/');
        let mut next = || parts.next().filter(|part| !part.is_empty()).ok_or(Refusal::Credential);
        let (key_id, date, region, service) = (next()?, next()?, next()?, next()?);
        if next()? != TERMINATOR || next().is_ok() {
            return Err(Refusal::Credential);
        }
        let is_word =
            |word: &str| word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let is_date = date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit());
        if !is_date || !is_word(key_id) || !is_word(region) || !is_word(service) {
            return Err(Refusal::Credential);
        }
        let scope =
            Self { date: date.to_owned(), region: region.to_owned(), service: service.to_owned() };
        Ok((key_id.to_owned(), scope))
    }

    fn text(&self) -> String {
        let Self { date, region, service } = self;
        format!("{date}/{region}/{service}/{TERMINATOR}")
    }
}

/// The form of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// In the `Authorization` header.
    Header,
    /// In the query, valid for a number of seconds.
    Presigned(u32),
}

/// A signature as a request has it, not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    key_id: String,
    scope: Scope,
    service: Service,
    form: Form,
    time: Time,
    /// In ascending order, in small letters.
    signed_headers: Vec<String>,
    bytes: [u8; 32],
}

impl Signature {
    /// Reads the signature of a request.
    ///
    /// # Errors
    /// The request has none, or one of another form, or it does not cover what it has to: the host, and the date
    /// of its scope.
    pub fn read(request: &Request<'_>) -> Result<Self, Refusal> {
        let parameters = parameters(request.query)?;
        let is_presigned = presigned::is_presigned(&parameters);
        let signature = match (request.only("authorization")?, is_presigned) {
            (Some(_), true) => return Err(Refusal::TwoSignatures),
            (Some(header), false) => authorization::read(request, header)?,
            (None, true) => presigned::read(&parameters)?,
            (None, false) => return Err(Refusal::Missing),
        };
        if request.values("x-amz-security-token").next().is_some() {
            return Err(Refusal::SessionToken);
        }
        if !signature.signed_headers.iter().any(|name| name == "host") {
            return Err(Refusal::HostNotSigned);
        }
        if signature.scope.date != signature.time.date() {
            return Err(Refusal::ScopeDate);
        }
        Ok(signature)
    }

    /// The id of the key that it claims to be of.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The service that it is for.
    #[must_use]
    pub const fn service(&self) -> Service {
        self.service
    }

    /// Its form.
    #[must_use]
    pub const fn form(&self) -> Form {
        self.form
    }

    /// When the request was signed, by the client's clock.
    #[must_use]
    pub const fn time(&self) -> Time {
        self.time
    }

    /// The last second, since 1970, in which it is valid.
    #[must_use]
    pub fn valid_until(&self) -> i64 {
        self.time.seconds().saturating_add(match self.form {
            Form::Header => MAX_SKEW,
            Form::Presigned(seconds) => i64::from(seconds),
        })
    }

    /// The signature itself, which no other request has that differs in anything that is signed.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// Verifies it. `now`: seconds since 1970. The comparison takes the same time for every wrong signature.
    ///
    /// # Errors
    /// It is not valid yet or not any more, the body is not the one that was signed, or the signature is not of
    /// this secret and this request.
    pub fn verify(&self, request: &Request<'_>, secret: &str, now: i64) -> Result<(), Refusal> {
        if now > self.valid_until() || self.time.seconds() > now.saturating_add(MAX_SKEW) {
            return Err(Refusal::Expired);
        }
        let signed = self.mac(request, secret)?;
        signed.verify_slice(&self.bytes).map_err(|_| Refusal::Mismatch)
    }

    /// What the signature has to be.
    ///
    /// # Errors
    /// A header that is signed is absent, or the body is not the one that was signed.
    pub fn expected(&self, request: &Request<'_>, secret: &str) -> Result<[u8; 32], Refusal> {
        Ok(self.mac(request, secret)?.finalize().into_bytes().into())
    }

    fn mac(&self, request: &Request<'_>, secret: &str) -> Result<Hmac<Sha256>, Refusal> {
        let Self { scope, time, signed_headers, .. } = self;
        let hash = canonical::hash(request, signed_headers)?;
        let to_sign = format!("{ALGORITHM}\n{time}\n{}\n{hash}", scope.text());
        let Scope { date, region, service } = scope;
        let mut key = mac(format!("AWS4{secret}").as_bytes(), date.as_bytes());
        for part in [region.as_str(), service, TERMINATOR] {
            key = mac(&key.finalize().into_bytes(), part.as_bytes());
        }
        Ok(mac(&key.finalize().into_bytes(), to_sign.as_bytes()))
    }
}

fn mac(key: &[u8], message: &[u8]) -> Hmac<Sha256> {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        // HMAC takes keys of any length (RFC 2104).
        unreachable!("a key of {} bytes", key.len())
    };
    mac.update(message);
    mac
}

/// Reads a list such as `host;x-amz-date`.
fn signed_headers(list: &str) -> Result<Vec<String>, Refusal> {
    let names: Vec<String> = list.split(';').map(str::to_owned).collect();
    let is_name = |name: &String| {
        !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase())
    };
    if names.iter().all(is_name) && names.is_sorted_by(|one, next| one < next) {
        Ok(names)
    } else {
        Err(Refusal::SignedHeaders)
    }
}

fn service(scope: &Scope) -> Result<Service, Refusal> {
    let mut services = [Service::Ec2, Service::Sts].into_iter();
    services.find(|service| service.name() == scope.service).ok_or(Refusal::Service)
}

/// Reads 64 hexadecimal digits in small letters.
fn signature_bytes(text: &str) -> Result<[u8; 32], Refusal> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; 32];
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != bytes.len() || !rest.is_empty() {
        return Err(Refusal::SignatureForm);
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        let (Some(high), Some(low)) = (digit(*high), digit(*low)) else {
            return Err(Refusal::SignatureForm);
        };
        *byte = high << 4 | low;
    }
    Ok(bytes)
}

/// Bytes as hexadecimal digits in small letters.
fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests;
