//! A client of the EC2 API that sends any bytes: signed requests, and wrong ones.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use firewall_ec2::sigv4::{Request, Signature, Time};

use crate::notify::Notify;
use crate::process::Process;
use crate::wait::MAX_WAIT;
use crate::{Namespace, Secgroup};

/// Where tests serve the API.
pub const SERVED: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8773);

/// A request that changes nothing.
pub const READING: &str = "Action=GetCallerIdentity&Version=2011-06-15";

/// An access key.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its id.
    pub id: String,
    /// Its secret.
    pub secret: String,
}

impl Key {
    /// Creates one with options such as `--read-only`.
    #[must_use]
    pub fn create(secgroup: &Secgroup<'_>, options: &str) -> Self {
        let created = secgroup.json(&format!("key create {options}"));
        let field = |name: &str| created["AccessKey"][name].as_str().expect("a text").to_owned();
        Self { id: field("AccessKeyId"), secret: field("SecretAccessKey") }
    }
}

/// Serves the API at [`SERVED`], with more options, and waits until it is ready.
#[must_use]
pub fn serve(secgroup: &Secgroup<'_>, options: &str) -> Process {
    let line = format!("serve --metrics 127.0.0.1:0 --ec2 {SERVED} {options}");
    Notify::new().start(secgroup.command(line.split_whitespace()))
}

/// Seconds since 1970.
#[must_use]
pub fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970");
    i64::try_from(now.as_secs()).expect("a time before the end of time")
}

/// The form of a request that creates a group: it changes something.
#[must_use]
pub fn create_group(name: &str) -> String {
    format!("Action=CreateSecurityGroup&Version=2016-11-15&GroupName={name}&GroupDescription=test")
}

/// A request before it is signed.
#[derive(Clone, Debug)]
pub struct Call {
    /// GET or POST.
    pub method: &'static str,
    /// Without the question mark.
    pub query: String,
    /// The form of a POST.
    pub body: String,
    /// Headers beside those that every request has.
    pub headers: Vec<(&'static str, String)>,
    /// The service of the scope.
    pub service: &'static str,
    /// When it is signed, in seconds since 1970.
    pub time: i64,
}

impl Call {
    /// A form that is posted, signed now.
    #[must_use]
    pub fn post(form: &str) -> Self {
        let service = if form.contains("Version=2011-06-15") { "sts" } else { "ec2" };
        Self {
            method: "POST",
            query: String::new(),
            body: form.to_owned(),
            headers: vec![(
                "content-type",
                "application/x-www-form-urlencoded; charset=utf-8".to_owned(),
            )],
            service,
            time: now(),
        }
    }

    /// The bytes of the request, without a signature.
    #[must_use]
    pub fn unsigned(&self) -> Vec<u8> {
        self.bytes(None)
    }

    /// The bytes of the request with a signature in the header.
    #[must_use]
    pub fn signed(&self, key: &Key) -> Vec<u8> {
        let Self { method, query, body, headers, service, time } = self;
        let time = Time::at(*time).expect("a time").to_string();
        let mut headers = headers.clone();
        headers.push(("host", SERVED.to_string()));
        headers.push(("x-amz-date", time.clone()));
        let mut names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        let authorization = |signature: &str| {
            format!(
                "AWS4-HMAC-SHA256 Credential={}/{}/us-east-1/{service}/aws4_request, SignedHeaders={}, \
                 Signature={signature}",
                key.id,
                &time[..8],
                names.join(";")
            )
        };
        headers.push(("authorization", authorization(&"0".repeat(64))));
        let arrived: Vec<(&str, &[u8])> =
            headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        let request = Request { method, query, headers: &arrived, body: body.as_bytes() };
        let signature = Signature::read(&request).expect("a request of the right form");
        let signature = signature.expected(&request, &key.secret).expect("a signature");
        let digits = signature.iter().fold(String::new(), |mut digits, byte| {
            let _ = write!(digits, "{byte:02x}");
            digits
        });
        self.bytes(Some((&time, &authorization(&digits))))
    }

    fn bytes(&self, signature: Option<(&str, &str)>) -> Vec<u8> {
        let Self { method, query, body, headers, .. } = self;
        let query = if query.is_empty() { String::new() } else { format!("?{query}") };
        let mut text = format!("{method} /{query} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| *name == "host") {
            let _ = write!(text, "host: {SERVED}\r\n");
        }
        for (name, value) in headers {
            let _ = write!(text, "{name}: {value}\r\n");
        }
        if let Some((time, authorization)) = signature {
            let _ = write!(text, "x-amz-date: {time}\r\nauthorization: {authorization}\r\n");
        }
        let _ = write!(text, "content-length: {}\r\n\r\n{body}", body.len());
        text.into_bytes()
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The status line and the headers, in small letters.
    pub head: String,
    /// The body.
    pub body: String,
}

impl Reply {
    /// The code of an error, or an empty text.
    #[must_use]
    pub fn code(&self) -> &str {
        let code = self.body.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
        code.map_or("", |(code, _)| code)
    }
}

/// Connects to the API from a namespace.
///
/// # Errors
/// It does not listen.
pub fn connect(namespace: &Namespace) -> io::Result<TcpStream> {
    let stream = namespace.run(|| TcpStream::connect(SERVED))?;
    stream.set_read_timeout(Some(MAX_WAIT))?;
    Ok(stream)
}

/// Sends bytes on a new connection and receives one answer.
#[must_use]
pub fn send(namespace: &Namespace, bytes: &[u8]) -> Reply {
    let mut stream = connect(namespace).unwrap_or_else(|error| panic!("connect: {error}"));
    // A server that refuses may close before it has read everything.
    let _ = stream.write_all(bytes);
    receive(&mut stream).unwrap_or_else(|error| panic!("receive an answer: {error}"))
}

/// Receives one answer.
///
/// # Errors
/// The connection ends before.
pub fn receive(stream: &mut impl io::Read) -> io::Result<Reply> {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        text.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&text).to_lowercase();
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, head.clone());
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length = length.and_then(|word| word.trim().parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(Reply {
        status: status.ok_or_else(malformed)?,
        body: String::from_utf8_lossy(&body).into_owned(),
        head,
    })
}

/// The Python of the clients that `cargo xtask setup` installs, to run a script of `tests/clients`.
#[must_use]
pub fn python(namespace: &Namespace, script: &str) -> Command {
    let python: PathBuf = crate::root().join("target/tools/clients/venv/bin/python");
    assert!(python.exists(), "no {}: run `cargo xtask setup`", python.display());
    let mut command = namespace.command(&python.display().to_string());
    command.arg(crate::root().join("tests/clients").join(script));
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}
