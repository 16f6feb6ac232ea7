//! The EC2 API without authentication: pages of browsers on this host, and the reset for tests.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;

use secgroup_tests::ec2::{Call, Key, READING, create_group, receive, send, serve};
use secgroup_tests::notify::Notify;
use secgroup_tests::{Namespace, Pair, Secgroup};

/// A form that a page posts: no browser adds what clients of EC2 send.
fn posted(form: &str, headers: &[(&'static str, &str)]) -> Vec<u8> {
    let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Call { headers, ..Call::post(form) }.unsigned()
}

#[test]
fn a_page_in_a_browser_changes_nothing_without_authentication() {
    let host = Namespace::new();
    let secgroup = Secgroup::inside(&host);
    let serve = serve(&secgroup, "--insecure-no-auth");
    assert!(serve.lines().iter().any(|line| line.contains("without authentication: every client")));
    let form = create_group("x");
    let client = ("amz-sdk-invocation-id", "1");
    for headers in [
        &[("content-type", "text/plain")][..],
        &[("content-type", "application/x-www-form-urlencoded")],
        &[client, ("origin", "https://example.com")],
        &[client, ("origin", "null")],
        &[client, ("sec-fetch-site", "same-origin")],
        &[client, ("referer", "https://example.com/")],
        &[client, ("user-agent", "Mozilla/5.0 (X11; Linux x86_64)")],
        // A name that points to this host for a moment.
        &[client, ("host", "rebound.example.com:8773")],
        &[client, ("host", "192.0.2.1:8773")],
    ] {
        let reply = send(&host, &posted(&form, headers));
        assert_eq!((reply.status, reply.code()), (403, "UnauthorizedOperation"), "{headers:?}");
        assert!(!reply.head.contains("access-control"), "{reply:?}");
    }
    // As an image or a link.
    let get = Call { method: "GET", query: form.clone(), body: String::new(), ..Call::post("") };
    assert_eq!(send(&host, &Call { headers: vec![], ..get }.unsigned()).status, 403);
    // A page asks before it adds headers.
    let mut asked = posted("", &[("access-control-request-method", "POST")]);
    asked.splice(..4, *b"OPTIONS");
    let reply = send(&host, &asked);
    assert_eq!(reply.status, 405);
    assert!(!reply.head.contains("access-control"), "{reply:?}");

    let reply = send(&host, &posted(READING, &[]));
    assert_eq!(reply.status, 200, "{reply:?}");
    for name in ["amz-sdk-invocation-id", "authorization"] {
        let reply = send(&host, &posted(&create_group(name), &[(name, "1")]));
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    assert!(!secgroup.ok("group list").contains(" x "));
}

/// A document whose random ids are left out: the default group has another one after a reset.
fn without_ids(document: &str) -> String {
    let words = document.split('"').map(|word| match word.rsplit_once('-') {
        Some((kind, id)) if id.len() == 17 => kind,
        _ => word,
    });
    words.collect::<Vec<_>>().join("\"")
}

#[test]
fn the_store_is_emptied_for_tests_only_where_that_is_switched_on() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    let reset =
        b"POST /moto-api/reset HTTP/1.1\r\nhost: localhost:8773\r\ncontent-length: 0\r\n\r\n";
    let mut server = serve(&secgroup, "--insecure-no-auth");
    assert_eq!(send(&net.server, reset).status, 404);
    server.terminate();
    let _server = serve(&secgroup, "--insecure-no-auth --ec2-test-reset");
    let empty = secgroup.ok("export");
    assert_eq!(
        send(&net.server, &posted(&create_group("a"), &[("authorization", "x")])).status,
        200
    );
    secgroup.ok("group create b --description x");
    secgroup.ok("rule add b ingress --protocol tcp --port 80 --group b");
    secgroup.ok("prefix-list create c --family ipv4 --entry 192.0.2.0/24");
    let of_page =
        String::from_utf8(reset.to_vec()).unwrap().replace("host", "origin: null\r\nhost");
    assert_eq!(send(&net.server, of_page.as_bytes()).status, 403);
    assert_eq!(send(&net.server, reset).status, 200);
    assert_eq!(without_ids(&secgroup.ok("export")), without_ids(&empty));
    assert!(!secgroup.ok("group list").contains(" b "));

    secgroup.ok("group create d --description x");
    secgroup.ok("attach eth0 --group d");
    let reply = send(&net.server, reset);
    assert_eq!(reply.status, 409, "{reply:?}");
    assert!(reply.body.contains("an interface is attached"), "{reply:?}");
    assert!(secgroup.ok("group list").contains(" d "));
}

#[test]
fn a_unix_socket_serves_owner_and_group() {
    let host = Namespace::new();
    let secgroup = Secgroup::inside(&host);
    let key = Key::create(&secgroup, "");
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("ec2.sock");
    let line = format!("serve --metrics 127.0.0.1:0 --ec2 unix:{}", socket.display());
    let mut server = Notify::new().start(secgroup.command(line.split_whitespace()));
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o660);
    let send = |bytes: &[u8]| {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(bytes).unwrap();
        receive(&mut stream).unwrap()
    };
    assert_eq!(send(&Call::post(READING).unsigned()).status, 401);
    assert_eq!(send(&Call::post(READING).signed(&key)).status, 200);
    assert_eq!(server.terminate().code(), Some(0));
    assert!(!socket.exists());
}
