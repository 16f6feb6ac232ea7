//! Clients of the EC2 API that are slow, silent, many or large.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use secgroup_tests::ec2::{Call, Key, READING, connect, receive, send, serve};
use secgroup_tests::wait::{MAX_WAIT, wait_until};
use secgroup_tests::{Namespace, Process, Secgroup};

/// The connections that it serves at the same time, and the time for a request's head and for its body.
const MAX_CONNECTIONS: usize = 64;
const REQUEST_TIME: Duration = Duration::from_secs(10);
const MAX_BODY: usize = 1 << 20;

fn open_files(process: &Process) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", process.id())).expect("list its files").count()
}

/// What a connection still receives, and after which time it ends.
fn rest(mut stream: TcpStream) -> (String, Duration) {
    let (began, mut rest) = (Instant::now(), Vec::new());
    let _ = stream.read_to_end(&mut rest);
    (String::from_utf8_lossy(&rest).into_owned(), began.elapsed())
}

#[test]
fn a_connection_serves_several_requests() {
    let host = Namespace::new();
    let secgroup = Secgroup::inside(&host);
    let key = Key::create(&secgroup, "");
    let mut server = serve(&secgroup, "");
    let mut stream = connect(&host).unwrap();
    for _ in 0..3 {
        stream.write_all(&Call::post(READING).signed(&key)).unwrap();
        assert_eq!(receive(&mut stream).unwrap().status, 200);
    }
    // Two at once.
    let two = [Call::post(READING).signed(&key), Call::post(READING).signed(&key)].concat();
    stream.write_all(&two).unwrap();
    for _ in 0..2 {
        assert_eq!(receive(&mut stream).unwrap().status, 200);
    }
    // One that is refused ends it.
    stream.write_all(&Call::post(READING).unsigned()).unwrap();
    assert_eq!(receive(&mut stream).unwrap().status, 401);
    assert_eq!(rest(stream).0, "");
    // An idle one does not delay the end.
    let mut idle = connect(&host).unwrap();
    idle.write_all(&Call::post(READING).signed(&key)).unwrap();
    assert_eq!(receive(&mut idle).unwrap().status, 200);
    let began = Instant::now();
    assert_eq!(server.terminate().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(rest(idle).0, "");
}

#[test]
fn silent_and_slow_clients_are_cut_off() {
    let host = Namespace::new();
    let secgroup = Secgroup::inside(&host);
    let key = Key::create(&secgroup, "");
    let _server = serve(&secgroup, "");
    let request = String::from_utf8(Call::post(READING).signed(&key)).unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let begin = |bytes: &str| {
        let mut stream = connect(&host).unwrap();
        stream.write_all(bytes.as_bytes()).unwrap();
        stream
    };
    let whole_head = format!("{head}\r\n\r\n");
    let half_body = format!("{whole_head}{}", &body[..body.len() / 2]);
    let all = [("", ""), ("POST / HTTP/1.1\r\nho", ""), (&whole_head, "408"), (&half_body, "408")];
    let silent = all.map(|(bytes, status)| (begin(bytes), status));
    // A byte now and then does not prolong it.
    let mut slow = begin("POST / HTTP/1.1\r\nx: ");
    let began = Instant::now();
    wait_until(MAX_WAIT, "a slow client to be cut off", || slow.write_all(b"x").is_err());
    assert!(began.elapsed() < REQUEST_TIME * 2, "{:?}", began.elapsed());
    for (stream, status) in silent {
        let (rest, time) = rest(stream);
        assert!(time < REQUEST_TIME * 2, "{time:?}");
        assert!(!rest.contains(" 200 "), "{rest}");
        assert!(status.is_empty() || rest.starts_with(&format!("HTTP/1.1 {status} ")), "{rest}");
    }
    assert_eq!(send(&host, request.as_bytes()).status, 200);
}

#[test]
fn large_requests_are_refused() {
    let host = Namespace::new();
    let secgroup = Secgroup::inside(&host);
    let key = Key::create(&secgroup, "");
    let _server = serve(&secgroup, "");
    let form = |length: usize| {
        let start = format!("{READING}&X=");
        format!("{start}{}", "x".repeat(length - start.len()))
    };
    let reply = send(&host, &Call::post(&form(MAX_BODY)).signed(&key));
    assert_eq!((reply.status, reply.code()), (400, "UnknownParameter"));
    let reply = send(&host, &Call::post(&form(MAX_BODY + 1)).signed(&key));
    assert_eq!((reply.status, reply.code()), (413, "RequestEntityTooLarge"));
    // A length that is a lie, and none.
    let lie = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\nx";
    let reply = send(&host, lie.as_bytes());
    assert_eq!(reply.status, 413, "{reply:?}");
    let chunk = format!("{:x}\r\n{}\r\n", 1 << 16, "x".repeat(1 << 16));
    let chunked = "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".to_owned();
    let reply = send(&host, (chunked + &chunk.repeat(17)).as_bytes());
    assert_eq!(reply.status, 413, "{reply:?}");
    let large = format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "x".repeat(20 << 10));
    assert_eq!(send(&host, large.as_bytes()).status, 431);
    let long = format!("GET /?{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(20 << 10));
    assert!(matches!(send(&host, long.as_bytes()).status, 414 | 431));
    let many: String = (0..200).map(|number| format!("x{number}: 1\r\n")).collect();
    let many = format!("GET / HTTP/1.1\r\nhost: x\r\n{many}\r\n");
    assert_eq!(send(&host, many.as_bytes()).status, 431);
}

/// Its resident memory in KiB.
fn memory(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_body_in_tiny_pieces_takes_little_memory() {
    let host = Namespace::new();
    let secgroup = Secgroup::inside(&host);
    let key = Key::create(&secgroup, "");
    let server = serve(&secgroup, "");
    let before = memory(&server);
    let mut pieces = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    pieces.extend(b"1\r\nx\r\n".repeat(MAX_BODY / 2));
    let streams: Vec<TcpStream> = (0..4)
        .map(|_| {
            let mut stream = connect(&host).unwrap();
            stream.write_all(&pieces).unwrap();
            stream
        })
        .collect();
    let after = memory(&server);
    assert!(after < before + (32 << 10), "{before} KiB before, {after} KiB after");
    for mut stream in streams {
        // A build without optimisation may take too long, and then closes the connection.
        let reply = stream.write_all(b"0\r\n\r\n").and_then(|()| receive(&mut stream));
        match reply {
            Ok(reply) => assert!(matches!(reply.status, 401 | 408)),
            Err(error) => assert!(matches!(
                error.kind(),
                ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof
            )),
        }
    }
    assert_eq!(send(&host, &Call::post(READING).signed(&key)).status, 200);
}

#[test]
fn many_clients_share_few_connections() {
    let host = Namespace::new();
    let secgroup = Secgroup::inside(&host);
    let key = Key::create(&secgroup, "");
    let server = serve(&secgroup, "");
    let before = open_files(&server);
    let silent: Vec<TcpStream> = (0..300).filter_map(|_| connect(&host).ok()).collect();
    assert!(silent.len() >= 250, "{}", silent.len());
    for _ in 0..3 {
        assert_eq!(send(&host, &Call::post(READING).signed(&key)).status, 200);
    }
    assert!(open_files(&server) <= before + MAX_CONNECTIONS + 16, "{}", open_files(&server));
    drop(silent);

    // All of these have a request.
    let served = std::thread::scope(|scope| {
        let call = || send(&host, &Call::post(READING).signed(&key)).status == 200;
        let calls: Vec<_> = (0..48).map(|_| scope.spawn(call)).collect();
        calls.into_iter().filter_map(|one| one.join().ok()).filter(|is_ok| *is_ok).count()
    });
    assert_eq!(served, 48);
    // A client that reads nothing and asks for more keeps nobody out.
    let mut greedy = connect(&host).unwrap();
    greedy.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let call = Call::post(READING).signed(&key);
    for _ in 0..2000 {
        if greedy.write_all(&call).is_err() {
            break;
        }
    }
    assert_eq!(send(&host, &call).status, 200);
    let _ = greedy.shutdown(Shutdown::Both);
}
