//! What the signer of AWS's SDK signs is verified, and nothing else is.

#![expect(clippy::unwrap_used, reason = "a panic in a test is the report")]

use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign,
};
use aws_sigv4::sign::v4;
use firewall_ec2::Service;
use firewall_ec2::sigv4::{Form, Refusal, Request, Signature};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

const KEY: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

/// A request as it arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Arrived {
    method: String,
    query: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Arrived {
    fn verified(&self, secret: &str, now: i64) -> Result<Signature, Refusal> {
        let Self { method, query, headers, body } = self;
        let headers: Vec<(&str, &[u8])> =
            headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let request = Request { method, query, headers: &headers, body };
        let signature = Signature::read(&request)?;
        signature.verify(&request, secret, now)?;
        Ok(signature)
    }
}

/// What is signed, how, and when.
#[derive(Clone, Debug)]
struct Plan {
    arrived: Arrived,
    region: String,
    service: Service,
    form: Form,
    has_body_hash: bool,
    time: i64,
}

/// Encodes as clients do.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// Parameters with any characters.
fn parameters() -> impl Strategy<Value = String> {
    vec(("[A-Za-z.0-9]{1,12}", any::<String>()), 0..6).prop_map(|pairs| {
        let pairs: Vec<String> =
            pairs.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        pairs.join("&")
    })
}

fn plan() -> impl Strategy<Value = Plan> {
    let form = prop_oneof![Just(Form::Header), (1_u32..=604_800).prop_map(Form::Presigned)];
    let headers = vec(("x-[a-z]{1,8}", "[ -~]{0,20}"), 0..4);
    let service = prop_oneof![Just(Service::Ec2), Just(Service::Sts)];
    let request = (prop::bool::ANY, parameters(), headers, parameters());
    (request, "[a-z]{2}-[a-z]{4}-[0-9]", service, form, prop::bool::ANY, 0_i64..4_000_000_000)
        .prop_map(
            |((is_post, query, mut headers, body), region, service, form, has_body_hash, time)| {
                headers.insert(0, ("host".to_owned(), "127.0.0.1:8080".to_owned()));
                if is_post {
                    let form = "application/x-www-form-urlencoded; charset=utf-8";
                    headers.push(("content-type".to_owned(), form.to_owned()));
                }
                let arrived = Arrived {
                    method: if is_post { "POST" } else { "GET" }.to_owned(),
                    query,
                    headers,
                    body: if is_post { body.into_bytes() } else { Vec::new() },
                };
                Plan { arrived, region, service, form, has_body_hash, time }
            },
        )
}

/// Signs as AWS's SDK for Rust does.
fn signed(plan: &Plan) -> Arrived {
    let Plan { arrived, region, service, form, has_body_hash, time } = plan;
    let mut settings = SigningSettings::default();
    if *has_body_hash {
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    }
    if let Form::Presigned(seconds) = form {
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(Duration::from_secs(u64::from(*seconds)));
    }
    let identity = Credentials::new(KEY, SECRET, None, None, "test").into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(service.name())
        .time(UNIX_EPOCH + Duration::from_secs(u64::try_from(*time).unwrap()))
        .settings(settings)
        .build()
        .unwrap()
        .into();
    let Arrived { method, query, headers, body } = arrived;
    let url = format!("http://127.0.0.1:8080/?{query}");
    let pairs = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let request = SignableRequest::new(method, url, pairs, SignableBody::Bytes(body)).unwrap();
    let (instructions, _) = sign(request, &parameters).unwrap().into_parts();
    let mut signed = arrived.clone();
    let (headers, parameters) = instructions.into_parts();
    for header in headers {
        signed.headers.push((header.name().to_owned(), header.value().to_owned()));
    }
    for (name, value) in parameters {
        let separator = if signed.query.is_empty() { "" } else { "&" };
        signed.query.push_str(&format!("{separator}{name}={}", encoded(&value)));
    }
    signed
}

/// A change of something that is signed, or of the signature.
#[derive(Clone, Debug)]
enum Change {
    Method,
    QueryByte(Index, u8),
    QueryMore(String),
    BodyByte(Index, u8),
    BodyMore(u8),
    BodyLess,
    HeaderByte(Index, Index, u8),
    HeaderGone(Index),
    HeaderTwice(Index),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        Just(Change::Method),
        (any::<Index>(), 0x21_u8..0x7f).prop_map(|(at, byte)| Change::QueryByte(at, byte)),
        "[A-Z][a-z]{0,5}=[a-z]{0,5}".prop_map(Change::QueryMore),
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::BodyByte(at, byte)),
        any::<u8>().prop_map(Change::BodyMore),
        Just(Change::BodyLess),
        (any::<Index>(), any::<Index>(), 0x21_u8..0x7f)
            .prop_map(|(which, at, byte)| Change::HeaderByte(which, at, byte)),
        any::<Index>().prop_map(Change::HeaderGone),
        any::<Index>().prop_map(Change::HeaderTwice),
    ]
}

fn replaced(text: &str, at: Index, byte: u8) -> String {
    let mut bytes = text.as_bytes().to_vec();
    if !bytes.is_empty() {
        let at = at.index(bytes.len());
        bytes[at] = byte;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn changed(arrived: &Arrived, change: &Change) -> Arrived {
    let mut changed = arrived.clone();
    let Arrived { method, query, headers, body } = &mut changed;
    match change {
        Change::HeaderByte(..) | Change::HeaderGone(_) | Change::HeaderTwice(_)
            if headers.is_empty() => {}
        Change::Method => *method = if method == "GET" { "POST" } else { "GET" }.to_owned(),
        Change::QueryByte(at, byte) => *query = replaced(query, *at, *byte),
        Change::QueryMore(more) if query.is_empty() => query.clone_from(more),
        Change::QueryMore(more) => *query = format!("{query}&{more}"),
        Change::BodyByte(at, byte) if !body.is_empty() => {
            let at = at.index(body.len());
            body[at] = *byte;
        }
        Change::BodyByte(..) => {}
        Change::BodyMore(byte) => body.push(*byte),
        Change::BodyLess => drop(body.pop()),
        Change::HeaderByte(which, at, byte) => {
            let which = which.index(headers.len());
            headers[which].1 = replaced(&headers[which].1, *at, *byte);
        }
        Change::HeaderGone(which) => drop(headers.remove(which.index(headers.len()))),
        Change::HeaderTwice(which) => headers.push(headers[which.index(headers.len())].clone()),
    }
    changed
}

type Pairs = Vec<(String, String)>;

/// What a request means, as far as it is signed: the same for requests that differ in the encoding of a parameter,
/// the order of parameters of different names, or spaces of a header.
fn meaning(arrived: &Arrived) -> Option<(String, Pairs, Pairs, Vec<u8>)> {
    let mut parameters = firewall_ec2::sigv4::parameters(&arrived.query).ok()?;
    parameters.sort();
    let mut headers = Pairs::new();
    for (name, value) in &arrived.headers {
        let words: Vec<&str> = value.split(' ').filter(|word| !word.is_empty()).collect();
        match headers.iter_mut().find(|(other, _)| other == name) {
            Some((_, values)) => *values = format!("{values},{}", words.join(" ")),
            None => headers.push((name.clone(), words.join(" "))),
        }
    }
    headers.sort();
    Some((arrived.method.clone(), parameters, headers, arrived.body.clone()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_the_sdk_signs_is_verified(plan in plan()) {
        let arrived = signed(&plan);
        let signature = arrived.verified(SECRET, plan.time);
        let signature = signature.map_err(|error| TestCaseError::fail(format!("{error}: {arrived:?}")))?;
        prop_assert_eq!(signature.key_id(), KEY);
        prop_assert_eq!(signature.service(), plan.service);
        prop_assert_eq!(signature.form(), plan.form);
        prop_assert_eq!(signature.time().seconds(), plan.time);
        prop_assert_eq!(arrived.verified("another", plan.time).unwrap_err(), Refusal::Mismatch);
        let last = signature.valid_until();
        prop_assert!(arrived.verified(SECRET, last).is_ok());
        prop_assert_eq!(arrived.verified(SECRET, last + 1).unwrap_err(), Refusal::Expired);
        prop_assert_eq!(arrived.verified(SECRET, plan.time - 301).unwrap_err(), Refusal::Expired);
    }

    /// The SDK signs every header, so that every difference in meaning is one in what is signed.
    #[test]
    fn what_was_changed_is_refused(plan in plan(), changes in vec(change(), 1..3)) {
        let arrived = signed(&plan);
        let after = changes.iter().fold(arrived.clone(), |arrived, change| changed(&arrived, change));
        prop_assume!(meaning(&after) != meaning(&arrived));
        let verified = after.verified(SECRET, plan.time);
        // The id of the key is not signed: it chooses the secret, and no other id has this one.
        let is_verified = verified.is_ok_and(|signature| signature.key_id() == KEY);
        // The spaces and commas between the parts of the Authorization header are not signed.
        prop_assert!(!is_verified, "{changes:?} of {arrived:?}: {after:?}");
    }
}
