//! Fuzzes the verification of signatures: a request is verified with the signature that it has to have, and with
//! no other, and not after a change.

use arbitrary::{Result, Unstructured};
use firewall_ec2::sigv4::{Refusal, Request, Signature};

use crate::form::text;

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

const CREDENTIAL: &str = "AKIAIOSFODNN7EXAMPLE/20150830/us-east-1/ec2/aws4_request";

/// Where the signature is put when it is known.
const ZEROS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Parts of headers and queries; others are random bytes.
const PARTS: [&str; 30] = [
    "AWS4-HMAC-SHA256",
    " ",
    " ",
    ",",
    "=",
    "=",
    "&",
    "&",
    ";",
    "/",
    "Credential=",
    "SignedHeaders=",
    "Signature=",
    CREDENTIAL,
    "host",
    "x-amz-date",
    "20150830T123600Z",
    "20150830",
    ZEROS,
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
    "60",
    "%2F",
    "%",
    "+",
    "Sun, 30 Aug 2015 12:36:00 GMT",
];

const NAMES: [&str; 7] = [
    "host",
    "x-amz-date",
    "date",
    "authorization",
    "x-amz-content-sha256",
    "x-amz-security-token",
    "x-a",
];

/// Verifies requests that the bytes encode; returns how many.
///
/// # Panics
/// If another signature than the right one is accepted, or the right one is not.
#[must_use]
pub fn run(input: &[u8]) -> u64 {
    let mut bytes = Unstructured::new(input);
    let mut requests = 0;
    while !bytes.is_empty() {
        let Ok(arrived) = arrived(&mut bytes) else { break };
        requests += 1;
        check(&arrived);
    }
    requests
}

#[derive(Clone, Debug)]
struct Arrived {
    query: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Arrived {
    /// Reads the signature and gives it to `run` with the request.
    fn with<T>(&self, run: impl FnOnce(&Signature, &Request<'_>) -> T) -> Option<T> {
        let Self { query, headers, body } = self;
        let headers: Vec<(&str, &[u8])> =
            headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        let request = Request { method: "POST", query, headers: &headers, body };
        let signature = Signature::read(&request).ok()?;
        Some(run(&signature, &request))
    }

    fn verified(&self) -> Option<Result<(), Refusal>> {
        self.with(|signature, request| {
            signature.verify(request, SECRET, signature.time().seconds())
        })
    }

    fn replaced(&self, from: &str, to: &str) -> Self {
        let headers = self.headers.iter();
        Self {
            query: self.query.replace(from, to),
            headers: headers.map(|(name, value)| (*name, value.replace(from, to))).collect(),
            body: self.body.clone(),
        }
    }
}

/// A request: of parts, or of the right form with a few parts in between.
fn arrived(bytes: &mut Unstructured<'_>) -> Result<Arrived> {
    let kind: u8 = bytes.arbitrary()?;
    let (query, mut headers) = match kind % 3 {
        0 => (text(bytes, &PARTS, 24)?, Vec::new()),
        1 => {
            let authorization = format!(
                "AWS4-HMAC-SHA256 Credential={CREDENTIAL}, SignedHeaders=host, Signature={ZEROS}"
            );
            let headers = vec![
                ("host", text(bytes, &PARTS, 2)?),
                ("x-amz-date", "20150830T123600Z".to_owned()),
                ("authorization", authorization),
            ];
            (text(bytes, &PARTS, 8)?, headers)
        }
        _ => {
            let query = format!(
                "{}&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={CREDENTIAL}&\
                 X-Amz-Date=20150830T123600Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature={ZEROS}",
                text(bytes, &["A", "B", "=", "&", "%41", "+"], 8)?
            );
            (query, vec![("host", text(bytes, &PARTS, 2)?)])
        }
    };
    for _ in 0..bytes.int_in_range(0..=3)? {
        let name = NAMES[usize::from(bytes.arbitrary::<u8>()?) % NAMES.len()];
        headers.push((name, text(bytes, &PARTS, 12)?));
    }
    let length = bytes.int_in_range(0..=16)?.min(bytes.len());
    Ok(Arrived { query, headers, body: bytes.bytes(length)?.to_vec() })
}

fn check(arrived: &Arrived) {
    // Absent: there is no signature to read, or something that is signed is missing.
    let Some(Ok(expected)) = arrived.with(|signature, request| signature.expected(request, SECRET))
    else {
        return;
    };
    assert_eq!(arrived.verified(), Some(Err(Refusal::Mismatch)), "{arrived:?}");
    let digits: String = expected.iter().map(|byte| format!("{byte:02x}")).collect();
    let signed = arrived.replaced(ZEROS, &digits);
    // Zeros may be in what is signed too: then the signature is another one.
    if signed.with(|signature, request| signature.expected(request, SECRET)) != Some(Ok(expected)) {
        return;
    }
    assert_eq!(signed.verified(), Some(Ok(())), "{signed:?}");
    let mut changed = signed.clone();
    changed.body.push(0);
    assert_ne!(changed.verified(), Some(Ok(())), "{changed:?}");
    let mut changed = signed.clone();
    changed.query.push_str("&Z=1");
    assert_ne!(changed.verified(), Some(Ok(())), "{changed:?}");
    let other = if digits.starts_with('0') { '1' } else { '0' };
    let changed = signed.replaced(&digits, &format!("{other}{}", &digits[1..]));
    assert_ne!(changed.verified(), Some(Ok(())), "{changed:?}");
}
