//! Who a request is of, and what it may do.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use firewall_ec2::form::malformed_encoding;
use firewall_ec2::sigv4::{Form, Refusal, Request, Signature};
use firewall_ec2::{Error, Params, Service};

use super::keys::{KeyFile, KeyRing};
use super::replay::{Repeated, Replays};
use super::{Access, Api};
use crate::config::Paths;
use crate::journal;

/// In place of the secret of a key that does not exist: its requests take the same time.
const NO_SECRET: &str = "0000000000000000000000000000000000000000";

/// How requests are authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// By signatures of access keys.
    Keys,
    /// Not at all: every client that can connect may do everything.
    None,
}

/// Authenticates requests.
#[derive(Debug)]
pub(super) struct Authenticator {
    /// Without: everything is allowed.
    keys: Option<(KeyRing, Replays)>,
    /// The error that was reported last, so that each is reported once.
    reported: Mutex<Option<String>>,
}

/// A request that may be carried out.
#[derive(Debug)]
pub(super) struct Authenticated {
    /// The id of its key; empty without authentication.
    pub(super) key_id: String,
    pub(super) access: Access,
    pub(super) params: Params,
}

/// A request as it arrived.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) method: String,
    pub(super) query: String,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) body: Vec<u8>,
}

impl Arrived {
    /// The service that it is for, as far as that can be told before it is authenticated.
    pub(super) fn service(&self) -> Service {
        let version = format!("Version={}", Service::Sts.version());
        let has = |text: &[u8]| text.windows(version.len()).any(|part| part == version.as_bytes());
        if has(self.query.as_bytes()) || has(&self.body) { Service::Sts } else { Service::Ec2 }
    }

    /// The parameters of query and body. They are decoded as the signature's query is, so that what was signed is
    /// what is carried out; those of the signature are left out.
    fn params(&self, form: Option<Form>) -> Result<Params, Error> {
        let body = std::str::from_utf8(&self.body).map_err(|_| malformed_encoding())?;
        let parameters =
            |text| firewall_ec2::sigv4::parameters(text).map_err(|_| malformed_encoding());
        let mut pairs = parameters(&self.query)?;
        // Without authentication the signature of a client that signs all the same is not looked at.
        let is_presigned = match form {
            Some(form) => matches!(form, Form::Presigned(_)),
            None => pairs.iter().any(|(name, _)| name == "X-Amz-Signature"),
        };
        if is_presigned {
            pairs.retain(|(name, _)| !name.starts_with("X-Amz-"));
        }
        pairs.extend(parameters(body)?);
        Params::from_pairs(pairs)
    }
}

impl Authenticator {
    /// For a process that begins now.
    pub(super) fn new(authentication: Authentication, paths: &Paths) -> io::Result<Self> {
        let keys = || -> io::Result<_> {
            let ring = KeyRing::new(KeyFile::new(&paths.state_dir));
            Ok((ring, Replays::new(&paths.state_dir, now())?))
        };
        let keys = (authentication == Authentication::Keys).then(keys).transpose()?;
        Ok(Self { keys, reported: Mutex::default() })
    }

    /// Authenticates a request. One that changes something is admitted once.
    pub(super) fn check(&self, arrived: &Arrived) -> Result<Authenticated, Error> {
        let Some((ring, replays)) = &self.keys else {
            let params = arrived.params(None)?;
            return Ok(Authenticated { key_id: String::new(), access: Access::Write, params });
        };
        let service = arrived.service();
        let refused = |refusal: Refusal| refusal.error(service);
        let Arrived { method, query, headers, body } = arrived;
        let headers: Vec<(&str, &[u8])> =
            headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        let request = Request { method, query, headers: &headers, body };
        let signature = Signature::read(&request).map_err(refused)?;
        let keys = ring.keys().map_err(|error| {
            self.report(Some(format!("{:#}", anyhow::Error::from(error))));
            let text = "The access keys cannot be read; the journal has the reason.";
            Error::new("InternalError", text)
        })?;
        let key = keys.iter().find(|key| key.access_key_id == signature.key_id());
        let secret = key.map_or(NO_SECRET, |key| key.secret_access_key.as_str());
        let now = now();
        let verified = signature.verify(&request, secret, now);
        let key = key.ok_or_else(|| refused(Refusal::UnknownKey))?;
        verified.map_err(refused)?;
        let params = arrived.params(Some(signature.form()))?;
        if signature.service() != Api::service(&params) {
            return Err(refused(Refusal::Service));
        }
        // A read-only key changes nothing, so that its requests are not remembered.
        if Api::is_change(&params) && key.access == Access::Write {
            replays.admit(&signature, now).map_err(|error| self.repeated(&error))?;
        }
        self.report(None);
        let (key_id, access) = (key.access_key_id.clone(), key.access);
        Ok(Authenticated { key_id, access, params })
    }

    /// Clients sign again and repeat what was throttled.
    fn repeated(&self, error: &Repeated) -> Error {
        match error {
            Repeated::Known | Repeated::TooMany => {
                Error::new("RequestLimitExceeded", error.to_string())
            }
            Repeated::SetBack(_) | Repeated::Store { .. } => {
                self.report(Some(error.to_string()));
                let text = "No change can be carried out once only; the journal has the reason.";
                Error::new("InternalError", text)
            }
        }
    }

    /// Reports an error once, until another one or success.
    fn report(&self, error: Option<String>) {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if *reported != error {
            if let Some(error) = &error {
                journal::report(format_args!("ec2: {error}"));
            }
            *reported = error;
        }
    }
}

/// Seconds since 1970.
fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_presigned_request_is_read_without_authentication() {
        let query = |more: &str| Arrived {
            method: "GET".to_owned(),
            query: format!("Action=DescribeVpcs&X-Amz-Date=20150830T120000Z{more}"),
            headers: Vec::new(),
            body: Vec::new(),
        };
        let authenticator = Authenticator { keys: None, reported: Mutex::default() };
        let check = |more| {
            let params = authenticator.check(&query(more)).unwrap().params;
            let _ = params.text("Action");
            params.finish().map_err(|error| error.code)
        };
        assert_eq!(check("&X-Amz-Signature=00&X-Amz-Expires=60"), Ok(()));
        assert_eq!(check(""), Err("UnknownParameter".into()));
    }
}
