//! Who may use the EC2 API: signatures, keys, and requests that are sent again.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use secgroup_tests::ec2::{Call, Key, READING, Reply, SERVED, create_group, now, send, serve};
use secgroup_tests::notify::Notify;
use secgroup_tests::wait::{MAX_WAIT, wait_until};
use secgroup_tests::{Namespace, Secgroup};

/// The status and the code of an answer.
fn outcome(reply: &Reply) -> (u16, &str) {
    (reply.status, reply.code())
}

/// Waits until the second has begun in which requests that change something are carried out: the one after the
/// server's start.
fn wait_for_next_second() {
    let second = now();
    wait_until(MAX_WAIT, "the next second", || now() > second);
}

#[test]
fn a_change_is_answered_although_its_line_cannot_be_written() {
    let host = Namespace::new();
    let secgroup = Secgroup::inside(&host);
    let key = Key::create(&secgroup, "");
    // As with a log on a disk that is full.
    let full = ["sh", "-c", r#"exec "$@" 2>/dev/full"#, "sh"];
    let line = format!("serve --metrics 127.0.0.1:0 --ec2 {SERVED}");
    let _serve = Notify::new().start(secgroup.command_under(&full, &line));
    wait_for_next_second();
    let created = send(&host, &Call::post(&create_group("web")).signed(&key));
    assert_eq!(outcome(&created), (200, ""), "{created:?}");
    assert!(secgroup.ok("group list").contains("web"));
}

#[test]
fn only_signed_requests_are_answered() {
    let host = Namespace::new();
    let secgroup = Secgroup::inside(&host);
    let key = Key::create(&secgroup, "");
    let _serve = serve(&secgroup, "");
    wait_for_next_second();
    let send = |bytes: &[u8]| send(&host, bytes);

    let answer = send(&Call::post(READING).signed(&key));
    assert_eq!(outcome(&answer), (200, ""), "{answer:?}");
    for header in
        ["server: amazonec2", "x-amzn-requestid: ", "content-type: text/xml;charset=utf-8"]
    {
        assert!(answer.head.contains(header), "{answer:?}");
    }
    let query = Call { method: "GET", query: READING.to_owned(), ..Call::post("") };
    let query = Call { headers: Vec::new(), service: "sts", ..query };
    assert_eq!(outcome(&send(&query.signed(&key))), (200, ""));
    let created = send(&Call::post(&create_group("a%2Bb%20c")).signed(&key));
    assert_eq!(outcome(&created), (200, ""), "{created:?}");
    assert!(secgroup.ok("group list").contains("a+b c"));

    let unsigned = send(&Call::post(&create_group("x")).unsigned());
    assert_eq!(outcome(&unsigned), (401, "MissingAuthenticationToken"));
    let unknown = Key { id: "AKIAQQQQQQQQQQQQQQQQ".to_owned(), ..key.clone() };
    let guessed = Key { secret: "0".repeat(40), ..key.clone() };
    for wrong in [&unknown, &guessed] {
        let refused = send(&Call::post(&create_group("x")).signed(wrong));
        assert_eq!(outcome(&refused), (401, "AuthFailure"));
        let text =
            "<Message>AWS was not able to validate the provided access credentials</Message>";
        assert!(refused.body.contains(text), "{refused:?}");
    }
    let refused = send(&Call::post(READING).signed(&unknown));
    assert_eq!(outcome(&refused), (403, "InvalidClientTokenId"));
    let refused = send(&Call::post(READING).signed(&guessed));
    assert_eq!(outcome(&refused), (403, "SignatureDoesNotMatch"));
    // A scope of one service is none of the other.
    let other = Call { service: "sts", ..Call::post(&create_group("x")) };
    assert_eq!(outcome(&send(&other.signed(&key))), (400, "IncompleteSignature"));

    // What is not what was signed.
    let bytes = Call::post(&create_group("x")).signed(&key);
    let text = String::from_utf8(bytes).unwrap();
    for (from, to) in [
        ("GroupName=x", "GroupName=y"),
        ("POST /", "POST /?GroupDescription=2"),
        ("x-amz-date: 2", "x-amz-date: 1"),
        ("host: 127", "host: 126"),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text);
        let refused = send(changed.as_bytes());
        assert!(matches!(refused.code(), "AuthFailure" | "RequestExpired"), "{to}: {refused:?}");
    }
    for time in [now() - 310, now() + 310] {
        let refused = send(&Call { time, ..Call::post(&create_group("x")) }.signed(&key));
        assert_eq!(outcome(&refused), (400, "RequestExpired"));
    }
    assert_eq!(
        outcome(&send(&Call { time: now() - 280, ..Call::post(READING) }.signed(&key))).0,
        200
    );
    let listed = secgroup.ok("group list");
    assert!(listed.lines().all(|line| !line.contains(" x ")), "{listed}");
}

#[test]
fn a_key_allows_what_it_was_created_for_until_it_is_deleted() {
    let host = Namespace::new();
    let secgroup = Secgroup::inside(&host);
    let serve = serve(&secgroup, "");
    assert!(serve.lines().iter().any(|line| line.contains("for access keys, and there is none")));
    // The server sees it without a restart.
    let reader = Key::create(&secgroup, "--read-only");
    let writer = Key::create(&secgroup, "--description terraform");
    wait_for_next_second();
    let create = |name: &str, key: &Key| send(&host, &Call::post(&create_group(name)).signed(key));
    let read = |key: &Key| send(&host, &Call::post(READING).signed(key));
    assert_eq!(outcome(&read(&reader)), (200, ""));
    assert_eq!(outcome(&create("a", &reader)), (403, "UnauthorizedOperation"));
    assert_eq!(outcome(&create("a", &writer)), (200, ""));
    serve.wait_for_output(&format!("ec2: CreateSecurityGroup by {}", writer.id));

    let listed = secgroup.ok("key list");
    assert!(listed.contains(&reader.id) && listed.contains("read-only"), "{listed}");
    assert!(listed.contains("terraform") && !listed.contains(&writer.secret), "{listed}");
    secgroup.ok(&format!("key delete {}", writer.id));
    assert_eq!(outcome(&create("b", &writer)), (401, "AuthFailure"));
    assert_eq!(outcome(&read(&reader)), (200, ""));
    let error = secgroup.refused(&format!("key delete {}", writer.id), 3);
    assert!(error.contains("does not exist\nhint: `secgroup key list` shows the keys"), "{error}");

    // Others may have read the secrets.
    let file = secgroup.state_dir().join("keys.json");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
    for _ in 0..2 {
        assert_eq!(outcome(&read(&reader)), (500, "InternalError"));
    }
    let report = "keys.json may be read by others (mode 0640)";
    serve.wait_for_output(report);
    let lines = serve.lines();
    assert_eq!(lines.iter().filter(|line| line.contains(report)).count(), 1, "{lines:?}");
    let error = secgroup.refused("key list", 1);
    assert!(error.contains("hint: a user who has read it has the secret"), "{error}");
    let error = secgroup.refused("serve --metrics 127.0.0.1:0 --ec2 127.0.0.1:0", 1);
    assert!(error.contains("may be read by others"), "{error}");
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    assert_eq!(outcome(&read(&reader)), (200, ""));
}

/// Without TLS, who can read the network or a log of a proxy has requests with their signatures.
#[test]
fn a_change_is_carried_out_once_and_not_again_after_a_restart() {
    let host = Namespace::new();
    let secgroup = Secgroup::inside(&host);
    let key = Key::create(&secgroup, "");
    let mut server = serve(&secgroup, "");
    wait_for_next_second();
    let send = |bytes: &[u8]| send(&host, bytes);

    // Equal requests of a second have equal signatures.
    let reading = Call::post(READING).signed(&key);
    assert_eq!(outcome(&send(&reading)), (200, ""));
    assert_eq!(outcome(&send(&reading)), (200, ""));
    let change = Call::post(&create_group("once"));
    let bytes = change.signed(&key);
    assert_eq!(outcome(&send(&bytes)), (200, ""));
    secgroup.ok("group delete once");
    // The code that clients sign again for.
    assert_eq!(outcome(&send(&bytes)), (503, "RequestLimitExceeded"));
    let again = Call { time: change.time + 1, ..change.clone() };
    assert_eq!(outcome(&send(&again.signed(&key))), (200, ""));
    secgroup.ok("group delete once");
    // Of a client whose clock is ahead.
    let ahead = Call { time: now() + 200, ..change.clone() }.signed(&key);
    assert_eq!(outcome(&send(&ahead)), (200, ""));
    secgroup.ok("group delete once");

    server.kill();
    let _server = serve(&secgroup, "");
    wait_for_next_second();
    for replayed in [&bytes, &ahead] {
        assert_eq!(outcome(&send(replayed)), (503, "RequestLimitExceeded"));
    }
    assert!(!secgroup.ok("group list").contains("once"));
    assert_eq!(outcome(&send(&reading)), (200, ""));
}

#[test]
fn what_would_let_others_in_is_refused_before_anything_listens() {
    let host = Namespace::new();
    let secgroup = Secgroup::inside(&host);
    let refused = |options: &str, code: i32| {
        secgroup.refused(&format!("serve --metrics 127.0.0.1:0 {options}"), code)
    };
    for (options, hint) in [
        (
            "--ec2 0.0.0.0:8773",
            "add --ec2-tls-cert FILE and --ec2-tls-key FILE, or listen on loopback",
        ),
        (
            "--ec2 [::]:8773 --insecure-no-auth",
            "leave out --insecure-no-auth, or listen on loopback",
        ),
        (
            "--ec2 0.0.0.0:8773 --ec2-tls-cert c --ec2-tls-key k",
            "create one: `secgroup key create`",
        ),
        ("--ec2 unix:/run/x --ec2-tls-cert c --ec2-tls-key k", "leave out --ec2-tls-cert"),
        ("--ec2 10.0.0.1:8773 --ec2-test-reset", "leave it out; in a test, add --insecure-no-auth"),
    ] {
        let error = refused(options, 2);
        assert!(error.starts_with("error: serve: --ec2 "), "{error}");
        assert!(error.contains(&format!("\nhint: {hint}")), "{error}");
    }
    for options in ["--insecure-no-auth", "--ec2-tls-cert c --ec2-tls-key k", "--ec2 localhost:1"] {
        refused(options, 2);
    }
    let error = refused("--ec2 192.0.2.1:8773 --ec2-tls-cert c", 2);
    assert!(error.contains("--ec2-tls-key"), "{error}");
}
