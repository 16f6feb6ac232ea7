//! Why a request is not believed, in EC2's codes.

use super::MAX_EXPIRES;
use super::query::Malformed;
use crate::{Error, Service};

/// Why a request is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It has no signature.
    #[error("Request is missing Authentication Token")]
    Missing,
    /// It has one in the header and one in the query.
    #[error("Only one of the Authorization header and the query may have a signature.")]
    TwoSignatures,
    /// Another algorithm, or another scheme of authentication.
    #[error("The request must be signed with AWS4-HMAC-SHA256.")]
    Algorithm,
    /// The header has a part that is unknown, malformed, or there twice.
    #[error("Authorization header requires Credential, SignedHeaders and Signature, each once.")]
    Parts,
    /// The header lacks a part.
    #[error("Authorization header requires '{0}' parameter.")]
    Part(&'static str),
    /// The query lacks a part.
    #[error("AWS query-string parameters must include '{0}'.")]
    Parameter(&'static str),
    /// A header or parameter is there twice, or is not text.
    #[error("'{0}' must be present once.")]
    Ambiguous(&'static str),
    /// The query is malformed.
    #[error("The query string is malformed.")]
    Query,
    /// The credential does not have five parts.
    #[error("Credential must have five parts: KEY/YYYYMMDD/REGION/SERVICE/aws4_request.")]
    Credential,
    /// The scope is of another service.
    #[error("Credential should be scoped to correct service: 'ec2' or 'sts'.")]
    Service,
    /// The date of the scope is not that of the time.
    #[error("Date in Credential scope does not match that of the request.")]
    ScopeDate,
    /// The list of signed headers is malformed.
    #[error("SignedHeaders must have header names in lower case, in ascending order.")]
    SignedHeaders,
    /// The list lacks the host.
    #[error("'Host' must be a signed header.")]
    HostNotSigned,
    /// The signature does not have 64 hexadecimal digits.
    #[error("Signature must have 64 hexadecimal digits in lower case.")]
    SignatureForm,
    /// The request has no time.
    #[error("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")]
    NoDate,
    /// Its time is malformed.
    #[error("Date must be in ISO-8601 'basic format', as 20150830T123600Z.")]
    Date,
    /// The validity of a URL is malformed.
    #[error("X-Amz-Expires must be 1 to {MAX_EXPIRES} seconds.")]
    Expires,
    /// The request has a session token, which no key here has.
    #[error("The security token included in the request is invalid")]
    SessionToken,
    /// Not valid yet, or not any more.
    #[error("Request has expired.")]
    Expired,
    /// A header that is said to be signed is absent.
    #[error("A header of SignedHeaders is absent.")]
    HeaderAbsent,
    /// The body is not the one that was signed.
    #[error("The provided 'x-amz-content-sha256' header does not match what was computed.")]
    Body,
    /// The key does not exist.
    #[error("AWS was not able to validate the provided access credentials")]
    UnknownKey,
    /// The signature is not of this secret and this request.
    #[error("AWS was not able to validate the provided access credentials")]
    Mismatch,
}

impl Refusal {
    /// EC2's or STS's code.
    #[must_use]
    pub const fn code(self, service: Service) -> &'static str {
        match (self, service) {
            (Self::Missing, _) => "MissingAuthenticationToken",
            (Self::Query, _) => "MalformedQueryString",
            (Self::Expired, _) => "RequestExpired",
            (Self::UnknownKey | Self::SessionToken, Service::Sts) => "InvalidClientTokenId",
            (Self::Body | Self::HeaderAbsent | Self::Mismatch | Self::ScopeDate, Service::Sts) => {
                "SignatureDoesNotMatch"
            }
            // EC2 does not tell an unknown key from a wrong secret.
            (
                Self::UnknownKey
                | Self::SessionToken
                | Self::Body
                | Self::HeaderAbsent
                | Self::Mismatch
                | Self::ScopeDate,
                Service::Ec2,
            ) => "AuthFailure",
            _ => "IncompleteSignature",
        }
    }

    /// The message. STS has other ones for what EC2 does not tell apart.
    #[must_use]
    pub fn message(self, service: Service) -> String {
        match (self, service) {
            (Self::UnknownKey, Service::Sts) => Self::SessionToken.to_string(),
            (Self::Mismatch, Service::Sts) => {
                "The request signature we calculated does not match the signature you provided. Check your AWS \
                 Secret Access Key and signing method. Consult the service documentation for details."
                    .to_owned()
            }
            _ => self.to_string(),
        }
    }

    /// As an error of the service.
    #[must_use]
    pub fn error(self, service: Service) -> Error {
        Error::new(self.code(service), self.message(service))
    }
}

impl From<Malformed> for Refusal {
    fn from(Malformed: Malformed) -> Self {
        Self::Query
    }
}
