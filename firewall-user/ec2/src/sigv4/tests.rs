use super::*;

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

type Headers<'a> = &'a [(&'a str, &'a str)];

/// A request, and its signature.
type Vector<'a> = (&'a str, &'a str, Headers<'a>, &'a str, &'a str);

const HOST: (&str, &str) = ("host", "example.amazonaws.com");
const DATE: (&str, &str) = ("x-amz-date", "20150830T123600Z");
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

/// The requests of AWS's test suite of version 4 with the path `/`, of which all headers are signed.
const VECTORS: &[Vector<'_>] = &[
    (
        "GET",
        "",
        &[HOST, DATE],
        "",
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    ),
    (
        "GET",
        "Param1=value1",
        &[HOST, DATE],
        "",
        "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb",
    ),
    (
        "GET",
        "Param-3=Value3&Param=Value2&%E1%88%B4=Value1",
        &[HOST, DATE],
        "",
        "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac",
    ),
    (
        "GET",
        "Param2=value2&Param1=value1",
        &[HOST, DATE],
        "",
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    ),
    (
        "GET",
        "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz=\
         -._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
        &[HOST, DATE],
        "",
        "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
    ),
    (
        "GET",
        "\u{1234}=bar",
        &[HOST, DATE],
        "",
        "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
    ),
    (
        "GET",
        "",
        &[HOST, ("my-header1", "value2"), ("my-header1", "value2"), ("my-header1", "value1"), DATE],
        "",
        "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
    ),
    (
        "GET",
        "",
        &[
            HOST,
            ("my-header1", "value4"),
            ("my-header1", "value1"),
            ("my-header1", "value3"),
            ("my-header1", "value2"),
            DATE,
        ],
        "",
        "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01",
    ),
    (
        "GET",
        "",
        &[HOST, ("my-header1", " value1"), ("my-header2", " \"a   b   c\" "), DATE],
        "",
        "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
    ),
    (
        "POST",
        "",
        &[HOST, DATE],
        "",
        "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
    ),
    (
        "POST",
        "",
        &[HOST, ("my-header1", "value1"), DATE],
        "",
        "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c",
    ),
    (
        "POST",
        "",
        &[HOST, ("my-header1", "VALUE1"), DATE],
        "",
        "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d",
    ),
    (
        "POST",
        "Param1=value1",
        &[HOST, DATE],
        "",
        "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11",
    ),
    (
        "POST",
        "",
        &[
            FORM,
            HOST,
            ("content-length", "13"),
            (
                "x-amz-content-sha256",
                "9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e",
            ),
            DATE,
        ],
        "Param1=value1",
        "d3875051da38690788ef43de4db0d8f280229d82040bfac253562e56c3f20e0b",
    ),
];

/// The scope of AWS's test suite names no real service.
fn scope() -> Scope {
    Scope {
        date: "20150830".to_owned(),
        region: "us-east-1".to_owned(),
        service: "service".to_owned(),
    }
}

fn with_bytes<'a>(headers: Headers<'a>) -> Vec<(&'a str, &'a [u8])> {
    headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect()
}

#[test]
fn the_signatures_of_aws_test_suite_are_computed() {
    for (method, query, headers, body, expected) in VECTORS {
        let mut names: Vec<String> = headers.iter().map(|(name, _)| (*name).to_owned()).collect();
        names.sort();
        names.dedup();
        let signature = Signature {
            key_id: "AKIDEXAMPLE".to_owned(),
            scope: scope(),
            service: Service::Ec2,
            form: Form::Header,
            time: Time::basic(DATE.1).unwrap(),
            signed_headers: names,
            bytes: signature_bytes(expected).unwrap(),
        };
        let headers = with_bytes(headers);
        let request = Request { method, query, headers: &headers, body: body.as_bytes() };
        assert_eq!(hex(&signature.expected(&request, SECRET).unwrap()), *expected, "{request:?}");
        let now = signature.time.seconds();
        assert_eq!(signature.verify(&request, SECRET, now), Ok(()));
        assert_eq!(signature.verify(&request, "another", now), Err(Refusal::Mismatch));
    }
}

const SIGNATURE: &str = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";

fn header(credential: &str, headers: &str, signature: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={headers}, Signature={signature}"
    )
}

fn read(headers: Headers<'_>) -> Result<Signature, Refusal> {
    let headers = with_bytes(headers);
    Signature::read(&Request { method: "POST", query: "", headers: &headers, body: b"" })
}

const CREDENTIAL: &str = "AKIDEXAMPLE/20150830/us-east-1/ec2/aws4_request";

#[test]
fn an_authorization_header_is_read() {
    let value = header(CREDENTIAL, "host;x-amz-date", SIGNATURE);
    let signature = read(&[HOST, DATE, ("authorization", &value)]).unwrap();
    assert_eq!(signature.key_id(), "AKIDEXAMPLE");
    assert_eq!(signature.service(), Service::Ec2);
    assert_eq!(signature.form(), Form::Header);
    assert_eq!(signature.valid_until(), signature.time().seconds() + 300);
    // Without spaces, and in another order.
    let value = format!(
        "AWS4-HMAC-SHA256 Signature={SIGNATURE},SignedHeaders=host;x-amz-date,Credential={CREDENTIAL}"
    );
    assert_eq!(read(&[HOST, DATE, ("authorization", &value)]), Ok(signature));
    // By the date of HTTP.
    let date = ("date", "Sun, 30 Aug 2015 12:36:00 GMT");
    let value = header(&CREDENTIAL.replace("/ec2/", "/sts/"), "date;host", SIGNATURE);
    let signature = read(&[HOST, date, ("authorization", &value)]).unwrap();
    assert_eq!(signature.time().to_string(), DATE.1);
    assert_eq!(signature.service(), Service::Sts);
}

#[test]
fn a_malformed_authorization_header_is_refused_for_what_is_wrong() {
    let good = header(CREDENTIAL, "host;x-amz-date", SIGNATURE);
    let refusal = |value: &str| read(&[HOST, DATE, ("authorization", value)]).unwrap_err();
    let without = |part: &str| {
        let parts: Vec<&str> = good["AWS4-HMAC-SHA256 ".len()..].split(", ").collect();
        let left: Vec<&str> = parts.into_iter().filter(|one| !one.starts_with(part)).collect();
        format!("AWS4-HMAC-SHA256 {}", left.join(", "))
    };
    let credential = |text: &str| header(text, "host;x-amz-date", SIGNATURE);
    let headers = |text: &str| header(CREDENTIAL, text, SIGNATURE);
    let signature = |text: &str| header(CREDENTIAL, "host;x-amz-date", text);
    for (value, expected) in [
        (String::new(), Refusal::Algorithm),
        ("Basic dXNlcjpwYXNz".to_owned(), Refusal::Algorithm),
        (good.replace("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), Refusal::Algorithm),
        ("AWS4-HMAC-SHA256 ".to_owned(), Refusal::Algorithm),
        (format!("{good}, Signature={SIGNATURE}"), Refusal::Parts),
        (format!("{good}, Other=1"), Refusal::Parts),
        (format!("{good},"), Refusal::Parts),
        (without("Credential"), Refusal::Part("Credential")),
        (without("SignedHeaders"), Refusal::Part("SignedHeaders")),
        (without("Signature="), Refusal::Part("Signature")),
        (credential(""), Refusal::Credential),
        (credential("AKIDEXAMPLE"), Refusal::Credential),
        (credential("AKIDEXAMPLE/20150830/us-east-1/ec2"), Refusal::Credential),
        (credential("AKIDEXAMPLE/20150830/us-east-1/ec2/aws5_request"), Refusal::Credential),
        (credential(&format!("{CREDENTIAL}/more")), Refusal::Credential),
        (credential("AKIDEXAMPLE/20150830//ec2/aws4_request"), Refusal::Credential),
        (credential("/20150830/us-east-1/ec2/aws4_request"), Refusal::Credential),
        (credential("AKIDEXAMPLE/2015083/us-east-1/ec2/aws4_request"), Refusal::Credential),
        (credential("AKIDEXAMPLE/20150830/us east/ec2/aws4_request"), Refusal::Credential),
        (credential("AKIDEXAMPLE/20150830/us-east-1/s3/aws4_request"), Refusal::Service),
        (credential("AKIDEXAMPLE/20150831/us-east-1/ec2/aws4_request"), Refusal::ScopeDate),
        (headers(""), Refusal::SignedHeaders),
        (headers("x-amz-date;host"), Refusal::SignedHeaders),
        (headers("host;host;x-amz-date"), Refusal::SignedHeaders),
        (headers("Host;x-amz-date"), Refusal::SignedHeaders),
        (headers("host;;x-amz-date"), Refusal::SignedHeaders),
        (headers("x-amz-date"), Refusal::HostNotSigned),
        (signature(""), Refusal::SignatureForm),
        (signature(&SIGNATURE[1..]), Refusal::SignatureForm),
        (signature(&SIGNATURE.to_uppercase()), Refusal::SignatureForm),
        (signature(&SIGNATURE.replace('5', "g")), Refusal::SignatureForm),
    ] {
        assert_eq!(refusal(&value), expected, "{value}");
    }
    let authorization = ("authorization", good.as_str());
    for (headers, expected) in [
        (&[HOST, DATE][..], Refusal::Missing),
        (&[HOST, DATE, authorization, authorization], Refusal::Ambiguous("authorization")),
        (&[HOST, authorization], Refusal::NoDate),
        (&[HOST, DATE, DATE, authorization], Refusal::Ambiguous("x-amz-date")),
        (&[HOST, ("x-amz-date", "2015-08-30T12:36:00Z"), authorization], Refusal::Date),
        (&[HOST, ("date", "yesterday"), authorization], Refusal::Date),
        (&[HOST, DATE, authorization, ("x-amz-security-token", "t")], Refusal::SessionToken),
    ] {
        assert_eq!(read(headers).unwrap_err(), expected, "{headers:?}");
    }
}

/// The parameters of a presigned URL; `change` replaces the value of one, removes it, or adds another.
fn presigned(change: (&str, Option<&str>)) -> String {
    let mut parameters = vec![
        ("Action", "DescribeVpcs"),
        ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
        ("X-Amz-Credential", CREDENTIAL),
        ("X-Amz-Date", DATE.1),
        ("X-Amz-Expires", "60"),
        ("X-Amz-SignedHeaders", "host"),
        ("X-Amz-Signature", SIGNATURE),
    ];
    match parameters.iter_mut().find(|(name, _)| *name == change.0) {
        Some(parameter) if change.1.is_some() => parameter.1 = change.1.unwrap_or_default(),
        Some(_) => parameters.retain(|(name, _)| *name != change.0),
        None => parameters.extend(change.1.map(|value| (change.0, value))),
    }
    let encoded: Vec<String> =
        parameters.iter().map(|(name, value)| format!("{name}={}", query::encode(value))).collect();
    encoded.join("&")
}

#[test]
fn a_malformed_presigned_url_is_refused_for_what_is_wrong() {
    let read = |query: &str, headers: Headers<'_>| {
        let headers = with_bytes(headers);
        Signature::read(&Request { method: "GET", query, headers: &headers, body: b"" })
    };
    let good = read(&presigned(("", None)), &[HOST]).unwrap();
    assert_eq!(good.form(), Form::Presigned(60));
    assert_eq!(good.valid_until(), good.time().seconds() + 60);
    for (change, expected) in [
        (("X-Amz-Algorithm", None), Refusal::Parameter("X-Amz-Algorithm")),
        (("X-Amz-Algorithm", Some("AWS4-HMAC-SHA1")), Refusal::Algorithm),
        (("X-Amz-Credential", None), Refusal::Parameter("X-Amz-Credential")),
        (("X-Amz-Credential", Some("AKID")), Refusal::Credential),
        (("X-Amz-Date", None), Refusal::Parameter("X-Amz-Date")),
        (("X-Amz-Date", Some("now")), Refusal::Date),
        (("X-Amz-Date", Some("20150831T000000Z")), Refusal::ScopeDate),
        (("X-Amz-Expires", None), Refusal::Parameter("X-Amz-Expires")),
        (("X-Amz-Expires", Some("0")), Refusal::Expires),
        (("X-Amz-Expires", Some("604801")), Refusal::Expires),
        (("X-Amz-Expires", Some("+60")), Refusal::Expires),
        (("X-Amz-Expires", Some("-1")), Refusal::Expires),
        (("X-Amz-Expires", Some("99999999999")), Refusal::Expires),
        (("X-Amz-SignedHeaders", None), Refusal::Parameter("X-Amz-SignedHeaders")),
        (("X-Amz-SignedHeaders", Some("x-amz-date")), Refusal::HostNotSigned),
        (("X-Amz-Signature", None), Refusal::Parameter("X-Amz-Signature")),
        (("X-Amz-Signature", Some("0")), Refusal::SignatureForm),
        (("X-Amz-Security-Token", Some("t")), Refusal::SessionToken),
    ] {
        let query = presigned(change);
        assert_eq!(read(&query, &[HOST]).unwrap_err(), expected, "{query}");
    }
    let twice = format!("{}&X-Amz-Expires=604800", presigned(("", None)));
    assert_eq!(read(&twice, &[HOST]), Err(Refusal::Ambiguous("X-Amz-Expires")));
    let authorization = header(CREDENTIAL, "host;x-amz-date", SIGNATURE);
    let both = [HOST, DATE, ("authorization", authorization.as_str())];
    assert_eq!(read(&presigned(("", None)), &both), Err(Refusal::TwoSignatures));
    for query in ["%", "a=%f", "%zz=1", "a=%ff"] {
        assert_eq!(read(query, &[HOST]), Err(Refusal::Query), "{query}");
    }
}

#[test]
fn a_signature_is_valid_for_its_time() {
    let value = header(CREDENTIAL, "host;x-amz-date", SIGNATURE);
    let headers = [HOST, DATE, ("authorization", &value)];
    let headers = with_bytes(&headers);
    let request = Request { method: "GET", query: "", headers: &headers, body: b"" };
    let mut signature = Signature::read(&request).unwrap();
    signature.bytes = signature.expected(&request, SECRET).unwrap();
    let time = signature.time().seconds();
    let verify = |signature: &Signature, at: i64| signature.verify(&request, SECRET, time + at);
    for (at, expected) in
        [(-301, Err(Refusal::Expired)), (-300, Ok(())), (300, Ok(())), (301, Err(Refusal::Expired))]
    {
        assert_eq!(verify(&signature, at), expected, "{at}");
    }
    signature.form = Form::Presigned(60);
    for (at, expected) in
        [(-301, Err(Refusal::Expired)), (-300, Ok(())), (60, Ok(())), (61, Err(Refusal::Expired))]
    {
        assert_eq!(verify(&signature, at), expected, "{at}");
    }
}

#[test]
fn a_body_that_is_said_to_be_another_one_is_refused() {
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let value = header(CREDENTIAL, "host;x-amz-date", SIGNATURE);
    for (said, body, expected) in [
        (empty, "", Err(Refusal::Mismatch)),
        (empty, "x", Err(Refusal::Body)),
        ("UNSIGNED-PAYLOAD", "", Err(Refusal::Body)),
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "", Err(Refusal::Body)),
        (&empty.to_uppercase(), "", Err(Refusal::Body)),
    ] {
        let headers = [HOST, DATE, ("authorization", &value), ("x-amz-content-sha256", said)];
        let headers = with_bytes(&headers);
        let request =
            Request { method: "POST", query: "", headers: &headers, body: body.as_bytes() };
        let signature = Signature::read(&request).unwrap();
        let now = signature.time().seconds();
        assert_eq!(signature.verify(&request, SECRET, now), expected, "{said} {body}");
    }
}

#[test]
fn a_refusal_has_the_codes_of_its_service() {
    for (refusal, ec2, sts) in [
        (
            Refusal::Missing,
            ("MissingAuthenticationToken", 401),
            ("MissingAuthenticationToken", 401),
        ),
        (Refusal::UnknownKey, ("AuthFailure", 401), ("InvalidClientTokenId", 403)),
        (Refusal::Mismatch, ("AuthFailure", 401), ("SignatureDoesNotMatch", 403)),
        (Refusal::Expired, ("RequestExpired", 400), ("RequestExpired", 400)),
        (Refusal::Parts, ("IncompleteSignature", 400), ("IncompleteSignature", 400)),
        (Refusal::Query, ("MalformedQueryString", 400), ("MalformedQueryString", 400)),
    ] {
        for (service, expected) in [(Service::Ec2, ec2), (Service::Sts, sts)] {
            assert_eq!(
                (refusal.code(service), refusal.error(service).status),
                expected,
                "{refusal:?}"
            );
        }
    }
    let texts = [Refusal::UnknownKey, Refusal::Mismatch].map(|one| one.message(Service::Ec2));
    assert_eq!(texts[0], texts[1]);
}
